"""Hostile guests, seen from inside: what they can reach, and whom they harm. All of them are real, and emulated."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from farm.config import load_settings
from farm.model import (
    AttemptEnded,
    Blame,
    Event,
    GuestSpec,
    ImageSpec,
    LogChunk,
    Outcome,
    Phase,
    PhaseStarted,
    Stream,
    Verdict,
)
from farm.verdict import classify
from runners.attempt import run_attempt
from tests.orders import make_order, make_source

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

WORD = b"you-have-reached-the-host\n"
HOST_SEEN_FROM_INSIDE = ("10.0.2.2", "fec0::2", "10.0.2.3", "127.0.0.1")
"""The host, the host by IPv6, the name server and the guest itself, in QEMU's user network."""
MIB = 1024 * 1024


def attempt(test: str, **changes: Any) -> Iterator[Event]:
    spec = {"guest": GuestSpec(memory=256), "image": ImageSpec(name="debian-13", arch="amd64"), **changes}
    return run_attempt(make_order(test, hypervisor="qemu", **spec), make_source())


def outcome(events: list[Event]) -> Outcome:
    assert isinstance(events[-1], AttemptEnded)
    return classify(events[-1].evidence)


def said(events: list[Event], *streams: Stream) -> bytes:
    wanted = streams or (Stream.STDOUT, Stream.STDERR)
    found = (e.data for e in events if isinstance(e, LogChunk) and e.phase is Phase.TEST and e.stream in wanted)
    return b"".join(found)


@contextmanager
def service_of_the_host(address: str = "127.0.0.1") -> Iterator[int]:
    """Something that listens on the host's loopback and asks for no password; its port."""
    with socket.create_server((address, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(WORD)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def until_test(running: Iterator[Event]) -> list[Event]:
    events = []
    for event in running:
        events.append(event)
        if isinstance(event, PhaseStarted) and event.phase is Phase.TEST:
            return events
    raise AssertionError("it never came to its test")


def forwarded_ports() -> set[int]:
    """The ports of the host's loopback that machines of this runtime folder listen on."""
    mine = str(load_settings().runtime)
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                mine.encode() not in (process / "cmdline").read_bytes()
                or b"qemu" not in (process / "comm").read_bytes()
            ):
                continue
            inodes = {link.readlink().name for link in (process / "fd").iterdir() if link.is_symlink()}
        except OSError:
            continue
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                found.add(int(words[1].rpartition(":")[2], 16))
    return found


def knock(ports: list[int]) -> str:
    """A script that tries each port of each address, and then each that is usual on a host."""
    lines = [
        f"echo {address} {port}; timeout 3 nc {address} {port} </dev/null 2>/dev/null | head -c 100"
        for address in HOST_SEEN_FROM_INSIDE
        for port in ports
    ]
    return "\n".join(
        (*lines, "timeout 3 nslookup example.org 10.0.2.3 >/dev/null 2>&1 && echo a-name-was-answered", "true")
    )


@pytest.mark.parametrize("network", ["isolated", "open"])
def test_a_guest_reaches_nothing_on_the_hosts_loopback_unless_its_network_is_open(network: str) -> None:
    with service_of_the_host() as port:
        events = list(attempt(knock([port]), guest=GuestSpec(memory=256, network=network)))
    assert outcome(events).verdict is Verdict.PASSED
    # An open one does: this shows that the test would see it.
    assert (WORD in said(events)) == (network == "open")
    assert b"a-name-was-answered" not in said(events) or network == "open"


def test_a_guest_reaches_no_other_guest() -> None:
    neighbour = attempt("sleep 3000\n")
    try:
        until_test(neighbour)
        ports = sorted(forwarded_ports())
        assert ports, "the neighbour's SSH server is reached by a port of the host"
        for port in ports:  # it is there, for the host
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                assert connection.recv(4) == b"SSH-"
        events = list(attempt(knock(ports)))
    finally:
        neighbour.close()  # type: ignore[attr-defined]
    assert outcome(events).verdict is Verdict.PASSED
    assert b"SSH-" not in said(events)
    assert b"10.0.2.2" in said(events)


FLOODS = {
    "console": "echo 1 > /proc/sys/kernel/printk\nyes 0123456789012345678901234567890123456789 > /dev/console\n",
    "disk": "dd if=/dev/zero of=/fill bs=1M && exit 3\nexit 4\n",
    "clock": "date -s 2099-01-01\nsleep 1\ndate -s 1999-01-01\nsleep 1\nexit 5\n",
    "output": "yes 0123456789 | head -c 40000000\nyes 0123456789 | head -c 9000000 >&2\nexit 6\n",
}
ENDS = {
    "console": ("unacceptable", Blame.TEST),
    "disk": ("script-failed", Blame.TEST),
    "clock": ("script-failed", Blame.TEST),
    "output": ("script-failed", Blame.TEST),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_guest_that_floods_harms_only_itself(flood: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runners.libvirt.guest._CONSOLE_LIMIT_BYTES", MIB)  # 64 MiB take an emulated console an hour
    before = datetime.now(UTC)
    hostile = attempt(FLOODS[flood], guest=GuestSpec(memory=256, disk=192))
    seen = until_test(hostile)
    largest, neighbour = 0, []
    # In turns, so that the flood goes on beside every phase of the other.
    for its, other in zip_longest(hostile, attempt("echo all-is-well\n")):
        seen += [its] if its else []
        neighbour += [other] if other else []
        largest = max(largest, _on_disk(load_settings().runtime))
    assert outcome(neighbour).verdict is Verdict.PASSED
    assert said(neighbour) == b"all-is-well\n"
    assert (outcome(seen).rule, outcome(seen).blame) == ENDS[flood]
    assert len(said(seen, *Stream)) < 24 * MIB
    assert largest < 700 * MIB  # two small disks, and the memory of two machines
    assert all(before - timedelta(seconds=1) <= event.at <= datetime.now(UTC) for event in seen)


def _on_disk(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total
