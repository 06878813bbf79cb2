"""What people decide on pages: guests that they reserve, failures that they accept, runs that get a name."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

import httpx
import pytest
from playwright.sync_api import expect

from tests.service.browsing import PHONE, Visitor
from tests.service.seeding import seeded
from tests.service.serving import Serving
from tests.service.test_pages import AXES, store_of
from tests.service.test_reserve import KEY, WANTED, wait_for
from tests.service.test_reserve import URL as RESERVATIONS

pytestmark = pytest.mark.timeout(400)

Window = Callable[..., Visitor]
PROJECT = "agreed"


@pytest.fixture(scope="session")
def run(server: Serving) -> str:
    """A finished run in which every cell of s390x has failed tests."""
    store = store_of(server)
    made = seeded(store, AXES, name=PROJECT, version="2.0", failing={"arch": "s390x"})
    store.close()
    return made


def end_all(server: Serving) -> None:
    client = server.client("operate")
    for one in client.get(RESERVATIONS).json()["reservations"]:
        client.delete(f"{RESERVATIONS}/{one['id']}")


# --- guests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [True, False])
def test_a_guest_is_reserved_kept_for_longer_and_ended(server: Serving, window: Window, script: bool) -> None:
    visitor = window("submit") if script else window(scope="", java_script_enabled=False)
    page = visitor.page
    if not script:
        page.goto("/login")
        page.fill("#token", server.token("submit"))
        page.click("main button")
    page = visitor.see("/reservations")
    page.get_by_label("Image").fill("debian-13")
    page.get_by_label("Architecture").select_option("amd64")
    page.get_by_label("Hypervisor").select_option("fake")
    page.get_by_label("For", exact=True).fill("1h")
    page.get_by_label("Memory").fill("128M")
    page.get_by_label("Your public SSH key").fill(KEY)
    page.get_by_role("button", name="Reserve").click()
    made = server.client("submit").get(RESERVATIONS).json()["reservations"][0]
    mine = page.locator(".card").filter(has=page.get_by_role("heading", name=re.compile(made["id"])))
    if not script:
        wait_for(server.client("submit"), made["id"], "ready")
        page.reload()
    expect(mine.locator(".tag")).to_contain_text("ready", timeout=60_000)
    expect(mine.locator("code.again")).to_contain_text("true")  # what a scripted guest is entered by
    before = server.client("submit").get(f"{RESERVATIONS}/{made['id']}").json()["until"]
    mine.get_by_role("combobox").select_option(label="4 hours")
    mine.get_by_role("button", name=f"Keep {made['id']} for longer").click()
    expect(mine).to_contain_text(re.compile(r"in (4 h 59|5 h 00)"))
    after = server.client("submit").get(f"{RESERVATIONS}/{made['id']}").json()["until"]
    assert (datetime.fromisoformat(after) - datetime.fromisoformat(before)).total_seconds() == 4 * 3600
    end = mine.get_by_role("button", name=f"End {made['id']}")
    end.click()
    expect(end).to_have_count(0)  # the answer to the form is there: a page that is loaded again is a later one
    wait_for(server.client("submit"), made["id"], "ended")
    page.reload()
    expect(mine).to_have_count(0)


def test_what_is_wrong_with_a_wish_is_told_and_what_was_typed_stays(server: Serving) -> None:
    client = server.client("submit")
    wish = {"image": "debian-13", "arch": "amd64", "hypervisor": "fake", "ssh_key": "nonsense", "time": "90m"}
    for changed, said in (
        ({}, "ssh_key"),
        ({"ssh_key": KEY, "time": "soon"}, "not a duration"),
        ({"ssh_key": KEY, "memory": "much"}, "not a size"),
        ({"ssh_key": KEY, "arch": "vax"}, "vax"),
    ):
        answer = client.post("/reservations", data=wish | changed)
        assert answer.status_code == 422, answer.text
        assert said in answer.text
        assert 'value="debian-13"' in answer.text
    assert client.get(RESERVATIONS).json()["reservations"] == []


def test_a_form_that_is_sent_twice_reserves_one_guest(server: Serving) -> None:
    client = server.client("submit", name="twice")
    form = {
        "image": "debian-13",
        "arch": "amd64",
        "hypervisor": "fake",
        "memory": "128M",
        "ssh_key": KEY,
        "key": "form-7",
    }
    for _ in range(2):
        assert client.post("/reservations", data=form).status_code == 303
    assert len(client.get(RESERVATIONS).json()["reservations"]) == 1
    end_all(server)


def test_each_sees_their_own_guests_and_operators_everybody_s(server: Serving) -> None:
    made = server.client("submit", name="ada").post(RESERVATIONS, json=WANTED).json()["id"]
    for scope, name, sees in (("submit", "ada", True), ("submit", "bob", False), ("operate", "the-operate", True)):
        text = server.client(scope, name=name).get("/reservations").text
        assert (f">{made}" in text or f" {made}<" in text) is sees, (scope, name)
    assert f" {made}<" not in server.client("operate").get("/reservations?whose=own").text
    refused = server.client("submit", name="bob").post(f"/reservations/{made}/release")
    assert (refused.status_code, "somebody else" in refused.text) == (403, True)
    assert server.client("operate").post(f"/reservations/{made}/release").status_code == 303


# --- waivers and baselines --------------------------------------------------------------------------


@pytest.mark.parametrize("script", [True, False])
def test_failures_are_accepted_and_no_longer(server: Serving, window: Window, run: str, script: bool) -> None:
    visitor = window(scope="", java_script_enabled=script)
    visitor.page.goto("/login")
    visitor.page.fill("#token", server.token("operate"))
    visitor.page.click("main button")
    page = visitor.see(f"/history/{PROJECT}/waivers")
    page.get_by_label("In these cells").fill("*/s390x/**")
    page.get_by_label("Why it is accepted").fill("byte order")
    page.get_by_label("Link").fill("https://bugs.example.org/7")
    page.get_by_label("Until").fill("2199-01-31")
    page.get_by_role("button", name="Add").click()
    row = page.locator("tbody tr").last
    expect(row).to_contain_text("byte order")
    expect(row).to_contain_text("2199-01-31")
    expect(row.get_by_role("link", name="https://bugs.example.org/7")).to_be_visible()
    expect(row.locator(".tag")).to_have_count(0)
    row.get_by_role("link", name="Change waiver").click()
    page.get_by_label("Until").fill("2020-01-31")
    page.get_by_role("button", name="Change").click()
    expect(row).to_contain_text("expired")
    assert not script or visitor.barriers() == []  # axe is a script
    row.get_by_role("button", name="Remove waiver").click()
    expect(page.locator("main")).not_to_contain_text("byte order")
    actions = [one["action"] for one in server.client("admin").get("/api/v1/audit").json()]
    mine = [action for action in actions if action.startswith("waiver.")]
    assert mine[:3] == ["waiver.remove", "waiver.change", "waiver.add"]


def test_a_waiver_that_is_of_no_use_is_marked(server: Serving, window: Window, run: str) -> None:
    client = server.client("operate")
    for cells, tests in (("*/riscv64/**", "*"), ("*/amd64/**", "case_007"), ("*/s390x/**", "case_007")):
        made = client.post(
            f"/api/v1/projects/{PROJECT}/waivers", json={"cells": cells, "tests": tests, "reason": f"why {cells}"}
        )
        assert made.status_code == 201
    page = window("read").see(f"/history/{PROJECT}/waivers")
    expect(page.locator("main")).to_contain_text(run)
    for cells, flag in (("riscv64", "never used"), ("amd64", "passes again")):
        expect(page.locator("tbody tr").filter(has_text=cells).locator(".tag")).to_contain_text(flag)
    expect(page.locator("tbody tr").filter(has_text="s390x").locator(".tag")).to_have_count(0)
    for one in client.get(f"/api/v1/projects/{PROJECT}/waivers").json():
        client.delete(f"/api/v1/projects/{PROJECT}/waivers/{one['id']}")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"reason": ""}, "reason"),
        ({"link": "javascript:alert(1)"}, "a link begins with https://"),
        ({"expires": "some day"}, "write it as 2027-01-31"),
    ],
)
def test_a_wrong_waiver_is_told_and_what_was_typed_stays(
    server: Serving, run: str, changed: dict[str, str], said: str
) -> None:
    form = {"cells": "*/amd64/**", "tests": "*", "reason": "because", "link": "", "expires": ""} | changed
    answer = server.client("operate").post(f"/history/{PROJECT}/waivers", data=form)
    assert (answer.status_code, said in answer.text, 'value="*/amd64/**"' in answer.text) == (422, True, True)


def test_a_run_gets_a_name_and_loses_it(server: Serving, window: Window, run: str) -> None:
    page = window("operate").see(f"/history/{PROJECT}/baselines")
    page.get_by_label("Name", exact=True).fill("v2")
    page.get_by_label("Run", exact=True).fill(f"{PROJECT}@2.0")
    page.get_by_role("button", name="Set").click()
    expect(page.get_by_role("row", name="v2")).to_contain_text(run)
    page.get_by_role("link", name="Compare the newest run with v2").click()
    expect(page.locator("h1")).not_to_contain_text("Compare two runs")
    page.go_back()
    page.get_by_role("button", name="Remove the baseline v2").click()
    expect(page.locator("main")).to_contain_text("No run has a name.")


@pytest.mark.parametrize(
    ("name", "of", "status"),
    [("a b", "agreed@2.0", 422), ("good", "no-such-run", 404), ("good", "", 422)],
)
def test_a_wrong_baseline_is_told_and_what_was_typed_stays(
    server: Serving, run: str, name: str, of: str, status: int
) -> None:
    answer = server.client("operate").post(f"/history/{PROJECT}/baselines", data={"name": name, "run": of})
    assert (answer.status_code, "cannot" in answer.text, f'value="{name}"' in answer.text) == (status, True, True)


# --- who may ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "button"),
    [("/reservations", "Reserve"), ("/history/agreed/waivers", "Add"), ("/history/agreed/baselines", "Set")],
)
def test_a_reader_looks_and_is_offered_no_form(window: Window, run: str, path: str, button: str) -> None:
    page = window("read").see(path)
    expect(page.get_by_role("button", name=button)).to_have_count(0)
    expect(page.locator("main form")).to_have_count(0)


CHANGES = [
    ("/reservations", "submit"),
    ("/reservations/reserve-1/extend", "submit"),
    ("/reservations/reserve-1/release", "submit"),
    ("/history/agreed/waivers", "operate"),
    ("/history/agreed/waivers/1", "operate"),
    ("/history/agreed/waivers/1/remove", "operate"),
    ("/history/agreed/baselines", "operate"),
    ("/history/agreed/baselines/x/remove", "operate"),
]


@pytest.mark.parametrize(("path", "scope"), CHANGES)
def test_a_change_takes_its_scope_and_comes_from_no_other_site(server: Serving, path: str, scope: str) -> None:
    assert server.client("read").post(path, data={"more": "3600"}).status_code == 403
    session = httpx.post(f"{server.url}/login", data={"token": server.token(scope)})
    with httpx.Client(base_url=server.url, cookies=session.cookies) as client:
        answer = client.post(path, data={"more": "3600"}, headers={"Origin": "https://evil.example"})
    assert (answer.status_code, "another site" in answer.text) == (403, True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_guests_are_for_everybody(server: Serving, window: Window, scheme: str) -> None:
    made = server.client("submit").post(RESERVATIONS, json=WANTED).json()["id"]
    wait_for(server.client("submit"), made, "ready")
    visitor = window("operate", color_scheme=scheme, viewport=PHONE)
    page = visitor.see("/reservations")
    expect(page.locator(".card").first).to_contain_text(made)
    assert visitor.barriers() == []
    assert visitor.width() <= PHONE["width"]
    end_all(server)
