"""The nearest valid word, for the messages that name a wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_CUTOFF = 0.6  # difflib's own default: one wrong or swapped letter in a word of four


def nearest(word: str, words: Iterable[str], *, count: int = 1) -> list[str]:
    """The words that are most like this one, case aside; the best first, and none where none is like it."""
    known = {known.casefold(): known for known in words}
    return [known[match] for match in get_close_matches(word.casefold(), known, n=count, cutoff=_CUTOFF)]


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`; did you mean 'test'?`, or nothing where no word is like it."""
    return "".join(f"; did you mean {match!r}?" for match in nearest(word, words))
