"""What Bochs is told: the files that it reads. Pure. Their words are in its user manual, chapter 4."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BIOS = Path("/usr/share/bochs/BIOS-bochs-latest")
VIDEO_BIOS = Path("/usr/share/bochs/VGABIOS-lgpl-latest")

_GUEST = "10.0.2.15"
"""As with QEMU's user network, so that the farm's programs in the guest need not know the difference."""

_FORGOTTEN = "515,321,323"
"""PKU, XSAVEC, XSAVES (arch/x86/include/asm/cpufeatures.h). Of the first, Bochs 2.7 does not say where its state is
kept; with the others, it says another size than is written. Linux would then use nothing that XSAVE keeps: no AVX."""


@dataclass(frozen=True)
class Machine:
    """A guest as Bochs is to make it; its files are all in one folder."""

    folder: Path
    cpu: str
    memory_mib: int
    network: str
    """`isolated` or `open`."""
    port: int
    """Of 127.0.0.1, for the guest's SSH."""

    @property
    def disk(self) -> Path:
        """The root disk: raw."""
        return self.folder / "disk"

    @property
    def seed(self) -> Path:
        """What tells the guest who it is: raw."""
        return self.folder / "seed"

    @property
    def boot(self) -> Path:
        """The CD from which the kernel comes."""
        return self.folder / "boot.iso"

    @property
    def console(self) -> Path:
        """Everything that the guest's serial port says."""
        return self.folder / "console.log"

    @property
    def log(self) -> Path:
        """What Bochs says of itself."""
        return self.folder / "bochs.log"

    @property
    def command(self) -> tuple[str, ...]:
        """The command line; all its files are named by their whole paths, by which the reaper knows the process."""
        return ("bochs-bin", "-q", "-f", str(self.folder / "bochsrc"), "-rc", str(self.folder / "debugger"))


def files(machine: Machine) -> dict[str, str]:
    """The names of the files in the machine's folder that Bochs reads -> what is in them."""
    return {"bochsrc": _bochsrc(machine), "slirp.conf": _slirp(machine), "debugger": "c\n"}


def _bochsrc(machine: Machine) -> str:
    """A PC that ends when its processor gives up (`reboot=triple` of the kernel), rather than start again.

    Of the displays, `term` is the one that nobody can connect to; somebody has to read it (`runners.bochs.screen`).
    """
    return f"""\
config_interface: textconfig
display_library: term
memory: guest={machine.memory_mib}, host={machine.memory_mib}
romimage: file={BIOS}
vgaromimage: file={VIDEO_BIOS}
cpu: model={machine.cpu}, count=1, ips=15000000, reset_on_triple_fault=0
clock: sync=none, time0=utc
vga: extension=none, update_freq=1, realtime=0
pci: enabled=1, chipset=i440fx, slot1=e1000
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path={machine.disk}, mode=flat
ata0-slave: type=disk, path={machine.seed}, mode=flat
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata1-master: type=cdrom, path={machine.boot}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={machine.console}
e1000: enabled=1, mac=52:54:00:12:34:56, ethmod=slirp, ethdev=lo, script={machine.folder / "slirp.conf"}
sound: driver=dummy
log: {machine.log}
panic: action=report, cpu0=fatal
error: action=ignore, slirp0=report, e1000a=report
info: action=ignore
debug: action=ignore
"""


def _slirp(machine: Machine) -> str:
    return f"""\
# slirp config
net = 10.0.2.0
mask = 255.255.255.0
host = 10.0.2.2
dns = 10.0.2.3
dhcpstart = {_GUEST}
restricted = {0 if machine.network == "open" else 1}
hostfwd = tcp:127.0.0.1:{machine.port}-{_GUEST}:22
"""


def boot_menu(cmdline: str) -> str:
    """ISOLINUX's settings: start the kernel at once. Its words: https://wiki.syslinux.org/wiki/index.php?title=Config."""
    return f"DEFAULT farm\nPROMPT 0\nLABEL farm\nKERNEL /kernel\nINITRD /initrd\nAPPEND {cmdline}\n"


def command_line(image_cmdline: str) -> str:
    """The kernel's command line: an image's own, and that its devices are a PC's and how a machine is to end."""
    return f"{image_cmdline} farm_bus=pc reboot=triple clearcpuid={_FORGOTTEN}"
