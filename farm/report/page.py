"""`index.html`: one page that needs nothing else; no script, no request. Everything in it is escaped by Jinja2."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined

from farm.errors import NotFoundError
from farm.model import AttemptKey, TestStatus, Verdict
from farm.report import words
from farm.report.grid import grid, mode
from farm.report.parts import AttemptPart, CellPart, Document, PhasePart, TestPart
from farm.text import clean, shorten

ReadLog = Callable[[AttemptKey, str], bytes]
"""The log of an attempt, by the name of a phase or `console`."""

CONSOLE = "console"

_BAD_TESTS = (TestStatus.FAILED, TestStatus.ERROR)
_BAD_CELLS = (Verdict.FAILED, Verdict.ERROR)
_NARROWEST_BAR = 0.6


@dataclass(frozen=True)
class Limits:
    """How much of what is shown, so that the page stays usable however large the run."""

    log_bytes: int
    """Of each log of a cell that did not pass; of one that did, a quarter."""
    bad_tests: int
    """Failed tests of each attempt."""
    good_tests: int
    detail_chars: int


def limits(report: Document) -> Limits:
    """Shares of about 8 MiB of logs, 4 MiB of details and 20 000 tests, and never more than anyone reads."""
    cells = max(1, len(report.cells))
    logs = sum(len(attempt.phases) + 1 for cell in report.cells for attempt in cell.attempts) or 1
    bad = sum(cell.tests.failed + cell.tests.error for cell in report.cells) or 1
    return Limits(
        log_bytes=max(1_024, min(65_536, 8 * 1_048_576 // logs)),
        bad_tests=max(10, min(200, 20_000 // cells)),
        good_tests=max(10, min(500, 20_000 // cells)),
        detail_chars=max(300, min(8_000, 4 * 1_048_576 // bad)),
    )


@dataclass(frozen=True)
class Log:
    """The end of a log."""

    name: str
    text: str
    note: str
    """What is left out."""


@dataclass(frozen=True)
class Bar:
    """A phase in the timeline; `left` and `width` in percent."""

    phase: PhasePart
    left: float
    width: float


@dataclass(frozen=True)
class Attempt:
    """An attempt as the page shows it."""

    part: AttemptPart
    bars: tuple[Bar, ...]
    bad: tuple[TestPart, ...]
    bad_left: int
    good: tuple[tuple[str, tuple[TestPart, ...]], ...]
    """By suite."""
    good_count: int
    good_left: int
    logs: tuple[Log, ...]


@dataclass(frozen=True)
class Cell:
    """A cell as the page shows it: the last attempt first."""

    part: CellPart
    anchor: str
    attempts: tuple[Attempt, ...]

    @property
    def bad(self) -> bool:
        """Whether it wants to be looked at."""
        return self.part.verdict in _BAD_CELLS


def render(report: Document, read_log: ReadLog) -> str:
    """`index.html`."""
    return _environment().get_template("page.html").render(_shown(report, read_log))


def _shown(report: Document, read_log: ReadLog) -> dict[str, object]:
    most, anchors = limits(report), _anchors(report)
    cells = [Cell(cell, anchors[cell.id], _attempts(report.run.id, cell, most, read_log)) for cell in report.cells]
    bad, others = [cell for cell in cells if cell.bad], [cell for cell in cells if not cell.bad]
    return {
        "report": report,
        "run": report.run,
        "grid": grid(report.cells),
        "anchors": anchors,
        "used": used(report),
        "groups": (("Did not pass", bad), ("Other cells" if bad else "Cells", others)),
        "limits": most,
    }


def used(report: Document) -> tuple[CellPart, ...]:
    """The cells of whose last attempt it is known what its guest used."""
    return tuple(cell for cell in report.cells if cell.last and cell.last.usage)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("farm.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": words.duration,
        "moment": words.moment,
        "size": words.size,
        "start": words.start,
        "slowness": words.slowness,
        "limits": words.limits,
        "disk": words.disk,
        "network": words.network,
        "tests": words.tests,
        "word": words.verdict,
        "mode": mode,
        "shorten": lambda text, limit: shorten(text, limit=limit),
    }
    return environment


def _anchors(report: Document) -> dict[str, str]:
    return {
        cell.id: f"cell-{number}-{re.sub('[^A-Za-z0-9._=-]+', '-', cell.id)[:80]}"
        for number, cell in enumerate(report.cells, 1)
    }


def _attempts(run: str, cell: CellPart, most: Limits, read_log: ReadLog) -> tuple[Attempt, ...]:
    size = most.log_bytes if cell.verdict in _BAD_CELLS else most.log_bytes // 4
    shown = []
    for part in reversed(cell.attempts):
        key = AttemptKey(run=run, cell=cell.id, number=part.number)
        bad = tuple(test for test in part.tests if test.status in _BAD_TESTS)
        good = tuple(test for test in part.tests if test.status not in _BAD_TESTS)
        shown.append(
            Attempt(
                part=part,
                bars=bars(part),
                bad=bad[: most.bad_tests],
                bad_left=max(0, len(bad) - most.bad_tests),
                good=_by_suite(good[: most.good_tests]),
                good_count=len(good),
                good_left=max(0, len(good) - most.good_tests),
                logs=tuple(filter(None, (_log(key, name, size, read_log) for name in _log_names(part)))),
            )
        )
    return tuple(shown)


def _by_suite(tests: tuple[TestPart, ...]) -> tuple[tuple[str, tuple[TestPart, ...]], ...]:
    return tuple((suite, tuple(group)) for suite, group in groupby(tests, key=lambda test: test.suite))


def _log_names(attempt: AttemptPart) -> list[str]:
    return [*dict.fromkeys(phase.phase.value for phase in attempt.phases), CONSOLE]


def _log(key: AttemptKey, name: str, size: int, read_log: ReadLog) -> Log | None:
    """The last `size` bytes of a log; None where there is nothing in it."""
    try:
        data = read_log(key, name)
    except NotFoundError:
        return None
    kept = data[-size:]
    if len(data) > size:
        kept = kept[kept.find(b"\n") + 1 :]
    text = clean(kept, limit=size).strip("\n")
    left = len(data) - len(kept)
    return Log(name, text, f"the first {words.size(left)} are left out" if left else "") if text else None


def bars(attempt: AttemptPart) -> tuple[Bar, ...]:
    """The timeline: from the first phase's start to the last one's end."""
    if not attempt.phases:
        return ()
    start = attempt.phases[0].started
    whole = max((_at(phase.started, start) + (phase.duration_s or 0.0) for phase in attempt.phases), default=0.0) or 1.0
    return tuple(
        Bar(
            phase,
            left=round(max(0.0, min(100 - _NARROWEST_BAR, 100 * _at(phase.started, start) / whole)), 2),
            width=round(max(_NARROWEST_BAR, min(100.0, 100 * (phase.duration_s or 0.0) / whole)), 2),
        )
        for phase in attempt.phases
    )


def _at(time: datetime, start: datetime) -> float:
    return max(0.0, (time - start).total_seconds())
