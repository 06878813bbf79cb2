"""Two runs against each other: every cell, and every test in it, is in exactly one class of `Change`. Pure.

Two images or two versions are compared by comparing the runs that used them. Cells are the same where their ids are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from farm.report import evidence
from farm.report.changes import TABLE, WORSE, CellChange, Change, ChangeCounts, Comparison, RunSide, TestChange
from farm.report.differences import ImageChange, PackageChange, common, differences, guest
from farm.report.evidence import Key, Standing
from farm.report.parts import CellPart, Document, TestPart

__all__ = [
    "TABLE",
    "WORSE",
    "CellChange",
    "Change",
    "ChangeCounts",
    "Comparison",
    "PackageChange",
    "RunSide",
    "TestChange",
    "compare",
]

Packages = Mapping[tuple[str, str], Sequence[PackageChange]]
"""The digests of two images -> which packages are not the same in them."""

_ALWAYS_LISTED = frozenset({*WORSE, Change.STILL_FAILING, Change.FIXED})
_LISTED_IN_CELLS_OF_BOTH = frozenset({Change.NEW_PASS, Change.APPEARED, Change.DISAPPEARED})


def compare(base: Document, head: Document, *, packages: Packages | None = None) -> Comparison:
    """What became of every cell and test of two runs.

    `packages` tells what is known of the images: the digest in the base and the one in the head -> the changes.
    """
    old, new = ({cell.id: cell for cell in report.cells} for report in (base, head))
    pairs = [_pair(old.get(cell), new.get(cell)) for cell in dict.fromkeys((*new, *old))]
    worse = any(pair.change.change in WORSE or _any_worse(pair.tests) for pair in pairs if not pair.change.may_fail)
    cells = _counts(Counter(pair.change.change for pair in pairs))
    tests = _counts(sum((pair.tests for pair in pairs), Counter()))
    return Comparison(
        base=_side(base),
        head=_side(head),
        same_source=base.run.source.digest == head.run.source.digest,
        headline=_headline(cells, tests),
        worse=worse,
        cells=cells,
        tests=tests,
        differences=common(one for pair in pairs for one in pair.change.differences),
        images=_images(((old.get(pair.change.id), new.get(pair.change.id)) for pair in pairs), packages or {}),
        cell_changes=tuple(pair.change for pair in pairs),
        test_changes=tuple(test for pair in pairs for test in pair.listed),
    )


@dataclass(frozen=True)
class _Pair:
    """A cell of both runs, compared."""

    change: CellChange
    tests: Counter[Change]
    listed: list[TestChange] = field(default_factory=list)


def _pair(old: CellPart | None, new: CellPart | None) -> _Pair:
    before, after = _standing(old), _standing(new)
    cell = new or old
    if cell is None:
        raise ValueError("a cell has to be in one of the runs")
    in_both = not {before, after} & {Standing.ABSENT, Standing.NO_DATA}
    shown = _ALWAYS_LISTED | _LISTED_IN_CELLS_OF_BOTH if in_both else _ALWAYS_LISTED
    tests, listed = _tests(old, new, cell, shown)
    change = CellChange(
        id=cell.id,
        values=cell.values,
        change=TABLE[before, after],
        before=before,
        after=after,
        why_before=_why(old),
        why_after=_why(new),
        blame=new.outcome.blame if new and new.outcome else None,
        may_fail=cell.may_fail,
        tests=_counts(tests),
        differences=differences(guest(old), guest(new)),
    )
    return _Pair(change, tests, listed)


def _tests(
    old: CellPart | None, new: CellPart | None, cell: CellPart, shown: frozenset[Change]
) -> tuple[Counter[Change], list[TestChange]]:
    """How many tests of a cell are of which class, and those that are listed."""
    before, after = (evidence.results(one) if one else {} for one in (old, new))
    without = _without(old), _without(new)
    counts: Counter[Change] = Counter()
    listed = []
    for key in before | after:
        stands = _of(before, key, without[0]), _of(after, key, without[1])
        change = TABLE[stands]
        counts[change] += 1
        if change in shown:
            listed.append(_test(cell, key, stands, _failure(after.get(key)) or _failure(before.get(key))))
    return counts, listed


def _test(cell: CellPart, key: Key, stands: tuple[Standing, Standing], message: str) -> TestChange:
    return TestChange(
        cell=cell.id,
        suite=key.suite,
        classname=key.classname,
        name=key.name,
        label=key.label,
        change=TABLE[stands],
        before=stands[0],
        after=stands[1],
        message=message,
        may_fail=cell.may_fail,
    )


def _standing(cell: CellPart | None) -> Standing:
    return evidence.standing(cell) if cell else Standing.ABSENT


def _without(cell: CellPart | None) -> Standing:
    """What is known of a test that has no result in a cell."""
    return Standing.NO_DATA if cell and not evidence.complete(cell) else Standing.ABSENT


def _of(found: Mapping[Key, TestPart], key: Key, without: Standing) -> Standing:
    test = found.get(key)
    return evidence.status(test) if test else without


def _failure(test: TestPart | None) -> str:
    return evidence.message(test) if test and evidence.status(test) is Standing.FAILED else ""


def _why(cell: CellPart | None) -> str:
    return cell.outcome.summary if cell and cell.outcome else ""


def _any_worse(tests: Counter[Change]) -> bool:
    return any(tests[change] for change in WORSE)


def _counts(found: Counter[Change]) -> ChangeCounts:
    return ChangeCounts(all=found.total(), **{change.value: found[change] for change in Change})


def _side(report: Document) -> RunSide:
    return RunSide.model_validate(report.run)


def _images(pairs: Iterable[tuple[CellPart | None, CellPart | None]], packages: Packages) -> tuple[ImageChange, ...]:
    """The images that were not the same, those of most cells first."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for old, new in pairs:
        before, after = guest(old), guest(new)
        if before and after and before.image_digest != after.image_digest:
            counted[after.image, before.image_digest, after.image_digest] += 1
    ranked = sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))
    return tuple(
        ImageChange(image=image, before=old, after=new, cells=count, packages=_known(packages, (old, new)))
        for (image, old, new), count in ranked
    )


def _known(packages: Packages, digests: tuple[str, str]) -> tuple[PackageChange, ...] | None:
    return tuple(packages[digests]) if digests in packages else None


_HEADLINE = {
    Change.REGRESSION: "regression",
    Change.NEW_FAILURE: "new failure",
    Change.FIXED: "fixed",
    Change.STILL_FAILING: "still failing",
}
_COUNTABLE = frozenset({Change.REGRESSION, Change.NEW_FAILURE})


def _headline(cells: ChangeCounts, tests: ChangeCounts) -> str:
    """Such as `1 regression (2 tests), 1 fixed; 2 cells without data.`."""
    words = [_part(change, word, cells, tests) for change, word in _HEADLINE.items()]
    said = ", ".join(filter(None, words)) or "Nothing became worse or better"
    unknown = f"; {evidence.plural(cells.no_data, 'cell')} without data" if cells.no_data else ""
    return f"{said}{unknown}."


def _part(change: Change, word: str, cells: ChangeCounts, tests: ChangeCounts) -> str:
    of_cells, of_tests = (getattr(counts, change.value) for counts in (cells, tests))
    if not of_cells and not of_tests:
        return ""
    noun = f"{word}s" if change in _COUNTABLE and of_cells != 1 else word
    return f"{of_cells} {noun} ({evidence.plural(of_tests, 'test')})" if of_tests else f"{of_cells} {noun}"
