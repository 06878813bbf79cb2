"""Debian's packages into a folder by mmdebstrap; where the mirror is the trouble, again, and what went wrong."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from farm.errors import ConfigError, FarmError, FullError, ImageError, PackageError
from farm.model import ImageSpec
from runners.deadline import Deadline
from runners.guest import TICK, Work
from runners.images.made import say
from runners.images.process import run
from runners.images.spec import OTHER_NAMES, recipe

_PAUSES_S = (3.0, 10.0)
"""Before a second and a third try, when the mirror was the trouble."""

_FULL = re.compile(r"No space left on device|don't have enough free space")
_NO_ARCH = re.compile(r"did not find any indices for architecture")
_NO_PACKAGE = re.compile(r"Unable to locate package (\S+)|Package '?([^' ]+)'? has no installation candidate")
_FOREIGN = re.compile(r"can neither be executed natively nor via qemu user emulation")
_EXPIRED = re.compile(r"Release file for \S+ is expired")
_MIRROR = re.compile(
    r"Failed to fetch|Hash Sum mismatch|Mirror sync in progress|Could not (resolve|connect)"
    r"|Connection (failed|timed out)|Temporary failure|unexpected size"
)
_DETAIL = re.compile(r"I: | +(- (SHA|MD5|Filesize)|Hashes of |Last modification )")
"""Lines that crowd out those that matter: progress, and what apt adds to a hash sum mismatch."""
_SAID = 12
_SAID_CHARACTERS = 4000

COMMON = (
    "mmdebstrap",
    "--format=directory",
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=Acquire::Retries "2"',
)
"""What is the same for every kind of image, see the manual page."""


def bootstrap(
    spec: ImageSpec,
    tree: Path,
    command: Callable[[str], Sequence[str]],
    *,
    prepare: Callable[[], None],
    deadline: Deadline,
    env: Mapping[str, str] | None = None,
    keep_fds: Sequence[int] = (),
) -> Work[None]:
    """Run mmdebstrap into a tree: by the suite's other name, then later again, where the mirror is the trouble.

    `command` gives the command line for the name of a suite; `prepare` makes the tree anew before each try.
    """
    trouble = None
    environment = {"TMPDIR": str(tree.parent), **(env or {})}
    for suite, pause_s in _tries(recipe(spec).release):
        if pause_s:
            yield say(f"the mirror is in trouble; trying again in {pause_s:g} s")
            yield from _pause(pause_s, deadline)
        prepare()
        ended = yield from run(command(suite), deadline=deadline, env=environment, keep_fds=keep_fds)
        if suite == recipe(spec).release or gives_release(tree, recipe(spec).release):
            if not ended.status:
                return
            trouble = bootstrap_error(spec, ended.status, ended.lines)
            if type(trouble) is not ImageError or not _MIRROR.search("\n".join(ended.lines)):
                raise trouble
        yield say(f"the mirror gives no consistent {recipe(spec).release} for {spec.arch} by the name {suite}")
    raise trouble or ImageError(f"cannot build {spec.name}/{spec.arch}: the mirror has no {recipe(spec).release}")


def _tries(release: str) -> Iterator[tuple[str, float]]:
    """The suite to ask for, and how long to wait before."""
    yield release, 0.0
    for pause_s in _PAUSES_S:
        yield release, pause_s
        # Not before the release's own name has failed twice: the other one may be behind it by a point release.
        if release in OTHER_NAMES:
            yield OTHER_NAMES[release], 0.0


def gives_release(tree: Path, release: str) -> bool:
    """Whether what apt fetched into a tree is this release, whatever name it was asked by."""
    fetched = (path.read_text(errors="replace") for path in (tree / "var/lib/apt/lists").glob("*_InRelease"))
    return any(f"\nCodename: {release}\n" in text for text in fetched)


def bootstrap_error(spec: ImageSpec, status: int, lines: Sequence[str]) -> FarmError:
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
    if _FOREIGN.search(text):
        return ImageError(
            f"cannot build {image}: the packages' own scripts cannot be run here, they are for {spec.arch}",
            hint="install qemu-user-binfmt; without systemd, mount binfmt_misc and register it as `.ci/setup` does",
        )
    tail = "\n".join([line for line in lines if not _DETAIL.match(line)][-_SAID:])[-_SAID_CHARACTERS:]
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
