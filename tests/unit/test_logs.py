"""Bounding and batching of logs."""

from __future__ import annotations

from farm.model import Stream
from runners.guest import TICK, Chunk
from runners.logs import HEAD_BYTES, TAIL_BYTES, LogBuffer


def through(*chunks: Chunk) -> list[Chunk]:
    log = LogBuffer()
    return [out for chunk in chunks for out in log.add(chunk)] + list(log.end())


def test_short_lines_of_one_stream_become_one_chunk() -> None:
    assert through(*[Chunk(Stream.STDOUT, b"x\n")] * 50) == [Chunk(Stream.STDOUT, b"x\n" * 50)]


def test_streams_keep_their_order() -> None:
    chunks = [Chunk(Stream.STDOUT, b"1"), Chunk(Stream.STDERR, b"2"), TICK, Chunk(Stream.STDOUT, b"3")]
    assert through(*chunks) == [chunk for chunk in chunks if chunk.data]


def test_a_long_log_keeps_its_beginning_and_its_end_and_says_how_much_is_missing() -> None:
    block = bytes(range(256)) * 4096
    total = 20 * len(block)
    out = through(*[Chunk(Stream.STDOUT, block)] * 20)
    kept = b"".join(chunk.data for chunk in out if chunk.stream is Stream.STDOUT)
    assert kept == (block * 20)[:HEAD_BYTES] + (block * 20)[-TAIL_BYTES:]
    note = next(chunk.data for chunk in out if chunk.stream is Stream.FARM)
    assert b"%d bytes of stdout left out" % (total - HEAD_BYTES - TAIL_BYTES) in note


def test_silence_is_silence() -> None:
    assert through(TICK, TICK) == []
