from pathlib import PurePosixPath
from xml.etree.ElementTree import Element, tostring

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import UntrustedError
from farm.text import clean, clean_line, safe_path, shorten, terminal

ROWS = {
    "plain": ("a\tb\nc", "a\tb\nc"),
    "bytes that are no UTF-8": (b"a\xffb", "a\ufffdb"),
    "colour": ("\x1b[1;31mred\x1b[0m", "red"),
    "cursor": ("a\x1b[2K\x1b[1Gb", "ab"),
    "C1 form of CSI": ("a\x9b31mb", "ab"),
    "title (OSC, ended by BEL)": ("\x1b]0;owned\x07x", "x"),
    "link (OSC, ended by ST)": ("\x1b]8;;http://evil\x1b\\x\x1b]8;;\x1b\\", "x"),
    "OSC without an end stops at its line": ("\x1b]0;never\nnext", "\nnext"),
    "DCS": ("\x1bP1$r\x1b\\x", "x"),
    "character set": ("\x1b(0x", "x"),
    "reset": ("\x1bcx", "x"),
    "CSI that breaks off": ("a\x1b[31", "a"),
    "lone escape": ("a\x1b", "a"),
    "NUL, BEL, backspace, DEL": ("a\0\a\b\x7fb", "ab"),
    "C1": ("a\x81b", "ab"),
    "DOS line ends": ("a\r\nb\rc", "a\nb\nc"),
    "other line ends": ("a\u2028b\x0cc\x85d", "a\nb\nc\nd"),
    "right-to-left override": ("a\u202eb", "a[U+202E]b"),
    "isolate": ("a\u2066b", "a[U+2066]b"),
    "zero width": ("a\u200bb\ufeff", "a[U+200B]b[U+FEFF]"),
    "tag characters": ("a\U000e0041", "a[U+E0041]"),
    "surrogate": ("a\ud800b", "a\ufffdb"),
    "no characters": ("a\ufffe\uffff\ufdd0b", "a\ufffd\ufffd\ufffdb"),
    "other scripts stay": ("Übung 日本語 עברית 🎉", "Übung 日本語 עברית 🎉"),
}


@pytest.mark.parametrize(("dirty", "clear"), ROWS.values(), ids=ROWS)
def test_what_a_guest_wrote_becomes_readable_and_harmless(dirty: str | bytes, clear: str) -> None:
    assert clean(dirty, limit=1000) == clear


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_cleaned_text_may_stand_in_xml_and_is_clean_when_cleaned_again(data: str | bytes) -> None:
    text = clean(data, limit=10_000)
    element = Element("a")
    element.text = text
    assert (fromstring(tostring(element)).text or "") == text
    assert clean(text, limit=10_000) == text
    assert not {c for c in text if c < " "} - {"\n", "\t"}
    text.encode()


@given(st.text(max_size=3000), st.integers(min_value=1, max_value=500))
def test_cleaned_text_keeps_its_limit(data: str, limit: int) -> None:
    assert len(clean(data, limit=limit)) <= limit
    assert len(clean_line(data, limit=limit)) <= limit


def test_long_text_loses_its_middle_and_says_how_much() -> None:
    text = shorten("a" * 500 + "\n" + "b" * 500, limit=100)
    assert text.startswith("aaa")
    assert text.endswith("bbb")
    left_out = int(text.split("… ")[1].split()[0])
    assert left_out + text.count("a", 0, 40) + text.count("b") >= 1001 - 100
    assert sum(text.count(c) for c in "ab") - sum("characters left out".count(c) for c in "ab") == 1001 - left_out


def test_a_line_has_no_line_ends() -> None:
    assert clean_line("  a\n b\t\tc\r\n", limit=100) == "a b c"


def test_a_printed_log_is_whole_and_plain() -> None:
    log = b"\x1b[32mok\x1b[0m\n" * 100_000
    assert terminal(log) == "ok\n" * 100_000


@pytest.mark.parametrize("name", ["a", "a/b.xml", "./a//b", "Übung/日本語.log", "-rf", ".hidden", "a b", "a..b/c"])
def test_a_plain_name_is_accepted(name: str) -> None:
    assert safe_path(name) == PurePosixPath(name)


REFUSED = {
    "absolute": "/etc/passwd",
    "two slashes": "//etc/passwd",
    "up": "a/../../b",
    "only up": "..",
    "empty": "",
    "dot": ".",
    "NUL": "a\0b",
    "newline": "a\nb",
    "escape": "a\x1b[31m",
    "C1": "a\x9bb",
    "bidi": "a\u202egnp.exe",
    "surrogate": "a\ud800",
    "backslash": "a\\..\\b",
    "long part": "x" * 256,
    "long part in bytes": "ü" * 128,
    "long path": "a/" * 600 + "b",
}


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_a_name_that_leaves_hides_or_breaks_is_refused(name: str) -> None:
    with pytest.raises(UntrustedError, match="cannot accept the file name") as refusal:
        safe_path(name)
    assert refusal.value.hint
    assert refusal.value.message.isprintable()


@given(st.text(max_size=100))
def test_a_name_is_refused_or_stays_below_its_folder(name: str) -> None:
    try:
        path = safe_path(name)
    except UntrustedError:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert str(path).isprintable()
