"""The support statement of a release: every platform with its status, and why. Pure.

A platform is supported only if its cell ran, its tests ran, and they passed. What did not run, is too old, was taken
from an earlier run, or tested less than the baseline is not known, and shown as what it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from farm.model import Ending, Phase, Waiver
from farm.report import evidence
from farm.report.changes import RunSide
from farm.report.evidence import Key, Standing, plural, some
from farm.report.parts import CellPart, Document
from farm.report.support import (
    DECIDING,
    EvidencePart,
    PlatformPart,
    Reason,
    ReasonPart,
    Statement,
    Status,
    StatusCounts,
    days,
)
from farm.report.waivers import CellWaivers, Waived, apply

_MOST_NAMES = 5
Reasons = Iterator[tuple[Reason, str]]


def statement(
    release: Document,
    *,
    now: datetime,
    baseline: Document | None = None,
    earlier: Sequence[Document] = (),
    waivers: Sequence[Waiver] = (),
    max_age_days: float | None = None,
) -> Statement:
    """What may be claimed of every platform of a release, which are its cells and those of the baseline.

    `earlier` are runs that may speak for cells which did not run for the release. Evidence older than `max_age_days` is
    stale.
    """
    judge = _Judge(release, now=now, baseline=baseline, earlier=earlier, waivers=waivers, max_age_days=max_age_days)
    platforms = tuple(judge.platforms())
    counts = _counts(platforms)
    waived = judge.waived(release)
    return Statement(
        run=RunSide.model_validate(release.run),
        baseline=RunSide.model_validate(baseline.run) if baseline else None,
        made=now,
        max_age_days=max_age_days,
        headline=_headline(counts),
        counts=counts,
        platforms=platforms,
        failures=waived.failures,
        waivers=waived.uses,
    )


@dataclass(frozen=True)
class _Case:
    """A cell with what speaks for it."""

    asked: CellPart
    """Of the release; where that has none, of the baseline."""
    found: CellPart | None
    """The cell that gave data, of whatever run."""
    source: Document | None
    """The run of that."""
    before: CellPart | None
    """The baseline's cell, where it gave data."""
    waivers: CellWaivers | None
    """Of what failed in `found`."""


