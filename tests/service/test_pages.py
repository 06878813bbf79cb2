"""The pages in a real browser: who gets in, what is shown, and that nothing a guest wrote does anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from farm.model.waiver import WaiverRequest
from farm.store import Store
from farm.store.baselines import Baselines
from farm.store.waivers import Waivers
from tests.service.browsing import PHONE, Visitor
from tests.service.seeding import NOW, seeded
from tests.service.serving import Serving

pytestmark = pytest.mark.timeout(400)

Window = Callable[..., Visitor]
AXES = {"image": ["debian-12", "debian-13"], "arch": ["amd64", "s390x"], "hypervisor": ["qemu"], "bug": ["off", "on"]}
BUG = "https://bugs.example.org/7"
BAD = "debian-13/s390x/qemu/on"
EVIL = "<script>complain('ran')</script><img src=x onerror=complain('ran')>\"'><b>{{7*7}}"


def store_of(server: Serving) -> Store:
    return Store.open(f"sqlite:///{server.state / 'farm.db'}", server.state)


@pytest.fixture(scope="session")
def history(server: Serving) -> list[str]:
    """Three finished runs of one project, the last with failures."""
    store = store_of(server)
    runs = [
        seeded(store, AXES, version=version, failing={"arch": "s390x", "bug": "on"} if version == "1.2" else None)
        for version in ("1.0", "1.1", "1.2")
    ]
    Baselines(store.engine).set("wire", "stable", runs[1], by="ada", now=NOW)
    store.close()
    return runs


@pytest.fixture(scope="session")
def pages(server: Serving, history: list[str]) -> dict[str, str]:
    """Every page there is, by a name, with a run, a waiver and a baseline to show."""
    store = store_of(server)
    wish = WaiverRequest(cells="*/s390x/**", reason="known", link=BUG)
    waiver = Waivers(store.engine).add("wire", wish, by="ada", now=NOW).id
    store.close()
    run, before = history[2], history[1]
    return {
        "runs": "/runs",
        "run": f"/runs/{run}",
        "cell": f"/runs/{run}/cells/{BAD}",
        "why": f"/runs/{run}/why/{BAD}",
        "log": f"/runs/{run}/log/1/build/{BAD}",
        "found in a log": f"/runs/{run}/log/1/build/{BAD}?q=warning",
        "patterns": f"/runs/{run}/patterns",
        "queue": "/queue",
        "hosts": "/hosts",
        "images": "/images",
        "image": "/images/debian-13/s390x",
        "images compared": "/images/diff?before=debian-12/s390x&after=debian-13/s390x",
        "projects": "/history",
        "project": "/history/wire",
        "test": "/history/wire/test?name=case_007&suite=libwire",
        "waivers": "/history/wire/waivers",
        "waiver": f"/history/wire/waivers/{waiver}",
        "baselines": "/history/wire/baselines",
        "guests": "/reservations",
        "compare": f"/compare?base={before}&head={run}",
        "compare what": "/compare",
        "statement": f"/statement?run={run}&baseline={before}",
        "statement of what": "/statement",
        "triggers": "/triggers",
        "tokens": "/tokens",
        "audit": "/audit",
        "login": "/login",
    }


# --- who gets in ------------------------------------------------------------------------------------


def test_who_is_not_logged_in_is_asked_for_a_token_and_then_gets_where_he_wanted(
    server: Serving, window: Window, history: list[str]
) -> None:
    page = window(scope="").page
    page.goto(f"/runs/{history[2]}?cols=bug")
    expect(page).to_have_url(f"{server.url}/login?next=%2Fruns%2F{history[2]}%3Fcols%3Dbug")
    page.fill("#token", server.token("read"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server.url}/runs/{history[2]}?cols=bug")
    expect(page.locator(".who")).to_contain_text("the-read (read)")


def test_a_session_is_in_a_cookie_that_no_script_and_no_other_site_gets(window: Window) -> None:
    visitor = window("read")
    cookie = next(one for one in visitor.context.cookies() if one["name"] == "farm_session")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert visitor.page.evaluate("document.cookie") == ""


def test_who_logs_out_is_out_also_with_the_old_cookie(server: Serving, window: Window) -> None:
    visitor = window("read")
    cookies = visitor.context.cookies()
    visitor.page.get_by_role("button", name="Log out").click()
    expect(visitor.page).to_have_url(f"{server.url}/login")
    visitor.context.add_cookies([{**one} for one in cookies])  # type: ignore[typeddict-item]
    visitor.page.goto("/runs")
    expect(visitor.page).to_have_url(f"{server.url}/login?next=%2Fruns")


@pytest.mark.parametrize("token", ["", "nonsense", "farm_00000000_" + "x" * 43])
def test_a_wrong_token_opens_nothing(server: Serving, token: str) -> None:
    answer = httpx.post(f"{server.url}/login", data={"token": token})
    assert answer.status_code in {403, 422}
    assert "set-cookie" not in answer.headers


def test_another_site_cannot_log_somebody_in_or_out(server: Serving) -> None:
    for path in ("/login", "/logout"):
        answer = httpx.post(
            server.url + path, data={"token": server.token("read")}, headers={"Origin": "https://evil.example"}
        )
        assert answer.status_code == 403


@pytest.mark.parametrize("next_", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_logging_in_leads_nowhere_else(server: Serving, next_: str) -> None:
    answer = httpx.post(f"{server.url}/login", data={"token": server.token("read"), "next": next_})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/runs")


def test_a_link_on_another_site_leads_to_the_page_and_not_to_the_login(
    server: Serving, window: Window, history: list[str]
) -> None:
    visitor = window("read")
    other = server.url.replace("127.0.0.1", "localhost")
    visitor.page.goto(f"{other}/login")
    visitor.page.evaluate("(to) => { location.href = to }", f"{server.url}/runs/{history[2]}")
    expect(visitor.page.locator("h1")).to_contain_text("cells passed")


def test_a_reader_is_offered_nothing_that_he_may_not_do(window: Window, history: list[str]) -> None:
    visitor = window("read")
    for path in (f"/runs/{history[2]}", f"/runs/{history[2]}/cells/{BAD}", "/hosts"):
        page = visitor.see(path)
        for name in ("again", "Drain", "Cancel"):
            expect(page.get_by_role("button", name=name)).to_have_count(0)
    expect(page.get_by_role("link", name="Tokens")).to_have_count(0)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/tokens"), ("GET", "/audit"), ("POST", "/hosts/h/drain"), ("POST", "/tokens"), ("POST", "/runs/x/rerun")],
)
def test_what_a_reader_may_not_do_is_refused_with_a_page(server: Serving, method: str, path: str) -> None:
    answer = server.client("read").request(method, path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "text/html; charset=utf-8")


def test_what_is_not_there_is_a_page_that_says_so(server: Serving) -> None:
    answer = server.client("read").get("/runs/no-such-run")
    assert answer.status_code == 404
    assert "cannot find the run" in answer.text


def test_every_page_forbids_scripts_and_styles_but_its_own(server: Serving, pages: dict[str, str]) -> None:
    client = server.client("admin")
    for path in [*pages.values(), "/runs/nope"]:
        policy = client.get(path).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_the_address_of_a_static_file_changes_with_it_and_may_be_kept_for_ever(server: Serving) -> None:
    answer = httpx.get(f"{server.url}/static/farm.css?v=1")
    assert "immutable" in answer.headers["Cache-Control"]
    assert "immutable" not in httpx.get(f"{server.url}/static/farm.css").headers["Cache-Control"]
    assert httpx.get(f"{server.url}/static/..%2fpages.py").status_code == 404


# --- what is shown ----------------------------------------------------------------------------------


def test_the_runs_are_found_by_what_they_are(window: Window, history: list[str]) -> None:
    page = window("read").see("/runs?project=wire")
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_label("Version").fill("1.1")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("tbody tr th a").first).to_have_text(history[1])
    expect(page.locator("tbody tr")).to_have_count(1)


def test_any_axis_stands_on_any_side_of_the_map(window: Window, history: list[str]) -> None:
    page = window("read").see(f"/runs/{history[2]}")
    expect(page.locator("#map tbody tr")).to_have_count(4)
    page.get_by_role("checkbox", name="arch").check()
    expect(page).to_have_url(re.compile("cols=arch"))
    expect(page.locator("#map tbody tr")).to_have_count(2)
    expect(page.locator("#map td a")).to_have_count(8)
    expect(page.get_by_role("checkbox", name="arch")).to_be_focused()
    page.go_back()
    expect(page.locator("#map tbody tr")).to_have_count(4)


def test_a_cell_shows_why_it_failed_and_how_to_have_it_again(window: Window, history: list[str]) -> None:
    page = window("read").see(f"/runs/{history[2]}/cells/{BAD}")
    expect(page.locator(".says")).to_contain_text("3 of 44 tests failed")
    expect(page.locator("#cell-head")).to_contain_text("Blame: test. Decided by the rule tests-failed")
    expect(page.locator("#phases li")).to_have_count(6)
    expect(page.locator("#story .line .f3").first).to_have_text("warning:")
    expect(page.locator(".commands")).to_contain_text(f"farm rerun {history[2]} --cells {BAD} --wait")
    expect(page.get_by_role("link", name="results.xml")).to_have_attribute(
        "href", f"/api/v1/runs/{history[2]}/cells/{BAD}/attempts/1/artifacts/results.xml"
    )


def test_tests_are_filtered_while_one_types(window: Window, history: list[str]) -> None:
    page = window("read").see(f"/runs/{history[2]}/cells/{BAD}")
    expect(page.locator("#tests .test")).to_have_count(3)
    page.get_by_label("Name or message").press_sequentially("case_02")
    expect(page.locator("#tests .test")).to_have_count(1)
    expect(page.locator("#tests [role=status]")).to_contain_text("10 of 44 tests")
    page.get_by_label("Result").select_option("failed")
    expect(page.locator("#tests .list tr")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_log_is_searched_where_it_stands(window: Window, history: list[str], scheme: str) -> None:
    visitor = window("read", color_scheme=scheme)
    page = visitor.see(f"/runs/{history[2]}/cells/{BAD}")
    box = page.get_by_role("searchbox", name="Search in the log")
    box.fill("WARNING")
    expect(page.locator(".search output")).to_have_text("1 of 2 lines")
    box.press("Enter")
    expect(page.locator(".search output")).to_have_text("2 of 2 lines")
    expect(page.locator(".line.now")).to_have_count(1)
    assert visitor.barriers() == []
    page.get_by_label("only lines that match").check()
    expect(page.locator("#story .line:visible")).to_have_count(2)


def test_a_test_has_a_chart_of_its_past(window: Window, history: list[str]) -> None:
    page = window("read").see("/history/wire/test?name=case_007&suite=libwire")
    expect(page.locator(".chart canvas")).to_have_count(1)
    expect(page.locator("#by-run tbody tr")).to_have_count(3)


def test_two_runs_are_compared(window: Window, history: list[str]) -> None:
    page = window("read").see(f"/compare?base={history[1]}&head={history[2]}")
    expect(page.locator("main")).to_contain_text("Regressions")
    expect(page.get_by_role("link", name=BAD).first).to_be_visible()


def test_an_image_is_found_with_its_packages_and_compared_with_another(window: Window) -> None:
    page = window("read").see("/images")
    page.get_by_role("link", name="debian-13/s390x").click()
    expect(page.locator("h1")).to_have_text("debian-13/s390x")
    expect(page.get_by_role("row", name="gcc")).to_contain_text("4:14.2")
    page = window("read").see("/images/diff?before=debian-12/s390x&after=debian-13/s390x")
    expect(page.get_by_role("row", name="gcc")).to_have_text(re.compile("gcc.*4:12.2.*4:14.2", re.DOTALL))
    expect(page.get_by_role("row", name="tar")).to_contain_text("not there")


def test_a_statement_prints_without_what_is_for_the_screen(window: Window, history: list[str]) -> None:
    page = window("read").see(f"/statement?run={history[2]}")
    expect(page.locator("main")).to_contain_text("supported with waivers")
    page.emulate_media(media="print")
    expect(page.locator(".top")).to_be_hidden()
    expect(page.locator("form.filter")).to_be_hidden()
    assert page.pdf(format="A4").startswith(b"%PDF")


# --- what is done -----------------------------------------------------------------------------------


def test_a_host_is_drained_and_enabled_by_an_operator(server: Serving, window: Window) -> None:
    page = window("operate").see("/hosts")
    page.get_by_label("Why").fill("a new disk")
    page.get_by_role("button", name="Drain").click()
    expect(page.locator("main")).to_contain_text("Drained: a new disk")
    page.get_by_role("button", name="Enable").click()
    expect(page.locator(".card h2").first).to_contain_text("takes work")
    actions = [one["action"] for one in server.client("admin").get("/api/v1/audit").json()][:2]
    assert actions == ["host.enable", "host.drain"]


def test_a_token_is_made_shown_once_and_revoked(server: Serving, window: Window) -> None:
    page = window("admin").see("/tokens")
    page.get_by_label("Name").fill("ci")
    page.get_by_role("button", name="Create").click()
    secret = page.locator(".notice code").inner_text().removeprefix("Copy").strip()
    client = httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {secret}"})
    assert client.get("/api/v1/me").json()["name"] == "ci"
    assert secret not in page.goto("/tokens").text()  # type: ignore[union-attr]
    page.get_by_role("button", name="Revoke ci").click()
    expect(page.get_by_role("row", name="ci").first).to_contain_text("revoked")
    assert client.get("/api/v1/me").status_code == 401
    client.close()


# --- for everybody ----------------------------------------------------------------------------------


def test_every_page_is_read_without_javascript(window: Window, history: list[str], pages: dict[str, str]) -> None:
    visitor = window(scope="", java_script_enabled=False)
    visitor.page.goto("/login")
    visitor.page.fill("#token", visitor.server.token("admin"))
    visitor.page.click("main button")
    for name, path in pages.items():
        expect(visitor.see(path).locator("h1"), name).to_be_visible()
    page = visitor.see(f"/runs/{history[2]}/cells/{BAD}?status=failed")
    expect(page.locator("#tests .test")).to_have_count(3)
    expect(page.locator("#story .line")).to_have_count(10)
    page = visitor.see("/history/wire/test?name=case_007")
    page.locator("summary").click()
    expect(page.locator("#by-run tbody tr")).to_have_count(3)


def test_the_way_to_a_cell_is_gone_with_the_keyboard_alone(server: Serving, window: Window, history: list[str]) -> None:
    page = window("read").see(f"/runs/{history[2]}")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    expect(page.locator(":focus")).to_have_attribute("id", "main")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#map') !== null"):
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server.url}/runs/{history[2]}/cells/debian-12/amd64/qemu/off")


def test_everything_on_every_page_is_reached_with_the_keyboard(window: Window, pages: dict[str, str]) -> None:
    visitor = window("admin")
    found = {}
    for name, path in pages.items():
        visitor.see(path)
        found[name] = visitor.lost_to_the_keyboard()
    assert {name: lost for name, lost in found.items() if lost} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_keeps_anybody_out(window: Window, pages: dict[str, str], scheme: str) -> None:
    visitor = window("admin", color_scheme=scheme)
    found = {}
    for name, path in pages.items():
        visitor.see(path)
        found[name] = visitor.barriers()
    assert {name: barriers for name, barriers in found.items() if barriers} == {}


def test_dark_is_dark(window: Window) -> None:
    page = window("read", color_scheme="dark").see("/runs")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"


def test_no_page_is_wider_than_a_phone(window: Window, pages: dict[str, str]) -> None:
    visitor = window("admin", viewport=PHONE, has_touch=True)
    widths = {}
    for name, path in pages.items():
        visitor.see(path)
        widths[name] = visitor.width()
    assert {name: width for name, width in widths.items() if width > PHONE["width"]} == {}


# --- hostile ----------------------------------------------------------------------------------------


def test_nothing_that_a_guest_or_a_matrix_says_does_anything(server: Serving, window: Window) -> None:
    store = store_of(server)
    axes = {"image": ["debian-13"], "arch": ["amd64"], "odd": [EVIL, "good"]}
    log = f'\x1b[31m{EVIL}\x1b]0;{EVIL}\x07\x1b[2J\n\x1b[38;5;"><script>complain(1)</script>m{EVIL}\n'.encode()
    name = f"evil-{EVIL}"
    run = seeded(
        store, axes, name="evil", names=[name], failing={"arch": "amd64"}, log=log, artifact=f"{EVIL.replace('/', '')}"
    )
    cell = store.run(run).cells[0].id
    store.close()
    visitor = window("admin")
    client = server.client("admin")
    for path in (
        f"/runs/{run}",
        f"/runs/{run}/cells/{httpx.URL(path='/' + cell).raw_path.decode()[1:]}",
        f"/runs/{run}/patterns",
        "/history/evil?rank=name",
        str(httpx.URL("/history/evil/test", params={"name": name})),
        f"/compare?base={run}&head={run}",
        f"/statement?run={run}",
        str(httpx.URL("/runs", params={"project": EVIL})),
    ):
        page = visitor.see(path)
        expect(page.locator("main")).not_to_be_empty()
        assert page.locator("main script, main img, main b:has-text('49')").count() == 0, path
        assert EVIL not in client.get(path).text, path
    visitor.see(f"/runs/{run}/cells/{httpx.URL(path='/' + cell).raw_path.decode()[1:]}")
    # Beside it stand the colours of the other phases.
    expect(visitor.page.locator("#story .line .f1").filter(has_text="complain").first).to_have_text(EVIL)


def test_what_is_vendored_is_what_its_list_says(tmp_path: Path) -> None:
    import hashlib  # noqa: PLC0415

    folder = Path(__file__).parents[2] / "dashboards/static/vendor"
    text = (folder / "README.md").read_text()
    for file in folder.iterdir():
        if file.suffix in {".js", ".css"}:
            assert hashlib.sha256(file.read_bytes()).hexdigest() in text, file.name
