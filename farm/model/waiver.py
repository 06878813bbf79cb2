"""A failure that somebody has agreed to live with: where, which test, why, and until when."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import AwareDatetime, BeforeValidator, Field

from farm.model.base import Model
from farm.text import clean_line

EVERY_TEST: Final = "*"
"""The glob that waives a cell as such as well: one that fails to build, say, has no test that could be named."""
_LONGEST = 2_000


def _line(value: object) -> object:
    return clean_line(value, limit=_LONGEST) if isinstance(value, str) else value


def _link(value: object) -> object:
    """Only what a browser opens as a page may become a link on one."""
    text = _line(value)
    if isinstance(text, str) and text and not text.startswith(("https://", "http://")):
        raise ValueError("a link begins with https:// or http://")
    return text


_Glob = Annotated[str, BeforeValidator(_line), Field(min_length=1, max_length=500)]


class WaiverRequest(Model):
    """A waiver that somebody wants."""

    cells: _Glob = "**"
    """Of cells' ids, segment by segment, as `--only` takes it."""
    tests: _Glob = EVERY_TEST
    """Of a test's name, `suite/name`, `classname/name` or `suite/classname/name`; `*` alone is the cell itself, too."""
    reason: Annotated[str, BeforeValidator(_line), Field(min_length=1)]
    link: Annotated[str, BeforeValidator(_link)] = ""
    """To the bug, say."""
    expires: AwareDatetime | None = None
    """From then on it waives nothing; None: never."""


class Waiver(WaiverRequest):
    """Failures that are known and accepted. They stay failures, and stay visible."""

    id: int
    project: str
    created: AwareDatetime
    created_by: str = ""

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= now
