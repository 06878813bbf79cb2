"""The libvirtd of a host: one connection in a process, over the same credentials as the link beside it.

libvirt runs `ssh` itself. So it is given a program of ours that runs the real one with nothing left to chance: the key
of the host is checked against the same file, our keys are those that the link uses, and nobody's configuration is read.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import secrets
import shlex
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import libvirt

from farm.config import load_settings
from farm.errors import HostError, HypervisorError
from runners.deadline import Deadline
from runners.guest import TICK, Work
from runners.hosts.command import CommandError
from runners.hosts.credentials import known_hosts_of, usual_keyfiles
from runners.hosts.link import Link, link_to
from runners.hosts.uri import HostUri
from runners.ledger import private_folder
from runners.libvirt.connection import run_event_loop

OLDEST = (9, 0, 0)
"""Debian 12's libvirt, the oldest that the farm is tested with. Before 6.8 libvirt had no virt-ssh-helper, before 6.1
no isolated ports; what is between, nobody has tried."""

_KEEPALIVE_S = 10
_KEEPALIVES = 3
_CONNECT_S = 20
_DIAGNOSE_S = 30.0
_PAUSE_S = 0.5
_DRIVERS = {
    "qemu": "libvirt-daemon-driver-qemu",
    "xen": "libvirt-daemon-driver-xen",
    "lxc": "libvirt-daemon-driver-lxc",
}
_SOCKETS = {"qemu": "virtqemud", "xen": "virtxend", "lxc": "virtlxcd"}
_LOST = {
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_CONN,
}
"""What a call that was under way when the connection went says; it may mean something else as well."""

T = TypeVar("T")


class Libvirtd:
    """A libvirtd; it is connected to when it is asked something, and again where it was restarted."""

    def __init__(self, uri: HostUri, link: Link, folder: Path) -> None:
        """`folder` is for the program that runs ssh; it belongs to this user alone."""
        self.uri = uri
        self.link = link
        self._folder = folder
        self._lock = threading.Lock()
        self._open: libvirt.virConnect | None = None

    @property
    def connection(self) -> libvirt.virConnect:
        """One that works, as far as is known. Raises HostError, HypervisorError."""
        with self._lock:
            if not (self._open and _is_alive(self._open)):
                self._drop()
                self._open = self._connected()
            return self._open

    @property
    def version(self) -> str:
        """The hypervisor's own: `10.0.2`; empty where it has none to tell (LXC's is the kernel's)."""
        try:
            return dotted(self.connection.getVersion())
        except libvirt.libvirtError:
            return ""

    def ask(self, question: Callable[[libvirt.virConnect], T]) -> T:
        """What a function makes of the connection; asked again on a new one where the old one turns out to be lost.

        So it has to be something that may be done twice. Raises libvirtError, HostError, HypervisorError.
        """
        connection = self.connection
        try:
            return question(connection)
        except libvirt.libvirtError as error:
            if error.get_error_code() not in _LOST or _is_alive(connection):
                raise
        return question(self.connection)

    def await_answer(self, question: Callable[[libvirt.virConnect], T], *, deadline: Deadline) -> Work[T]:
        """The same, asked until there is a libvirtd to answer: one that is restarted is away for some seconds.

        Raises libvirtError where it answers that it cannot, HypervisorError or HostError where the deadline has passed.
        """
        while True:
            try:
                return self.ask(question)
            except (HostError, libvirt.libvirtError) as error:
                lost = not isinstance(error, libvirt.libvirtError) or error.get_error_code() in _LOST
                if not lost or (self._open and _is_alive(self._open)) or deadline.remaining == 0:
                    raise
            yield TICK
            time.sleep(min(_PAUSE_S, deadline.remaining))

    def close(self) -> None:
        """Close the connection; it opens again when something is asked."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._open:
            with suppress(libvirt.libvirtError):
                self._open.close()
        self._open = None

    def _connected(self) -> libvirt.virConnect:
        run_event_loop()
        try:
            connection = libvirt.open(self._address())
        except libvirt.libvirtError as error:
            raise self._why(error) from error
        found = connection.getLibVersion()
        if found < _number(OLDEST):
            connection.close()
            raise HypervisorError(
                f"cannot use the libvirt of {self.link.place}: it is {dotted(found)}, older than"
                f" {'.'.join(map(str, OLDEST))}",
                hint="that is Debian 12's; bring the host up to it",
            )
        connection.setKeepAlive(_KEEPALIVE_S, _KEEPALIVES)
        return connection

    def _address(self) -> str:
        """The URI that libvirt gets; of another machine, with the program that runs ssh."""
        uri = self.uri
        if not uri.remote:
            return uri.text
        program = kept_program(private_folder(self._folder), ssh_program(uri))
        place = uri.text.partition("?")[0]
        return f"{place}?command={quote(str(program))}&no_tty=1"

    def _why(self, error: libvirt.libvirtError) -> HostError:
        """What keeps libvirt from connecting: the machine, that there is no libvirtd, or what libvirt says itself."""
        deadline = Deadline.after(_DIAGNOSE_S, f"find out what is wrong with {self.link.place}")
        driver, place = self.uri.driver, self.link.place
        try:
            self.link.run(
                f"test -S /run/libvirt/libvirt-sock -o -S /run/libvirt/{_SOCKETS[driver]}-sock", deadline=deadline
            )
        except CommandError:
            return HypervisorError(
                f"cannot reach the libvirt of {place}: no libvirtd runs there",
                hint=f"install libvirt-daemon-system and {_DRIVERS[driver]} there, then `systemctl start libvirtd`",
            )
        except HostError as unreachable:
            return unreachable
        said = str(error)
        absent = error.get_error_code() in {libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN}
        return HypervisorError(
            f"cannot reach the libvirt of {place}: {said}",
            hint=f"install {_DRIVERS[driver]} there"
            if absent
            else f"look whether this works: virsh -c {self.uri} list",
        )


def kept_program(folder: Path, text: str) -> Path:
    """A program in a folder, named by its text, so that all processes share it; whole from the first moment on."""
    program = folder / f"ssh-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not program.exists():
        fresh = folder / f".{program.name}-{secrets.token_hex(4)}"
        fresh.write_text(text)
        fresh.chmod(0o700)
        fresh.rename(program)
    return program


def ssh_program(uri: HostUri) -> str:
    """The shell script that libvirt runs in place of ssh. Pure, but that it looks which keys are there."""
    keyfiles = (uri.keyfile,) if uri.keyfile else usual_keyfiles()
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f'"{known_hosts_of(uri)}"',
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes" if uri.keyfile else "no",
        "ConnectTimeout": _CONNECT_S,
        "ServerAliveInterval": _KEEPALIVE_S,
        "ServerAliveCountMax": _KEEPALIVES,
        "ControlPath": "none",
    }
    words = ["exec", "ssh", "-F", "/dev/null"]
    words += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    words += [word for file in keyfiles for word in ("-i", str(file))]
    return f'#!/bin/sh\n{shlex.join(words)} "$@"\n'


def dotted(version: int) -> str:
    """A version as libvirt has it, 1 000 000 × major + 1 000 × minor + release, as people write it. Pure."""
    return f"{version // 1_000_000}.{version // 1_000 % 1_000}.{version % 1_000}"


@functools.cache
def libvirtd(uri: HostUri) -> Libvirtd:
    """This process' connection to a libvirtd, shared by all who ask for it; closed when the process ends."""
    # Not in the folder for live guests: that may be in /run, where Debian lets no program start.
    opened = Libvirtd(uri, link_to(uri), load_settings().cache / "ssh")
    atexit.register(opened.close)
    return opened


def _number(version: tuple[int, int, int]) -> int:
    major, minor, release = version
    return 1_000_000 * major + 1_000 * minor + release


def _is_alive(connection: libvirt.virConnect) -> bool:
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False
