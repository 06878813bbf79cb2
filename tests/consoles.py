"""Make guests crash for real, and keep what their consoles said: `python -m tests.consoles [ARCH [HOW ...]]`.

The files go to `tests/data/console/RULE/ARCH-HOW.log`, where RULE is what `runners.console` has to find in them.
Emulated guests are enough. Nothing is written by hand: where a way to crash does not work on an architecture, there is
no file for it.
"""

from __future__ import annotations

import contextlib
import io
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from farm.errors import FarmError
from farm.model import GuestSpec, ImageSpec
from runners.deadline import Deadline
from runners.guest import load_backend, wait_for
from runners.libvirt import monitor
from tests.orders import make_order

FOLDER = Path(__file__).parent / "data/console"
ARCHITECTURES = ("amd64", "arm64", "ppc64el", "riscv64", "s390x")

_KERNEL = {"amd64": (16, 1 << 63), "arm64": (32, 1 << 63), "ppc64el": (64, 3 << 62), "riscv64": (32, 1 << 63)}
"""Of each architecture: gdb's number of the register that says where it is, and where the kernel's addresses begin."""


class How(NamedTuple):
    """A way to crash."""

    rule: str
    """What of `runners.console` it is."""
    script: str
    """Run in the guest; it may never come to its end."""
    from_outside: Callable[[Any, str], None] | None = None
    """Done to the machine of an architecture meanwhile."""


def _jump_to_nowhere(domain: Any, arch: str) -> None:
    """Make the kernel go on at address 0, by QEMU's own debugger, while it works for a process."""
    register, kernel = _KERNEL[arch]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monitor.ask(domain, "human-monitor-command", command_line=f"gdbserver tcp:127.0.0.1:{port}")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as gdb:
        for _ in range(200):
            place = int.from_bytes(bytes.fromhex(_gdb(gdb, f"p{register:x}")), "little")
            if place >= kernel:
                break
            gdb.sendall(b"$c#63")  # go on for a little while
            time.sleep(0.05)
            gdb.sendall(b"\x03")
            _gdb_answer(gdb)
        _gdb(gdb, f"P{register:x}={'00' * 8}")
        _gdb(gdb, "D")
    monitor.ask(domain, "human-monitor-command", command_line="gdbserver none")


def _gdb(gdb: socket.socket, packet: str) -> str:
    gdb.sendall(f"${packet}#{sum(packet.encode()) % 256:02x}".encode())
    return _gdb_answer(gdb)


def _gdb_answer(gdb: socket.socket) -> str:
    said = b""
    while b"#" not in said[:-2]:
        more = gdb.recv(4096)
        if not more:
            raise OSError("QEMU's debugger went away")
        said += more
    gdb.sendall(b"+")
    return said[said.rindex(b"$") + 1 : said.rindex(b"#")].decode()


def _a_disk_that_fails(domain: Any, _arch: str) -> None:
    """Plug in a disk of which every read fails."""
    image = {"driver": "null-co", "size": 1 << 24}
    rule = {"event": "none", "iotype": "read", "errno": 5}
    monitor.ask(domain, "blockdev-add", driver="blkdebug", node_name="bad", image=image, inject_error=[rule])
    monitor.ask(domain, "device_add", driver="virtio-blk-ccw", drive="bad", id="bad")


_HOG = "echo 1 > /proc/sys/vm/overcommit_memory\ndd if=/dev/zero of=/dev/null bs=900M count=1\n"
_BUSY = "timeout 20 dd if=/dev/zero of=/dev/null bs=64M\n"

