"""The tables of `farm history`, `farm waiver` and `farm baseline`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from farm.display import FLAKY_STYLE, STYLES
from farm.model import Verdict
from farm.model.history import Baseline, CellPoint, CellTrends, TestHit, TestTrend, TestTrends
from farm.model.waiver import Waiver
from farm.report.words import FLAKY, duration

SIGNS = {
    Verdict.PASSED: ".",
    Verdict.FAILED: "F",
    Verdict.ERROR: "E",
    Verdict.SKIPPED: "s",
    Verdict.CANCELLED: "c",
}
_FLAKY, _UNFINISHED, _ABSENT = "~", "?", " "
LEGEND = ", ".join(
    [*(f"{sign} {verdict}" for verdict, sign in SIGNS.items()), f"{_FLAKY} {FLAKY}", f"{_UNFINISHED} not finished"]
)
"""What the signs of a cell's runs mean."""


def cells_table(trends: CellTrends) -> Table:
    """A line for each cell: what it came to in each run, the oldest first."""
    table = _table("cell", "runs", "passed", FLAKY, "last took")
    for trend in trends.cells:
        known = [point for point in trend.points if point]
        flaky = sum(point.flaky for point in known)
        passed = sum(point.verdict is Verdict.PASSED for point in known) - flaky
        took = duration(known[-1].duration_s) if known and known[-1].duration_s is not None else ""
        table.add_row(trend.cell, _signs(trend.points), f"{passed}/{len(known)}", str(flaky or ""), took)
    return table


def flaky_table(trends: TestTrends) -> Table:
    """A line for each test that flaked or changed."""
    table = _table("flaky test", "share", "changed", "flaked", "failed", "results")
    for test in trends.tests:
        counts = (test.changed, test.flaked, test.failed, test.passed + test.failed)
        table.add_row(label(test), f"{test.flakiness:.1%}", *map(str, counts))
    return table


def slow_table(trends: TestTrends) -> Table:
    """A line for each of the slowest tests."""
    table = _table("slow test", "mean", "longest", "newer runs by older")
    for test in trends.tests:
        slower = f"{test.slower:.2f}" if test.slower is not None else ""
        table.add_row(label(test), f"{test.mean_s:.3f} s", f"{test.longest_s:.3f} s", slower)
    return table


def hits_table(hits: Iterable[TestHit]) -> Table:
    """A line for each result of a test."""
    table = _table("run", "version", "cell", "status", "time", "host", "image", "message")
    for hit in hits:
        status = f"{hit.status}" if hit.attempt == 1 else f"{hit.status} (attempt {hit.attempt})"
        image = hit.image_digest.removeprefix("sha256:")[:12]
        table.add_row(
            hit.run, hit.version, hit.cell, status, f"{hit.duration_s:.3f} s", hit.host, image, Text(hit.message[:200])
        )
    return table


def test_sentence(test: TestTrend) -> str:
    """`net › connect: 40 results in 10 runs, 3 failed; 2 changed, 1 flaked; mean 0.120 s`."""
    ran = test.passed + test.failed
    return (
        f"{label(test)}: {ran} results in {test.runs} runs, {test.failed} failed;"
        f" {test.changed} changed, {test.flaked} flaked; mean {test.mean_s:.3f} s"
    )


def waivers_table(waivers: Iterable[Waiver], now: datetime) -> Table:
    """A line for each waiver."""
    table = _table("id", "cells", "tests", "reason", "link", "until", "by")
    for one in waivers:
        until = f"{one.expires:%Y-%m-%d %H:%M}" if one.expires else "no end"
        over = " (expired)" if one.expired(now) else ""
        texts = (Text(text) for text in (one.cells, one.tests, one.reason, one.link, until + over, one.created_by))
        table.add_row(str(one.id), *texts)
    return table


def baselines_table(baselines: Iterable[Baseline]) -> Table:
    """A line for each baseline."""
    table = _table("baseline", "run", "set", "by")
    for one in baselines:
        table.add_row(one.name, one.run, f"{one.set:%Y-%m-%d %H:%M}", Text(one.set_by))
    return table


def label(test: TestTrend) -> Text:
    """A test's names, those that are empty or said twice left out."""
    return Text(" › ".join(dict.fromkeys(filter(None, (test.suite, test.classname, test.name)))))


def _signs(points: Sequence[CellPoint | None]) -> Text:
    text = Text()
    for point in points:
        if point and point.flaky:
            text.append(_FLAKY, FLAKY_STYLE)
        elif point and point.verdict:
            text.append(SIGNS[point.verdict], STYLES[point.verdict])
        else:
            text.append(_UNFINISHED if point else _ABSENT)
    return text


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
