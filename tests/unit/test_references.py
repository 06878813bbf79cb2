"""Runs by reference, baselines, waivers, and what is made of them: from a real store."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

import pytest
from pydantic import ValidationError

from farm.compat import Compatibility, changed_images
from farm.documents import Documents
from farm.errors import ConflictError, NotFoundError
from farm.model.waiver import WaiverRequest
from farm.references import References
from farm.report.compare import Packages
from farm.report.differences import PackageChange
from farm.report.support import Reason, Status
from farm.store import Store
from farm.store.baselines import Baselines
from farm.store.waivers import Waivers
from tests.unit.documents import cell
from tests.unit.records import START, facts
from tests.unit.seeded import seed

AMD, RISCV, S390X = "debian-13/amd64", "debian-13/riscv64", "debian-13/s390x"
PASSES, FAILS = {"a": "passed", "b": "passed"}, {"a": "failed: differs", "b": "passed"}
RELEASE = {"release": ""}


@pytest.fixture
def runs(store: Store) -> list[str]:
    """demo-1 to demo-5, then a run of another project."""
    good, bad = cell(AMD, "passed", PASSES), cell(AMD, "failed", FAILS)
    return [
        seed(store, good, version="1", labels=RELEASE),
        seed(store, good, version="1", labels=RELEASE, days=1),
        seed(store, bad, version="2", labels=RELEASE, days=2),
        seed(store, bad, version="2", days=3),
        seed(store, cell(AMD, "unfinished"), version="2", labels=RELEASE, days=4, finished=False),
        seed(store, good, project="other", version="9", days=5),
    ]


# --- references -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        ("demo-2", "demo-2"),
        ("latest", "other-1"),
        ("demo@latest", "demo-5"),
        ("demo@1", "demo-2"),
        ("demo@2", "demo-4"),
        ("demo@baseline:golden", "demo-1"),
        ("demo@last-release", "demo-2"),
    ],
)
def test_a_reference_means_a_run(store: Store, reference: str, meant: str) -> None:
    Baselines(store.engine).set("demo", "golden", "demo-1", by="me", now=START)
    assert References(store).resolve(reference) == meant


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(("head", "meant"), [("demo-2", "demo-1"), ("demo-3", "demo-2"), ("demo-5", "demo-2")])
def test_the_last_release_is_one_before_the_run_that_is_compared_with_it(store: Store, head: str, meant: str) -> None:
    assert References(store).resolve("demo@last-release", head=head) == meant


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("dem@latest", "no run has this name"),
        ("@latest", "no run has this name"),
        ("demo@3", "no finished run of the version '3'"),
        ("demo@", "no finished run of the version ''"),
        ("demo@baseline:none", "none of this name"),
        ("demo@image:616d6", "at least 6 digits"),
        ("demo@image:ffffff", "no finished run of demo had an image"),
        ("demo@image:%16d64", "no finished run of demo had an image"),
        ("other@last-release", "no finished run of other has a label `release`"),
    ],
)
def test_a_reference_that_means_nothing_is_told_why(store: Store, reference: str, why: str) -> None:
    with pytest.raises(NotFoundError, match=why) as caught:
        References(store).resolve(reference)
    assert caught.value.hint


def test_in_an_empty_store_there_is_no_latest_run(store: Store) -> None:
    with pytest.raises(NotFoundError, match="there has been no run yet"):
        References(store).resolve("latest")


def test_an_image_means_the_newest_run_that_had_it(store: Store, runs: list[str]) -> None:
    other = facts("amd64").model_copy(update={"image_digest": "0123456789abcdef"})
    newer = seed(store, cell(AMD, "passed", PASSES, guest=other), days=9)
    references = References(store)
    for digest in ("616d64", "sha256:616d64", facts("amd64").image_digest):
        assert references.resolve(f"demo@image:{digest}") == runs[3]
    assert references.resolve("demo@image:012345") == newer


# --- baselines --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("runs")
def test_a_baseline_is_a_name_that_can_be_given_to_another_run(store: Store) -> None:
    baselines = Baselines(store.engine)
    baselines.set("demo", "golden", "demo-1", by="me", now=START)
    made = baselines.set("demo", "golden", "demo-2", by="you", now=START + timedelta(days=1))
    assert baselines.list("demo") == (made,)
    assert (made.run, made.set_by, made.set) == ("demo-2", "you", START + timedelta(days=1))
    assert baselines.list("other") == ()
    baselines.remove("demo", "golden")
    with pytest.raises(NotFoundError, match="none of this name"):
        baselines.remove("demo", "golden")


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("run", "error", "why"),
    [
        ("demo-77", NotFoundError, "no run 'demo-77'"),
        ("other-1", ConflictError, "is a run of other"),
        ("demo-5", ConflictError, "is not finished"),
    ],
)
def test_only_a_finished_run_of_the_project_can_be_a_baseline(
    store: Store, run: str, error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        Baselines(store.engine).set("demo", "golden", run, by="me", now=START)


# --- waivers ----------------------------------------------------------------------------------------


def test_a_waiver_is_found_as_it_was_made(store: Store) -> None:
    waivers = Waivers(store.engine)
    until = START + timedelta(days=30)
    request = WaiverRequest(cells="*/s390x", tests="a", reason="bug", link="https://bugs/1", expires=until)
    made = waivers.add("demo", request, by="me", now=START)
    assert WaiverRequest.model_validate(made.model_dump(include=set(WaiverRequest.model_fields))) == request
    assert (made.project, made.created, made.created_by) == ("demo", START, "me")
    other = waivers.add("demo", WaiverRequest(reason="all of it"), by="you", now=START)
    assert waivers.list("demo") == (made, other)
    assert waivers.list("other") == ()


def test_a_waiver_can_be_changed_and_removed_but_only_of_its_own_project(store: Store) -> None:
    waivers = Waivers(store.engine)
    made = waivers.add("demo", WaiverRequest(reason="bug"), by="me", now=START)
    changed = waivers.change("demo", made.id, WaiverRequest(reason="worse", tests="a*"))
    assert (changed.reason, changed.tests, changed.created) == ("worse", "a*", made.created)
    for wrong in (("other", made.id), ("demo", made.id + 1)):
        with pytest.raises(NotFoundError, match="there is none"):
            waivers.remove(*wrong)
        with pytest.raises(NotFoundError, match="there is none"):
            waivers.change(*wrong, WaiverRequest(reason="x"))
    assert waivers.remove("demo", made.id) == changed
    assert waivers.list("demo") == ()


def test_the_number_of_a_waiver_is_never_given_again(store: Store) -> None:
    waivers = Waivers(store.engine)
    first = waivers.add("demo", WaiverRequest(reason="bug"), by="me", now=START)
    waivers.remove("demo", first.id)
    assert waivers.add("demo", WaiverRequest(reason="bug"), by="me", now=START).id > first.id


@pytest.mark.parametrize(
    "wrong", [{"reason": ""}, {"reason": "x", "link": "javascript:alert(1)"}, {"reason": "x", "expires": "2025-01-01"}]
)
def test_a_waiver_needs_a_reason_a_link_that_is_one_and_a_time_that_is_one(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        WaiverRequest.model_validate(wrong)


# --- documents --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("runs")
def test_the_document_of_a_finished_run_is_made_once_and_of_another_every_time(store: Store) -> None:
    documents = Documents(store)
    assert documents.get("demo-1") is documents.get("demo-1")
    assert documents.get("demo-5") is not documents.get("demo-5")


@pytest.mark.usefixtures("runs")
def test_documents_that_were_not_asked_for_lately_make_room(store: Store) -> None:
    documents = Documents(store, most_results=6)  # each has a cell and two tests
    first, second = documents.get("demo-1"), documents.get("demo-2")
    assert documents.get("demo-1") is first
    documents.get("demo-3")
    assert documents.get("demo-1") is first
    assert documents.get("demo-2") is not second


# --- compatibility ----------------------------------------------------------------------------------


def no_packages(_: Collection[tuple[str, str]]) -> Packages:
    raise AssertionError("no image has changed")


def test_runs_are_compared_by_reference(store: Store, runs: list[str]) -> None:
    found = Compatibility(store, Documents(store), no_packages).compare("demo@last-release", "demo@2")
    assert (found.base.id, found.head.id) == (runs[1], runs[3])
    assert [(test.name, test.change) for test in found.test_changes if test.change == "regression"] == [
        ("a", "regression")
    ]


def test_changed_packages_are_asked_for_by_the_digests_of_images_that_changed(store: Store) -> None:
    other = facts("amd64").model_copy(update={"image_digest": "sha256:new"})
    seed(store, cell(AMD, "passed", PASSES), cell(S390X, "passed", PASSES))
    seed(store, cell(AMD, "passed", PASSES, guest=other), cell(S390X, "passed", PASSES), days=1)
    pair = (facts("amd64").image_digest, "sha256:new")
    change = PackageChange(name="libc6", before="1", after="2")
    asked = []

    def packages(pairs: Collection[tuple[str, str]]) -> Packages:
        asked.append(pairs)
        return {pair: (change,)}

    documents = Documents(store)
    found = Compatibility(store, documents, packages).compare("demo-1", "demo-2")
    assert asked == [{pair}]
    assert [image.packages for image in found.images] == [(change,)]
    assert changed_images(documents.get("demo-1"), documents.get("demo-1")) == set()


def test_what_did_not_run_for_a_release_is_taken_from_the_newest_run_that_has_it(store: Store) -> None:
    seed(store, cell(AMD, "passed", PASSES), cell(RISCV, "passed", PASSES), cell(S390X, "passed", PASSES))
    seed(store, cell(AMD, "passed", PASSES), cell(RISCV, "passed", PASSES), days=1)
    seed(store, cell(AMD, "passed", PASSES), cell(RISCV, "infra"), cell(S390X, "left out"), days=2)
    made = Compatibility(store, Documents(store), no_packages).statement("latest", now=START + timedelta(days=3))
    told = {one.id: (one.status, one.reasons[0].kind, one.evidence and one.evidence.run) for one in made.platforms}
    assert told == {
        AMD: (Status.SUPPORTED, Reason.PASSED, "demo-3"),
        RISCV: (Status.NOT_KNOWN, Reason.REUSED, "demo-2"),
        S390X: (Status.NOT_KNOWN, Reason.REUSED, "demo-1"),
    }


def test_a_statement_knows_the_waivers_of_its_project_the_baseline_and_the_age(store: Store) -> None:
    seed(store, cell(AMD, "passed", PASSES | {"c": "passed"}), labels=RELEASE)
    seed(store, cell(AMD, "failed", FAILS), days=1, labels=RELEASE)
    waivers, compat = Waivers(store.engine), Compatibility(store, Documents(store), no_packages)
    now = START + timedelta(days=2)
    waivers.add("other", WaiverRequest(tests="a", reason="bug"), by="me", now=START)
    assert compat.statement("demo-2", now=now).platforms[0].status is Status.NOT_SUPPORTED
    waivers.add("demo", WaiverRequest(tests="a", reason="bug"), by="me", now=START)
    assert compat.statement("demo-2", now=now).platforms[0].status is Status.WAIVED
    judged = compat.statement("demo-2", now=now, baseline="demo@last-release")
    assert judged.baseline
    assert (judged.baseline.id, judged.platforms[0].reasons[0].kind) == ("demo-1", Reason.FEWER_TESTS)
    old = compat.statement("demo-2", now=now, max_age_s=3600)
    assert (old.max_age_days, old.platforms[0].reasons[0].kind) == (1 / 24, Reason.STALE)
