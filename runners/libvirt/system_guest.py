"""A guest behind a libvirtd, here or elsewhere: made, booted, connected to, destroyed."""

from __future__ import annotations

import re
import shlex
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import libvirt

from farm.errors import FullError, HostError, HypervisorError, LostError, UntrustedError
from farm.model import GuestFacts, Stream, Usage
from runners.console import READY
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Shell, Work
from runners.hosts.address import address_of
from runners.hosts.libvirtd import Libvirtd
from runners.libvirt.account import Account
from runners.libvirt.connection import hypervisor_errors
from runners.libvirt.console import ConsoleReader
from runners.libvirt.furnish import Place
from runners.libvirt.pump import ConsolePump
from runners.libvirt.remains import Remains, remove
from runners.libvirt.system_xml import SystemSpec, system_xml
from runners.seed import Keys, make_keys
from runners.ssh import connect, in_background

_TICK_S = 0.25
_ASK_S = 2.0
"""How old what is known of a guest's state may be."""
_CREATED_S = 120.0
_SSH_PORT = 22
_LOG_LINES = 10
_FAILED = re.compile(rb"^\S+ (\d\d:\d\d):\S+: .*: (\w+ failed: .+)$", re.MULTILINE)
_MINUTE = re.compile(rb"^\S+ (\d\d:\d\d):", re.MULTILINE)
_CONSOLE_LIMIT_BYTES = 64 * 1024 * 1024
_STATES = {
    libvirt.VIR_DOMAIN_SHUTOFF: "its machine has ended",
    libvirt.VIR_DOMAIN_CRASHED: "its machine has crashed",
    libvirt.VIR_DOMAIN_PAUSED: "its machine stands still",
    libvirt.VIR_DOMAIN_SHUTDOWN: "its machine is shutting down",
}
_ENDED = _STATES[libvirt.VIR_DOMAIN_SHUTOFF]
_RUNS = {libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED, libvirt.VIR_DOMAIN_NOSTATE}
"""Xen says no more of a domain that waits for something."""
_GONE = {libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID}


@dataclass(frozen=True)
class SystemParts:
    """What a guest is made from."""

    host: Libvirtd
    spec: SystemSpec
    remains: Remains
    place: Place
    seed: Callable[[Keys], bytes]
    """What tells it who it is."""
    when_gone: Callable[[], None]
    """Called once, when nothing of it is left."""
    console: Path
    """The file here that gets everything its console says; its folder is the guest's own."""


