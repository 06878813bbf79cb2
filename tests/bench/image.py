"""An image from nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from farm.model import ImageSpec
from runners.deadline import Deadline
from runners.guest import wait_for
from runners.images import Catalogue
from runners.images.mirror import machine_mirror
from runners.images.process import run
from runners.images.rootfs import prepare_tree
from runners.images.spec import recipe
from runners.images.unpacked import mmdebstrap
from tests.bench.figures import Aim, Figure, seconds, side_by_side

SPEC = ImageSpec(name="debian-13", arch="amd64", packages=("gcc", "libc6-dev", "make"))


def figures() -> Iterator[Figure]:
    """Against mmdebstrap unpacking the same packages."""
    name = "an unpacked amd64 image from nothing, against `mmdebstrap` alone"
    yield side_by_side(name, Aim(40, "s"), "s", _build_s, _unpack_s)


def _soon() -> Deadline:
    return Deadline.after(300, "make an image")


def _build_s() -> float:
    with tempfile.TemporaryDirectory() as folder:
        return seconds(lambda: wait_for(Catalogue(Path(folder)).ensure(SPEC, deadline=_soon())))


def _unpack_s() -> float:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        prepare_tree(tree)
        command = mmdebstrap(SPEC, tree, machine_mirror(), recipe(SPEC).release)
        return seconds(lambda: wait_for(run(command, deadline=_soon(), env={**os.environ, "TMPDIR": folder})))
