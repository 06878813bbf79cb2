"""Building an *unpacked* image: Debian's packages, unpacked without running any of their code."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from farm.errors import ConfigError, FarmError, FullError, ImageError, PackageError
from farm.model import ImageSpec, Stream
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Work
from runners.images.disk import make_disk
from runners.images.initramfs import find_modules, make_initramfs
from runners.images.kernel import bootable, command_line, find_kernel
from runners.images.mirror import machine_mirror
from runners.images.process import run
from runners.images.rootfs import BASE_PACKAGES, finish_tree, prepare_tree
from runners.images.spec import BUILDER_VERSION, OTHER_NAMES, Image, Manifest, recipe
from runners.machines import machine_for

_PAUSES_S = (3.0, 10.0)
"""Before a second and a third try, when the mirror was the trouble."""

_FULL = re.compile(r"No space left on device|don't have enough free space")
_NO_ARCH = re.compile(r"did not find any indices for architecture")
_NO_PACKAGE = re.compile(r"Unable to locate package (\S+)|Package '?([^' ]+)'? has no installation candidate")
_EXPIRED = re.compile(r"Release file for \S+ is expired")
_MIRROR = re.compile(
    r"Failed to fetch|Hash Sum mismatch|Mirror sync in progress|Could not (resolve|connect)"
    r"|Connection (failed|timed out)|Temporary failure|unexpected size"
)
_SAID = 12
_SAID_CHARACTERS = 4000
_HASH_PIECE = 32 * 1024 * 1024


def build(
    spec: ImageSpec, folder: Path, *, mirror: str, deadline: Deadline, keep_fds: Sequence[int] = ()
) -> Work[Image]:
    """Build an image into an empty folder; `manifest.json` is written last.

    `mirror` empty: the one of this machine's apt. Programs that this starts keep `keep_fds` open.
    Raises ConfigError, PackageError, FullError, DeadlineError, ImageError.
    """
    mirror = mirror or machine_mirror()
    tree = folder / "tree"
    yield _say(f"unpacking the packages of {spec.name}/{spec.arch} from {mirror}")
    yield from _unpack(spec, tree, mirror=mirror, deadline=deadline, keep_fds=keep_fds)
    image_files = _boot_files(spec, tree, folder)
    yield TICK
    packages = finish_tree(tree)
    yield _say(f"making the disk from {len(packages)} packages")
    released_s = int((tree / "usr/lib/os-release").stat().st_mtime)
    disk_mib = yield from make_disk(tree, folder / "disk", created_s=released_s, deadline=deadline, keep_fds=keep_fds)
    shutil.rmtree(tree)
    digest = yield from _digest((folder / "disk", *image_files))
    manifest = Manifest(
        name=spec.name,
        arch=spec.arch,
        release=recipe(spec).release,
        digest=digest,
        disk_mib=disk_mib,
        requested=spec.packages,
        packages=packages,
        mirror=mirror,
        tools=_tools(),
        builder_version=BUILDER_VERSION,
        built_at=datetime.now(UTC),
        cmdline=command_line(machine_for(spec.arch)),
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2))
    return Image(folder=folder, manifest=manifest)


def _say(text: str) -> Chunk:
    return Chunk(Stream.FARM, f"{text}\n".encode())


def _unpack(spec: ImageSpec, tree: Path, *, mirror: str, deadline: Deadline, keep_fds: Sequence[int]) -> Work[None]:
    """Fetch and unpack the packages; where the mirror is the trouble, by the suite's other name, then later again."""
    trouble = None
    for suite, pause_s in _tries(recipe(spec).release):
        if pause_s:
            yield _say(f"the mirror is in trouble; trying again in {pause_s:g} s")
            yield from _pause(pause_s, deadline)
        shutil.rmtree(tree, ignore_errors=True)
        prepare_tree(tree)
        argv = mmdebstrap(spec, tree, mirror, suite)
        ended = yield from run(argv, deadline=deadline, env={"TMPDIR": str(tree.parent)}, keep_fds=keep_fds)
        if suite == recipe(spec).release or gives_release(tree, recipe(spec).release):
            if not ended.status:
                return
            trouble = unpack_error(spec, ended.status, ended.lines)
            if type(trouble) is not ImageError or not _MIRROR.search("\n".join(ended.lines)):
                raise trouble
        yield _say(f"the mirror gives no consistent {recipe(spec).release} for {spec.arch} by the name {suite}")
    raise trouble or ImageError(f"cannot build {spec.name}/{spec.arch}: the mirror has no {recipe(spec).release}")