class _Judge:
    """All that is known, looked up by cell."""

    def __init__(
        self,
        release: Document,
        *,
        now: datetime,
        baseline: Document | None,
        earlier: Sequence[Document],
        waivers: Sequence[Waiver],
        max_age_days: float | None,
    ) -> None:
        self._release, self._now, self._waivers, self._max_age_days = release, now, waivers, max_age_days
        self._baseline_id = baseline.run.id if baseline else ""
        self._own = {cell.id: cell for cell in release.cells}
        self._before = {cell.id: cell for cell in baseline.cells} if baseline else {}
        self._excluded = {one.id: one.reason for one in release.excluded}
        others = [report for report in _newest_first(earlier) if report.run.id != release.run.id]
        self._runs = [(report, {cell.id: cell for cell in report.cells}) for report in (release, *others)]
        self._waived: dict[str, Waived] = {}

    def platforms(self) -> Iterator[PlatformPart]:
        """Every platform, judged."""
        for cell_id in dict.fromkeys((*self._own, *self._before)):
            case = self._case(cell_id)
            reasons = sorted(self._reasons(case), key=lambda reason: _ORDER[reason[0]])
            yield PlatformPart(
                id=cell_id,
                values=case.asked.values,
                status=_status([kind for kind, _ in reasons]),
                reasons=tuple(ReasonPart(kind=kind, text=text) for kind, text in reasons),
                baseline_tests=len(_ran(case.before)) if case.before else None,
                waivers=case.waivers.waivers if case.waivers else (),
                evidence=self._evidence(case),
                rerun=case.asked.rerun if cell_id in self._own else "",
            )

    def waived(self, report: Document) -> Waived:
        """The waivers on a run, worked out once."""
        if report.run.id not in self._waived:
            self._waived[report.run.id] = apply(report, self._waivers, now=self._now)
        return self._waived[report.run.id]

    def _case(self, cell_id: str) -> _Case:
        before = self._before.get(cell_id)
        held = ((report, cells[cell_id]) for report, cells in self._runs if cell_id in cells)
        source, found = next((pair for pair in held if _has_data(pair[1])), (None, None))
        return _Case(
            asked=self._own.get(cell_id) or self._before[cell_id],
            found=found,
            source=source,
            before=before if before and _has_data(before) else None,
            waivers=self.waived(source).cells.get(cell_id) if source else None,
        )

    def _reasons(self, case: _Case) -> Reasons:
        if case.found is None or case.source is None:
            yield self._why_not(case.asked)
            return
        yield from self._age(case, case.found, case.source)
        yield from _results(case, case.found)
        yield from self._tests(case, case.found)
        yield from _marks(case.found)

    def _why_not(self, cell: CellPart) -> tuple[Reason, str]:
        """Why there is no data of a cell."""
        if cell.id not in self._own:
            why = self._excluded.get(cell.id) or "not in the matrix"
            return Reason.NOT_RUN, f"in the baseline {self._baseline_id}, but not in this run: {why}"
        if cell.outcome is None:
            return Reason.NOT_RUN, f"not finished: {cell.state}"
        return (Reason.ERROR if cell.outcome.blame else Reason.NOT_RUN), cell.outcome.summary or cell.outcome.verdict

    def _age(self, case: _Case, found: CellPart, source: Document) -> Reasons:
        """Whether the evidence is of this run, of this source, and new enough."""
        old = days(_ran_at(found, source), self._now)
        if source is not self._release:
            same = source.run.source.digest == self._release.run.source.digest
            _, why = self._why_not(case.asked)
            taken = f"from {source.run.id}, {_days_ago(old)}; for this release: {why}"
            yield (Reason.REUSED, taken) if same else (Reason.STALE, f"of another source, {taken}")
        if self._max_age_days is not None and old > self._max_age_days:
            yield Reason.STALE, f"ran {_days_ago(old)}; no more than {self._max_age_days:g} days are asked for"

    def _tests(self, case: _Case, found: CellPart) -> Reasons:
        """Whether as much was tested as in the baseline, and at all."""
        ran, before = _ran(found), _ran(case.before)
        missing = tuple(key.label for key in before if key not in ran)
        lost = some(missing, most=_MOST_NAMES)
        if len(ran) < len(before):
            counted = f"{plural(len(ran), 'test')} ran, {len(before)} in the baseline {self._baseline_id}"
            yield Reason.FEWER_TESTS, f"{counted}; not these: {lost}"
        elif missing:
            yield Reason.OTHER_TESTS, f"{plural(len(missing), 'test')} of the baseline did not run: {lost}"

    def _evidence(self, case: _Case) -> EvidencePart | None:
        found, source = case.found, case.source
        if found is None or source is None:
            return None
        guest = found.last.guest if found.last else None
        results = evidence.results(found)
        return EvidencePart(
            run=source.run.id,
            ran=_ran_at(found, source),
            source_digest=source.run.source.digest,
            verdict=found.verdict,
            hypervisor=found.hypervisor,
            emulated=found.emulated,
            host=found.host,
            image=guest.image if guest else "",
            image_digest=found.image_digest,
            tests=len(_ran(found)),
            failed=len(evidence.failing(found)),
            skipped=len(results) - len(_ran(found)),
            waived=case.waivers.waived if case.waivers else 0,
            attempts=len(found.attempts),
        )


