"""A scripted guest: no hypervisor, no process, no network. For tests and for dry runs of a matrix.

Its shell understands a few words of sh, one command a line, and plays them: `echo`, `cat`, `sleep`,
`exit`, `yes` (for ever), `cd`, `export`, `mkdir`, `true`, `false`, `test` with `=` or `!=`, `. ./FILE`,
redirection of `echo` with `>` and `>&2`, and `poweroff` and `echo c > /proc/sysrq-trigger`, which end it as
they would a real one. A word it does not know ends a script with 127, as in a real shell. `$NAME` is what was
exported (in single quotes too), and `exit 0` ends only the file that it stands in. Files are kept in memory.

The environment variable FAKE_BOOT of a matrix plays a guest that does not come up: `hang`, `panic`,
`refuse` (no SSH).
"""

from __future__ import annotations

import io
import shlex
import string
import tarfile
import time
from collections.abc import Callable
from typing import BinaryIO

from farm.config import Settings
from farm.errors import ConnectError, HypervisorError, LostError
from farm.model import GuestFacts, Offer, Order, Slowness, Stream, Usage
from runners.console import READY
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Shell, Work
from runners.hold import ADMIT
from runners.lastwords import PROCESSES
from runners.machines import MACHINES

_TICK_S = 0.05
_PANIC = b"""\
sysrq: Trigger a crash
Kernel panic - not syncing: sysrq triggered crash
---[ end Kernel panic - not syncing: sysrq triggered crash ]---
"""


class FakeBackend:
    """Makes scripted guests, wherever it is."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Settings make no difference to it."""

    def look(self) -> tuple[Offer, ...]:
        """Every architecture: it only says so."""
        return tuple(Offer(hypervisor="fake", arch=arch, emulated=True, scripted=True) for arch in MACHINES)

    def probe(self) -> tuple[Offer, ...]:
        """The same: there is nothing to run."""
        return self.look()

    def create(self, order: Order, deadline: Deadline) -> Work[FakeGuest]:
        """A guest that has everything but a machine."""
        deadline.check()
        yield TICK
        if order.env.get("FAKE_BOOT") == "no-host":
            raise HypervisorError("cannot make the guest: the scripted host refuses")
        return FakeGuest(order)


