"""Layers with scripts: boot a guest of an image once, run them in it, and keep its disk as another image.

What is kept is named by its content: a disk that a guest has written is never the same twice.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import struct
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from farm.errors import ConfigError, DeadlineError, FullError, ImageError, LostError
from farm.model import ImageSpec, LayerSpec, Order, Phase, Stream
from farm.slowness import allowed
from farm.text import clean
from runners.collect import fetch
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Shell, Work
from runners.images import Image
from runners.images.made import Made, say, versions
from runners.images.process import run
from runners.images.rootfs import file_mode
from runners.images.spec import Kind, all_files
from runners.libvirt.guest import LibvirtGuest

_FORGET_OWN = """\
rm -f /root/.ssh/authorized_keys /etc/dropbear/dropbear_*_host_key
: > /etc/machine-id
echo guest > /etc/hostname
printf '127.0.0.1 localhost guest\\n::1 localhost ip6-localhost\\n' > /etc/hosts
find /tmp /work -xdev -mindepth 1 -delete
"""

_FORGET: Mapping[Kind, str] = {
    "unpacked": _FORGET_OWN,
    "installed": _FORGET_OWN,
    "cloud": """\
cloud-init clean --logs
rm -f /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys /etc/ssh/ssh_host_*
: > /etc/machine-id
find /tmp /var/tmp -xdev -mindepth 1 -delete
rm -rf /work
""",
}
"""What the guest knows of itself is its own; a guest of the image that it becomes has another identity."""

# The shell that kills all others is not among them. Files that a process had open are closed when it is gone.
_POWER_OFF = """\
exec < /dev/null > /dev/console 2>&1
if [ -d /run/systemd/system ]; then
	systemctl --no-block poweroff
	exit
fi
kill -KILL -1
sync
tries=0
until mount -o remount,ro /; do
	tries=$((tries + 1))
	[ "$tries" -lt 100 ] || break
	busybox usleep 100000
done
poweroff -f
"""

_PACKAGES = "dpkg-query --show --showformat='${Package}\\t${Version}\\n' 2>/dev/null || :"
_PACKAGE = re.compile(r"^([a-z0-9][a-z0-9+.:-]*)\t([0-9][A-Za-z0-9.+:~-]*)$", re.MULTILINE)
_PACKAGES_BYTES = 4 * 1024 * 1024

_KEPT_BYTES = 16 * 1024
_KEPT_LINES = 15
_LINES_CHARS = 2000
_POWER_OFF_S = 120.0
_POLL_S = 0.02
_FULL = "No space left on device"
_POWERED_OFF = b"reboot: Power down"

_SUPERBLOCK_AT = 1024
_SUPERBLOCK_STATE = struct.Struct("<56xHH")
"""s_magic and s_state, https://docs.kernel.org/filesystems/ext4/super.html."""
_EXT4_MAGIC = 0xEF53
_UNMOUNTED = 1
"""The file system was unmounted, and has seen no error (2)."""


