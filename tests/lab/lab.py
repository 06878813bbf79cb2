"""A lab host for a test: booted once, saved while it runs, and brought back from there in seconds."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from farm.config import Settings, load_settings
from farm.errors import FarmError, HostError
from farm.model import Stream
from runners.deadline import Deadline
from runners.guest import Chunk, Work, wait_for
from runners.images import Image, Manifest, overlay
from runners.images.build import build
from runners.images.shelf import MANIFEST, Make, Shelf
from runners.images.spec import BUILDER_VERSION, base
from runners.keys import make_key_pair
from runners.ledger import Entry, Ledger
from runners.reaper import destroy_root, ensure_reaper
from tests.lab.machine import EMULATOR, KINDS, Kind, Machine, arguments
from tests.lab.recipe import image_spec

VERSION = 1
"""Goes up when what is saved, or how, changes otherwise than by the recipe or QEMU's arguments."""
DISK_MIB = 12 * 1024
READY = b"lab: ready"
_BUILD_S, _BOOT_S, _RESTORE_S, _COMMAND_S = 1800.0, 1500.0, 120.0, 120.0
_KEY_LENGTH = 16


@dataclass(frozen=True)
class Lab:
    """A running lab host, with real hypervisors in it."""

    kind: Kind
    address: str
    machine: Machine
    key: Path
    """The private key that root's account lets in."""
    known_hosts: Path
    """The host's own key, for its address and port."""

    @property
    def port(self) -> int:
        """Of its SSH server, at `address`."""
        return self.machine.port

    def uri(self, driver: str) -> str:
        """The address of a libvirt driver (`qemu`, `xen`, `lxc`) in the host."""
        if driver not in self.kind.drivers:
            raise ValueError(f"there is no {driver} in this lab host, only {' and '.join(self.kind.drivers)}")
        query = f"keyfile={quote(str(self.key))}&known_hosts={quote(str(self.known_hosts))}"
        return f"{driver}+ssh://root@{self.address}:{self.port}/system?{query}"

    @property
    def ssh_command(self) -> tuple[str, ...]:
        """The command line that a command is to be put behind."""
        options = ("BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={self.known_hosts}")
        return (
            *("ssh", "-F", "none", "-i", str(self.key), *(word for option in options for word in ("-o", option))),
            *("-p", str(self.port), f"root@{self.address}"),
        )

    def ssh(self, command: str, *, stdin: bytes = b"", seconds: float = _COMMAND_S) -> str:
        """Run a command line as root; gives what it writes. Raises HostError where it does not return 0."""
        argv = [*self.ssh_command, command]
        try:
            ended = subprocess.run(argv, input=stdin, capture_output=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise HostError(f"cannot run {command!r} in the lab: no answer within {seconds:g} s") from error
        if ended.returncode:
            said = (ended.stderr or ended.stdout).decode(errors="replace").strip()
            raise HostError(f"cannot run {command!r} in the lab: status {ended.returncode}: {said}")
        return ended.stdout.decode()

    def kill(self) -> None:
        """End it as a power cut does."""
        self.machine.end()

    def freeze(self) -> None:
        """Let it stand still: its connections stay open, and nothing answers."""
        self.machine.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.machine.process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Template:
    """A host that was saved while it ran."""

    folder: Path
    name: str
    """A key of KINDS."""
    image: Image

    @property
    def kind(self) -> Kind:
        """How its machine is."""
        return KINDS[self.name]

    @property
    def argv(self) -> tuple[str, ...]:
        """QEMU's arguments, the same for all that go on from it."""
        return arguments(self.kind, self.image, self.folder)

    @property
    def disk(self) -> Path:
        """Under theirs."""
        return self.folder / "disk.qcow2"

    @property
    def state(self) -> Path:
        """Of the machine, its memory included."""
        return self.folder / "state"

    @property
    def key(self) -> Path:
        """The private key that it lets in."""
        return self.folder / "key"

    @property
    def host_key(self) -> Path:
        """The public half of its own."""
        return self.folder / "host_key.pub"


@contextmanager
def lab_host(name: str, *, address: str = "127.0.0.1") -> Iterator[Lab]:
    """A host of a kind (`KINDS`), up and running; its SSH server is at a free port of `address`.

    The first one builds the image and boots, which takes minutes. Raises HostError, LostError, DeadlineError.
    """
    with ExitStack() as stack:
        yield Labs(load_settings()).restore(name, address, stack)


class Labs:
    """The saved hosts of this machine."""

    def __init__(self, settings: Settings) -> None:
        self._runtime = settings.runtime
        self._mirror = settings.mirror
        self._shelf = Shelf(settings.cache / "lab")

    def image(self, stack: ExitStack) -> Work[Image]:
        """The image of all hosts, built if need be; it stays where it is until the stack is closed."""
        spec = image_spec()
        deadline = Deadline.after(_BUILD_S, "build the image of the lab")

        def make(folder: Path, fd: int) -> Work[None]:
            yield from build(base(spec), folder, mirror=self._mirror, deadline=deadline, keep_fds=(fd,))

        place = yield from self._held(
            f"image-{_digest(spec.model_dump_json(), str(BUILDER_VERSION))}", make, stack, deadline
        )
        return Image(folder=place, manifest=Manifest.model_validate_json((place / MANIFEST).read_bytes()))

    def template(self, name: str, stack: ExitStack) -> Work[Template]:
        """A saved host, made if need be; it and its image stay where they are until the stack is closed."""
        image = yield from self.image(stack)

        def make(folder: Path, fd: int) -> Work[None]:
            yield Chunk(Stream.FARM, f"booting the lab host {name}\n".encode())
            with private_tree(self._runtime) as work:
                _save(Template(folder, name, image), work, fd)

        deadline = Deadline.after(_BOOT_S, f"wait for the lab host {name}")
        place = yield from self._held(f"{name}-{_key(name, image)}", make, stack, deadline)
        return Template(place, name, image)

    def restore(self, name: str, address: str, stack: ExitStack) -> Lab:
        """A host that goes on from a saved one until the stack is closed. One that cannot be used is made anew."""
        with ExitStack() as first:
            template = wait_for(self.template(name, first))
            try:
                lab = first.enter_context(_restored(template, self._runtime, address))
            except FarmError as error:
                print(f"lab: the saved host {template.folder.name} is made anew: {error}", flush=True)
                self._shelf.discard(template.folder.name)
            else:
                stack.push(first.pop_all())
                return lab
        template = wait_for(self.template(name, stack))
        return stack.enter_context(_restored(template, self._runtime, address))

    def _held(self, name: str, make: Make, stack: ExitStack, deadline: Deadline) -> Work[Path]:
        """What is made under a name, kept until the stack is closed; older ones that nobody uses go."""
        place = yield from self._shelf.ensure(name, make, deadline=deadline)
        stack.callback(os.close, self._shelf.hold(name))
        for other in self._shelf.names():
            if other != name and other.split("-")[0] == name.split("-", maxsplit=1)[0]:
                self._shelf.remove(other)
        return place


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_KEY_LENGTH]


