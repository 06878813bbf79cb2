import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given
from hypothesis import strategies as st

from farm.model import State
from farm.report.badge import AMBER, GREEN, GREY, RED, Badge, badge, render, svg
from farm.report.document import document
from farm.text import clean_line
from tests.unit.documents import cell, report
from tests.unit.records import demo_run

SVG = "{http://www.w3.org/2000/svg}"
COLOURS = [
    ("passed", {}, GREEN, "1 of 1 passed"),
    ("failed", {}, RED, "0 of 1 passed"),
    ("infra", {}, AMBER, "0 of 1 passed"),
    ("left out", {}, GREY, "0 of 1 passed"),
    ("passed", {"cancelled": True}, GREY, "1 of 1 passed"),
    ("unfinished", {"state": State.RUNNING}, GREY, "0 of 1 done"),
]


@pytest.mark.parametrize(("outcome", "changes", "colour", "message"), COLOURS)
def test_a_badge_says_in_words_and_colour_what_came_out(
    outcome: str, changes: dict[str, object], colour: str, message: str
) -> None:
    assert badge(report(cell("debian-13/amd64", outcome), **changes)) == Badge("demo", message, colour)


def test_a_failure_that_is_allowed_leaves_the_badge_green() -> None:
    cells = (cell("debian-13/amd64", "passed"), cell("debian-13/s390x", "failed", may_fail=True))
    assert badge(report(*cells)) == Badge("demo", "1 of 2 passed", GREEN)


def test_a_badge_has_a_title_for_those_who_do_not_see_it() -> None:
    root = fromstring(render(document(demo_run())))
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.findtext(f"{SVG}title") == "demo: 4 of 6 passed"


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", [GREEN, RED, AMBER, GREY])
def test_white_can_be_read_on_every_colour(colour: str) -> None:
    assert 1.05 / (luminance(colour) + 0.05) >= 4.5


@given(st.text(max_size=200).map(lambda text: clean_line(text, limit=2_000)), st.sampled_from(("1 of 2 passed", "")))
def test_no_text_is_markup_or_leaves_its_field(label: str, message: str) -> None:
    root = fromstring(svg(Badge(label, message, GREEN)))
    left, right = root.iter(f"{SVG}text")
    assert len(left.text or "") <= 60
    assert float(left.get("x")) + float(left.get("textLength")) < float(right.get("x"))
    assert float(right.get("x")) + float(right.get("textLength")) < float(root.get("width"))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg",
        "title",
        "clipPath",
        "g",
        "rect",
        "text",
    }