WAYS = {
    "healthy": How("none", "true\n"),
    "sysrq": How("kernel-panic", "echo c > /proc/sysrq-trigger\nsleep 60\n"),
    "ext4-panic": How(
        "kernel-panic",
        "mount -o remount,errors=panic /\n"
        "for one in /sys/fs/ext4/*/trigger_fs_error; do echo 1 > $one; done\nsleep 60\n",
    ),
    "init-overwritten": How(
        "init-died",
        "grep ' r-xp ' /proc/1/maps | while read range rest; do\n"
        "first=$((0x${range%-*} / 4096)) last=$((0x${range#*-} / 4096))\n"
        "dd if=/dev/zero of=/proc/1/mem bs=4096 seek=$first count=$((last - first)) conv=notrunc\n"
        "done\nfor child in $(cat /proc/1/task/1/children); do kill -9 $child; done\nsleep 60\n",
    ),
    "poweroff": How("powered-off", "poweroff -f\nsleep 60\n"),
    "reboot": How("powered-off", "reboot -f\nsleep 60\n"),
    "sysrq-reset": How("powered-off", "echo b > /proc/sysrq-trigger\nsleep 60\n"),
    "hog": How("out-of-memory", _HOG + "sleep 1\n"),
    "hog-panic": How("out-of-memory-panic", "echo 1 > /proc/sys/vm/panic_on_oom\n" + _HOG + "sleep 60\n"),
    "ext4-error": How(
        "read-only",
        "mount -o remount,errors=remount-ro /\n"
        "for one in /sys/fs/ext4/*/trigger_fs_error; do echo 1 > $one; done\n"
        "touch /here 2>/dev/console\nsleep 1\n",
    ),
    "full": How(
        "no-space",
        "fallocate -l $(($(stat -fc '%a*%S' /) - 1000000)) /fill\ndd if=/dev/zero of=/rest bs=64K\n"
        "cp -r /usr/bin /more 2>/dev/console\nsleep 1\n",
    ),
    "frozen": How(
        "hung",
        "echo 5 > /proc/sys/kernel/hung_task_timeout_secs\nfsfreeze --freeze /\ntouch /here &\nsleep 25\n",
    ),
    "jump": How("kernel-oops", _BUSY, _jump_to_nowhere),
    "bad-disk": How("disk-error", "sleep 20\n", _a_disk_that_fails),
}
ELSEWHERE = {
    "jump": frozenset({"s390x"}),
    "bad-disk": frozenset(ARCHITECTURES) - {"s390x"},
    **dict.fromkeys(("poweroff", "reboot", "sysrq-reset"), frozenset({"s390x"})),
}
"""Where a way cannot be gone: QEMU has no such register for its debugger there, or plugs in no disk, or the machine is
off before its console has said so."""


def record(arch: str, how: str) -> Path:
    """Crash a guest in a way, and keep its console. Raises FarmError."""
    way = WAYS[how]
    order = make_order("", hypervisor="qemu", arch=arch, image=ImageSpec(name="debian-13", arch=arch))
    order = order.model_copy(update={"guest": GuestSpec(memory=512)})
    guest = wait_for(load_backend("qemu").create(order, Deadline.after(300, "make the guest")))
    try:
        wait_for(guest.boot(Deadline.after(200, "boot the guest")))
        shell = wait_for(guest.connect(Deadline.after(100, "connect to the guest")))
        with contextlib.suppress(FarmError):  # it crashes: that is what is wanted
            _suffer(shell, guest, way, arch)
        time.sleep(1)
        said = _whole(guest)
    finally:
        guest.destroy()
    file = FOLDER / way.rule / f"{arch}-{how}.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(said)
    return file


def _suffer(shell: Any, guest: Any, way: How, arch: str) -> None:
    deadline = Deadline.after(60, "crash")
    work = shell.execute("cat > /tmp/crash.sh; exec sh /tmp/crash.sh", deadline=deadline, stdin=_file(way.script))
    outside, begun = way.from_outside, time.monotonic()
    for _ in work:
        if outside and time.monotonic() - begun > 2:
            outside(guest._domain, arch)
            outside = None
        if guest.trouble():
            return


def _file(text: str) -> Any:
    return io.BytesIO(text.encode())


def _whole(guest: Any) -> bytes:
    return b"".join(iter(guest.heard, b""))


def _wanted(words: list[str]) -> Iterator[tuple[str, str]]:
    for arch in [words[0]] if words else ARCHITECTURES:
        for how in words[1:] or WAYS:
            if arch not in ELSEWHERE.get(how, ()):
                yield arch, how


def main(words: list[str]) -> int:
    """Record what is asked for; 1 where something could not be."""
    failed = 0
    for arch, how in _wanted(words):
        try:
            print(record(arch, how), flush=True)
        except (FarmError, OSError) as error:
            failed = 1
            print(f"{arch} {how}: {error}", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