@dataclass(frozen=True)
class Configurer:
    """Makes the images of an order that need a guest; see `runners.images.Configure`."""

    order: Order
    cold: Callable[[Order, Image], LibvirtGuest]
    """A guest of an image, not started, as large as the order's own."""

    @property
    def disk_mib(self) -> int:
        """The size of the guest's disk, and so of the image's."""
        return self.order.guest.disk_mib

    def __call__(
        self, spec: ImageSpec, base: Image, folder: Path, *, deadline: Deadline, keep_fds: Sequence[int]
    ) -> Work[Made]:
        """See `runners.images.Configure`.

        Raises ConfigError where a script fails, GuestError where the guest does, DeadlineError, HostError.
        """
        yield say(f"booting a guest of {spec.name}/{spec.arch} to run {_names(spec)} in it")
        guest = self.cold(self.order, base)
        try:
            packages = yield from self._configure(guest, spec, base, deadline)
            if base.manifest.kind != "cloud":
                yield from _check_unmounted(guest.disk, folder, deadline)
            elif _POWERED_OFF not in guest.console():
                raise LostError("cannot keep the disk of the guest: it did not power off by itself")
            yield say("keeping the disk of the guest as an image")
            files = yield from _keep(guest.disk, base, folder, deadline=deadline, keep_fds=keep_fds)
        finally:
            guest.destroy()
        return Made(
            files=files,
            disk_mib=self.disk_mib,
            disk_format="qcow2",
            mirror=base.manifest.mirror,
            packages=packages or base.manifest.packages,
            cmdline=base.manifest.cmdline,
            tools=base.manifest.tools | versions(("qemu-img", "--version")),
            base=base.digest,
        )

    def _configure(self, guest: LibvirtGuest, spec: ImageSpec, base: Image, deadline: Deadline) -> Work[dict[str, str]]:
        """Run the scripts, and put the guest to rest; comes to the packages that are in it then."""
        timeouts, emulated = self.order.timeouts, guest.facts.emulated
        boot_s = allowed(timeouts, Phase.BOOT, None, emulated=emulated).seconds
        connect_s = allowed(timeouts, Phase.CONNECT, None, emulated=emulated).seconds
        yield from guest.boot(_within(boot_s, deadline, "boot a guest for the layers"))
        shell = yield from guest.connect(_within(connect_s, deadline, "connect to a guest for the layers"))
        yield Chunk(Stream.CONSOLE, guest.heard())
        with contextlib.closing(shell):
            if spec.cloud:
                yield from _write_files(shell, all_files(spec), deadline)
            for layer in spec.layers:
                if layer.script:
                    yield say(f"running the script of the layer {layer.name}")
                    yield from _run_script(guest, shell, layer, spec, deadline)
            packages = yield from fetch(shell, _PACKAGES, limit=_PACKAGES_BYTES, deadline=deadline)
            yield from _forget(shell, base.manifest.kind, deadline)
            with contextlib.suppress(LostError):  # it takes the connection along
                yield from _shell_script(shell, _POWER_OFF, deadline)
        yield from _wait_for_end(guest, _within(_POWER_OFF_S, deadline, "power off the guest"))
        return dict(_PACKAGE.findall(packages.decode(errors="replace")))


def _names(spec: ImageSpec) -> str:
    return " and ".join(f"the layer {layer.name}" for layer in spec.layers if layer.script or spec.cloud)


def _within(seconds: float, deadline: Deadline, what: str) -> Deadline:
    return Deadline.after(min(seconds, deadline.remaining), what)


def _write_files(shell: Shell, files: Mapping[str, str], deadline: Deadline) -> Work[None]:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in files.items():
            member, data = tarfile.TarInfo(path.lstrip("/")), content.encode()
            member.size, member.mode = len(data), file_mode(content)
            tar.addfile(member, io.BytesIO(data))
    archive.seek(0)
    status = yield from shell.execute("tar -xpf - -C /", deadline=deadline, stdin=archive)
    if status:
        raise ConfigError(f"cannot put the layers' files into the guest: tar returned {status}, see the log")


def _run_script(guest: LibvirtGuest, shell: Shell, layer: LayerSpec, spec: ImageSpec, deadline: Deadline) -> Work[None]:
    said = bytearray()
    exports = f"export FARM_IMAGE={shlex.quote(spec.name)} FARM_ARCH={shlex.quote(spec.arch)}\n"
    what = f"cannot put the layer {layer.name!r} on {spec.name}/{spec.arch}: its script"
    try:
        status = yield from _heard(_shell_script(shell, exports + layer.script, deadline), guest, said)
    except DeadlineError as error:
        raise ConfigError(
            f"{what} did not end within {deadline.allowed_s:g} s{_last(said)}",
            hint="timeouts.provision is the time for everything until the guest is there, its layers included",
        ) from error
    if status:
        raise ConfigError(
            f"{what} returned {status}{_last(said)}", hint="run it in a guest of the image without the layer"
        )


