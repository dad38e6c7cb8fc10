"""One record of a run, written as report.json (for machines), report.md (for reviews) and report.html (for people).

report.json is the truth and is described field by field in docs/report.md; the other two are drawn from it. Reading a
report loads neither matplotlib nor jinja2: the gate reads reports on machines that draw none.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from .. import errors
from ..files import sha256_file, write_atomic
from .records import READABLE_VERSIONS, SCHEMA_VERSION, Report

JSON_NAME, MARKDOWN_NAME, HTML_NAME = "report.json", "report.md", "report.html"


def write_report(report: Report, folder: Path) -> tuple[Path, Path, Path]:
    """Write report.json, report.md and report.html into `folder` and return their paths.

    The same report gives the same bytes. The HTML page is self-contained: no script, no request to anywhere.
    Raises EdgeLatheError where the folder cannot be written.
    """
    from .render import render_html, render_markdown  # matplotlib and jinja2 are loaded for drawing only

    texts = {
        JSON_NAME: to_json(report),
        MARKDOWN_NAME: render_markdown(report),
        HTML_NAME: render_html(report),
    }
    for name, text in texts.items():
        write_atomic(folder / name, text, "the report")
    return folder / JSON_NAME, folder / MARKDOWN_NAME, folder / HTML_NAME


def to_json(report: Report) -> str:
    """The text of report.json: two-space indentation, fields in the order of their declaration."""
    return json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_report(path: Path) -> Report:
    """The report at `path`: a report.json, or a folder that holds one.

    Raises EdgeLatheError, in one sentence, for a missing or unreadable file, a text that is not JSON, another schema
    version, and any field that is unknown, missing, of the wrong type or at odds with the others.
    """
    path = path / JSON_NAME if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as reason:
        raise errors.inputs.missing_file("the report", path) from reason
    except UnicodeDecodeError as reason:
        raise errors.reports.invalid_report(path, "it is not a text file") from reason
    except OSError as reason:
        why = reason.strerror or str(reason)
        raise errors.inputs.unreadable_file("the report", path, why, "check the path") from reason
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as reason:
        raise errors.reports.invalid_report(path, f"it is not valid JSON ({reason})") from reason
    if not isinstance(document, dict) or "schema_version" not in document:
        raise errors.reports.invalid_report(path, "it is not a report: it has no schema_version")
    if document["schema_version"] not in READABLE_VERSIONS:
        raise errors.reports.other_schema(path, document["schema_version"], READABLE_VERSIONS)
    try:
        found = Report.model_validate_json(text, strict=True)
    except ValidationError as reason:
        raise errors.reports.invalid_report(path, _first_problem(reason)) from reason
    return found.model_copy(update={"schema_version": SCHEMA_VERSION})


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _first_problem(reason: ValidationError) -> str:
    problems = reason.errors(include_url=False)
    place = ".".join(str(part) for part in problems[0]["loc"]) or "the report"
    message = str(problems[0]["msg"])
    if problems[0]["type"] == "extra_forbidden":
        message = "this field is unknown"
    message = message.removeprefix("Value error, ")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{place}: {message[:1].lower()}{message[1:]}{more}"


def verify_file(report: Report, folder: Path, name: str | None = None) -> None:
    """Check that a candidate's file (default: the last one's) still lies in `folder` with the bytes measured.

    A file that the run did not make (the float model of an ONNX recipe) is recorded by its bare name and not checked.
    Raises EdgeLatheError when the file is missing, has changed, or is not inside the folder.
    """
    root = folder.resolve()
    judged = report.candidates[-1:] if name is None else [c for c in report.candidates if c.name == name]
    for candidate in judged:
        if Path(candidate.file).name == candidate.file:
            continue
        path = (root / candidate.file).resolve()
        if not path.is_relative_to(root):
            raise errors.reports.changed_candidate(candidate.name, candidate.file, "is outside the run's folder")
        if not path.is_file():
            raise errors.reports.changed_candidate(candidate.name, path, "is missing")
        if sha256_file(path) != candidate.facts.sha256:
            raise errors.reports.changed_candidate(candidate.name, path, "has changed since it was measured")