def _key(name: str, image: Image) -> str:
    """Of all that a saved host depends on; what is built again may lie elsewhere on the disk, though it is the same."""
    emulator = Path(shutil.which(EMULATOR) or EMULATOR).stat()
    parts = [*arguments(KINDS[name], image, Path("/")), image.digest, str(image.manifest.built_at), str(VERSION)]
    return _digest(*parts, str(emulator.st_size), str(emulator.st_mtime_ns), str(DISK_MIB))


@contextmanager
def private_tree(runtime: Path) -> Iterator[Path]:
    """A short folder; it goes, and every QEMU that names it, when this process ends, however that happens."""
    ledger = Ledger(runtime)
    folder = runtime / f"l{secrets.token_hex(3)}"
    entry = Entry("libvirt-root", str(folder))
    ledger.add(entry)
    ensure_reaper(runtime)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        destroy_root(str(folder))
        ledger.drop(entry)
        ledger.close()


def _save(template: Template, work: Path, fd: int) -> None:
    """Boot a host in a template's folder, and save it while it runs."""
    started = time.monotonic()
    client, server = make_key_pair(), make_key_pair()
    template.key.touch(mode=0o600)
    template.key.write_text(client.openssh)
    template.host_key.write_text(server.public)
    (template.folder / "seed").write_bytes(
        _seed({"authorized_keys": client.public, "host_key": server.openssh, "hostname": f"lab-{template.name}"})
    )
    overlay(template.image.disk, template.image.manifest.disk_format, template.disk, DISK_MIB)
    template.kind.take(template.image, template.folder)
    machine = Machine(template.argv, work, template.disk, "127.0.0.1", incoming=False, keep_fds=(fd,))
    try:
        machine.wait_for(READY, Deadline.after(_BOOT_S, f"boot the lab host {template.name}"))
        boot_s, cpu_s = time.monotonic() - started, machine.cpu_s()
        machine.monitor.save(template.state, Deadline.after(_RESTORE_S, f"save the lab host {template.name}"))
    finally:
        machine.end()
    save_s = time.monotonic() - started - boot_s
    manifest = {"boot_s": round(boot_s, 1), "boot_cpu_s": round(cpu_s, 1), "save_s": round(save_s, 1)}
    (template.folder / MANIFEST).write_text(json.dumps(manifest))


@contextmanager
def _restored(template: Template, runtime: Path, address: str) -> Iterator[Lab]:
    with private_tree(runtime) as work:
        disk, known_hosts = work / "disk.qcow2", work / "known_hosts"
        overlay(template.disk, "qcow2", disk, DISK_MIB)
        machine = Machine(template.argv, work, disk, address, incoming=True, keep_fds=())
        try:
            known_hosts.write_text(f"[{address}]:{machine.port} {template.host_key.read_text()}\n")
            machine.monitor.load(template.state, Deadline.after(_RESTORE_S, f"restore the lab host {template.name}"))
            lab = Lab(template.kind, address, machine, template.key, known_hosts)
            _tell_time(lab)
            yield lab
        finally:
            machine.end()


def _tell_time(lab: Lab) -> None:
    """Set the clock, once the host listens: until then many seconds may pass. Raises HostError."""
    argv = ["timeout", str(_RESTORE_S), *lab.ssh_command, "echo && read now && date -u -s @$now"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as telling:
        assert telling.stdout is not None
        telling.stdout.readline()
        telling.communicate(f"{time.time():.3f}\n")
    if telling.returncode:
        raise HostError(f"cannot set the clock of the lab: ssh returned {telling.returncode}")


def _seed(members: Mapping[str, str]) -> bytes:
    """A tar on a disk, as `lab-setup` in the host reads it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as seed:
        for name, text in members.items():
            member, data = tarfile.TarInfo(name), text.strip().encode() + b"\n"
            member.size, member.mode = len(data), 0o600
            seed.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