def _tries(release: str) -> Iterator[tuple[str, float]]:
    """The suite to ask for, and how long to wait before."""
    for pause_s in (0.0, *_PAUSES_S):
        yield release, pause_s
        if release in OTHER_NAMES:
            yield OTHER_NAMES[release], 0.0


def gives_release(tree: Path, release: str) -> bool:
    """Whether what apt fetched into a tree is this release, whatever name it was asked by."""
    fetched = (path.read_text(errors="replace") for path in (tree / "var/lib/apt/lists").glob("*_InRelease"))
    return any(f"\nCodename: {release}\n" in text for text in fetched)


def mmdebstrap(spec: ImageSpec, tree: Path, mirror: str, suite: str) -> tuple[str, ...]:
    """The command that unpacks a spec's packages into a prepared tree, see its manual page.

    Mode chrootless needs no root and, with the variant extract, runs nothing from the packages. One suite
    alone is used: the updates' indexes change while a mirror is being synchronised.
    """
    include = sorted({*BASE_PACKAGES, machine_for(spec.arch).kernel_package, *spec.packages})
    return (
        "mmdebstrap",
        "--mode=chrootless",
        "--format=directory",
        "--variant=extract",
        f"--architectures={spec.arch}",
        "--skip=check/empty,cleanup/apt",
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::Retries "2"',
        f"--include={','.join(include)}",
        suite,
        str(tree),
        f"deb {mirror} {suite} main",
    )


def unpack_error(spec: ImageSpec, status: int, lines: Sequence[str]) -> FarmError:
    """What a failed mmdebstrap says, as an error. It and apt end with the same status whatever the cause."""
    text = "\n".join(lines)
    image, release = f"{spec.name}/{spec.arch}", recipe(spec).release
    if _NO_ARCH.search(text):
        return ConfigError(
            f"cannot build {image}: Debian {release} is not made for {spec.arch}",
            hint="exclude the combination from the matrix, or take another release",
        )
    if missing := _NO_PACKAGE.search(text):
        return PackageError(
            f"cannot build {image}: Debian {release} has no package {missing[1] or missing[2]!r} for {spec.arch}",
            hint="check the spelling in guest.packages; `apt-cache search` finds names on a Debian machine",
        )
    if _FULL.search(text):
        return full_error(spec)
    tail = "\n".join([line for line in lines if not line.startswith("I: ")][-_SAID:])[-_SAID_CHARACTERS:]
    hint = "if the mirror is the trouble, set FARM_MIRROR to another one"
    if _EXPIRED.search(text):
        hint = "the mirror is out of date, or this machine's clock is ahead; set FARM_MIRROR to another one"
    return ImageError(f"cannot build {image}: mmdebstrap ended with {status}:\n{tail}", hint=hint)


def full_error(spec: ImageSpec) -> FullError:
    """The host has no room for an image."""
    return FullError(
        f"cannot build {spec.name}/{spec.arch}: the disk is full",
        hint="`farm images` shows what is kept; FARM_CACHE puts it elsewhere",
    )


def _pause(seconds: float, deadline: Deadline) -> Work[None]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        deadline.check()
        time.sleep(min(0.5, seconds))
        yield TICK


def _boot_files(spec: ImageSpec, tree: Path, folder: Path) -> tuple[Path, Path]:
    """Write the initrd and the kernel; gives their paths."""
    initrd, kernel = folder / "initrd", folder / "kernel"
    modules = find_modules(tree, machine_for(spec.arch).modules)
    initrd.write_bytes(make_initramfs((tree / "usr/bin/busybox").read_bytes(), modules))
    kernel.write_bytes(bootable(find_kernel(tree, machine_for(spec.arch)).read_bytes(), machine_for(spec.arch)))
    return initrd, kernel


def _digest(paths: Sequence[Path]) -> Work[str]:
    """SHA-256 over the SHA-256 of each file, in their order."""
    whole = hashlib.sha256()
    for path in paths:
        one = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(_HASH_PIECE):
                one.update(piece)
                yield TICK
        whole.update(one.digest())
    return whole.hexdigest()


def _tools() -> dict[str, str]:
    """The versions of the programs that make an image."""
    return {"mmdebstrap": _version("mmdebstrap", "--version"), "mke2fs": _version("mke2fs", "-V")}


def _version(name: str, flag: str) -> str:
    answer = subprocess.run([name, flag], capture_output=True, text=True, check=False, timeout=30)
    return (answer.stdout or answer.stderr).partition("\n")[0].strip()
