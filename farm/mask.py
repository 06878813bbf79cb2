"""Keeping secrets out of what a guest says: wherever the value of one stands, `***` stands instead. Pure.

Known are a secret as it is, each line of one that has several, and how these look in a URL, in JSON, in XML, in
what a shell prints with `set -x`, and in base64. What a guest does to a secret beyond that (turns it round, cuts it,
encrypts it) is not found.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar
from urllib.parse import quote, quote_plus

from farm.model import Model

MASK = b"***"
SHORTEST = 4
"""Characters of a secret: a shorter one would be found everywhere."""

_PREFIX = 4
_PERCENT = re.compile("%[0-9A-F]{2}")
_APOSTROPHES = ("&#x27;", "&#39;", "&apos;", "'")

Needles = tuple[bytes, ...]
Span = tuple[int, int]
M = TypeVar("M", bound=Model)


def needles_of(secrets: Iterable[str]) -> Needles:
    """All the forms in which these secrets are looked for, the longest first."""
    forms = {form for secret in secrets for part in (secret, *secret.splitlines()) for form in _forms(part)}
    return tuple(sorted((form for form in forms if len(form) >= SHORTEST), key=lambda form: (-len(form), form)))


def _forms(text: str) -> Iterator[bytes]:
    if len(text) < SHORTEST:
        return
    for written in (text, json.dumps(text)[1:-1], *_in_a_url(text), *_in_xml(text), *_in_a_shell(text)):
        yield written.encode("utf-8", "surrogatepass")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield from _in_base64(text.encode("utf-8", "surrogatepass"), encode)


def _in_a_url(text: str) -> Iterator[str]:
    data = text.encode("utf-8", "surrogatepass")
    for escaped in (quote(data, safe=""), quote(data), quote_plus(data)):
        yield escaped
        yield _PERCENT.sub(lambda found: found[0].lower(), escaped)


def _in_xml(text: str) -> Iterator[str]:
    yield html.escape(text, quote=False)
    escaped = html.escape(text)
    for apostrophe in _APOSTROPHES:
        yield escaped.replace("&#x27;", apostrophe)
        yield escaped.replace("&#x27;", apostrophe).replace("&quot;", "&#34;")


def _in_a_shell(text: str) -> Iterator[str]:
    """As shells trace a word with a `'` in it, without the outermost quotes: more may stand in the same word."""
    if "'" in text:
        yield text.replace("'", r"'\''")
        yield text.replace("\\", r"\\").replace("'", r"\'")
        for some in ("'+", "'"):  # in double quotes: all that follow each other at once, or each of them
            yield re.sub(some, lambda found: f"""'"{found[0]}"'""", text).strip("'")


def _in_base64(data: bytes, encode: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """What is the same of it in base64 whatever stands around it: three forms, by where in a group it begins."""
    for before in range(3):
        encoded = encode(bytes(before) + data)
        first = -(-before * 8 // 6)
        last = (before + len(data)) * 8 // 6
        yield encoded[first:last]


class Masker:
    """Masks a stream that comes in pieces; the same text comes out however it is cut."""

    def __init__(self, needles: Needles) -> None:
        self._needles = needles
        self._kept = b""
        """What may be the beginning of a secret."""
        self._hidden = 0
        """How much of its beginning belongs to a secret of which the mask has been given out."""

    def take(self, data: bytes) -> bytes:
        """What can be said by now; less than a secret is held back."""
        if not self._needles or not data:
            return data
        self._kept += data
        return self._say(min(map(self._beginning, self._needles)))

    def rest(self) -> bytes:
        """What was held back: nothing more comes."""
        return self._say(len(self._kept))

    def _say(self, end: int) -> bytes:
        """What was kept up to `end`; no secret that is not there in full begins before it."""
        said, at = [], 0
        for start, stop in self._spans(end):
            said.append(self._kept[at:start])
            if start or not self._hidden:
                said.append(MASK)
            at = stop
        if at < end:
            said.append(self._kept[at:end])
        self._kept, self._hidden = self._kept[end:], max(0, at - end)
        return b"".join(said)

    def _spans(self, end: int) -> list[Span]:
        """Where secrets stand that begin before `end`; those that overlap are one."""
        found = sorted(span for needle in self._needles for span in self._all(needle, end))
        merged: list[Span] = [(0, self._hidden)] if self._hidden else []
        for start, stop in found:
            if merged and start < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        return merged

    def _all(self, needle: bytes, end: int) -> Iterator[Span]:
        at = self._kept.find(needle)
        while 0 <= at < end:
            yield at, at + len(needle)
            at = self._kept.find(needle, at + 1)

    def _beginning(self, needle: bytes) -> int:
        """Where what is kept ends with the beginning of a needle, the longest such; else its end."""
        kept = self._kept
        at = max(0, len(kept) - len(needle) + 1)
        while (at := kept.find(needle[:_PREFIX], at)) >= 0:
            if needle.startswith(kept[at:]):
                return at
            at += 1
        for last in range(max(0, len(kept) - _PREFIX + 1), len(kept)):
            if needle.startswith(kept[last:]):
                return last
        return len(kept)


def masked(needles: Needles, text: str) -> str:
    """A whole text without secrets."""
    if not needles or not text:
        return text
    return masked_bytes(needles, text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")


def masked_bytes(needles: Needles, data: bytes) -> bytes:
    """The same of bytes, whatever they are."""
    masker = Masker(needles)
    return masker.take(data) + masker.rest()


def without_secrets(needles: Needles, value: M) -> M:
    """The same value, its texts and tuples of texts without secrets; words of the closed vocabularies stay."""
    changes = {name: _hidden(needles, field) for name, field in value if needles}
    return value.model_copy(update=changes)


def _hidden(needles: Needles, field: object) -> object:
    if type(field) is str:
        return masked(needles, field)
    if isinstance(field, tuple):
        return tuple(_hidden(needles, item) for item in field)
    return field
