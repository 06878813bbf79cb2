"""Everything that a hypervisor's machine needs to be a host, looked at one thing after the other.

Each check says what it found, or what is wrong with a hint what to do. Where the machine cannot be reached, or no
libvirt answers there, nothing that rests on it is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import libvirt

from farm.config import Settings
from farm.errors import FarmError, HostError
from farm.model import Offer
from runners import probe
from runners.deadline import Deadline
from runners.hosts import firewall
from runners.hosts.command import CommandError
from runners.hosts.libvirtd import dotted, libvirtd
from runners.hosts.link import Link, link_to
from runners.hosts.node import room_of
from runners.hosts.uri import HostUri, parse_uri

_ASK_S = 30.0
_MOST_SKEW_S = 2.0
_PROGRAMS = {
    "tar": "tar",
    "sha256sum": "coreutils",
    "df": "coreutils",
    "flock": "util-linux",
    "qemu-img": "qemu-utils",
    "nft": "nftables",
    "dnsmasq": "dnsmasq-base",
}
"""What the farm runs on a host, and Debian's package of it."""


class Finding(NamedTuple):
    """What became of a check."""

    what: str
    good: bool
    said: str
    todo: str = ""
    runs: bool = False
    """Guests run there."""


class Checkup:
    """The checks of one host."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError."""
        self._settings = settings
        self._uri: HostUri = parse_uri(settings.uri)
        self._link: Link = link_to(self._uri)

    def findings(self) -> Iterator[Finding]:
        """One after the other, as they are found."""
        reached = self._tried("reach", self._reach)
        yield reached
        if not reached.good:
            return
        checks: dict[str, Callable[[], str]] = {"time": self._time, "room": self._room}
        if not self._uri.embedded:
            checks |= {"programs": self._programs, "libvirt": self._libvirt}
        for what, check in checks.items():
            found = self._tried(what, check)
            yield found
        if not self._uri.embedded:
            if not found.good:
                return
            yield self._tried("network", self._network)
        yield from self._guests()

    def _tried(self, what: str, check: Callable[[], str]) -> Finding:
        try:
            return Finding(what, True, check())
        except FarmError as error:
            return Finding(what, False, error.message, error.hint)
        except libvirt.libvirtError as error:
            return Finding(what, False, str(error), f"look whether this works: virsh -c {self._uri} list")

    def _run(self, command: str) -> str:
        deadline = Deadline.after(_ASK_S, f"ask {self._uri.place}")
        return self._link.run(command, deadline=deadline).decode(errors="replace").strip()

    def _reach(self) -> str:
        """SSH, the host's key, and ours."""
        kernel, who = self._run("uname -sr; id -un").splitlines()
        by = "by SSH, its key is the known one" if self._uri.remote else "it is here"
        return f"{self._uri.place}: {by}; {kernel}, as {who}"

    def _time(self) -> str:
        before = time.time()
        there = float(self._run("date +%s.%N"))
        skew = max(before - there, there - time.time(), 0.0)
        if skew > _MOST_SKEW_S:
            raise HostError(
                f"its clock is {skew:.0f} s off from this machine's", hint="run a time service on both, such as chrony"
            )
        return f"the same as here, to {max(_MOST_SKEW_S / 10, skew):.1f} s"

    def _room(self) -> str:
        room = room_of(self._settings)
        if room.shortage:
            raise HostError(room.shortage, hint="make room, or set FARM_KEEP_MEMORY or FARM_KEEP_DISK for this host")
        return f"{room.memory_mib} MiB of memory and {room.disk_mib} MiB of disk are free"

    def _programs(self) -> str:
        there = self._run("; ".join(f"command -v {name} || :" for name in _PROGRAMS))
        names = {path.rpartition("/")[2] for path in there.split()}
        if missing := [name for name in _PROGRAMS if name not in names]:
            packages = sorted({_PROGRAMS[name] for name in missing})
            raise HostError(f"there is no {', '.join(missing)}", hint=f"apt-get install {' '.join(packages)}")
        return ", ".join(_PROGRAMS)

    def _libvirt(self) -> str:
        connection = libvirtd(self._uri).connection
        model, memory_mib, cpus, *_ = connection.getInfo()
        return (
            f"libvirt {dotted(connection.getLibVersion())}, {connection.getType()} {libvirtd(self._uri).version},"
            f" {cpus} CPUs ({model}), {memory_mib} MiB"
        )

    def _network(self) -> str:
        """Whether rules can be set: they are tried, and not put in force."""
        try:
            self._run("nft --check 'table inet farm-doctor { chain c { type filter hook input priority 0; }; }'")
        except CommandError as error:
            raise HostError(
                f"nftables cannot be used there: {error.said}",
                hint=f"log in as root, on a kernel with nf_tables; {firewall.__name__} says what is needed",
            ) from error
        forwards = self._run("cat /proc/sys/net/ipv4/ip_forward")
        return f"nftables works; the host {'forwards' if forwards == '1' else 'does not forward yet (libvirt sets it)'}"

    def _guests(self) -> Iterator[Finding]:
        """What runs, found out by running it."""
        host = probe.probe_host(self._settings)
        if host.probed:
            probe.remember(self._settings, host)
        real = [offer for offer in host.offers if not offer.scripted]
        for name in dict.fromkeys(offer.hypervisor for offer in real):
            yield _of_hypervisor(name, [offer for offer in real if offer.hypervisor == name])
        if not real:
            yield Finding("guests", False, "no hypervisor offers anything there", "docs/cluster.md lists the packages")


def _of_hypervisor(name: str, offers: list[Offer]) -> Finding:
    works = [offer for offer in offers if not offer.problem]
    broken = [offer for offer in offers if offer.problem]
    if works:
        version = works[0].version
        archs = ", ".join(offer.arch for offer in works)
        how = "emulates" if works[0].emulated else "runs"
        return Finding(name, True, f"{name} {version} {how} {archs}".replace("  ", " "), runs=True)
    todo = "is virtualisation on in the firmware, and, in a guest, nested? emulation works without"
    return Finding(name, False, broken[0].problem, todo if name == "kvm" else "")
