"""The reports of a run: each format is one module with `render`, and one row of `FORMATS`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from farm.errors import ConfigError
from farm.model import RunRecord
from farm.report import badge, ctrf, junit, markdown, page, spreadsheet
from farm.report import document as json_document
from farm.report.document import document
from farm.report.page import ReadLog
from farm.report.parts import Document

__all__ = ["FORMATS", "Document", "Format", "ReadLog", "document", "put", "render", "write"]


@dataclass(frozen=True)
class Format:
    """A format: the name of its file, and what makes its text from the document and the logs."""

    file: str
    render: Callable[[Document, ReadLog], str]


FORMATS = {
    "json": Format("report.json", lambda report, _logs: json_document.render(report)),
    "junit": Format("junit.xml", lambda report, _logs: junit.render(report)),
    "markdown": Format("summary.md", lambda report, _logs: markdown.render(report)),
    "html": Format("index.html", page.render),
    "ctrf": Format("ctrf.json", lambda report, _logs: ctrf.render(report)),
    "csv": Format("results.csv", lambda report, _logs: spreadsheet.render(report)),
    "badge": Format("badge.svg", lambda report, _logs: badge.render(report)),
}


def render(name: str, run: RunRecord, read_log: ReadLog) -> str:
    """A run in one of `FORMATS`. Raises ConfigError for another name.

    `read_log` gives the bytes of an attempt's log by the name of a phase, or `console`; nothing, or
    NotFoundError, where there is none.
    """
    if name not in FORMATS:
        raise ConfigError(f"cannot write a report as {name!r}: no such format", hint=f"known: {', '.join(FORMATS)}")
    return FORMATS[name].render(document(run), read_log)


def put(path: Path, text: str) -> Path:
    """Write a file, which appears whole or not at all. Raises ConfigError."""
    try:
        return _put(path, text)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror or error}", hint="name another file with --out"
        ) from error


def _put(path: Path, text: str) -> Path:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
