"""The images that a host keeps for its guests: copied there once, whole or not at all, removed when unused for long.

All of it lies in `ROOT/pool`. An image is a folder named by its digest; `files` in it says what belongs to it, one line
for each file: its SHA-256, its size in bytes, its name. It is made under another name and renamed when it is whole and
has been checked *there*. Whoever copies it holds `.DIGEST.lock` (flock), so that two who ask copy once. A guest's
folder names the image that it rests on (`runners.hosts.folders`), and no image that is named is removed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from farm.errors import DeadlineError, FullError, HostError
from runners.deadline import Deadline
from runners.guest import Work
from runners.hosts.command import CommandError
from runners.hosts.link import Link
from runners.hosts.packing import MIB, listing, packed, room_bytes, say, with_progress
from runners.hosts.scripts import BROKEN, BUSY, NO_SPACE, script
from runners.hosts.stock import Kept, chosen, read_kept
from runners.images import Image

ROOT = "/var/lib/farm"
"""Where the farm keeps its things on a host."""
_MARGIN_KIB = 256 * 1024
"""What is to be left on its disk, beside the image."""


@dataclass(frozen=True)
class Stored:
    """An image on a host: the paths of its files there, and what its manifest says of them."""

    digest: str
    folder: str
    disk_format: str
    """`raw` or `qcow2`."""
    disk_mib: int
    cmdline: str
    names: frozenset[str]

    @property
    def disk(self) -> str:
        """What a guest's disk is an overlay of; never to be written."""
        return f"{self.folder}/disk"

    @property
    def kernel(self) -> str | None:
        """For the hypervisor to boot directly; None: it is on the disk."""
        return self._path("kernel")

    @property
    def packed_kernel(self) -> str | None:
        """The same as Debian packs it, for what starts no other."""
        return self._path("packed-kernel")

    @property
    def initrd(self) -> str | None:
        """Goes with the kernel."""
        return self._path("initrd")

    @property
    def firmware(self) -> str | None:
        """What starts the kernel; None: the hypervisor does."""
        return self._path("firmware")

    def _path(self, name: str) -> str | None:
        return f"{self.folder}/{name}" if name in self.names else None


class Pool:
    """The images on a host."""

    def __init__(self, link: Link, root: str = ROOT, *, keep_bytes: float = float("inf")) -> None:
        """`keep_bytes` is what its images may take together: when one has come, others go."""
        self._link = link
        self._root = root
        self._keep_bytes = keep_bytes

    def ensure(self, image: Image, deadline: Deadline) -> Work[Stored]:
        """An image there, copied if need be; it counts as used now.

        Raises FullError where there is no room for it, HostError, DeadlineError; and leaves nothing of it behind then.
        """
        said = (yield from self._run("look", deadline, digest=image.digest)).split()
        if b"there" not in said:
            yield from self._copy(image, "zstd" if b"zstd" in said else "", deadline)
            yield from self._tidy(deadline)
        manifest = image.manifest
        return Stored(
            digest=image.digest,
            folder=f"{self._root}/pool/{image.digest}",
            disk_format=manifest.disk_format,
            disk_mib=manifest.disk_mib,
            cmdline=manifest.cmdline,
            names=frozenset(manifest.files),
        )

    def verify(self, deadline: Deadline) -> Work[tuple[str, ...]]:
        """Read every image through; comes to the digests of those that are not what was copied. Raises HostError."""
        broken = []
        for one in (yield from self.kept(deadline)):
            try:
                yield from self._run("verify", deadline, digest=one.digest)
            except CommandError as error:
                if error.status != BROKEN:
                    raise
                broken.append(one.digest)
        return tuple(broken)

    def kept(self, deadline: Deadline) -> Work[tuple[Kept, ...]]:
        """The images that are there. Raises HostError, DeadlineError."""
        return read_kept((yield from self._run("kept", deadline)).decode())

    def prune(
        self, deadline: Deadline, *, older_than_s: float = 0.0, keep_bytes: float = float("inf"), dry_run: bool = False
    ) -> Work[tuple[Kept, ...]]:
        """Remove what was last used before `older_than_s` (since 1970), and the longest unused beyond `keep_bytes`.

        Comes to what went, or would go. What a guest rests on stays, and what was used within the hour. Raises
        HostError, DeadlineError.
        """
        if not dry_run:
            yield from self._run("sweep", deadline)
        images = yield from self.kept(deadline)
        gone = []
        for one in chosen(images, older_than_s=older_than_s, keep_bytes=keep_bytes, now=time.time()):
            if dry_run or (yield from self._remove(one, deadline)):
                gone.append(one)  # noqa: PERF401 - a comprehension cannot yield
        return tuple(gone)

    def _tidy(self, deadline: Deadline) -> Work[None]:
        """Keep to the limit. What cannot be removed is told, and no reason to fail."""
        try:
            for one in (yield from self.prune(deadline, keep_bytes=self._keep_bytes)):
                yield say(f"removed the image {one.digest[:12]} from {self._link.place}: beyond the limit")
        except HostError as error:
            yield say(f"cannot tidy the images on {self._link.place}: {error.message}")

    def _remove(self, one: Kept, deadline: Deadline) -> Work[bool]:
        """Whether it was removed: not where somebody has come to use it."""
        try:
            yield from self._run("remove", deadline, digest=one.digest, used_at=int(one.used_at))
        except CommandError as error:
            if error.status != BUSY:
                raise
            return False
        return True

    def _copy(self, image: Image, packer: str, deadline: Deadline) -> Work[None]:
        room = room_bytes(image)
        what = f"copy the image {image.manifest.name}/{image.manifest.arch} ({room // MIB} MiB) to {self._link.place}"
        yield say(what)
        with _told(what), packed(image, packer) as stream:
            work = self._run(
                "receive",
                deadline,
                cast("BinaryIO", stream),
                digest=image.digest,
                wait=_seconds(deadline),
                need=room // 1024 + _MARGIN_KIB,
                packer=packer,
                files=listing(image),
            )
            yield from with_progress(work, stream, what)

    def _run(self, name: str, deadline: Deadline, stdin: BinaryIO | None = None, **values: object) -> Work[bytes]:
        command = script(name, root=self._root, pool=f"{self._root}/pool", **values)
        return self._link.execute(command, deadline=deadline, stdin=stdin)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What the scripts end with, in words."""
    try:
        yield
    except FullError as error:
        raise FullError(f"cannot {what}: there is no space left", hint=_ROOM) from error
    except CommandError as error:
        if error.status == NO_SPACE:
            free = int(error.said.split()[-1]) // 1024
            raise FullError(f"cannot {what}: {free} MiB are free, and some are to be left", hint=_ROOM) from error
        if error.status == BUSY:
            raise DeadlineError(f"cannot {what}: another was at it all the time") from error
        if error.status == BROKEN:
            cause = "what arrived is not what was sent"
            raise HostError(f"cannot {what}: {cause}: {error.said}", hint=_AGAIN) from error
        raise HostError(f"cannot {what}: {error.said or error.message}", hint=error.hint) from error


_ROOM = f"make room there: what the farm keeps is in {ROOT}; a lower FARM_CACHE_LIMIT lets it keep fewer images"
_AGAIN = "if that happens again, verify the image here (`farm images verify`), and look at the host's disk and memory"


def _seconds(deadline: Deadline) -> int:
    return max(1, int(deadline.remaining))
