"""What PostgreSQL's driver is taught."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.types.string import StrDumper

SILENT_S = 40.0
"""For so long nothing is heard of a server that is there: it ends every statement before that by itself."""

T = TypeVar("T")


class Text(StrDumper):
    """Texts without the one sign that PostgreSQL cannot keep; SQLite can."""

    def dump(self, obj: str) -> bytes | None:
        """The bytes of a text, as they are sent."""
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))  # type: ignore[return-value]


class SilentError(psycopg.OperationalError):
    """The server is connected and says nothing."""


class Watchful(psycopg.Connection[Any]):
    """A connection that does not wait for ever for a server that stands still.

    The kernel of such a server still confirms whatever is sent, so TCP never notices.
    """

    _is_patient = False

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for an answer. Raises SilentError, after which the connection is of no more use."""
        if self._is_patient:
            return super().wait(gen, *args, **kwargs)
        try:
            return super().wait(_in_time(gen), *args, **kwargs)
        except SilentError:
            self.close()
            raise

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Meanwhile every answer may take as long as it likes."""
        self._is_patient = True
        try:
            yield
        finally:
            self._is_patient = False


def _in_time(gen: PQGen[T]) -> PQGen[T]:
    """The same conversation with a server; it is over when nothing has come for too long."""
    until = time.monotonic() + SILENT_S
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                until = time.monotonic() + SILENT_S
            elif time.monotonic() > until:
                raise SilentError(f"it has said nothing for {SILENT_S:g} s")
            wanted = gen.send(ready)
    except StopIteration as end:
        value: T = end.value
        return value
