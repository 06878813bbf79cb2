"""Logs for pages: colours become classes, all else is harmless; pieces fit together as they come."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.ansi import PLAIN, Style, lines
from dashboards.loglines import MOST_BYTES, Cursor, find, piece, tail


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m not", '<span class="f1">red</span> not'),
        ("\x1b[1;32mok\x1b[22m then", '<span class="bold f2">ok</span><span class="f2"> then</span>'),
        ("\x1b[91;44mx", '<span class="f9 b4">x</span>'),
        ("\x1b[38;5;196mx", '<span class="f9">x</span>'),
        ("\x1b[38;5;3mx", '<span class="f3">x</span>'),
        ("\x1b[48;5;255mx", '<span class="b7">x</span>'),
        ("\x1b[38;2;0;200;0mx", '<span class="f2">x</span>'),
        ("\x1b[38;5mx", '<span class="f0">x</span>'),
        ("\x1b[38mx", "x"),
        ("\x1b[mx\x1b[39;49mx", "xx"),
        ("\x1b[7mx", '<span class="inverse">x</span>'),
        ("\x1b[8mhidden", "hidden"),
        ("\x1b[99999mx", "x"),
        ("\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07", "link"),
        ("\x1b[2J\x1b[Hx", "x"),
        ("\x1b[31", ""),
        ("<script>&\"'", "&lt;script&gt;&amp;&#34;&#39;"),
        ('\x1b[31"><script>m', "&gt;&lt;script&gt;m"),
        ("a\u202eb", "a[U+202E]b"),
    ],
)
def test_colours_become_classes_and_all_else_is_harmless(text: str, html: str) -> None:
    assert [str(line) for line in lines(text)[0]] == ([html] if html else [])


def test_a_style_goes_on_in_the_next_line_and_the_next_piece() -> None:
    first, style = lines("\x1b[1;35mone\ntwo\n")
    assert [str(line) for line in first] == ['<span class="bold f5">one</span>', '<span class="bold f5">two</span>']
    again, _ = lines("three", Style.read(style.classes))
    assert str(again[0]) == '<span class="bold f5">three</span>'


@pytest.mark.parametrize("classes", ["", "f99 evil b", '"><script>', "bold bold f1", "xf1", "f"])
def test_a_style_is_read_from_an_address_without_trust(classes: str) -> None:
    assert re.fullmatch(r"[a-z0-9 ]*", Style.read(classes).classes)
    assert Style.read(Style.read(classes).classes) == Style.read(classes)


@given(st.text(alphabet=st.sampled_from("ab<>&\"' \n\t\r\x1b[]0123456789;:m\x07\x9b\u202e")))
def test_no_text_makes_other_tags_than_spans(text: str) -> None:
    for line in lines(text)[0]:
        rest = re.sub(r'<span class="[a-z0-9 ]+">|</span>', "", str(line))
        assert not re.search(r"[<>\"'\x1b\x9b\x07]", rest)


@given(
    st.lists(st.sampled_from([b"one\n", b"\x1b[32mtwo\n", b"three", b"\n", b"\xff\xfe", "ü\n".encode()]), max_size=12)
)
def test_a_log_that_comes_in_pieces_is_the_log_that_came_whole(parts: list[bytes]) -> None:
    data, shown, cursor = b"", [], Cursor()
    for number, part in enumerate(parts, 1):
        data += part
        found = piece(data, cursor, ended=number == len(parts))
        shown += found.lines
        cursor = found.end
    assert shown == list(piece(data, ended=True).lines)
    assert cursor.offset == len(data)


def test_a_line_that_goes_on_waits_for_its_end_unless_it_is_very_long() -> None:
    assert piece(b"one\ntw", ended=False).end.offset == 4
    assert piece(b"x" * 70_000, ended=False).end.offset == 70_000


def test_of_a_long_log_the_end_is_shown_with_the_numbers_it_has() -> None:
    data = b"".join(b"line %06d\n" % number for number in range(1, 40_001))
    start = tail(data)
    shown = piece(data, start, ended=True)
    assert len(data) - start.offset <= MOST_BYTES
    assert (shown.lines[-1].number, str(shown.lines[-1].html)) == (40_000, "line 040000")
    assert str(shown.lines[0].html) == f"line {shown.lines[0].number:06}"
    assert piece(data, ended=True).left == len(data) - piece(data, ended=True).end.offset > 0


def test_lines_are_found_whatever_their_case_and_colour() -> None:
    found, more = find(b"ok\n\x1b[31mERR\x1b[0mor: x\nok\n", "error")
    assert [(line.number, str(line.html)) for line in found] == [(2, '<span class="f1">ERR</span>or: x')]
    assert more == 0
    assert find(b"a\n" * 1_500, "a")[1] == 500


def test_plain_is_plain() -> None:
    assert PLAIN.classes == ""
