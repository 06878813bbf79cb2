"""A program that is built for a foreign architecture in a guest of another, with real machines."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from farm.config import load_settings
from farm.matrix import expansion
from farm.model import (
    AttemptEnded,
    AttemptKey,
    Event,
    GuestCreated,
    Host,
    LogChunk,
    Matrix,
    Offer,
    Order,
    Phase,
    ResolvedSource,
    Stream,
    Submission,
)
from farm.orders import order_for
from farm.planner import plan
from farm.verdict import classify
from runners.attempt import run_attempt
from runners.deadline import Deadline
from runners.guest import Backend, Guest, Work, load_backend
from tests.orders import make_source
from tests.waiting import eventually

pytestmark = pytest.mark.guest

HELLO = b"""\
#include <stdio.h>

int main(void)
{
    const unsigned one = 1;
    printf("%s\\n", *(const char *)&one ? "little" : "big");
    return 0;
}
"""
MAKEFILE = b"hello: hello.c\n\t$(CC) -o $@ $<\n"
SOURCE = make_source({"hello.c": HELLO, "Makefile": MAKEFILE})

TEST = """\
od -An -tx1 -j18 -N2 hello
./hello
make -q hello
"""

# The two bytes of e_machine in the ELF header (243 and 22 by the gABI), and what the program says.
MEANT = {"riscv64": "f3 00\nlittle\n", "s390x": "00 16\nbig\n"}


class Watcher:
    """The backends of this host: which architectures were asked for, and how many machines there were then.

    Several guests of one in a row count once: one may be made only to measure how slow they are.
    """

    def __init__(self) -> None:
        self.made: list[str] = []
        self.left: list[int] = []
        self._backend: Backend | None = None

    def __call__(self, hypervisor: str) -> Watcher:
        self._backend = load_backend(hypervisor)
        return self

    def create(self, order: Order, deadline: Deadline) -> Work[Guest]:
        assert self._backend
        if self.made[-1:] != [order.arch]:
            self.made.append(order.arch)
            self.left.append(machines())
        return (yield from self._backend.create(order, deadline))


def machines() -> int:
    """How many QEMUs of this runtime folder there are."""
    running = subprocess.run(["pgrep", "-af", "qemu-system"], capture_output=True, text=True, check=False).stdout
    return sum(str(load_settings().runtime) in line for line in running.splitlines())


def attempt(arch: str, watcher: Watcher, **changes: Any) -> list[Event]:
    """A cell of one architecture, planned for a host on which every machine is emulated."""
    values = {"axes": {"image": ["debian-13"], "arch": [arch]}, "guest": {"packages": ["make"]}, "test": TEST}
    build = {"on": "cross", "script": 'echo "$DEB_BUILD_ARCH $(uname -m)"\nmake CC="$CC"'}
    matrix = Matrix.model_validate({"name": "x", "build": build} | values | changes)
    offers = [Offer(hypervisor="qemu", arch=name, emulated=True) for name in ("amd64", *MEANT)]
    host = Host(name="here", uri="qemu:///embed", vcpus=2, memory_mib=4096, offers=tuple(offers))
    planned = plan(matrix, expansion(matrix), (host,))
    resolved = ResolvedSource(kind="folder", description=".", digest="0" * 64, archive="", files=2, bytes=len(SOURCE))
    key = AttemptKey(run="r-1", cell=planned.placements[0].cell.id, number=1)
    order = order_for(Submission(plan=planned, source=resolved), planned.placements[0], key)
    return list(run_attempt(order, SOURCE, watcher))


def log(events: list[Event], phase: Phase) -> str:
    chunks = [event for event in events if isinstance(event, LogChunk)]
    return b"".join(chunk.data for chunk in chunks if (chunk.phase, chunk.stream) == (phase, Stream.STDOUT)).decode()


def rule(events: list[Event]) -> str:
    assert isinstance(events[-1], AttemptEnded)
    return classify(events[-1].evidence).rule


@pytest.mark.parametrize("arch", ["s390x", pytest.param("riscv64", marks=pytest.mark.slow)])
def test_what_an_amd64_guest_has_built_runs_in_the_foreign_one(arch: str) -> None:
    watcher = Watcher()
    events = attempt(arch, watcher)
    assert rule(events) == "passed"
    assert (watcher.made, watcher.left) == (["amd64", arch], [0, 0])
    assert "amd64 x86_64\n" in log(events, Phase.BUILD)
    assert log(events, Phase.TEST).lstrip() == MEANT[arch]
    facts = [event.facts for event in events if isinstance(event, GuestCreated)][-1]
    assert facts.builder
    assert (facts.image, facts.builder.image) == (f"debian-13/{arch}", "debian-13/amd64")
    eventually(lambda: machines() == 0, within_s=5, what=lambda: f"what was killed has ended; there are: {machines()}")


def test_a_native_cell_is_built_by_the_same_script_in_its_own_guest() -> None:
    watcher = Watcher()
    events = attempt("amd64", watcher)
    assert rule(events) == "passed"
    assert watcher.made == ["amd64"]
    assert log(events, Phase.TEST).lstrip() == "3e 00\nlittle\n"


@pytest.mark.slow
def test_a_package_of_the_target_is_there_with_its_headers_and_libraries() -> None:
    script = """\
printf '#include <zlib.h>\\n#include <stdio.h>\\nint main(void) { return puts(zlibVersion()) < 0; }\\n' >v.c
$CC -o hello v.c -lz
"""
    build = {"on": "cross", "script": script, "packages": ["zlib1g-dev:target"]}
    guest = {"packages": ["make", "zlib1g"]}
    events = attempt("s390x", Watcher(), build=build, guest=guest, test="od -An -tx1 -j18 -N2 hello\n./hello\n")
    assert rule(events) == "passed"
    machine, version = log(events, Phase.TEST).split("\n")[:2]
    assert machine.strip() == "00 16"
    assert version.startswith("1.")
