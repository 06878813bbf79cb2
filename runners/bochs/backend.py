"""Making guests in Bochs: their image with a kernel for real machines, their disks, what they are called."""

from __future__ import annotations

import atexit
import errno
import functools
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from farm.config import EMBEDDED, Settings, load_settings
from farm.errors import ConfigError, FullError, HostError
from farm.model import GuestFacts, ImageSpec, Offer, Order
from runners.bochs.disks import ISOLINUX, LDLINUX, SEED_BYTES, boot_cd
from runners.bochs.guest import BochsGuest
from runners.bochs.settings import BIOS, VIDEO_BIOS, Machine, command_line
from runners.deadline import Deadline
from runners.guest import TICK, Work
from runners.images import Catalogue, Image, raw_disk
from runners.images.prune import tidy
from runners.ledger import Entry, Ledger
from runners.libvirt.backend import LibvirtBackend
from runners.libvirt.configure import Configurer
from runners.libvirt.hypervisors import QEMU
from runners.reaper import destroy_bochs, ensure_reaper
from runners.seed import guest_seed, host_name, make_keys

CPU = "corei7_skylake_x"
"""What a guest has that asks for no model."""

_NAME = "bochs"
_ARCH = "amd64"
_KERNEL = "linux-image-amd64"
"""The kernel for virtual machines has no driver for any of its network cards."""
_MACHINE = "i440fx"
_NEEDED = {
    "bochs": (BIOS,),
    "bochs-term": (),
    "vgabios": (VIDEO_BIOS,),
    "isolinux": (ISOLINUX,),
    "syslinux-common": (LDLINUX,),
}
"""Debian's packages -> the files in them that a guest is made with."""
_TERMINAL = "bochs/plugins/libbx_term_gui.so"
_ASK_S = 10.0
_MODEL = re.compile(r"^[a-z0-9_]+$", re.MULTILINE)
_VERSION = re.compile(r"Bochs x86 Emulator (\d+(?:\.\d+)*)")
_NO_64_BITS = re.compile(r"(pentium|amd_k6|p[234]_|core_duo|atom_n270).*")


class BochsBackend:
    """Makes guests in Bochs on this machine."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or load_settings()

    def create(self, order: Order, deadline: Deadline) -> Work[BochsGuest]:
        """The guest of an order: its image (made if it is not there), and a copy of its disk.

        Raises ConfigError where it asks for what Bochs cannot do.
        """
        _refuse_limits(order)
        cpu = order.cpu or CPU
        catalogue = Catalogue(self._settings.cache / "images", self._settings.mirror)
        configure = Configurer(order, LibvirtBackend(QEMU, self._settings).cold)
        image = yield from catalogue.ensure(_with_kernel(order.image), deadline=deadline, configure=configure)
        yield from tidy(self._settings)
        yield TICK
        descriptor = catalogue.shelf.hold(image.folder.name)
        try:
            return self._make(order, image, cpu)
        finally:
            os.close(descriptor)

    def look(self) -> tuple[Offer, ...]:
        """Whether everything is there that it needs; where another machine's hypervisor is meant, nothing."""
        if self._settings.uri != EMBEDDED:
            return ()
        asked = _asked()
        offer = Offer(
            hypervisor=_NAME, arch=_ARCH, emulated=True, version=asked.version, limits=(), cpu=CPU, cpus=asked.models
        )
        return (offer.model_copy(update={"problem": _lack()}),)

    def probe(self) -> tuple[Offer, ...]:
        """The same. It rests on no device, and a guest takes it a minute: that it can be asked at all has to do."""
        return self.look()

    def _make(self, order: Order, image: Image, cpu: str) -> BochsGuest:
        workshop = _workshop(self._settings.runtime, self._settings.session)
        folder = workshop.begin()
        machine = Machine(folder, cpu, order.guest.memory_mib, order.guest.network, port=0)
        keys = make_keys()
        guest = BochsGuest(machine, keys, _facts(order, image, machine), lambda: workshop.end(folder))
        try:
            boot_cd(image, command_line(image.manifest.cmdline), machine.boot)
            raw_disk(image, machine.disk, order.guest.disk_mib)
            seed = guest_seed(keys, host_name(order.image.name, order.arch))
            machine.seed.touch(mode=0o600)
            machine.seed.write_bytes(seed.ljust(SEED_BYTES, b"\0"))
        except OSError as error:
            guest.destroy()
            kind = FullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else HostError
            raise kind(f"cannot make the guest's disks: {error.strerror}", hint=f"look at {folder.parent}") from error
        except BaseException:
            guest.destroy()
            raise
        return guest


