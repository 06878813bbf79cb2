"""Pages that are watched while something happens: they come to show it without being loaded again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.service.browsing import Visitor
from tests.service.serving import Serving

pytestmark = pytest.mark.timeout(400)

Window = Callable[..., Visitor]
LONG_MS = 60_000
CELL = "debian-13/amd64/fake"
TALKS = "echo first\nsleep 3\necho second\nsleep 2\necho third"


def mark(page: Page) -> None:
    """Leave a mark that is gone when the page is loaded again."""
    page.evaluate("window.marked = true")


def is_marked(page: Page) -> bool:
    return bool(page.evaluate("window.marked === true"))


def test_a_run_fills_while_it_is_watched(server: Serving, window: Window) -> None:
    visitor = window("submit")
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    run = server.submit(server.client("submit"), "sleep 5")
    page = visitor.see(f"/runs/{run}")
    mark(page)
    expect(page.locator("#map td.running").first).to_be_visible(timeout=LONG_MS)
    expect(page.locator("#map td.passed")).to_have_count(2, timeout=LONG_MS)
    expect(page.locator("#run-head .tag")).to_contain_text("2 passed")
    expect(page.get_by_role("button", name="Run all again")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    assert is_marked(page)
    assert any("/events?after=" in url for url in asked)


def test_it_fills_also_where_nothing_brings_word(server: Serving, window: Window) -> None:
    visitor = window("submit")
    visitor.page.route("**/events?*", refuse)
    run = server.submit(server.client("submit"), "sleep 2")
    page = visitor.see(f"/runs/{run}")
    mark(page)
    expect(page.locator("#map td.passed")).to_have_count(2, timeout=LONG_MS)
    assert is_marked(page)
    visitor.troubles.clear()  # that the stream was refused is told on the console


def test_who_stands_on_a_cell_with_the_keyboard_stays_there_while_the_map_fills(
    server: Serving, window: Window
) -> None:
    run = server.submit(server.client("submit"), "sleep 3")
    page = window("submit").see(f"/runs/{run}")
    page.locator("#map td a").first.focus()
    here = page.evaluate("document.activeElement.id")
    expect(page.locator("#map td.passed")).to_have_count(2, timeout=LONG_MS)
    assert page.evaluate("document.activeElement.id") == here


def test_a_log_grows_while_it_is_read(server: Serving, window: Window) -> None:
    run = server.submit(server.client("submit"), TALKS, only=["*/amd64/*"])
    page = window("submit").see(f"/runs/{run}/cells/{CELL}")
    mark(page)
    lines = page.locator("#story .line")
    expect(lines.filter(has_text="first")).to_have_count(1, timeout=LONG_MS)
    expect(lines.filter(has_text="third")).to_have_count(1, timeout=LONG_MS)
    expect(page.locator("#cell-head .tag")).to_have_text("✓ passed", timeout=LONG_MS)
    assert lines.all_inner_texts() == ["first", "second", "third"]
    expect(page.locator("#phases li").filter(has_text="teardown")).to_have_count(1)
    expect(page.locator("#story-more")).to_have_count(0, timeout=LONG_MS)
    assert is_marked(page)


def test_a_search_goes_on_while_the_log_grows(server: Serving, window: Window) -> None:
    run = server.submit(server.client("submit"), TALKS, only=["*/amd64/*"])
    page = window("submit").see(f"/runs/{run}/cells/{CELL}")
    expect(page.locator("#story .line")).to_have_count(1, timeout=LONG_MS)
    page.get_by_role("searchbox", name="Search in the log").fill("ir")
    expect(page.locator(".search output")).to_have_text("1 of 2 lines", timeout=LONG_MS)


def test_the_list_of_runs_shows_a_new_one(server: Serving, window: Window) -> None:
    page = window("submit").see("/runs")
    mark(page)
    run = server.submit(server.client("submit"), name="arrived")
    expect(page.get_by_role("link", name=run, exact=True)).to_be_visible(timeout=LONG_MS)
    assert is_marked(page)


def test_a_run_is_cancelled_and_its_cells_are_run_again(server: Serving, window: Window) -> None:
    run = server.submit(server.client("submit"), "sleep 60")
    page = window("submit").see(f"/runs/{run}")
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#map td.cancelled")).to_have_count(2, timeout=LONG_MS)
    page.get_by_role("button", name="Run the failed cells again").click()
    expect(page.locator(".over")).to_contain_text(f"again of {run}")
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#map td.cancelled")).to_have_count(2, timeout=LONG_MS)


def test_the_queue_says_why_a_cell_waits(server: Serving, window: Window) -> None:
    run = server.submit(server.client("submit"), "sleep 30", max_parallel=1)
    server.wait_for(server.client("submit"), run, "running")
    page = window("submit").see("/queue")
    card = page.locator(".card").filter(has=page.get_by_role("link", name=run, exact=True))
    expect(card).to_contain_text("its run may have 1 cell under way at once, and has 1 (max-parallel)")
    assert server.client("submit").post(f"/api/v1/runs/{run}/cancel").status_code == 202


def refuse(route: Route) -> None:
    route.abort()
