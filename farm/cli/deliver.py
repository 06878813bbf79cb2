"""What is left of a run that has ended: its result on the screen, its report in files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from farm import report, tables
from farm.cli.farms import Farm
from farm.cli.screen import out
from farm.errors import ConfigError, ServerError
from farm.report import FORMATS, Document


@dataclass(frozen=True)
class Delivery:
    """Where a report goes; None: not there."""

    folder: Path | None = None
    """Every format."""
    junit: Path | None = None
    summary: Path | None = None
    """Where the summary is added at the end, as GitHub's GITHUB_STEP_SUMMARY wants it."""

    def deliver(self, farm: Farm, run: str) -> Document:
        """Write the report of a run and print what it came to. Raises FarmError."""
        more = {"junit": self.junit, "markdown": self.summary}
        formats = ["json", *(name for name, file in more.items() if file)]
        texts = {name: data.decode() for name, data in farm.files(run, list(FORMATS) if self.folder else formats)}
        if self.folder:
            _make(self.folder)
            for name, text in texts.items():
                report.put(self.folder / FORMATS[name].file, text)
        if self.junit:
            _make(self.junit.parent)
            report.put(self.junit, texts["junit"])
        if self.summary:
            _add(self.summary, texts["markdown"])
        found = _read(texts["json"])
        print_result(found, self.folder)
        return found


def print_result(found: Document, folder: Path | None) -> None:
    """What a run came to, where its report is, and how to run a failed cell again."""
    out.print()
    out.print(tables.result_table(found.cells))
    out.print(tables.result_sentence(found.run))
    if folder:
        out.print(f"report   {folder / 'index.html'}", soft_wrap=True)
    if command := tables.rerun_command(found):
        out.print(f"again    {command}", soft_wrap=True)


def _read(text: str) -> Document:
    try:
        return Document.model_validate_json(text)
    except ValidationError as error:
        raise ServerError(
            f"cannot understand the report: {error.errors()[0]['msg']}",
            hint="is the server's farm older than this one?",
        ) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _add(file: Path, text: str) -> None:
    try:
        with file.open("a", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise _cannot_write(file, error) from error


def _cannot_write(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"cannot write the report to {path}: {error.strerror or error}", hint="name another place")
