"""An image on its way to a host: a tar of its files, without their holes, that tells how much of it has been read."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, TypeVar, cast

from farm.model import Stream
from runners.guest import Chunk, Work
from runners.images import Image

MIB = 1024 * 1024
_SAY_EVERY_S = 5.0
_BLOCK = 512
"""Of `st_blocks`, see stat(2)."""

T = TypeVar("T")


def listing(image: Image) -> str:
    """What belongs to an image, as `scripts/receive.sh` keeps it: SHA-256, size in bytes and name in each line."""
    return "".join(f"{digest} {(image.folder / name).stat().st_size} {name}\n" for name, digest in _files(image))


def room_bytes(image: Image) -> int:
    """What an image takes on a disk, holes not counted."""
    return sum((image.folder / name).stat().st_blocks * _BLOCK for name, _ in _files(image))


def say(text: str) -> Chunk:
    """A line of the farm's own in the log."""
    return Chunk(Stream.FARM, f"[farm: {text}]\n".encode())


class Packed:
    """The stream: a file to read from."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.sent = 0
        """Bytes that have been read."""

    def read(self, count: int = -1) -> bytes:
        """The next bytes; empty at the end."""
        data = self._stream.read(count)
        self.sent += len(data)
        return data


@contextmanager
def packed(image: Image, packer: str) -> Iterator[Packed]:
    """The files of an image as a tar, packed by a program (empty: by none)."""
    names = [name for name, _ in _files(image)]
    tar = subprocess.Popen(["tar", "-C", str(image.folder), "-cSf", "-", *names], stdout=subprocess.PIPE)
    programs = [tar]
    if packer:
        programs.append(subprocess.Popen([packer, "-1", "-q", "-c"], stdin=tar.stdout, stdout=subprocess.PIPE))
    try:
        yield Packed(cast("BinaryIO", programs[-1].stdout))
    finally:
        for program in programs:
            program.kill()
            program.wait()
        for program in programs:
            if program.stdout:
                program.stdout.close()


def with_progress(work: Work[T], stream: Packed, what: str) -> Work[T]:
    """Some work that reads a stream, saying every few seconds how far it has come."""
    said_at = time.monotonic()
    while True:
        try:
            chunk = next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        yield Chunk(Stream.FARM, chunk.data)
        if time.monotonic() - said_at >= _SAY_EVERY_S:
            said_at = time.monotonic()
            yield say(f"{what}: {stream.sent // MIB} MiB sent")


def _files(image: Image) -> list[tuple[str, str]]:
    return sorted(image.manifest.files.items())
