"""Reading the results a guest wrote. Never raises, whatever the bytes are: what is wrong is told in `problem`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from farm.results.base import LARGEST_FILE_BYTES, LONGEST_NAME, Gathered, Results
from farm.results.junit import read_junit
from farm.results.tap import LINE as TAP_LINE
from farm.results.tap import read_tap
from farm.text import clean_line

__all__ = ["Results", "read"]

Reader = Callable[[bytes, Gathered, str], None]

_BY_EXTENSION: dict[str, Reader] = {".xml": read_junit, ".tap": read_tap}
_XML_START = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\x00]*<")
_LOOKED_AT_BYTES = 64 * 1024


def read(name: str, data: bytes) -> Results:
    """The tests of a JUnit XML or TAP file, told apart by content, then by the extension of `name`.

    `name` is the file's path in the guest; its stem stands for a suite that names itself not.
    """
    gathered = Gathered(clean_line(name, limit=LONGEST_NAME))
    reader = _reader(name, data)
    if len(data) > LARGEST_FILE_BYTES:
        gathered.note(f"it has {len(data)} bytes, more than {LARGEST_FILE_BYTES}")
    elif not data.strip():
        gathered.note("it is empty")
    elif reader is None:
        gathered.note("it is neither JUnit XML nor TAP")
    else:
        reader(data, gathered, PurePosixPath(gathered.file).stem)
    return gathered.results()


def _reader(name: str, data: bytes) -> Reader | None:
    if _XML_START.match(data):
        return read_junit
    if TAP_LINE.search(data[:_LOOKED_AT_BYTES].decode("utf-8", "replace")):
        return read_tap
    return _BY_EXTENSION.get(PurePosixPath(name).suffix.lower())
