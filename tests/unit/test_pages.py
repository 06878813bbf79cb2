"""The pages on a store that nobody else uses: what they read, and what they show to whom."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from farm.cli.local import LocalFarm
from farm.cli.shelf import ShelfImages
from farm.compat import packages_from
from farm.config import load_settings
from farm.explainer import Explainer
from farm.model import AttemptKey, Evidence, Held, HostMark, Mark, Scope
from farm.schedule import NO_LIMITS
from farm.serve import Server
from farm.store import Store
from farm.store.database import writing
from farm.store.events import note, text_of
from tests.service.seeding import seeded
from tests.unit.rehearsal import Rehearsal, a_host, now
from tests.unit.test_images_disk import make_image
from tests.unit.test_serve import NoFleet
from tests.unit.test_serve import server as make_server
from tests.unit.test_store import submission

AXES = {"image": ["debian-13"], "arch": ["amd64", "s390x"], "hypervisor": ["qemu"]}
CELL = "debian-13/amd64/qemu"
OTHER = "debian-13/s390x/qemu"


class Visitor:
    """Somebody with a token, on a server that nobody has started."""

    def __init__(self, farm: Server, scope: Scope = Scope.READ, *, name: str = "reader") -> None:
        self._farm = farm
        self.token, secret = farm.access.create_token(name, scope, by="x", now=now())
        self._headers = {"Authorization": f"Bearer {secret}"}

    def get(self, path: str) -> httpx.Response:
        """What a GET is answered with."""
        return asyncio.run(self._ask("GET", path, {}))

    def post(self, path: str, **form: str) -> httpx.Response:
        """What a form is answered with."""
        return asyncio.run(self._ask("POST", path, form))

    async def _ask(self, method: str, path: str, form: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(create_app(self._farm))
        async with httpx.AsyncClient(transport=transport, base_url="http://farm", headers=self._headers) as client:
            return await client.request(method, path, data=form or None)


def bytes_read() -> int:
    """What this process has read of files until now."""
    counted = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counted["rchar"])


@pytest.fixture
def farm(store: Store, tmp_path: Path) -> Server:
    return make_server(store, Rehearsal(), tmp_path)


def test_the_page_of_a_cell_reads_the_run_without_its_other_cells(store: Store, farm: Server) -> None:
    run = seeded(store, AXES)
    bare = store.bare(run)
    assert bare.cells == ()
    assert bare.model_copy(update={"cells": store.run(run).cells}) == store.run(run)
    assert Visitor(farm).get(f"/runs/{run}/cells/{CELL}").status_code == 200


def test_a_cell_is_live_however_much_goes_on_beside_it(store: Store, farm: Server) -> None:
    run = seeded(store, AXES)
    seen = store.last_event()
    with writing(store.engine, "note") as db:
        for _ in range(1_200):
            note(db, "phase-started", {}, at=text_of(now()), run=run, cell=OTHER, number=1)
    live = f"/runs/{run}/cells-live/{CELL}?seen={seen}&shown=1"
    reader = Visitor(farm)
    assert store.events(seen, run_id=run, cell=CELL) == ()
    assert reader.get(live).status_code == 204
    with writing(store.engine, "note") as db:
        note(db, "phase-started", {}, at=text_of(now()), run=run, cell=CELL, number=1)
    assert [event.cell for event in store.events(seen, run_id=run, cell=CELL)] == [CELL]
    assert reader.get(live).status_code == 200


def test_who_watches_a_log_reads_neither_what_was_shown_before_nor_the_tests(store: Store, farm: Server) -> None:
    before = b"".join(b"line %d\n" % number for number in range(200_000))
    run = seeded(store, AXES, log=before + b"the last\n")
    reader, read = Visitor(farm), bytes_read()
    told = reader.get(f"/runs/{run}/story/1/{CELL}?log=test&offset={len(before)}&line=200001")
    assert bytes_read() - read < len(before)
    assert ("the last" in told.text, "line 199999" in told.text) == (True, False)


def test_the_log_of_an_attempt_that_there_is_not_is_not_found(store: Store, farm: Server) -> None:
    run = seeded(store, AXES)
    assert Visitor(farm).get(f"/runs/{run}/story/7/{CELL}").status_code == 404


def test_a_log_on_this_machine_is_read_from_a_place_on(store: Store, tmp_path: Path) -> None:
    run = seeded(store, AXES, log=b"one\ntwo\n")
    settings = load_settings({"FARM_STATE": str(tmp_path), "FARM_RUNTIME": "/tmp/farm-x"})
    here = LocalFarm(settings)
    assert here.log(run, CELL, 1, "test", 4) == b"two\n"
    assert here.log(run, CELL, 1, "test", 99) == b""
    assert here.has_ended(run, CELL, 1)


@pytest.mark.parametrize(
    ("scope", "name", "told"), [(Scope.READ, "owner", True), (Scope.OPERATE, "x", True), (Scope.SUBMIT, "x", False)]
)
def test_how_to_get_into_a_guest_is_told_to_its_owner_and_operators(
    store: Store, farm: Server, scope: Scope, name: str, *, told: bool
) -> None:
    run = store.create_run(submission(CELL).model_copy(update={"owner": "owner"}), now=now()).id
    key = AttemptKey(run=run, cell=CELL, number=1)
    store.start_attempt(key, now=now())
    store.record(key, [Held(at=now(), command="ssh into-it", until=now() + timedelta(hours=1), evidence=Evidence())])
    visitor = Visitor(farm, scope, name=name)
    assert ("ssh into-it" in visitor.get(f"/runs/{run}/cells/{CELL}").text) == told
    assert "ssh into-it" not in repr(store.events(0, run_id=run))  # which all hear


@pytest.mark.parametrize(
    ("scope", "name", "may"),
    [
        (Scope.READ, "ada", False),
        (Scope.SUBMIT, "ada", True),
        (Scope.SUBMIT, "bob", False),
        (Scope.OPERATE, "bob", True),
    ],
)
def test_to_end_a_run_or_a_cell_is_offered_to_who_may(
    store: Store, farm: Server, scope: Scope, name: str, *, may: bool
) -> None:
    run = seeded(store, AXES, unfinished=2)  # which are ada's
    visitor = Visitor(farm, scope, name=name)
    assert ("Cancel the run" in visitor.get(f"/runs/{run}").text) == may
    assert ("End this cell" in visitor.get(f"/runs/{run}/cells/{CELL}").text) == may
    assert (visitor.post(f"/runs/{run}/cancel").status_code == 303) == may


@pytest.mark.parametrize(("age", "status"), [("", "supported"), ("0s", "not known"), ("99999d", "supported")])
def test_an_age_of_nothing_is_a_limit(store: Store, farm: Server, age: str, status: str) -> None:
    run = seeded(store, AXES)
    try:
        page = Visitor(farm).get(f"/statement?run={run}&age={age}").text
    finally:
        farm.compat.close()
    assert f"2 {status}" in page


@pytest.mark.parametrize(
    ("path", "form", "status"),
    [
        ("/hosts/nowhere/drain", {"reason": "a new disk"}, 404),
        ("/hosts/nowhere/enable", {}, 404),
        ("/hosts/gone/drain", {"reason": "  "}, 422),
        ("/hosts/gone/drain", {}, 422),
        ("/hosts/gone/drain", {"reason": " a new disk "}, 303),
        ("/hosts/gone/enable", {}, 303),
    ],
)
def test_only_a_host_that_there_is_is_drained_and_for_a_reason(
    store: Store, farm: Server, path: str, form: dict[str, str], status: int
) -> None:
    store.hosts.drain("gone", "broken", now=now())
    before = len(farm.access.audit())
    operator = Visitor(farm, Scope.OPERATE)
    assert operator.post(path, **form).status_code == status
    assert len(farm.access.audit()) - before == 1 + (status == 303)  # the token, and what was done
    after = {"/hosts/gone/drain": {"gone": "a new disk"}, "/hosts/gone/enable": {}}
    assert store.hosts.why() == (after[path] if status == 303 else {"gone": "broken"})


@pytest.mark.parametrize(
    "path",
    [
        "/runs?seen={}",
        "/audit?before={}",
        "/history/wire/test?name=x&before={}",
        "/runs/{run}/live?seen={}",
        "/runs/{run}/cells-live/{cell}?seen={}",
        "/runs/{run}/cells-live/{cell}?seen=1&shown={}",
        "/runs/{run}/cells/{cell}?attempt={}",
        "/runs/{run}/story/{}/{cell}",
        "/runs/{run}/story/1/{cell}?log=test&offset={}",
        "/runs/{run}/story/1/{cell}?log=test&line={}",
        "/runs/{run}/log/{}/test/{cell}",
        "/runs/{run}/log/1/test/{cell}?offset={}",
        "/runs/{run}/log/1/test/{cell}?line={}",
    ],
)
def test_a_number_that_no_database_takes_is_refused(store: Store, farm: Server, path: str) -> None:
    run, admin = seeded(store, AXES), Visitor(farm, Scope.ADMIN)
    assert admin.get(path.format(2**63, run=run, cell=CELL)).status_code == 422
    assert admin.get(path.format(2**63 - 1, run=run, cell=CELL)).status_code in {200, 204, 404, 422}


@pytest.mark.parametrize("named", ["latest", "wire@latest", "wire@1.2"])
@pytest.mark.parametrize("page", ["", "?cols=arch", f"/cells/{CELL}", f"/log/1/test/{CELL}?q=a+b", "/patterns"])
def test_a_run_is_named_in_an_address_as_everywhere_else(store: Store, farm: Server, named: str, page: str) -> None:
    run, reader = seeded(store, AXES, version="1.2"), Visitor(farm)
    answer = reader.get(f"/runs/{named}{page}")
    assert (answer.status_code, answer.headers.get("Location")) == (303, f"/runs/{run}{page}")
    assert reader.get(answer.headers["Location"]).status_code == 200


@pytest.mark.parametrize("named", ["latest", "wire@latest", "none-1"])
def test_a_run_that_there_is_not_has_no_page(farm: Server, named: str) -> None:
    assert Visitor(farm).get(f"/runs/{named}").status_code == 404


def test_a_push_that_became_no_run_is_shown_to_operators_and_counted(store: Store, farm: Server) -> None:
    detail = {"repository": "acme/<b>", "commit": "c" * 40, "delivery": "d-1", "problem": "cannot read the matrix: x"}
    farm.access.note("trigger main", "hook.fail", "main", detail, now=now())
    assert Visitor(farm).get("/triggers").status_code == 403
    operator = Visitor(farm, Scope.OPERATE, name="operator")
    page = operator.get("/triggers").text
    assert "cannot read the matrix: x" in page
    assert "acme/&lt;b&gt;" in page
    (failed,) = operator.get("/api/v1/pushes").json()["failed"]
    assert {name: failed[name] for name in detail} == detail
    assert 'farm_pushes{state="failed"} 1' in operator.get("/metrics").text


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("mark", list(Mark))
def test_a_host_that_gets_nothing_new_is_called_what_it_is(
    store: Store, farm: Server, mark: Mark, *, there: bool
) -> None:
    farm.fleet = Rehearsal() if there else NoFleet()
    store.hosts.put(HostMark(name="h", mark=mark, reason="it burns", since=now()))
    page = Visitor(farm).get("/hosts").text
    assert f"</span> {mark}</span> h</h2>" in page
    assert (f"{mark.capitalize()}: it burns" if there else "It is not there now. it burns") in page


def test_the_queue_judges_by_the_hosts_that_are_there_as_explain_does(store: Store, farm: Server) -> None:
    made = submission("a").model_copy(update={"served": True})
    assert made.plan.placements[0].hosts == ("h",)
    run = store.create_run(made, now=now()).id
    fleet = farm.fleet = Rehearsal()
    farm.explainer = Explainer(store, fleet, NO_LIMITS, lambda: "")
    fleet.there = (a_host("new", 4),)
    reader = Visitor(farm)
    assert "nothing is in its way" in reader.get("/queue").text
    store.hosts.put(HostMark(name="new", mark=Mark.FAILED, reason="it burns", since=now()))
    told = reader.get("/queue").text
    why = "no host takes it now: h was there when the run was planned, and is gone"
    assert "no host takes it now: new was taken out: it burns; h was there when the run was planned" in told
    assert any("new was taken out: it burns" in reason for reason in farm.explainer.explain(run, "a").reasons)
    fleet.there = ()
    farm.explainer = Explainer(store, NoFleet(), NO_LIMITS, lambda: "")
    assert why in reader.get("/queue").text


def test_of_cloud_images_it_is_said_that_their_packages_are_not_known(farm: Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for digest in ("a" * 64, "b" * 64):
        make_image(cache / f"images/mine-{digest[:4]}", name="mine", kind="cloud", packages={}, digest=digest)
    farm.images = ShelfImages(load_settings({"FARM_CACHE": str(cache)}))
    visitor = Visitor(farm)
    assert visitor.get("/images").text.count("<td>not known</td>") == 2
    assert "It is not known which packages are in it." in visitor.get("/images/aaaa").text
    assert "It is not known which packages are in them." in visitor.get("/images/diff?before=aaaa&after=bbbb").text
    assert [one["package_count"] for one in visitor.get("/api/v1/images").json()["images"]] == [None, None]
    assert visitor.get("/api/v1/images/diff?a=aaaa&b=bbbb").json()["packages"] is None
    assert packages_from(farm.images)([("a" * 64, "b" * 64)]) == {}
