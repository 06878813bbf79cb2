"""The console of a guest behind a libvirtd, kept in a file here from its first byte on."""

from __future__ import annotations

import errno
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import libvirt

from farm.errors import FullError, HostError
from runners.hosts.libvirtd import Libvirtd

_READ_BYTES = 64 * 1024
_AGAIN_S = 1.0
_END_S = 3.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ConsolePump:
    """Copies what a guest's console says into a file until the guest is gone, across restarts of its libvirtd."""

    def __init__(self, host: Libvirtd, uuid: str, path: Path, limit_bytes: int) -> None:
        """Beyond the limit, what is said is thrown away."""
        self._host = host
        self._uuid = uuid
        self._path = path
        self._limit = limit_bytes
        self._closed = threading.Event()
        self._stream: libvirt.virStream | None = None
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def start(self, domain: libvirt.virDomain) -> None:
        """Listen from now on. Raises libvirtError."""
        self._stream = _opened(domain)
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise FullError or HostError if what it says could not be written here; nobody listens to it then."""
        if self._error:
            kind = FullError if self._error.errno in _FULL else HostError
            raise kind(
                f"cannot keep what the guest's console says: {self._error.strerror}",
                hint=f"look at {self._path.parent}",
            ) from self._error

    def close(self) -> None:
        """Stop listening; what a guest that is gone has said is taken first."""
        if self._thread is None:
            return
        self._closed.set()
        self._thread.join(_END_S)
        stream = self._stream
        if self._thread.is_alive() and stream:
            _abort(stream)
            self._thread.join(_END_S)

    def _run(self) -> None:
        try:
            with self._path.open("ab") as file:
                while self._stream:
                    self._copy(self._stream, file)
                    self._stream = self._again()
        except OSError as error:
            self._error = error
            if stream := self._stream:
                _abort(stream)

    def _copy(self, stream: libvirt.virStream, file: BinaryIO) -> None:
        try:
            while data := stream.recv(_READ_BYTES):
                room = self._limit - self._path.stat().st_size
                file.write(data[: max(0, room)])
                file.flush()
        except libvirt.libvirtError:
            _abort(stream)

    def _again(self) -> libvirt.virStream | None:
        """A new stream, where the old one ended and the guest has not; None: it is over."""
        while not self._closed.wait(_AGAIN_S):
            try:
                return _opened(self._host.connection.lookupByUUIDString(self._uuid))
            except libvirt.libvirtError as error:
                if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                    return None
            except HostError:  # it may come back
                continue
        return None


def _opened(domain: libvirt.virDomain) -> libvirt.virStream:
    stream = domain.connect().newStream(0)
    domain.openConsole(None, stream, 0)
    return stream


def _abort(stream: libvirt.virStream) -> None:
    with suppress(libvirt.libvirtError):
        stream.abort()
