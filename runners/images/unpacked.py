"""An *unpacked* image: Debian's packages, unpacked without running any of their code."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from farm.model import ImageSpec
from runners.deadline import Deadline
from runners.guest import TICK, Work
from runners.images.bootstrap import COMMON, bootstrap
from runners.images.digest import tree_digest
from runners.images.disk import make_disk
from runners.images.kernel import command_line
from runners.images.made import Made, boot_files, released_s, say, versions
from runners.images.mirror import machine_mirror
from runners.images.rootfs import BASE_PACKAGES, finish_tree, prepare_tree, write_files
from runners.images.spec import all_files, boot_packages
from runners.machines import MACHINES, machine_for


def make(spec: ImageSpec, folder: Path, *, mirror: str, deadline: Deadline, keep_fds: Sequence[int]) -> Work[Made]:
    """Make an unpacked image, see `made.Kind`."""
    mirror = mirror or machine_mirror()
    tree = folder / "tree"

    def prepare() -> None:
        shutil.rmtree(tree, ignore_errors=True)
        prepare_tree(tree)

    yield say(f"unpacking the packages of {spec.name}/{spec.arch} from {mirror}")
    yield from bootstrap(
        spec,
        tree,
        lambda suite: mmdebstrap(spec, tree, mirror, suite),
        prepare=prepare,
        deadline=deadline,
        keep_fds=keep_fds,
    )
    files = boot_files(spec, tree, folder)
    yield TICK
    packages = finish_tree(tree)
    write_files(tree, all_files(spec))
    yield say(f"making the disk from {len(packages)} packages")
    content = yield from tree_digest(tree, deadline=deadline, keep_fds=keep_fds)
    disk = folder / "disk"
    disk_mib = yield from make_disk(tree, disk, created_s=released_s(tree), deadline=deadline, keep_fds=keep_fds)
    shutil.rmtree(tree)
    return Made(
        files=(disk, *files),
        disk_mib=disk_mib,
        mirror=mirror,
        content=content,
        packages=packages,
        cmdline=command_line(machine_for(spec.arch)),
        tools=versions(("mmdebstrap", "--version"), ("mke2fs", "-V")),
    )


def mmdebstrap(spec: ImageSpec, tree: Path, mirror: str, suite: str) -> tuple[str, ...]:
    """The command that unpacks a spec's packages into a prepared tree.

    Mode chrootless needs no root and, with the variant extract, runs nothing from the packages. One suite
    alone is used: the updates' indexes change while a mirror is being synchronised.
    """
    include = sorted({*BASE_PACKAGES, *boot_packages(spec), *spec.packages})
    return (
        *COMMON,
        "--mode=chrootless",
        "--variant=extract",
        f"--architectures={','.join(architectures(spec))}",
        "--skip=check/empty,cleanup/apt",
        f"--include={','.join(include)}",
        suite,
        str(tree),
        f"deb {mirror} {suite} main",
    )


def architectures(spec: ImageSpec) -> tuple[str, ...]:
    """The image's own, then those of packages that are asked for as `NAME:ARCH`."""
    names = (*boot_packages(spec), *spec.packages)
    foreign = {name.partition(":")[2] for name in names} & MACHINES.keys() - {spec.arch}
    return (spec.arch, *sorted(foreign))
