"""A running Bochs: started, known to listen, measured, killed."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from farm.errors import HypervisorError
from farm.model import Usage
from runners.bochs.screen import watch
from runners.bochs.settings import Machine
from runners.deadline import Deadline
from runners.guest import TICK, Work

_POLL_S = 0.05
_LISTEN = "0A"
_LOG_CHARS = 300
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at the moment. Whether Bochs got it is for `listening` to say."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


class Process:
    """Bochs with one machine, in a session of its own."""

    def __init__(self, machine: Machine) -> None:
        """Start it. Raises HypervisorError."""
        self._machine = machine
        self._last = Usage()
        try:
            with (machine.folder / "output").open("wb") as output:
                self._child = subprocess.Popen(
                    machine.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=machine.folder,
                    env={"TERM": "linux", "PATH": os.environ.get("PATH", os.defpath), "HOME": str(machine.folder)},
                    start_new_session=True,
                )
            watch(machine.folder / "output", lambda: self.runs)
        except OSError as error:
            raise HypervisorError(
                f"cannot start the guest: {error.strerror}", hint="see `farm doctor`; it needs the package bochs"
            ) from error

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    def wait_until_listening(self, deadline: Deadline) -> Work[bool]:
        """Wait until it has the port of its machine; False where it does without, because somebody else has it.

        Only a socket of this very process counts. Raises HypervisorError where it ends, DeadlineError.
        """
        while True:
            if not self.runs:
                raise HypervisorError(
                    f"cannot start the guest: Bochs ended with {self._child.returncode}: {self.said()}"
                )
            if self._has_port():
                return True
            if self._machine.console.exists() or b"host forwarding" in self._log():
                return False  # its devices are there, and the port is not
            deadline.check()
            yield TICK
            time.sleep(_POLL_S)

    def usage(self) -> Usage:
        """What it has used by now; of one that has ended, what was known last."""
        folder = Path(f"/proc/{self._child.pid}")
        with contextlib.suppress(OSError, IndexError, KeyError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            peak = _PEAK.search((folder / "status").read_text())
            moved = dict(line.split(": ") for line in (folder / "io").read_text().splitlines())
            if peak:  # a process that has ended has no memory, and nothing else to tell
                self._last = Usage(
                    cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS,
                    memory_peak_mib=-(-int(peak[1]) // 1024),
                    disk_read_bytes=int(moved["rchar"]),
                    disk_written_bytes=int(moved["wchar"]),
                )
        return self._last

    def said(self) -> str:
        """The end of what it said of itself, in one line."""
        lines = self._log().decode(errors="replace").split("\n")
        return " ".join(line.strip() for line in lines if line.strip())[-_LOG_CHARS:] or "it said nothing"

    def kill(self) -> None:
        """End it at once. SIGTERM would only be a key that the guest is told of."""
        if self.runs:
            self._child.kill()
        self._child.wait()

    def _log(self) -> bytes:
        with contextlib.suppress(FileNotFoundError):
            return self._machine.log.read_bytes()[-4096:]
        return b""

    def _has_port(self) -> bool:
        mine = _open_files(Path(f"/proc/{self._child.pid}/fd"))
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        wanted = f"{int.from_bytes(socket.inet_aton('127.0.0.1'), sys.byteorder):08X}:{self._machine.port:04X}"
        return any(row[1] == wanted and row[3] == _LISTEN and f"socket:[{row[9]}]" in mine for row in rows)


def _open_files(folder: Path) -> set[str]:
    try:
        return {str(link.readlink()) for link in folder.iterdir()}
    except OSError:  # one of them has just been closed
        return set()
