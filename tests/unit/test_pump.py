"""The console of a guest behind a libvirtd, when it cannot be written here; its stream is pretended."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from farm.errors import FullError, HostError
from runners.libvirt import pump
from runners.libvirt.pump import ConsolePump


class Stream:
    """Says some words, then nothing until it is aborted."""

    def __init__(self, *words: bytes) -> None:
        self._words = list(words)
        self.aborted = threading.Event()

    def recv(self, _size: int) -> bytes:
        if self._words:
            return self._words.pop(0)
        assert self.aborted.wait(20)
        return b""

    def abort(self) -> None:
        self.aborted.set()


def started(stream: Stream, path: Path, monkeypatch: pytest.MonkeyPatch, *, limit: int = 1024) -> ConsolePump:
    monkeypatch.setattr(pump, "_opened", lambda _domain: stream)
    unused: Any = None
    started = ConsolePump(unused, "u", path, limit)
    started.start(unused)
    return started


def test_a_disk_that_is_full_is_told_and_the_console_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "console.log"
    path.symlink_to("/dev/full")
    stream = Stream(b"[    0.000000] Linux\n")
    listening = started(stream, path, monkeypatch)
    assert stream.aborted.wait(20)
    with pytest.raises(FullError, match="cannot keep what the guest's console says: No space left") as caught:
        listening.check()
    assert caught.value.hint == f"look at {tmp_path}"
    listening.close()


def test_a_file_that_cannot_be_made_is_the_host_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    listening = started(stream, tmp_path / "none" / "console.log", monkeypatch)
    assert stream.aborted.wait(20)
    with pytest.raises(HostError, match="No such file"):
        listening.check()
    listening.close()


def test_what_is_said_is_written_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "console.log"
    monkeypatch.setattr(pump, "_END_S", 0.2)
    listening = started(Stream(b"abc", b"defg", b"h"), path, monkeypatch, limit=5)
    listening.close()
    listening.check()
    assert path.read_bytes() == b"abcde"
