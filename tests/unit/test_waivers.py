from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from farm.model import Waiver
from farm.report.evidence import Standing, explained, failing, standing
from farm.report.parts import Document
from farm.report.waivers import Waived, apply
from tests.unit.documents import cell, report, reports
from tests.unit.records import START

NOW = START + timedelta(days=1)
BIG = "debian-13/s390x/bug=on"
LITTLE = "debian-13/amd64/bug=on"


def waiver(cells: str = "**", tests: str = "*", *, number: int = 1, **changes: Any) -> Waiver:
    values = {"id": number, "project": "demo", "cells": cells, "tests": tests, "reason": "known", "created": START}
    return Waiver(**(values | changes))


def run() -> Document:
    """One cell fails two tests of three, one passes all, one does not build, one gave no data."""
    bad = {"swap/load": "failed: wrong", "swap/store": "error", "pack/trip": "passed"}
    return report(
        cell(BIG, "failed", bad),
        cell(LITTLE, "passed", dict.fromkeys(bad, "passed")),
        cell("debian-12/s390x/bug=on", "build"),
        cell("debian-11/s390x/bug=on", "infra", bad),
    )


def waived(found: Waived) -> dict[str, list[str]]:
    """Cell -> what is waived there."""
    made: dict[str, list[str]] = {}
    for failure in found.failures:
        if failure.waivers:
            made.setdefault(failure.cell, []).append(failure.test.name if failure.test else "itself")
    return made


BUILD = "debian-12/s390x/bug=on"
REACH = [
    ("**", "*", {BIG: ["load", "store"], BUILD: ["itself"]}),
    ("debian-13", "*", {BIG: ["load", "store"]}),
    ("debian-13/s390x", "load", {BIG: ["load"]}),
    ("*/s390x/*", "lo*", {BIG: ["load"]}),
    ("**", "swap/*", {BIG: ["load", "store"]}),
    ("**", "SWAP/*", {}),
    ("**", "pack/*", {}),
    ("debian-13/amd64", "*", {}),
    ("debian-12", "*", {BUILD: ["itself"]}),
    ("debian-12", "**", {}),
    ("debian-12", "load", {}),
    ("sid", "*", {}),
]


@pytest.mark.parametrize(("cells", "tests", "expected"), REACH)
def test_what_a_waiver_covers(cells: str, tests: str, expected: dict[str, list[str]]) -> None:
    assert waived(apply(run(), [waiver(cells, tests)], now=NOW)) == expected


FLAGS = [
    ("**", "*", {}, ()),
    ("debian-13", "load", {}, ()),
    ("debian-13/amd64", "load", {}, ("passes again",)),
    ("**", "trip", {}, ("passes again",)),
    ("debian-13/amd64", "*", {}, ("passes again",)),
    ("sid", "*", {}, ("never used",)),
    ("**", "no-such-test", {}, ("never used",)),
    ("debian-11", "load", {}, ("never used",)),
    ("debian-13", "load", {"expires": NOW}, ("expired",)),
    ("debian-13", "load", {"expires": NOW + timedelta(seconds=1)}, ()),
    ("sid", "*", {"expires": START}, ("expired", "never used")),
]


@pytest.mark.parametrize(("cells", "tests", "changes", "flags"), FLAGS)
def test_what_is_wrong_with_a_waiver(cells: str, tests: str, changes: dict[str, Any], flags: tuple[str, ...]) -> None:
    (use,) = apply(run(), [waiver(cells, tests, **changes)], now=NOW).uses
    assert use.flags == flags


def test_a_waiver_of_another_project_is_none() -> None:
    found = apply(run(), [waiver(project="other")], now=NOW)
    assert (found.failures, found.uses) == ((), ())


def test_an_expired_waiver_waives_nothing_but_is_named() -> None:
    found = apply(run(), [waiver("debian-13", "load", expires=START, number=7)], now=NOW)
    assert [(one.waivers, one.expired) for one in found.failures] == [((), (7,))]
    assert found.cells[BIG].waived == 0


def test_a_cell_is_waived_only_where_all_of_its_failures_are() -> None:
    some = apply(run(), [waiver(BIG, "load")], now=NOW).cells
    both = apply(run(), [waiver(BIG, "load"), waiver(BIG, "store", number=2)], now=NOW).cells
    assert [(one.failures, one.waived, one.all_waived) for one in (some[BIG], both[BIG])] == [
        (2, 1, False),
        (2, 2, True),
    ]
    assert both[BIG].waivers == (1, 2)
    assert set(both) == {BIG, BUILD}


def test_a_cell_that_broke_off_is_not_waived_by_its_tests() -> None:
    broken = report(cell(BIG, "timeout", {"load": "failed"}))
    assert not apply(broken, [waiver(BIG, "load")], now=NOW).cells[BIG].all_waived
    assert apply(broken, [waiver(BIG)], now=NOW).cells[BIG].all_waived


def test_failures_that_no_waiver_names_are_counted_with_their_cell() -> None:
    found = apply(run(), [], now=NOW)
    assert (found.failures, found.uses) == ((), ())
    assert {cell: one.failures for cell, one in found.cells.items()} == {BIG: 2, BUILD: 1}


def test_a_waived_failure_says_what_it_was() -> None:
    (one,) = apply(run(), [waiver("**", "load", link="https://bugs.example/1")], now=NOW).failures
    assert one.test
    assert (one.test.label, one.message) == ("swap › load", "wrong")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reason", ""),
        ("reason", "\x1b[31m"),
        ("cells", ""),
        ("tests", ""),
        ("tests", "x" * 501),
        ("link", "javascript:alert(1)"),
        ("link", "  data:text/html,x"),
        ("expires", datetime(2025, 1, 1)),  # noqa: DTZ001 - that is the point
        ("created", datetime(2025, 1, 1)),  # noqa: DTZ001
    ],
)
def test_a_waiver_that_is_none_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        waiver(**{field: value})


def test_a_time_in_another_zone_is_the_same_time() -> None:
    east = timezone(timedelta(hours=9))
    assert waiver(expires=NOW.astimezone(east)).expired(NOW)


@settings(deadline=None)
@given(reports(), st.lists(st.tuples(st.sampled_from(("**", "debian-13", "*/s390x")), st.sampled_from("*abc"))))
def test_a_waiver_hides_nothing(found: Document, globs: list[tuple[str, str]]) -> None:
    waivers = [waiver(*one, number=number) for number, one in enumerate(globs)]
    made = apply(found, waivers, now=NOW)
    failed = {
        one.id for one in found.cells if failing(one) or (standing(one) is Standing.FAILED and not explained(one))
    }
    assert set(made.cells) == failed
    assert all(one.waived <= one.failures for one in made.cells.values())
    for use in made.uses:
        assert use.passes_again + use.unused <= 1
        assert use.failing == sum(use.id in failure.waivers for failure in made.failures)
    assert Waived.model_validate_json(made.model_dump_json()) == made
