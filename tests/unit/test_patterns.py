from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.model import CellRecord
from farm.report.document import document
from farm.report.parts import CellPart, Document
from farm.report.patterns import Finding, Kind, Patterns, patterns
from farm.report.separate import Condition, Pattern, space
from tests.unit.documents import Tests, cell, report, reports
from tests.unit.records import demo_run, facts

IMAGES = ("debian-12", "debian-13")
ARCHES = ("amd64", "arm64", "riscv64", "s390x")
BUGS = ("off", "on", "half")
IDS = tuple(f"{image}/{arch}/bug={bug}" for image, arch, bug in product(IMAGES, ARCHES, BUGS))


def run(failing: set[str], ids: tuple[str, ...] = IDS, *, message: str = "") -> Document:
    """The test `t` fails in these cells, and passes in the others."""
    said = f"failed: {message}" if message else "failed"
    return report(
        *(cell(one, "failed", {"t": said}) if one in failing else cell(one, "passed", {"t": "passed"}) for one in ids)
    )


def those(*parts: str) -> set[str]:
    """The cells whose id has all of these parts."""
    return {one for one in IDS if set(parts) <= set(one.split("/"))}


def only(found: Patterns) -> Finding:
    (finding,) = found.findings
    return finding


EXACT = [
    (those("s390x"), "fails exactly where arch = s390x: 6 of 6; passes in the 18 others"),
    (those("debian-12"), "fails exactly where image = debian-12: 12 of 12; passes in the 12 others"),
    (set(IDS) - those("amd64"), "fails exactly where arch ≠ amd64: 18 of 18; passes in the 6 others"),
    (
        those("s390x") | those("riscv64"),
        "fails exactly where arch = riscv64 or s390x: 12 of 12; passes in the 12 others",
    ),
    (those("s390x", "bug=on"), "fails exactly where arch = s390x and bug = on: 2 of 2; passes in the 22 others"),
    (
        those("bug=on") - those("amd64"),
        "fails exactly where arch ≠ amd64 and bug = on: 6 of 6; passes in the 18 others",
    ),
    (
        those("debian-13", "s390x", "bug=on"),
        "fails exactly where image = debian-13 and arch = s390x and bug = on: 1 of 1; passes in the 23 others",
    ),
]


@pytest.mark.parametrize(("failing", "sentence"), EXACT)
def test_the_smallest_combination_that_separates(failing: set[str], sentence: str) -> None:
    finding = only(patterns(run(failing)))
    assert (finding.kind, finding.sentence, len(finding.patterns)) == (Kind.EXACT, sentence, 1)
    assert (finding.fails, finding.passes) == (len(failing), len(IDS) - len(failing))


PARTIAL = [
    (
        those("s390x") - {"debian-12/s390x/bug=off"},
        "fails only where arch = s390x: in 5 of 6; passes in the 18 others",
    ),
    (
        those("s390x") | {"debian-13/amd64/bug=off"},
        "fails wherever arch = s390x: 6 of 6; and in 1 of 18 others",
    ),
    (
        those("s390x") - {"debian-12/s390x/bug=off"} | {"debian-13/amd64/bug=off"},
        "fails in 5 of 6 where arch = s390x, and in 1 of 18 others",
    ),
    (
        those("s390x", "bug=on") | {"debian-13/amd64/bug=off"},
        "fails wherever arch = s390x and bug = on: 2 of 2; and in 1 of 22 others",
    ),
]


@pytest.mark.parametrize(("failing", "sentence"), PARTIAL)
def test_a_partial_pattern_is_worded_as_what_it_is(failing: set[str], sentence: str) -> None:
    finding = only(patterns(run(failing)))
    assert (finding.kind, finding.sentence) == (Kind.PARTIAL, sentence)
    assert not any(one.exact for one in finding.patterns)


def test_failures_all_over_the_place_have_no_pattern() -> None:
    scattered = {IDS[number] for number in (0, 7, 11, 20)}
    finding = only(patterns(run(scattered)))
    assert (finding.kind, finding.patterns) == (Kind.NONE, ())
    assert finding.sentence == "fails in 4 of 24 cells; no combination of axis values tells which"


def test_what_fails_everywhere_is_separated_by_nothing() -> None:
    finding = only(patterns(run(set(IDS))))
    assert (finding.kind, finding.sentence) == (Kind.EVERYWHERE, "fails in all 24 cells that gave data of it")


@pytest.mark.parametrize(
    ("failing", "ids", "sentence"),
    [
        ({IDS[0]}, IDS[:1], "fails in 1 of 1 cell: too few to find a pattern"),
        ({IDS[0]}, IDS[:3], "fails in 1 of 3 cells: too few to find a pattern"),
        (set(IDS[:2]), IDS[:2], "fails in 2 of 2 cells: too few to find a pattern"),
    ],
)
def test_too_few_cells_say_so(failing: set[str], ids: tuple[str, ...], sentence: str) -> None:
    finding = only(patterns(run(failing, ids)))
    assert (finding.kind, finding.sentence, finding.patterns) == (Kind.TOO_FEW, sentence, ())