class _Workshop:
    """The folders of this process' guests: in a ledger from before they are made until they are gone."""

    def __init__(self, runtime: Path, session: str) -> None:
        self._runtime = runtime
        self._ledger = Ledger(runtime, session)
        self._there: set[Path] = set()
        ensure_reaper(runtime)

    def begin(self) -> Path:
        """A folder for a new guest."""
        folder = self._runtime / f"b{secrets.token_hex(4)}"
        self._ledger.add(Entry("bochs", str(folder)))
        self._there.add(folder)
        folder.mkdir(mode=0o700)
        return folder

    def end(self, folder: Path) -> None:
        """It is gone."""
        self._there.discard(folder)
        self._ledger.drop(Entry("bochs", str(folder)))

    def close(self) -> None:
        """Destroy what is left."""
        for folder in tuple(self._there):
            destroy_bochs(str(folder))
            self.end(folder)
        self._ledger.close()


@functools.cache
def _workshop(runtime: Path, session: str) -> _Workshop:
    opened = _Workshop(runtime, session)
    atexit.register(opened.close)
    return opened


def _with_kernel(image: ImageSpec) -> ImageSpec:
    """The image as Bochs can boot it: another than the one that was pinned, whose digest says nothing of it."""
    return image.model_copy(update={"packages": (*image.packages, _KERNEL), "digest": ""})


def _refuse_limits(order: Order) -> None:
    guest = order.guest
    asked = {
        "cpu": guest.cpu_percent,
        "disk-bandwidth": guest.disk_bytes_per_s,
        "network-bandwidth": guest.network_bytes_per_s,
    }
    if wrong := next((name for name, value in asked.items() if value), ""):
        raise ConfigError(
            f"cannot limit {wrong} of a guest of {_NAME}", hint="`farm plan` says what can have the limit"
        )


def _facts(order: Order, image: Image, machine: Machine) -> GuestFacts:
    return GuestFacts(
        host=os.uname().nodename,
        hypervisor=_NAME,
        hypervisor_version=_asked().version,
        emulated=True,
        machine=_MACHINE,
        cpu=machine.cpu,
        image=f"{order.image.name}/{order.arch}",
        image_digest=image.digest,
        image_kind=image.manifest.kind,
        layers=tuple(layer.name for layer in order.image.layers),
        vcpus=1,
        memory_mib=machine.memory_mib,
        start_note="Bochs has no snapshots",
    )


class _Asked:
    """What Bochs says of itself."""

    def __init__(self, said: str) -> None:
        version = _VERSION.search(said)
        self.version = version[1] if version else ""
        models = said.partition("Supported CPU models:")[2]
        self.models = tuple(name for name in _MODEL.findall(models) if not _NO_64_BITS.fullmatch(name))


@functools.cache
def _asked() -> _Asked:
    try:
        command = ["bochs-bin", "--help", "cpu"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_ASK_S, cwd="/")
    except (OSError, subprocess.TimeoutExpired):
        return _Asked("")
    return _Asked(done.stdout + done.stderr)


def _lack() -> str:
    """What is missing of what a guest is made with; empty: nothing."""
    missing = " ".join(_missing())
    return f"there is no {missing}" if missing else ""


def _missing() -> Iterator[str]:
    if not shutil.which("bochs-bin"):
        yield "bochs"
    if not any(Path("/usr/lib").glob(f"*/{_TERMINAL}")):
        yield "bochs-term"
    for package, paths in _NEEDED.items():
        if not all(path.exists() for path in paths):
            yield package
