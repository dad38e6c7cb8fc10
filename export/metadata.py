"""What an exported file says about itself: how to feed it, what its outputs mean, and where it comes from.

Kept in the ONNX file's metadata_props, as text under keys that begin with "edgelathe.":

    tool_version       version of EdgeLathe that wrote the file
    mean, std          JSON lists, one number per channel: the network expects (pixel / 255 - mean) / std
    classes            JSON list of class names in the order of the logits
    recipe             JSON object: the recipe without folders of the machine it ran on
    parent_sha256      SHA-256 of the artifact the file was made from (weights or float ONNX)
    data_fingerprint   SHA-256 over the images and labels it was trained, calibrated or measured with
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from .. import errors, files
from ..models.onnx_file import load_onnx
from ..version import __version__

PREFIX = "edgelathe."


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """Everything may be missing: a file from elsewhere says nothing."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None
    recipe: str | None = None
    parent_sha256: str | None = None
    data_fingerprint: str | None = None
    tool_version: str | None = None

    def properties(self) -> dict[str, str]:
        """The metadata_props of these facts; what is None is left out."""
        lists = {"mean": self.mean, "std": self.std, "classes": self.classes}
        texts = {
            "recipe": self.recipe,
            "parent_sha256": self.parent_sha256,
            "data_fingerprint": self.data_fingerprint,
            "tool_version": self.tool_version,
        }
        found = {key: json.dumps(list(value), ensure_ascii=False) for key, value in lists.items() if value is not None}
        found |= {key: value for key, value in texts.items() if value is not None}
        return {PREFIX + key: found[key] for key in sorted(found)}


def describe_model(
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
    recipe: Mapping[str, object] | None = None,
    parent_sha256: str | None = None,
    data_fingerprint: str | None = None,
) -> dict[str, str]:
    """The metadata_props of a model that this version of EdgeLathe writes; `recipe` loses its folders."""
    return ModelMetadata(
        mean=None if mean is None else tuple(float(value) for value in mean),
        std=None if std is None else tuple(float(value) for value in std),
        classes=None if classes is None else tuple(classes),
        recipe=None if recipe is None else portable_recipe(recipe),
        parent_sha256=parent_sha256,
        data_fingerprint=data_fingerprint,
        tool_version=__version__,
    ).properties()


def portable_recipe(recipe: Mapping[str, object]) -> str:
    """The recipe as compact JSON with sorted keys, every path outside its folder cut to its last part."""
    return json.dumps(without_folders(recipe), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def without_folders(value: object) -> object:
    """`value` with every path in it that leads outside its folder cut to its last part."""
    if isinstance(value, Mapping):
        return {str(key): without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    if isinstance(value, Path):
        return value.name
    if isinstance(value, str) and ("/" in value or "\\" in value):
        path = PureWindowsPath(value) if "\\" in value else PurePosixPath(value)
        outside = path.is_absolute() or PureWindowsPath(value).drive or {"..", "~"} & set(path.parts)
        return path.name if outside or value.startswith("~") else value
    return value


def check_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """`properties` as they are, once every key and value is a text that ONNX can carry."""
    for key, value in properties.items():
        if not isinstance(key, str) or not key:
            raise errors.export.bad_metadata(str(key), "its key is no text")
        if not isinstance(value, str):
            raise errors.export.bad_metadata(key, f"its value is {type(value).__name__} and must be text")
    return dict(properties)


def read_properties(path: Path | str) -> dict[str, str]:
    """All metadata of an ONNX file, whoever wrote it. Raises EdgeLatheError for what is no ONNX model."""
    return {entry.key: entry.value for entry in load_onnx(path).metadata_props}


def read_metadata(path: Path | str) -> ModelMetadata:
    """What EdgeLathe noted in an ONNX file. Raises EdgeLatheError for a note of another form than above."""
    return parse_properties(read_properties(path))


def parse_properties(properties: Mapping[str, str]) -> ModelMetadata:
    def text(key: str) -> str | None:
        return properties.get(PREFIX + key)

    mean, std = _numbers("mean", text("mean")), _numbers("std", text("std"))
    if mean is not None and std is not None and len(mean) != len(std):
        raise errors.export.bad_metadata(PREFIX + "std", f"it has {len(std)} numbers and mean has {len(mean)}")
    if std is not None and min(std, default=1.0) <= 0:
        raise errors.export.bad_metadata(PREFIX + "std", "its numbers must be greater than 0")
    return ModelMetadata(
        mean=mean,
        std=std,
        classes=_names("classes", text("classes")),
        recipe=text("recipe"),
        parent_sha256=text("parent_sha256"),
        data_fingerprint=text("data_fingerprint"),
        tool_version=text("tool_version"),
    )


def write_metadata(path: Path | str, properties: Mapping[str, str], to: Path | str | None = None) -> None:
    """Set metadata of the ONNX file `path`, in place or in a copy at `to`; other keys stay as they are."""
    checked = check_properties(properties)
    model = load_onnx(path)
    merged = {entry.key: entry.value for entry in model.metadata_props} | checked
    del model.metadata_props[:]
    for key in sorted(merged):
        model.metadata_props.add(key=key, value=merged[key])
    target = Path(path if to is None else to)
    files.write_atomic(target, model.SerializeToString(deterministic=True), "the ONNX model")


def _numbers(key: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    values = _list(key, text)
    if not all(type(value) in (int, float) and math.isfinite(value) for value in values):
        raise errors.export.bad_metadata(PREFIX + key, "it is no list of numbers")
    return tuple(float(value) for value in values)


def _names(key: str, text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    values = _list(key, text)
    if not all(isinstance(value, str) for value in values):
        raise errors.export.bad_metadata(PREFIX + key, "it is no list of names")
    return tuple(values)


def _list(key: str, text: str) -> list:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as reason:
        raise errors.export.bad_metadata(PREFIX + key, "it is no JSON") from reason
    if not isinstance(values, list) or not values:
        raise errors.export.bad_metadata(PREFIX + key, "it is no list with entries")
    return values