def test_axes_that_vary_together_cannot_be_told_apart() -> None:
    ids = ("debian-12/amd64", "debian-12/arm64", "debian-13/riscv64/x=1", "debian-13/s390x/x=1")
    finding = only(patterns(run({ids[2], ids[3]}, ids)))
    assert [one.where for one in finding.patterns] == ["image = debian-13", "x = 1"]
    assert finding.sentence.endswith("passes in the 2 others; cannot be told from x = 1")


def test_a_cell_without_an_axis_has_nothing_on_it() -> None:
    ids = ("debian-13/amd64", "debian-13/arm64", "debian-13/amd64/x=1", "debian-13/arm64/x=2")
    finding = only(patterns(run({ids[0], ids[1]}, ids)))
    assert finding.patterns[0].where == "x = nothing"


def test_values_of_other_types_are_other_values() -> None:
    records = []
    for number, value in enumerate((True, 1, True, 1)):
        one = cell(f"debian-13/amd64/n={number}", "failed" if value is True else "passed")
        placed = one.placement.cell.model_copy(update={"values": {"fast": value}})
        placement = one.placement.model_copy(update={"cell": placed})
        records.append(one.model_copy(update={"placement": placement}))
    found = patterns(document(demo_run(tuple(records)))).of_cells
    assert found
    assert found.patterns[0].where == "fast = true"


def test_cells_without_data_are_neither_side() -> None:
    ids = [*those("s390x"), *those("amd64")]
    records = [cell(one, "failed", {"t": "failed"}) for one in sorted(those("s390x"))]
    records += [cell(one, "passed", {"t": "passed"}) for one in sorted(those("amd64"))]
    records += [cell(one, "infra", {"t": "failed"}) for one in sorted(those("riscv64"))]
    records += [cell(one, "passed", {"t": "skipped"}) for one in sorted(those("arm64"))]
    finding = only(patterns(report(*records)))
    assert (finding.fails, finding.passes, finding.unknown) == (6, 6, 12)
    assert finding.sentence == "fails exactly where arch = s390x: 6 of 6; passes in the 6 others"
    assert len(ids) == 12


def test_tests_that_fail_in_the_same_cells_stand_together() -> None:
    bad = {"a": "failed", "b": "error", "c": "failed"}
    good = dict.fromkeys(bad, "passed")
    records = [
        cell(one, "failed", bad | ({"c": "passed"} if "bug=off" in one else {}))
        if one in those("s390x")
        else cell(one, "passed", good)
        for one in IDS
    ]
    found = patterns(report(*records))
    assert [[one.label for one in finding.tests] for finding in found.findings] == [
        ["suite › a", "suite › b"],
        ["suite › c"],
    ]
    assert [finding.count for finding in found.findings] == [2, 1]


def test_cells_have_a_pattern_of_their_own() -> None:
    records = [cell(one, "build") if "s390x" in one else cell(one, "passed", {"t": "passed"}) for one in IDS]
    found = patterns(report(*records))
    assert found.findings == ()
    assert found.of_cells
    assert found.of_cells.sentence == "fails exactly where arch = s390x: 6 of 6; passes in the 18 others"
    (group,) = found.groups
    assert (group.message, group.failures, group.count) == ("build: returned N", 6, 0)
    assert group.sentence == found.of_cells.sentence


def test_a_run_without_failures_has_no_findings() -> None:
    found = patterns(run(set()))
    assert (found.of_cells, found.findings, found.groups) == (None, (), ())
    assert (found.cells, found.with_data, found.axes) == (24, 24, ("image", "arch", "bug"))


def test_evidence_of_emulated_guests_only_is_marked() -> None:
    assert only(patterns(run(those("s390x")))).emulated_only  # facts("s390x") is emulated
    assert not only(patterns(run(those("s390x") | those("amd64")))).emulated_only


@pytest.mark.parametrize(
    ("last", "before", "outcome", "attempts_failing", "flaky"),
    [
        ({"t": "failed"}, [], "failed", 1, 0),
        ({"t": "failed"}, [{"t": "failed"}], "failed", 2, 0),
        ({"t": "failed"}, [{"t": "passed"}], "failed", 1, 0),
    ],
)
def test_evidence_of_a_single_attempt_is_marked(
    last: Tests, before: list[Tests], outcome: str, attempts_failing: int, flaky: int
) -> None:
    records = [cell(one, "passed", {"t": "passed"}) for one in IDS[1:]]
    finding = only(patterns(report(cell(IDS[0], outcome, last, before=before), *records)))
    assert finding.single_cell
    assert finding.single_attempt is (attempts_failing == 1)
    assert finding.flaky_cells == flaky


