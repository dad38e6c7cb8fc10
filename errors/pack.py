"""Weights that share values, and packed files."""

from __future__ import annotations

from pathlib import Path

from .base import EdgeLatheError


def no_coder() -> EdgeLatheError:
    return EdgeLatheError("Cannot pack or unpack: the library constriction is missing; run pip install constriction.")


def external_data(model: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot pack {model}: its weights lie in other files beside it; save it as one file first"
        " (onnx.save with save_as_external_data=False)."
    )


def damaged(source: Path, why: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot unpack {source}: {why}; get the file again, or pack the model again.")


def too_large(source: Path, size: int, largest: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot unpack {source}: it says that it holds {size} bytes, and more than {largest} are not unpacked;"
        " get the file from somebody you trust."
    )


def other_bytes(source: Path, packed_with: str, here: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot unpack {source}: what comes out is not the model that was packed, with {packed_with} then and {here}"
        " here; install that version, or pack the model again."
    )


def over_the_model(path: Path) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot write over {path}: it is the file that is read; give another one with --output.")


def would_replace(output: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot unpack to {output}: another file is there that differs; name a file of your own with --output."
    )


def nothing_to_share(model: Path, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot share the weights of {model}: {why}; leave the bits out to pack the file as it is, or give the float"
        " model."
    )


def no_layer_to_share(why: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot share the weights of this network: {why}; train and export it as it is.")
