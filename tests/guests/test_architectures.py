"""Every architecture, and every release of it: a guest comes up, compiles a program and runs it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.resources import files
from typing import NamedTuple

import pytest

from farm.config import Settings, load_settings
from farm.model import Start
from runners.deadline import Deadline
from runners.guest import wait_for
from runners.images.mirror import machine_mirror
from runners.images.spec import KERNELS, RELEASES
from runners.libvirt.backend import LibvirtBackend
from runners.libvirt.connection import embedded
from runners.libvirt.hypervisors import QEMU
from runners.libvirt.probing import hear_firmware
from runners.machines import MACHINES
from tests.orders import make_order
from tests.unit.test_images_process import finish

pytestmark = pytest.mark.guest

PACKAGES = ("gcc", "libc6-dev")
AT_ONCE = 2
GUEST_TEST = "test_a_guest_compiles_a_program_and_runs_it"
NEWEST_FIRST = ("debian-13", "debian-12", "debian-11", "debian-sid")
"""Of these, each architecture's first one is in the ordinary suite."""

PROGRAM = r"""
#include <gnu/libc-version.h>
#include <limits.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>

#ifndef SYS_clock_settime64
#define SYS_clock_settime64 SYS_clock_settime
#endif

int main(void)
{
	const int one = 1;
	struct utsname kernel;

	uname(&kernel);
	printf("pointer=%zu\n", sizeof(void *));
	printf("order=%s\n", *(const char *)&one ? "little" : "big");
	printf("char=%s\n", CHAR_MIN ? "signed" : "unsigned");
	printf("kernel=%s\n", kernel.machine);
	printf("libc=%s\n", gnu_get_libc_version());
	printf("settime=%ld\n", (long)SYS_clock_settime64);
	printf("now=%ld\n", (long)time(NULL));
	return 0;
}
"""
SCRIPT = f"""
set -e
cd /work
cat > facts.c <<'END'
{PROGRAM}
END
gcc -O2 -Wall -Werror -o facts facts.c
./facts
echo "abi=$(gcc -print-multiarch)"
echo "tool=$(uname -m)"
"""


class Truth(NamedTuple):
    """What a program finds out about an architecture."""

    pointer: str
    """Its bytes."""
    order: str
    char: str
    kernel: str
    """As `uname -m` says it."""
    abi: str
    """https://wiki.debian.org/Multiarch/Tuples"""


TRUTH = {
    "amd64": Truth("8", "little", "signed", "x86_64", "x86_64-linux-gnu"),
    "i386": Truth("4", "little", "signed", "i686", "i386-linux-gnu"),
    "arm64": Truth("8", "little", "unsigned", "aarch64", "aarch64-linux-gnu"),
    "armhf": Truth("4", "little", "unsigned", "armv7l", "arm-linux-gnueabihf"),
    "armel": Truth("4", "little", "unsigned", "armv7l", "arm-linux-gnueabi"),
    "riscv64": Truth("8", "little", "unsigned", "riscv64", "riscv64-linux-gnu"),
    "ppc64el": Truth("8", "little", "unsigned", "ppc64le", "powerpc64le-linux-gnu"),
    "s390x": Truth("8", "big", "unsigned", "s390x", "s390x-linux-gnu"),
    "mips64el": Truth("8", "little", "signed", "mips64", "mips64el-linux-gnuabi64"),
    "loong64": Truth("8", "little", "signed", "loongarch64", "loongarch64-linux-gnu"),
}
IDENTITY = (files("runners.images") / "guest/identity").read_text()
SETTIME = dict(re.findall(r"(\w+) => (\d+)", IDENTITY.partition("%CLOCK_SETTIME = (")[2].partition(")")[0]))
"""What guests set their clock with; what the headers of each have is the proof."""
LIBC = {"bullseye": r"2\.31", "bookworm": r"2\.36", "trixie": r"2\.41", "sid": r"2\.\d+"}


class Case(NamedTuple):
    """A guest to be tried."""

    name: str
    arch: str


class Answer(NamedTuple):
    """What came of it."""

    said: Mapping[str, str]
    start: Start
    note: str
    at: float
    """When, by the clock of this host."""


def ordinary(arch: str) -> str:
    """The release of an architecture that is in the ordinary suite."""
    return next(name for name in NEWEST_FIRST if arch in KERNELS[RELEASES[name]])


CASES = [
    pytest.param(Case(name, arch), id=f"{arch}-{release}", marks=[] if name == ordinary(arch) else [pytest.mark.slow])
    for name, release in RELEASES.items()
    for arch in KERNELS[release]
]


def settings_for(name: str) -> Settings:
    """The signed index of sid is good for a week. A mirror that is not kept up will do for these tests."""
    settings = load_settings()
    if RELEASES[name] != "sid":
        return settings
    return settings.model_copy(update={"mirror": f"[check-valid-until=no] {settings.mirror or machine_mirror()}"})


def try_out(case: Case) -> Answer:
    """Bring a guest up and run the script in it."""
    order = make_order("", hypervisor="qemu", arch=case.arch)
    image = order.image.model_copy(update={"name": case.name, "packages": PACKAGES})
    order = order.model_copy(update={"image": image})
    backend = LibvirtBackend(QEMU, settings_for(case.name))
    guest = wait_for(backend.create(order, Deadline.after(280, "make a guest")))
    try:
        wait_for(guest.boot(Deadline.after(120, "boot a guest")))
        shell = wait_for(guest.connect(Deadline.after(60, "connect to a guest")))
        said, status = finish(shell.execute(SCRIPT, deadline=Deadline.after(120, "run a script")))
        assert status == 0, said.decode()
        facts = dict(line.partition("=")[::2] for line in said.decode().splitlines())
        return Answer(facts, guest.facts.start, guest.facts.start_note, time.time())
    finally:
        guest.destroy()


@pytest.fixture(scope="module")
def answers(request: pytest.FixtureRequest) -> Iterator[Mapping[Case, Future[Answer]]]:
    """The answers of all the cases that are to be tested, as they come: some guests run at a time."""
    items = (item for item in request.session.items if isinstance(item, pytest.Function))
    wanted = [item.callspec.params["case"] for item in items if item.originalname == GUEST_TEST]
    embedded(load_settings())
    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield {case: threads.submit(try_out, case) for case in wanted}
        threads.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", CASES)
def test_a_guest_compiles_a_program_and_runs_it(case: Case, answers: Mapping[Case, Future[Answer]]) -> None:
    answer = answers[case].result()
    truth = TRUTH[case.arch]
    assert {name: answer.said[name] for name in Truth._fields} == truth._asdict()
    assert answer.said["tool"] == truth.kernel
    assert answer.said["settime"] == SETTIME[truth.kernel]
    assert abs(float(answer.said["now"]) - answer.at) < 60
    assert re.fullmatch(LIBC[RELEASES[case.name]], answer.said["libc"])
    assert (answer.start, answer.note) == (Start.RESTORED, "shared")


def test_there_is_a_truth_for_every_architecture() -> None:
    assert set(TRUTH) == set(MACHINES)


@pytest.mark.parametrize("arch", MACHINES)
def test_a_machine_that_has_nothing_to_boot_is_known_to_work(arch: str) -> None:
    hear_firmware(load_settings(), QEMU, MACHINES[arch])
