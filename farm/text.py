"""Text and names from a guest are hostile: none is printed, stored or reported before it went through here.

Pure. What is left afterwards may stand in XML 1.0, in a terminal and in JSON as it is; HTML and Markdown
still have to escape it in their own way.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from farm.errors import UntrustedError

_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]?"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*+(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*+[0-~]?"  # the short ones: character sets, reset
)
"""Control sequences by their form (ECMA-48). A string that is never ended stops at the end of its line."""

_LINE_ENDS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_INVISIBLE = re.compile("[\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]")
"""What changes the order of other characters, or is there and cannot be seen."""

_NO_CHARACTERS = re.compile("[\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Surrogates and what Unicode says is none; XML 1.0 has no place for most of them."""

_SUSPECT = re.compile("[^\t\n -~\xa0-\u0600\u2010-\u2027\u2030-\u205f\u2070-\ud7ff]")
"""Quick look: without any of these there is nothing to clean."""

_LONGEST_NAME = 255
_LONGEST_PATH = 1024


def clean(data: bytes | str, *, limit: int) -> str:
    """Readable, harmless text of at most `limit` characters.

    Bytes are read as UTF-8, what is none becomes U+FFFD. Control sequences and control characters other
    than newline and tab are removed, all line ends become newlines; marks that reorder text or have no width
    are written out as `[U+202E]`. What is too long loses its middle, and a note says how much.
    """
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    if _SUSPECT.search(text):
        text = _harmless(text)
    return shorten(text, limit=limit)


def clean_line(data: bytes | str, *, limit: int) -> str:
    """The same on a single line, with single spaces: for names, messages, cells of a table."""
    return shorten(" ".join(clean(data, limit=8 * limit).split()), limit=limit)


def terminal(data: bytes | str) -> str:
    """A log as it may be printed: cleaned, whole, without colours."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return _harmless(text)


def shorten(text: str, *, limit: int) -> str:
    """At most `limit` characters: the beginning and the end, and between them how many are left out."""
    if len(text) <= limit:
        return text
    frame = "\n… {} characters left out …\n" if "\n" in text else " … {} characters left out … "
    room = limit - len(frame.format(len(text)))
    if room <= 0:
        return text[:limit]
    head, tail = room - room // 2, room // 2
    return text[:head] + frame.format(len(text) - room) + text[len(text) - tail :]


def safe_path(name: str) -> PurePosixPath:
    """A guest's file name as a relative path that stays below the folder it is joined to. Raises UntrustedError."""
    path = PurePosixPath(name)
    reason = next((why for refuses, why in _REFUSALS if refuses(name, path)), "")
    if reason:
        raise UntrustedError(
            f"cannot accept the file name {clean_line(name, limit=200)!r}: {reason}",
            hint="let the guest write plain names below the folder of the source",
        )
    return path


_REFUSALS = (
    (lambda name, _path: not name.isprintable(), "it holds characters that cannot be printed"),
    (lambda name, _path: "\\" in name, "it holds a backslash"),
    (lambda _name, path: path.is_absolute(), "it is absolute"),
    (lambda _name, path: ".." in path.parts, "it leads out of its folder"),
    (lambda _name, path: not path.parts, "it is empty"),
    (lambda name, _path: len(name.encode()) > _LONGEST_PATH, f"it is longer than {_LONGEST_PATH} bytes"),
    (
        lambda _name, path: any(len(part.encode()) > _LONGEST_NAME for part in path.parts),
        f"a part of it is longer than {_LONGEST_NAME} bytes",
    ),
)
"""What a name is refused for; the first that holds is told."""


def _harmless(text: str) -> str:
    text = _SEQUENCES.sub("", text)
    text = _LINE_ENDS.sub("\n", text)
    text = _CONTROLS.sub("", text)
    text = _NO_CHARACTERS.sub("\ufffd", text)
    return _INVISIBLE.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)
