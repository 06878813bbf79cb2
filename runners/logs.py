"""Bounding and batching what a guest says on its way into the log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from farm.mask import Masker, Needles
from farm.model import Stream
from runners.guest import Chunk

HEAD_BYTES = 8 * 1024 * 1024
"""Kept of a stream of a phase's log from its beginning."""
TAIL_BYTES = 256 * 1024
"""Kept from its end, where the beginning did not reach that far."""
_BATCH_BYTES = 64 * 1024
_BATCH_S = 0.3


class Discretion:
    """Takes secrets out of chunks, of each stream for itself."""

    def __init__(self, needles: Needles) -> None:
        self._needles = needles
        self._maskers: dict[Stream, Masker] = {}

    def take(self, chunk: Chunk) -> Chunk:
        """What can be said of it by now."""
        if chunk.stream not in self._maskers:
            self._maskers[chunk.stream] = Masker(self._needles)
        return chunk._replace(data=self._maskers[chunk.stream].take(chunk.data))

    def rest(self, *, console: bool) -> Iterator[Chunk]:
        """What was held back; the console goes on through all phases, so that it has a rest at the end only."""
        for stream, masker in self._maskers.items():
            if console or stream is not Stream.CONSOLE:
                yield Chunk(stream, masker.rest())


@dataclass
class _Budget:
    """What one stream may still say, and what is kept of its end."""

    room: int = HEAD_BYTES
    left_out: int = 0
    tail: bytes = b""

    def take(self, data: bytes) -> bytes:
        """What goes into the log now; the rest becomes the tail."""
        head, rest = data[: self.room], data[self.room :]
        self.room -= len(head)
        if rest:
            joined = self.tail + rest
            self.tail = joined[-TAIL_BYTES:]
            self.left_out += len(joined) - len(self.tail)
        return head


class LogBuffer:
    """Batches chunks, so that a thousand short lines are not a thousand events, and bounds each stream."""

    def __init__(self) -> None:
        self._budgets: dict[Stream, _Budget] = {}
        self._batch: list[Chunk] = []
        self._batch_bytes = 0
        self._batch_since = 0.0

    def add(self, chunk: Chunk) -> Iterator[Chunk]:
        """Take a chunk; yields what is due by now."""
        if head := self._budgets.setdefault(chunk.stream, _Budget()).take(chunk.data):
            self._keep(chunk._replace(data=head))
        if self._batch_bytes >= _BATCH_BYTES or (self._batch and time.monotonic() - self._batch_since >= _BATCH_S):
            yield from self._flush()

    def end(self) -> Iterator[Chunk]:
        """What is left: the last batch, and the ends of streams that were too long."""
        yield from self._flush()
        for stream, budget in self._budgets.items():
            if budget.left_out:
                note = f"\n[farm: {budget.left_out} bytes of {stream} left out here]\n"
                yield Chunk(Stream.FARM, note.encode())
            if budget.tail:
                yield Chunk(stream, budget.tail)

    def _keep(self, chunk: Chunk) -> None:
        if not self._batch:
            self._batch_since = time.monotonic()
        if self._batch and self._batch[-1].stream is chunk.stream:
            self._batch[-1] = chunk._replace(data=self._batch[-1].data + chunk.data)
        else:
            self._batch.append(chunk)
        self._batch_bytes += len(chunk.data)

    def _flush(self) -> Iterator[Chunk]:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        yield from batch