def test_a_failure_in_two_cells_is_no_single_evidence() -> None:
    finding = only(patterns(run({IDS[0], IDS[1]})))
    assert not finding.single_cell
    assert not finding.single_attempt


def test_cells_in_which_a_failing_test_flakes_are_counted() -> None:
    flaky = cell(IDS[1], "passed", {"t": "passed"}, before=[{"t": "failed"}])
    finding = only(patterns(report(cell(IDS[0], "failed", {"t": "failed"}), flaky)))
    assert finding.flaky_cells == 1


def test_failures_that_say_the_same_are_grouped_over_tests_and_cells() -> None:
    records = []
    for number, one in enumerate(IDS):
        said = {"a": f"failed: x.c:{number}: got 0x{number:x}", "b": f"failed: x.c:9: got 0x{number + 7:x}"}
        bad = cell(one, "failed", said | {"c": "failed: other"})
        records.append(bad if one in those("s390x") else cell(one, "passed", dict.fromkeys("abc", "passed")))
    same, other = patterns(report(*records)).groups
    assert (same.message, same.failures, same.count, same.fails) == ("x.c:N: got <hex>", 12, 2, 6)
    assert [one.name for one in same.tests] == ["a", "b"]
    assert same.example.startswith("x.c:")
    assert same.sentence == "fails exactly where arch = s390x: 6 of 6; passes in the 18 others"
    assert (other.message, other.failures) == ("other", 6)


def test_a_message_that_came_once_is_no_group() -> None:
    assert patterns(run({IDS[0]}, message="once")).groups == ()
    assert patterns(run({IDS[0], IDS[1]})).groups == ()  # they said nothing


# --- whatever fails where


def holds(pattern: Pattern, one: CellPart) -> bool:
    return all(agrees(condition, one) for condition in pattern.conditions)


def agrees(condition: Condition, one: CellPart) -> bool:
    return (one.values.get(condition.axis) in condition.values) is not condition.negated


BIT_SETS = st.integers(min_value=0, max_value=2 ** len(IDS) - 1)
CELLS = run(set()).cells


@settings(deadline=None)
@given(BIT_SETS, BIT_SETS)
def test_every_pattern_says_the_truth(fails: int, passes: int) -> None:
    passes &= ~fails
    for pattern in space(CELLS).separate(fails, passes):
        inside = {number for number, one in enumerate(CELLS) if holds(pattern, one)}
        failing = {number for number in range(len(IDS)) if fails >> number & 1}
        known = failing | {number for number in range(len(IDS)) if passes >> number & 1}
        assert pattern.fails_inside == len(inside & failing)
        assert pattern.inside == len(inside & known)
        assert pattern.fails_outside == len(failing - inside)
        assert pattern.outside == len(known - inside)
        assert pattern.exact == (inside & known == failing)


CHOICES = st.tuples(st.sampled_from((None, *IMAGES)), st.sampled_from((None, *ARCHES)), st.sampled_from((None, *BUGS)))


@settings(deadline=None)
@given(CHOICES.filter(any))
def test_what_a_conjunction_decides_is_found_with_no_more_conditions(chosen: tuple[str | None, ...]) -> None:
    wanted = {axis: value for axis, value in zip(("image", "arch", "bug"), chosen, strict=True) if value}
    fails = sum(1 << n for n, one in enumerate(CELLS) if all(one.values[axis] == v for axis, v in wanted.items()))
    found = space(CELLS).separate(fails, 2 ** len(IDS) - 1 & ~fails)
    assert [one.exact for one in found] == [True]
    assert {one.axis: one.values for one in found[0].conditions} == {axis: (v,) for axis, v in wanted.items()}
    assert not any(one.negated for one in found[0].conditions)


@settings(deadline=None)
@given(reports())
def test_findings_cover_every_failing_test_once_and_read_back(found: Document) -> None:
    made = patterns(found)
    names = [one for finding in made.findings for one in finding.tests]
    assert len(names) == len(set(names))
    assert Patterns.model_validate_json(made.model_dump_json()) == made
    assert patterns(found) == made


def test_a_run_of_1000_cells_and_eight_axes_is_understood() -> None:
    """Each of 200 tests fails in cells of its own, so that nothing can be looked up."""
    records: list[CellRecord] = []
    guest = facts("s390x")
    for number in range(1000):
        axes = "/".join(f"x{axis}={number // 2**axis % (axis + 2)}" for axis in range(6))
        tests = {f"t{test}": "failed" if number % 251 == test else "passed" for test in range(200)}
        records.append(cell(f"debian-{number % 5}/{ARCHES[number % 4]}/{axes}", "failed", tests, guest=guest))
    found = patterns(report(*records))
    assert len(found.findings) == 200
    assert found.with_data == 1000