def _shell_script(shell: Shell, script: str, deadline: Deadline) -> Work[int]:
    """Run a script as the layers' are run; comes to its exit status. It lies in memory, and goes with that."""
    command = "cat >/run/farm-layer.sh && cd / && exec /bin/sh -e /run/farm-layer.sh </dev/null"
    return (yield from shell.execute(command, deadline=deadline, stdin=io.BytesIO(f"{script}\n".encode())))


def _heard(work: Work[int], guest: LibvirtGuest, said: bytearray) -> Work[int]:
    """The same work; `said` gets the last of its output. Raises LostError where its guest goes away meanwhile."""
    with contextlib.closing(work):
        while True:
            try:
                chunk = next(work)
            except StopIteration as end:
                return int(end.value)
            said += chunk.data
            del said[:-_KEPT_BYTES]
            if not chunk.data and (trouble := guest.trouble()):
                raise LostError(f"cannot run the script of a layer: {trouble}")
            yield chunk


def _last(said: bytearray) -> str:
    lines = clean(bytes(said), limit=_KEPT_BYTES).strip().splitlines()[-_KEPT_LINES:]
    text = "\n".join(lines)[-_LINES_CHARS:]
    return f":\n{text}" if text else ", and said nothing"


def _forget(shell: Shell, kind: Kind, deadline: Deadline) -> Work[None]:
    status = yield from _shell_script(shell, _FORGET[kind], deadline)
    if status:
        raise ImageError(f"cannot keep the disk of the guest: its identity is still in it (status {status})")


def _wait_for_end(guest: LibvirtGuest, deadline: Deadline) -> Work[None]:
    while not guest.has_ended():
        deadline.check()
        time.sleep(_POLL_S)
        yield Chunk(Stream.CONSOLE, guest.heard())


def _check_unmounted(disk: Path, folder: Path, deadline: Deadline) -> Work[None]:
    """Raise LostError where a guest has not put its ext4 to rest: its machine ended, but not by itself."""
    first = folder / "first"  # without skip=, which qemu-img counts among count=
    argv = ["qemu-img", "dd", "-f", "qcow2", "-O", "raw", f"bs={2 * _SUPERBLOCK_AT}", "count=1"]
    yield from _qemu_img([*argv, f"if={disk}", f"of={first}"], deadline=deadline)
    magic, state = _SUPERBLOCK_STATE.unpack_from(first.read_bytes(), _SUPERBLOCK_AT)
    first.unlink()
    if (magic, state) != (_EXT4_MAGIC, _UNMOUNTED):
        raise LostError(f"cannot keep the disk of the guest: it was not unmounted (state {state})")
    yield TICK


def _keep(
    disk: Path, base: Image, folder: Path, *, deadline: Deadline, keep_fds: Sequence[int]
) -> Work[tuple[Path, ...]]:
    """The files of the new image: a disk with nothing under it, and what the base boots with."""
    kept = folder / "disk"
    argv = ["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", str(disk), str(kept)]
    yield from _qemu_img(argv, deadline=deadline, keep_fds=keep_fds)
    return (kept, *_linked(base, folder))


def _linked(base: Image, folder: Path) -> Iterator[Path]:
    if base.kernel:
        for path in filter(None, (base.initrd, base.kernel, base.packed_kernel, base.firmware)):
            os.link(path, folder / path.name)
            yield folder / path.name


def _qemu_img(argv: Sequence[str], *, deadline: Deadline, keep_fds: Sequence[int] = ()) -> Work[None]:
    ended = yield from run(argv, deadline=deadline, keep_fds=keep_fds)
    if ended.status:
        said = "\n".join(ended.lines)
        kind = FullError if _FULL in said else ImageError
        raise kind(f"cannot keep the disk of a guest: {argv[0]} {argv[1]} ended with {ended.status}: {said}")
