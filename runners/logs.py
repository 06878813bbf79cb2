"""Bounding and batching what a guest says on its way into the log."""

from __future__ import annotations

import time
from collections.abc import Iterator

from farm.model import Stream
from runners.guest import Chunk

HEAD_BYTES = 8 * 1024 * 1024
"""Kept of a phase's log from its beginning."""
TAIL_BYTES = 256 * 1024
"""Kept from its end, where the beginning did not reach that far."""
_BATCH_BYTES = 64 * 1024
_BATCH_S = 0.3


class LogBuffer:
    """Batches chunks, so that a thousand short lines are not a thousand events, and bounds their sum."""

    def __init__(self) -> None:
        self._kept = 0
        self._left_out = 0
        self._tail = b""
        self._last_stream = Stream.STDOUT
        self._batch: list[Chunk] = []
        self._batch_bytes = 0
        self._batch_since = 0.0

    def add(self, chunk: Chunk) -> Iterator[Chunk]:
        """Take a chunk; yields what is due by now."""
        room = max(0, HEAD_BYTES - self._kept)
        head, rest = chunk.data[:room], chunk.data[room:]
        if head:
            self._keep(chunk._replace(data=head))
        if rest:
            joined = self._tail + rest
            self._tail = joined[-TAIL_BYTES:]
            self._left_out += len(joined) - len(self._tail)
        if self._batch_bytes >= _BATCH_BYTES or (self._batch and time.monotonic() - self._batch_since >= _BATCH_S):
            yield from self._flush()

    def end(self) -> Iterator[Chunk]:
        """What is left: the last batch, and the end of a log that was too long."""
        yield from self._flush()
        if self._left_out:
            yield Chunk(Stream.FARM, b"\n[farm: %d bytes left out here]\n" % self._left_out)
        if self._tail:
            yield Chunk(self._last_stream, self._tail)

    def _keep(self, chunk: Chunk) -> None:
        if not self._batch:
            self._batch_since = time.monotonic()
        self._last_stream = chunk.stream
        if self._batch and self._batch[-1].stream is chunk.stream:
            self._batch[-1] = chunk._replace(data=self._batch[-1].data + chunk.data)
        else:
            self._batch.append(chunk)
        self._kept += len(chunk.data)
        self._batch_bytes += len(chunk.data)

    def _flush(self) -> Iterator[Chunk]:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        yield from batch