class SystemGuest:
    """A guest; what it has on its host is named by `SystemParts.remains`."""

    def __init__(self, parts: SystemParts, facts: GuestFacts) -> None:
        self._parts = parts
        self._facts = facts
        self._keys = make_keys()
        self._console = ConsoleReader(parts.console)
        self._pump = ConsolePump(parts.host, parts.spec.uuid, parts.console, _CONSOLE_LIMIT_BYTES + 1)
        self._account = Account(parts.spec.hypervisor)
        self._creating: Future[libvirt.virDomain] | None = None
        self._address = ""
        self._asked_at = float("-inf")
        self._state = ""
        self._destroyed = False

    @property
    def facts(self) -> GuestFacts:
        """What it really is."""
        return self._facts

    def boot(self, deadline: Deadline) -> Work[None]:
        """Start it, and wait until its system says that it is up.

        Raises HypervisorError, FullError where its host has no memory for it, DeadlineError, LostError.
        """
        yield from self._parts.place.write_seed(self._parts.seed(self._keys), deadline)
        xml = system_xml(self._parts.spec)
        try:
            domain = yield from self._created(xml, deadline)
        except (FullError, HypervisorError) as error:
            yield Chunk(Stream.FARM, f"[farm: the hypervisor was asked for this:]\n{xml}\n".encode())
            if cause := cause_in((yield from self._driver_log(deadline))):
                raise type(error)(f"{error.message}: {cause}", hint=error.hint) from error
            raise
        with hypervisor_errors("listen to the guest's console"):
            self._pump.start(domain)
        if self._parts.spec.hypervisor.paused:
            with hypervisor_errors("start the guest"):
                domain.resume()
        while READY not in self.console():
            if trouble := self.trouble():
                raise LostError(f"cannot boot the guest: {trouble}")
            deadline.check()
            yield TICK
            time.sleep(_TICK_S)
        yield TICK

    def connect(self, deadline: Deadline) -> Work[Shell]:
        """Come to a shell that works, through the host where it is another."""
        spec, link = self._parts.spec, self._parts.host.link
        domain = self._domain()
        self._address = yield from address_of(domain, spec.mac, spec.attachment, link, deadline=deadline)
        client, server = self._keys
        return (
            yield from connect(
                lambda within: link.dial(self._address, _SSH_PORT, deadline=within),
                client=client,
                server=server,
                deadline=deadline,
            )
        )

    def console(self) -> bytes:
        """The last 64 KiB its console said."""
        return self._console.last()

    def heard(self) -> bytes:
        """What its console said since this was last asked."""
        return self._console.new()

    def trouble(self) -> str:
        """Why it cannot go on; empty where it runs, or where its libvirtd, which it does not need, is away.

        Raises HostError where its host is gone, FullError where that or this machine has no space left, UntrustedError
        where the guest is about to fill the disk here.
        """
        self._pump.check()
        if self._console.size() > _CONSOLE_LIMIT_BYTES:
            raise UntrustedError(
                f"cannot go on with the guest: its console said more than {_CONSOLE_LIMIT_BYTES // 1024 // 1024} MiB",
                hint="write to the script's output instead, which is bounded",
            )
        if time.monotonic() - self._asked_at > _ASK_S:
            self._state = self._asked()
            self._asked_at = time.monotonic()
        return self._state

    def usage(self) -> Usage:
        """What it has used of its host so far; of a machine that has ended, what was known last.

        One that is being made is not asked: libvirt lets each question wait half a minute for that, and who waits
        here is taken for dead.
        """
        if self._creating and not self._creating.done():
            return self._account.last
        with suppress(LostError, HostError):
            return self._account.read(self._domain())
        return self._account.last

    def access(self) -> str:
        """The ssh command for a person here."""
        folder = self._parts.console.parent
        key, known = folder / "id_ed25519", folder / "known_hosts"
        key.touch(mode=0o600)
        key.write_text(self._keys.client.openssh)
        known.write_text(f"{self._address} {self._keys.server.public}\n")
        words = ("-i", str(key), "-o", "IdentitiesOnly=yes", "-o", _known_hosts(known))
        return self._ssh(*words)

    def invitation(self) -> str:
        """The same for a person whose key it knows, and whom its host lets in (OpenSSH 8.5 and later)."""
        known = f"KnownHostsCommand=/bin/echo %H {self._keys.server.public}"
        return self._ssh("-o", "UserKnownHostsFile=/dev/null", "-o", known)

    def destroy(self) -> None:
        """End it and remove everything of it. Raises HostError where its host cannot be reached: the reaper goes on."""
        if self._destroyed:
            return
        self._await_creation()
        try:
            remove(self._parts.host, self._parts.remains)
        finally:
            self._pump.close()
            shutil.rmtree(self._parts.console.parent, ignore_errors=True)
        self._destroyed = True
        self._parts.when_gone()

    def _created(self, xml: str, deadline: Deadline) -> Work[libvirt.virDomain]:
        """A machine that stands still where the hypervisor can make such. What takes long is the hypervisor's."""
        flags = libvirt.VIR_DOMAIN_START_PAUSED if self._parts.spec.hypervisor.paused else 0
        connection = self._parts.host.connection
        self._creating = in_background(lambda: connection.createXML(xml, flags))
        while not wait((self._creating,), _TICK_S).done:
            yield TICK
            deadline.check()
        with hypervisor_errors(f"start the guest on {self._parts.host.link.place}"):
            return self._creating.result()

    def _driver_log(self, deadline: Deadline) -> Work[bytes]:
        """What libvirt's driver says of a failure in a log of its own; nothing where it has none."""
        if log := self._parts.spec.hypervisor.log:
            with suppress(HostError):  # it is the failure that counts
                said = yield from self._parts.host.link.execute(f"tail -n {_LOG_LINES} {log}", deadline=deadline)
                yield Chunk(Stream.FARM, f"[farm: the end of {log}:]\n".encode() + said)
                return said
        return b""

    def _await_creation(self) -> None:
        """One that is being made cannot be destroyed yet."""
        if self._creating:
            wait((self._creating,), _CREATED_S)

    def _domain(self) -> libvirt.virDomain:
        """Raises LostError where it is gone, HostError."""
        try:
            return self._parts.host.ask(lambda connection: connection.lookupByUUIDString(self._parts.spec.uuid))
        except libvirt.libvirtError as error:
            if error.get_error_code() in _GONE:
                raise LostError(f"cannot find the guest: {_ENDED}") from error
            raise HypervisorError(f"cannot find the guest on {self._parts.host.link.place}: {error}") from error

    def _asked(self) -> str:
        try:
            state, reason = self._parts.host.ask(
                lambda connection: connection.lookupByUUIDString(self._parts.spec.uuid).state()
            )
        except libvirt.libvirtError as error:
            return _ENDED if error.get_error_code() in _GONE else ""
        except HypervisorError:  # its libvirtd is away: the host is not
            return ""
        if state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR:
            raise FullError(
                "cannot go on with the guest: the host could not write to its disk", hint="free some disk space there"
            )
        return "" if state in _RUNS else _STATES.get(state, f"it is in state {state}")

    def _ssh(self, *options: str) -> str:
        """A command line for a shell."""
        return shlex.join(("ssh", *options, *self._way(), f"root@{self._address}"))

    def _way(self) -> tuple[str, ...]:
        """The options that lead through the host, where that is another machine than this."""
        uri = self._parts.host.uri
        if not uri.remote:
            return ()
        key = ("-i", str(uri.keyfile)) if uri.keyfile else ()
        known = ("-o", _known_hosts(uri.known_hosts)) if uri.known_hosts else ()
        through = shlex.join(("ssh", *key, *known, "-p", str(uri.port))).replace("%", "%%")
        return ("-o", f"ProxyCommand={through} -W %h:%p {uri.login}@{uri.host}")


def cause_in(log: bytes) -> str:
    """Why something failed by the end of libxl's log, whose last lines are of it: `… failed: Cannot allocate memory`.

    Empty where that is not said in the last minute of the log: what is older is of something else.
    """
    *_, last = (b"", *_MINUTE.findall(log))
    causes = [cause for minute, cause in _FAILED.findall(log) if minute == last]
    return causes[-1].decode(errors="replace") if causes else ""


def _known_hosts(path: Path) -> str:
    """An option of ssh: several files may stand there, so one with a blank in its name is quoted for ssh itself."""
    return f'UserKnownHostsFile="{path}"' if " " in str(path) else f"UserKnownHostsFile={path}"
