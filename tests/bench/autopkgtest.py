"""From a request to the first command, beside Debian's own autopkgtest-virt-qemu.

Both get the same disk: an installed Debian with what autopkgtest wants of a guest, a root shell on a console and
Python. autopkgtest boots it as the farm boots, without BIOS and boot loader, but with Debian's common kernel: it
needs 9p, which the kernel for clouds has not. It is told to emulate, for it takes any /dev/kvm for one that works.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from farm.model import ImageSpec, LayerSpec
from runners.deadline import Deadline
from runners.guest import wait_for
from runners.images import Image
from runners.images.initramfs import find_modules, make_initramfs
from runners.images.kernel import bootable, find_kernel
from runners.images.mirror import machine_mirror
from runners.images.process import run
from runners.images.rootfs import prepare_tree
from runners.images.spec import recipe
from runners.images.unpacked import mmdebstrap
from runners.machines import machine_for
from runners.seed import guest_seed, make_keys
from tests.bench.figures import Aim, Figure, side_by_side
from tests.bench.guests import Kind, first_command_s, image_of

_PROGRAM = "autopkgtest-virt-qemu"
_UNITS = "/etc/systemd/system"
_SHELL = """\
[Unit]
ConditionPathExists=/dev/hvc1
[Service]
ExecStart=/bin/sh
StandardInput=tty-fail
StandardOutput=tty
StandardError=tty
TTYPath=/dev/hvc1
SuccessExitStatus=0 208 SIGHUP SIGINT SIGTERM SIGPIPE
"""
_PROMPT = """\
[Unit]
ConditionPathExists=/dev/hvc1
After=autopkgtest.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "guest login: " >/dev/ttyS0'
"""
_WANTED = "[Unit]\nWants=autopkgtest.service autopkgtest-prompt.service\n"
_LAYER = LayerSpec(
    name="autopkgtest",
    packages=("python3-minimal",),
    files={
        f"{_UNITS}/autopkgtest.service": _SHELL,
        f"{_UNITS}/autopkgtest-prompt.service": _PROMPT,
        f"{_UNITS}/multi-user.target.d/autopkgtest.conf": _WANTED,
    },
)
_KIND = Kind("amd64", image="debian-13-installed", layers=(_LAYER,))
_MODULES = ("virtio_console", "9pnet_virtio", "9p")
_WRAPPER = """\
#!/bin/bash
words=()
while [ $# -gt 0 ]; do
	case "$1" in -enable-kvm) ;; -cpu) shift ;; *) words+=("$1") ;; esac
	shift
done
exec qemu-system-x86_64 "${{words[@]}}" -cpu max -kernel {kernel} -initrd {initrd} -append '{cmdline}' \\
	-global virtio-blk-device.serial=farm-root \\
	-drive if=none,id=seed,format=raw,readonly=on,file={seed} -device virtio-blk-pci,drive=seed,serial=farm-seed
"""


def figures() -> Iterator[Figure]:
    """Ours, restored, against theirs, which boots."""
    with tempfile.TemporaryDirectory() as name:
        image = image_of(_KIND)
        program = _emulator(Path(name), image)
        yield side_by_side(
            f"{_KIND.name}: from request to first command, against `{_PROGRAM}` with the same disk, another kernel",
            Aim(0.1),
            "s",
            lambda: first_command_s(_KIND.restored),
            lambda: _autopkgtest_s(program, image),
        )


def _emulator(folder: Path, image: Image) -> Path:
    """QEMU for autopkgtest: what it asks for, and a kernel, and the seed that an image of the farm wants."""
    tree = folder / "tree"
    prepare_tree(tree)
    spec = ImageSpec(name="debian-13", arch="amd64", packages=("linux-image-amd64",))
    command = mmdebstrap(spec, tree, machine_mirror(), recipe(spec).release)
    wait_for(run(command, deadline=Deadline.after(300, "unpack a kernel"), env={"TMPDIR": str(folder)}))
    for kernel in (*tree.glob("boot/*cloud*"), *tree.glob("usr/lib/modules/*cloud*")):
        shutil.rmtree(kernel) if kernel.is_dir() else kernel.unlink()
    modules = find_modules(tree, (*machine_for("amd64").modules, *_MODULES))
    (folder / "initrd").write_bytes(make_initramfs((tree / "usr/bin/busybox").read_bytes(), modules))
    (folder / "kernel").write_bytes(bootable(find_kernel(tree).read_bytes()))
    (folder / "seed").write_bytes(guest_seed(make_keys(), "guest"))
    program = folder / "qemu-system-x86_64"
    program.write_text(
        _WRAPPER.format(kernel=folder / "kernel", initrd=folder / "initrd", seed=folder / "seed", cmdline=image.cmdline)
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def _autopkgtest_s(emulator: Path, image: Image) -> float:
    """Its protocol: README.virtualisation-server of autopkgtest."""
    argv = [_PROGRAM, "-q", str(emulator), "--ram-size", "512", "--timeout-reboot", "300", str(image.disk)]
    started = time.monotonic()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout

        def ask(command: str) -> str:
            assert server.stdin
            assert server.stdout
            server.stdin.write(f"{command}\n")
            server.stdin.flush()
            said = server.stdout.readline()
            assert said.startswith("ok"), said
            return said.removeprefix("ok").strip()

        assert server.stdout.readline() == "ok\n"
        ask("open")
        words = [unquote(word) for word in ask("print-execute-command").split(",")]
        subprocess.run([*words, "true"], check=True, stdin=subprocess.DEVNULL)
        took_s = time.monotonic() - started
        ask("close")
        server.stdin.write("quit\n")
    return took_s
