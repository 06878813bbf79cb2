"""An emulated machine of the lab: how each kind differs, and the QEMU process that it is."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from farm.errors import DeadlineError, HostError, HypervisorError, LostError
from runners.deadline import Deadline
from runners.images import Image
from tests.lab.qmp import Monitor

MEMORY_MIB = 3072
VCPUS = 2
EMULATOR = "qemu-system-x86_64"
_XEN_OPTIONS = (
    "console=com1 com1=115200,8n1 dom0_mem=1024M,max:1024M noreboot"
    " dom0_max_vcpus=1"  # on a busy machine its vCPUs wait for each other: it boots three times as long with two
    " cpuidle=0"  # else it panics in MWAIT
    " spec-ctrl=eager-fpu"  # else programs of the dom0 crash at random while other domains run
    " bootscrub=0"  # the memory is new
)
_POLL_S = 0.05
_UTIME, _STIME = 11, 12
"""Of what follows the name in /proc/PID/stat, see proc_pid_stat(5)."""
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)")


def _boot_linux(image: Image, _folder: Path) -> tuple[str, ...]:
    return "-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", image.cmdline


def _boot_xen(image: Image, folder: Path) -> tuple[str, ...]:
    """By QEMU's multiboot loader, to which the dom0's kernel and initramfs are modules."""
    dom0 = image.cmdline.replace("console=ttyS0", "console=hvc0")
    modules = f"{image.kernel} {dom0},{image.initrd}"
    return "-kernel", str(folder / "xen"), "-append", _XEN_OPTIONS, "-initrd", modules


@dataclass(frozen=True)
class Kind:
    """A kind of machine."""

    drivers: tuple[str, ...]
    """Of libvirt, which answer on it."""
    cpu: str
    """QEMU's CPU model: AMD's SVM with nested paging is what it emulates."""
    boot: Callable[[Image, Path], Sequence[str]]
    """QEMU's arguments that start it, from the image and the template's folder."""
    taken: Mapping[str, str] = field(default_factory=dict)
    """Files of the template's folder -> where in the image they come from, compressed by gzip."""

    def take(self, image: Image, folder: Path) -> None:
        """Take out of the image what is needed to boot. Raises HostError."""
        for name, path in self.taken.items():
            argv = ["debugfs", "-R", f"cat {path}", str(image.disk)]
            ended = subprocess.run(argv, capture_output=True, check=False, timeout=60)
            try:
                (folder / name).write_bytes(gzip.decompress(ended.stdout))
            except (EOFError, gzip.BadGzipFile) as error:
                said = ended.stderr.decode(errors="replace").strip()
                raise HostError(f"cannot take {path} out of the lab's image: {error}: {said}") from error


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "kvm": Kind(("qemu", "lxc"), "EPYC,-monitor", _boot_linux),
        "xen": Kind(("xen",), "EPYC,-monitor,-rdtscp", _boot_xen, {"xen": "/boot/xen-4.20-amd64.gz"}),
    }
)


def arguments(kind: Kind, image: Image, folder: Path) -> tuple[str, ...]:
    """QEMU's arguments as far as all machines of a kind have them in common; `folder` is the template's."""
    return (
        *(EMULATOR, "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", kind.cpu),
        *("-smp", str(VCPUS), "-m", str(MEMORY_MIB), "-no-user-config", "-nodefaults", "-no-reboot"),
        *("-display", "none", "-device", "virtio-rng-pci", *kind.boot(image, folder)),
        *("-drive", f"file={folder / 'seed'},if=none,id=seed,format=raw,readonly=on"),
        *("-device", "virtio-blk-pci,drive=seed,serial=farm-seed"),
        *("-device", "virtio-blk-pci,drive=root,serial=farm-root"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
    )


class Machine:
    """A running machine, whose own files are in a folder."""

    def __init__(
        self, argv: Sequence[str], folder: Path, disk: Path, address: str, *, incoming: bool, keep_fds: Sequence[int]
    ) -> None:
        """`argv` comes from `arguments`. The SSH port is forwarded to a free one of `address`.

        `incoming`: it waits to be given a saved machine. Its process keeps `keep_fds` open. Raises HypervisorError.
        """
        self._console, self._log = folder / "console", folder / "qemu.log"
        self._at_end = ExitStack()
        own = [
            *("-drive", f"file={disk},if=none,id=root,format=qcow2,cache=unsafe,discard=unmap"),
            *("-netdev", f"user,id=net,hostfwd=tcp:{address}:0-:22"),
            *("-serial", f"file:{self._console}", "-qmp", f"unix:{folder / 'qmp'},server=on,wait=off"),
            *(("-incoming", "defer") if incoming else ()),
        ]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*argv, *own], stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=keep_fds
            )
        try:
            self.monitor = self._connect(folder / "qmp", Deadline.after(30, "reach the monitor of the lab's machine"))
            self._at_end.callback(self.monitor.close)
            self.port = self._forwarded_port()
        except BaseException:
            self.end()
            raise

    def wait_for(self, word: bytes, deadline: Deadline) -> None:
        """Wait until the console says a word. Raises LostError where the machine ends before, DeadlineError."""
        while word not in self.console():
            if self.process.poll() is not None:
                raise LostError(f"cannot {deadline.what}: its machine has ended: {self._last_words()}")
            if not deadline.remaining:
                raise DeadlineError(
                    f"cannot {deadline.what}: not done within {deadline.allowed_s:g} s: {self._last_words()}",
                    hint="a busy machine may need several times as long as docs/lab.md says",
                )
            time.sleep(_POLL_S)

    def console(self) -> bytes:
        """All that its console has said."""
        return self._console.read_bytes() if self._console.exists() else b""

    def cpu_s(self) -> float:
        """The CPU seconds that it has taken so far: what is to be compared where others work beside it."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[_UTIME]) + int(fields[_STIME])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Kill it; no harm if it has ended."""
        self.process.kill()
        self.process.wait()
        self._at_end.close()

    def _connect(self, path: Path, deadline: Deadline) -> Monitor:
        while True:
            try:
                return Monitor(path)
            except OSError as error:
                if self.process.poll() is not None:
                    raise HypervisorError(f"cannot start a machine of the lab: {self._last_words()}") from error
            deadline.check()
            time.sleep(_POLL_S)

    def _forwarded_port(self) -> int:
        said = self.monitor.ask("human-monitor-command", command_line="info usernet")
        match = _FORWARD.search(said)
        if not match:
            raise HypervisorError(f"cannot find the SSH port of the lab's machine: QEMU forwards none ({said!r})")
        return int(match[1])

    def _last_words(self) -> str:
        texts = (self._log.read_bytes(), self.console())
        return "\n".join(line for text in texts for line in text.decode(errors="replace").splitlines()[-8:])