class FakeGuest:
    """A guest that plays its part."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._mode = order.env.get("FAKE_BOOT", "")
        self._console = b""
        self._heard = 0
        self.files: dict[str, bytes] = {}
        self.running = False

    @property
    def facts(self) -> GuestFacts:
        """What it plays."""
        return GuestFacts(
            host="fake",
            hypervisor="fake",
            hypervisor_version="1",
            emulated=True,
            machine="script",
            cpu="none",
            image=f"{self._order.image.name}/{self._order.arch}",
            image_digest="0" * 64,
            layers=tuple(layer.name for layer in self._order.image.layers),
            vcpus=self._order.guest.vcpus,
            memory_mib=self._order.guest.memory_mib,
            slowness=Slowness(cpu=1.0, fork=1.0, disk=1.0),
        )

    def boot(self, deadline: Deadline) -> Work[None]:
        """Say so on the console, unless FAKE_BOOT says otherwise."""
        self.running = True
        self._console += b"fake: booting\n"
        if self._mode == "panic":
            self.crash()
        while self._mode == "hang":
            deadline.check()
            yield TICK
            time.sleep(_TICK_S)
        if trouble := self.trouble():
            raise LostError(f"cannot boot the guest: {trouble}")
        self._console += READY + b"\n"
        yield TICK

    def connect(self, deadline: Deadline) -> Work[Shell]:
        """A shell at once, unless FAKE_BOOT says otherwise."""
        deadline.check()
        yield TICK
        if self._mode == "refuse":
            raise ConnectError("cannot connect to the guest: the scripted guest refuses")
        return FakeShell(self)

    def console(self) -> bytes:
        """All it said."""
        return self._console

    def heard(self) -> bytes:
        """What it said since this was last asked."""
        new, self._heard = self._console[self._heard :], len(self._console)
        return new

    def trouble(self) -> str:
        """Empty until it has crashed."""
        return "" if self.running else "its machine has ended"

    def usage(self) -> Usage:
        """It has no machine; its disk is the files that it keeps."""
        return Usage(cpu_s=0.0, disk_written_bytes=sum(map(len, self.files.values())))

    def access(self) -> str:
        """A command that does nothing."""
        return "true"

    def invitation(self) -> str:
        """The same."""
        return "true"

    def crash(self) -> None:
        """Panic."""
        self._console += _PANIC
        self.running = False

    def power_off(self) -> None:
        """End as it was told to from inside."""
        self._console += b"reboot: Power down\n"
        self.running = False

    def destroy(self) -> None:
        """End."""
        self.running = False
        self.files.clear()


class FakeShell:
    """The shell of a scripted guest."""

    def __init__(self, guest: FakeGuest) -> None:
        self._guest = guest
        self._variables: dict[str, str] = {}

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[int]:
        """Play a command line; see the module."""
        data = stdin.read() if stdin else b""
        for prefix, play in self._plumbing().items():
            if command.startswith(prefix):
                return (yield from play(command, data))
        script = data.decode() if " /bin/sh -e " in command else command
        return (yield from self._play(script, deadline))

    def close(self) -> None:
        """Nothing is open."""

    def _plumbing(self) -> dict[str, Callable[[str, bytes], Work[int]]]:
        """The commands that the farm itself sends."""
        return {
            "mkdir -p /work && tar": self._unpack,
            "cd /work && find": self._list,
            "cd /work && tar": self._pack,
            ADMIT: self._admit,
            PROCESSES: self._processes,
        }

    def _processes(self, _command: str, _data: bytes) -> Work[int]:
        yield Chunk(Stream.STDOUT, b"PID PPID STAT ELAPSED WCHAN COMMAND\n1 0 S 00:01 - init\n")
        return 0

    def _admit(self, _command: str, data: bytes) -> Work[int]:
        self._guest.files["authorized_keys"] = data
        yield TICK
        return 0

    def _unpack(self, _command: str, data: bytes) -> Work[int]:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file:
                    self._guest.files[member.name.removeprefix("./")] = file.read()
        yield TICK
        return 0

    def _list(self, _command: str, _data: bytes) -> Work[int]:
        yield Chunk(Stream.STDOUT, b"".join(f"./{name}\0".encode() for name in self._guest.files))
        return 0

    def _pack(self, _command: str, data: bytes) -> Work[int]:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name in data.decode().split() or self._guest.files:
                content = self._guest.files[name.removeprefix("./")]
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        yield Chunk(Stream.STDOUT, buffer.getvalue())
        return 0

    def _play(self, script: str, deadline: Deadline) -> Work[int]:
        for line in script.splitlines():
            words = [self._expanded(word) for word in shlex.split(line, comments=True)]
            if not words:
                continue
            status = yield from self._command(words, deadline)
            if not self._guest.running:
                raise LostError("cannot finish the command: the connection to the guest went away")
            if status != 0 or words[0] == "exit":
                return status
        return 0

    def _command(self, words: list[str], deadline: Deadline) -> Work[int]:
        name, arguments = words[0], words[1:]
        if name == "echo":
            return (yield from self._echo(arguments))
        if name == "cat":
            return (yield from self._cat(arguments))
        if name == ".":
            return (yield from self._source(arguments[0], deadline))
        if name in ("sleep", "yes"):
            seconds = float(arguments[0]) if name == "sleep" else float("inf")
            return (yield from self._wait(seconds, b"y\n" * 8192 if name == "yes" else b"", deadline))
        yield TICK
        if name == "export":
            self._variables |= dict(word.split("=", 1) for word in arguments if "=" in word)
        if name == "poweroff":
            self._guest.power_off()
        if name == "exit":
            return int(arguments[0]) if arguments else 0
        statuses = dict.fromkeys(("true", ":", "cd", "export", "mkdir", "poweroff"), 0)
        return (statuses | {"false": 1, "test": _test(arguments)}).get(name, 127)

    def _expanded(self, word: str) -> str:
        return string.Template(word).safe_substitute(self._variables)

    def _source(self, name: str, deadline: Deadline) -> Work[int]:
        script = self._guest.files.get(name.removeprefix("./"))
        if script is None:
            yield Chunk(Stream.STDERR, f".: {name}: not found\n".encode())
            return 2
        return (yield from self._play(script.decode(), deadline))

    def _echo(self, words: list[str]) -> Work[int]:
        stream = Stream.STDERR if ">&2" in words else Stream.STDOUT
        words = [word for word in words if word != ">&2"]
        if ">" in words:
            at = words.index(">")
            self._write(words[at + 1], " ".join(words[:at]).encode() + b"\n")
            yield TICK
        else:
            yield Chunk(stream, " ".join(words).encode() + b"\n")
        return 0

    def _write(self, path: str, data: bytes) -> None:
        if path == "/proc/sysrq-trigger":
            self._guest.crash()
        else:
            self._guest.files[path] = data

    def _cat(self, names: list[str]) -> Work[int]:
        for name in names:
            if name not in self._guest.files:
                yield Chunk(Stream.STDERR, f"cat: {name}: No such file or directory\n".encode())
                return 1
            yield Chunk(Stream.STDOUT, self._guest.files[name])
        return 0

    def _wait(self, seconds: float, saying: bytes, deadline: Deadline) -> Work[int]:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            deadline.check()
            yield Chunk(Stream.STDOUT, saying) if saying else TICK
            if not saying:
                time.sleep(min(_TICK_S, left))
        return 0


def _test(words: list[str]) -> int:
    """The status of `test`: 2 for what it does not understand."""
    match words:
        case [left, "=", right]:
            return int(left != right)
        case [left, "!=", right]:
            return int(left == right)
    return 2
