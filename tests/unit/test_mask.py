from __future__ import annotations

import base64
import itertools
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farm.mask import MASK, Masker, masked, needles_of

LETTERS = st.sampled_from("abc\n")
SECRETS = st.lists(st.text(LETTERS, min_size=4, max_size=9), min_size=1, max_size=4)
TEXTS = st.text(LETTERS, max_size=60)
"""So few letters that secrets stand everywhere, overlap, and nearly begin at every cut."""


def pieces_of(text: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in itertools.pairwise(places)]


def streamed(needles: tuple[bytes, ...], pieces: list[bytes]) -> bytes:
    masker = Masker(needles)
    return b"".join([*map(masker.take, pieces), masker.rest()])


@given(SECRETS, TEXTS, st.lists(st.integers(0, 100), max_size=12))
@example(["abab"], "ababab", [2, 3])
@example(["abcb", "bbbbbbb"], "abcbbbbbbbbb", [4])
def test_however_a_text_is_cut_the_same_comes_out_and_no_secret_with_it(
    secrets: list[str], text: str, cuts: list[int]
) -> None:
    needles = needles_of(secrets)
    whole = streamed(needles, [text.encode()])
    assert streamed(needles, pieces_of(text.encode(), cuts)) == whole
    assert [needle for needle in needles if needle in whole] == []


@given(SECRETS, TEXTS)
def test_what_belongs_to_no_secret_stays_as_it_is(secrets: list[str], text: str) -> None:
    needles, data = needles_of(secrets), text.encode()
    hidden = {
        place
        for needle in needles
        for start in range(len(data))
        if data.startswith(needle, start)
        for place in range(start, start + len(needle))
    }
    kept = bytes(letter for place, letter in enumerate(data) if place not in hidden)
    assert streamed(needles, [data]).replace(MASK, b"") == kept


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_bytes_that_are_no_text_come_through(data: bytes, cuts: list[int]) -> None:
    assert streamed(needles_of(["a secret that is not in it"]), pieces_of(data, cuts)) == data


@given(SECRETS, TEXTS)
def test_never_is_as_much_held_back_as_a_secret_is_long(secrets: list[str], text: str) -> None:
    needles = needles_of(secrets)
    masker = Masker(needles)
    for letter in text.encode():
        masker.take(bytes([letter]))
        assert len(masker._kept) < len(needles[0])


IT_S = """it's a "key"/"""
SECRET = 'p/ss & "wörd"?'  # noqa: S105 - of nobody's


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        "p/ss &amp; &quot;wörd&quot;?",
        'p/ss & \\"w\\u00f6rd\\"?',
    ],
)
def test_a_secret_is_known_in_each_of_its_forms(shown: str) -> None:
    assert masked(needles_of([SECRET]), f"<{shown}>") == "<***>"


@pytest.mark.parametrize(
    "shown",
    [
        """'it'"'"'s a "key"/'""",
        """'it'\\''s a "key"/'""",
        """$'it\\'s a "key"/'""",
        quote(IT_S, safe="").lower(),
        quote_plus(IT_S).replace("%2F", "%2f"),
        "it&apos;s a &quot;key&quot;/",
        "it&#39;s a &quot;key&quot;/",
        "it&#39;s a &#34;key&#34;/",
        "it's a &quot;key&quot;/",
    ],
)
def test_a_quoted_secret_is_known_as_shells_and_browsers_write_it(shown: str) -> None:
    hidden = masked(needles_of([IT_S]), f"<{shown}>")
    assert hidden.strip("<$'>") == "***"


@given(st.text("a'&\" %", min_size=4, max_size=9), st.sampled_from(("bash", "dash", "dash, one by one")))
def test_a_secret_in_a_traced_word_is_hidden_whatever_stands_around_it(secret: str, shell: str) -> None:
    word = f"x{secret}x"
    traced = {
        "bash": "'" + word.replace("'", r"'\''") + "'",
        "dash": "".join(f'"{run}"' if "'" in run else f"'{run}'" for run in re.findall("'+|[^']+", word)),
        "dash, one by one": "'" + word.replace("'", "'\"'\"'") + "'",
    }[shell]
    assert masked(needles_of([secret]), traced).replace("'", "").replace('"', "") == "x***x"


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
@pytest.mark.parametrize("after", ["", "\n", "!!", "---"])
def test_base64_of_something_with_a_secret_in_it_does_not_tell_it(before: str, after: str) -> None:
    secret = "correct horse battery staple"  # noqa: S105
    shown = base64.b64encode(f"{before}{secret}{after}".encode()).decode()
    hidden = masked(needles_of([secret]), shown)
    assert len(hidden.replace("***", "")) <= len(shown) - (len(secret) * 8 // 6 - 2)


def test_each_line_of_a_secret_is_one() -> None:
    assert (
        masked(needles_of(["first line\nsecond line\nx"]), "1: first line\r\n2: second line x") == "1: ***\r\n2: *** x"
    )


def test_without_secrets_nothing_is_held_back() -> None:
    assert Masker(()).take(b"abc") == b"abc"


def test_what_cannot_become_a_secret_any_more_is_not_held_back() -> None:
    masker = Masker((b"secret",))
    assert masker.take(b"a secr") == b"a "
    assert masker.take(b"etary") == b"***ary"
    assert masker.take(b"sec") == b""
    assert masker.take(b"ond") == b"second"
    assert masker.rest() == b""