def _results(case: _Case, found: CellPart) -> Reasons:
    """What the cell and its tests came to."""
    stands, waivers = evidence.standing(found), case.waivers
    if waivers and not waivers.all_waived:
        part = f"; {waivers.waived} of {plural(waivers.failures, 'failure')} waived" if waivers.waived else ""
        yield Reason.FAILED, _what_failed(found) + part
    elif waivers:
        yield Reason.WAIVED, _what_failed(found)
    elif stands is Standing.SKIPPED or _all_skipped(found):
        yield Reason.ALL_SKIPPED, f"all of {plural(found.tests.all, 'test')} skipped"
    elif not found.tests.all and not _test_script_passed(found):
        yield Reason.NO_TESTS, "it passed without a test"
    else:
        yield Reason.PASSED, found.outcome.summary if found.outcome else ""
        if not found.tests.all:
            yield Reason.NO_RESULTS, "the test script passed; it said nothing of single tests"


def _marks(found: CellPart) -> Reasons:
    """What has to be known beside the result."""
    flaky = tuple(key.label for key in evidence.flaky(found))
    if flaky:
        yield Reason.FLAKY, f"passed only after a failure: {some(flaky, most=_MOST_NAMES)}"
    elif found.outcome and found.outcome.flaky:
        yield Reason.FLAKY, found.outcome.summary
    if found.emulated:
        yield Reason.EMULATED, f"by {found.hypervisor}; not tried on real hardware"
    if found.may_fail:
        yield Reason.MAY_FAIL, "the matrix lets it fail"


def _what_failed(cell: CellPart) -> str:
    names = [key.label for key in evidence.failing(cell)]
    if not names or not evidence.explained(cell):
        return cell.outcome.summary if cell.outcome else ""
    return f"{len(names)} of {plural(len(_ran(cell)), 'test')} failed: {some(names, most=_MOST_NAMES)}"


_ORDER = {kind: place for place, kind in enumerate(Reason)}


def _status(kinds: Sequence[Reason]) -> Status:
    """By the first reason that decides."""
    return next((status for kind, status in DECIDING.items() if kind in kinds), Status.NOT_KNOWN)


def _has_data(cell: CellPart) -> bool:
    return evidence.standing(cell) is not Standing.NO_DATA


def _ran(cell: CellPart | None) -> dict[Key, None]:
    """The tests of a cell that ran: skipped ones did not."""
    found = evidence.results(cell) if cell else {}
    return {key: None for key, test in found.items() if evidence.status(test) is not Standing.SKIPPED}


def _all_skipped(cell: CellPart) -> bool:
    return bool(cell.tests.all) and cell.tests.skipped == cell.tests.all


def _test_script_passed(cell: CellPart) -> bool:
    phases = cell.last.phases if cell.last else ()
    return any(phase.phase is Phase.TEST and phase.ending is Ending.OK for phase in phases)


def _ran_at(cell: CellPart, report: Document) -> datetime:
    last = cell.last
    return (last.finished or last.created) if last else report.run.finished or report.run.created


def _days_ago(number: float) -> str:
    return f"{plural(int(number), 'day')} ago" if number >= 1 else "less than a day ago"


def _newest_first(reports: Sequence[Document]) -> list[Document]:
    return sorted(reports, key=lambda report: report.run.created, reverse=True)


def _counts(platforms: Sequence[PlatformPart]) -> StatusCounts:
    found = Counter(platform.status for platform in platforms)
    return StatusCounts(all=len(platforms), **{status.value: found[status] for status in Status})


def _headline(counts: StatusCounts) -> str:
    """Such as `Supported on 20 of 24 platforms, 1 of them with waivers; 2 not supported, 2 not known.`."""
    good = counts.supported + counts.supported_with_waivers
    waived = f", {counts.supported_with_waivers} of them with waivers" if counts.supported_with_waivers else ""
    others = ((counts.not_supported, "not supported"), (counts.not_known, "not known"))
    bad = ", ".join(f"{count} {word}" for count, word in others if count)
    return f"Supported on {good} of {plural(counts.all, 'platform')}{waived}{'; ' if bad else ''}{bad}."
