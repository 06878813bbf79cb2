"""Messages of failures without what is another in every run: so that the same failure is seen to be the same. Pure."""

from __future__ import annotations

import re

_STAND_INS = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)"), "<time>"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?(?!\d)"), "<time>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"(?<![\w.])[A-Za-z]:\\[^\s:'\"()<>,;]+"), "<path>"),
    (re.compile(r"(?<![\w.~+/<-])[\w.~+-]*+/[^\s:'\"()<>,;]+"), "<path>"),
    (re.compile(r"\b(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{8,}\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"(?<![A-Za-z_\d])[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?", re.IGNORECASE), "N"),
)
"""What stands for what, in the order in which it is put in: a time has numbers in it, a path may have a time."""


def normal(message: str) -> str:
    """`tests/swap.c:57: expected 0x10, got 4` -> `<path>:N: expected <hex>, got N`.

    A number that is part of a word (`load_be32`) is left, for there it is a name.
    """
    for pattern, stand_in in _STAND_INS:
        message = pattern.sub(stand_in, message)
    return " ".join(message.split())
