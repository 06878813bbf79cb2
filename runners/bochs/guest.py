"""A guest in Bochs: boot, connect, destroy."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace

from farm.errors import HypervisorError, LostError, UntrustedError
from farm.model import GuestFacts, Usage
from runners import forwarded
from runners.bochs.process import Process, free_port
from runners.bochs.settings import Machine, files
from runners.console import READY
from runners.deadline import Deadline
from runners.guest import TICK, Shell, Work
from runners.libvirt.console import ConsoleReader
from runners.seed import Keys
from runners.ssh import connect, tcp

_POLL_S = 0.05
_LISTEN_S = 30.0
_PORTS = 5
"""So many are tried, should each be taken between finding it free and asking for it."""
_CONSOLE_LIMIT_BYTES = 64 * 1024 * 1024
_ENDED = "its machine has ended"


class BochsGuest:
    """A guest and everything that was made for it, all of it in one folder."""

    def __init__(self, machine: Machine, keys: Keys, facts: GuestFacts, gone: Callable[[], None]) -> None:
        """`gone` is called when nothing is left of it."""
        self._machine = machine
        self._keys = keys
        self._facts = facts
        self._gone = gone
        self._console = ConsoleReader(machine.console)
        self._process: Process | None = None

    @property
    def facts(self) -> GuestFacts:
        """What it really is."""
        return self._facts

    def boot(self, deadline: Deadline) -> Work[None]:
        """Boot it until its system says that it is up."""
        yield from self._start(deadline)
        while READY not in self.console():
            if trouble := self.trouble():
                raise LostError(f"cannot boot the guest: {trouble}")
            deadline.check()
            yield TICK
            time.sleep(_POLL_S)

    def connect(self, deadline: Deadline) -> Work[Shell]:
        """Come to a shell that works. Its host key proves that it is this guest."""
        client, server = self._keys
        dial = tcp("127.0.0.1", self._machine.port)
        return (yield from connect(dial, client=client, server=server, deadline=deadline))

    def console(self) -> bytes:
        """The last 64 KiB its console said."""
        return self._console.last()

    def heard(self) -> bytes:
        """What its console said since this was last asked."""
        return self._console.new()

    def trouble(self) -> str:
        """Why it cannot go on; empty where it runs. Raises UntrustedError where it is about to fill the disk."""
        if self._console.size() > _CONSOLE_LIMIT_BYTES:
            raise UntrustedError(
                f"cannot go on with the guest: its console said more than {_CONSOLE_LIMIT_BYTES // 1024 // 1024} MiB",
                hint="write to the script's output instead, which is bounded",
            )
        return "" if self._process and self._process.runs else _ENDED

    def usage(self) -> Usage:
        """What Bochs has used of its host so far; what it read and wrote is of all files."""
        return self._process.usage() if self._process else Usage()

    def access(self) -> str:
        """The ssh command for a person on this host."""
        return forwarded.access(self._machine.folder, self._keys, self._machine.port)

    def invitation(self) -> str:
        """The same for a person whose key it knows."""
        return forwarded.invitation(self._keys, self._machine.port)

    def destroy(self) -> None:
        """End it and remove its folder; does nothing the second time."""
        if self._process:
            self._process.kill()
        if self._machine.folder.exists():
            shutil.rmtree(self._machine.folder, ignore_errors=True)
            self._gone()

    def _start(self, deadline: Deadline) -> Work[None]:
        for _ in range(_PORTS):
            self._machine = replace(self._machine, port=free_port())
            for name, text in files(self._machine).items():
                (self._machine.folder / name).write_text(text)
            self._process = process = Process(self._machine)
            listening = Deadline.after(min(_LISTEN_S, deadline.remaining), "start Bochs")
            if (yield from process.wait_until_listening(listening)):
                return
            process.kill()
        raise HypervisorError(f"cannot start the guest: each of {_PORTS} ports was taken before Bochs had it")
