"""A folder of things that are expensive to make, named by what they are made from, shared by processes.

A thing is a folder with a `manifest.json`, made under another name (`.partial`) and renamed when it is whole:
half a thing is never found. Its `.lock` file beside it says who deals with it. Whoever makes or removes a
thing holds the lock alone; whoever uses it holds it together with others (`hold`). The kernel gives a
lock back when its holder ends, however that happens.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from farm.errors import ImageError, NotFoundError
from farm.model import Stream
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Work
from runners.images.owner import remove_tree

MANIFEST = "manifest.json"
_PARTIAL = ".partial"
_BROKEN = ".broken"
_LOCK = ".lock"
_WAIT_S = 0.2
_BLOCK = 512
"""Of `st_blocks`, see stat(2)."""

Make = Callable[[Path, int], Work[None]]
"""Makes a thing in an empty folder, its manifest last. Programs that it starts keep the descriptor open, so
that what was killed is not tried again before they are gone."""


class Shelf:
    """The folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> Path | None:
        """The folder of a thing that is whole; it counts as used now."""
        place = self.folder / name
        with contextlib.suppress(FileNotFoundError):
            os.utime(place / MANIFEST)
            return place
        return None

    def ensure(self, name: str, make: Make, *, deadline: Deadline) -> Work[Path]:
        """The folder of a thing, made if need be, once however many ask for it at a time. Raises what `make` does."""
        if place := self.find(name):
            return place
        self.folder.mkdir(parents=True, exist_ok=True)
        with _lock_file(self.folder / name) as fd:
            if place := (yield from self._wait_for(fd, name, deadline)):  # another process was quicker
                return place
            place, partial = self.folder / name, _beside(self.folder / name, _PARTIAL)
            for rest in (partial, place):  # of a process that was killed; a folder without a manifest is no thing
                if not _clear(rest):
                    raise ImageError(f"cannot make {name}: {rest} is in the way", hint=_in_the_way(rest))
            partial.mkdir()
            try:
                yield from make(partial, fd)
                partial.rename(place)
            finally:
                _clear(partial)
            return place

    def _wait_for(self, fd: int, name: str, deadline: Deadline) -> Work[Path | None]:
        """Take the lock of a thing, or come to the thing itself, made by another process and perhaps in use by it."""
        said = False
        while not _try_lock(fd):
            if place := self.find(name):
                return place
            yield TICK if said else Chunk(Stream.FARM, f"waiting for another process that makes {name}\n".encode())
            said = True
            deadline.check()
            time.sleep(min(_WAIT_S, deadline.remaining))
        return self.find(name)

    def names(self) -> tuple[str, ...]:
        """Every whole thing."""
        return tuple(sorted(path.parent.name for path in self.folder.glob(f"[!.]*/{MANIFEST}")))

    def hold(self, name: str) -> int:
        """A descriptor: as long as it is open, nobody removes the thing. Raises NotFoundError."""
        fd = _open_lock(self.folder / name)
        fcntl.flock(fd, fcntl.LOCK_SH)
        if self.find(name) is None:
            os.close(fd)
            raise NotFoundError(f"cannot use {name}: it is not there any more", hint="try again; it is made anew")
        return fd

    def remove(self, name: str) -> bool:
        """Remove a thing; False where somebody uses it. Raises NotFoundError, ImageError."""
        with _lock_file(self.folder / name) as fd:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                doomed = _beside(self.folder / name, _PARTIAL)
                _clear(doomed)
                (self.folder / name).rename(doomed)
                shutil.rmtree(doomed)
            except BlockingIOError:
                return False
            except FileNotFoundError as error:
                raise NotFoundError(f"cannot remove {name}: it is not there") from error
            except OSError as error:
                raise ImageError(f"cannot remove {name}: {error}") from error
        return True

    def supersede(self, name: str, by: str, *, kept_as: str) -> bool:
        """Put one thing in the place of another, which is kept under a third name; False where somebody uses that."""
        with _lock_file(self.folder / name) as fd:
            if not _try_lock(fd):
                return False
            _clear(self.folder / kept_as)
            (self.folder / name).rename(self.folder / kept_as)
            (self.folder / by).rename(self.folder / name)
        return True

    def discard(self, name: str) -> None:
        """Take a broken thing away, at once; who uses it keeps the files that are open."""
        doomed = _beside(self.folder / name, f".{os.getpid()}{_BROKEN}")
        with contextlib.suppress(FileNotFoundError):
            (self.folder / name).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def in_use(self, name: str) -> bool:
        """Whether somebody uses a thing, makes it or removes it."""
        with _lock_file(self.folder / name) as fd:
            return not _try_lock(fd)

    def sweep(self, *, dry_run: bool = False) -> dict[str, int]:
        """Remove what killed processes have left half made or half removed; gives its names and its bytes."""
        gone = {}
        for rest in sorted(path for suffix in (_PARTIAL, _BROKEN) for path in self.folder.glob(f".*{suffix}")):
            name = rest.name.removeprefix(".").removesuffix(_PARTIAL)
            with _lock_file(self.folder / name) if rest.suffix == _PARTIAL else contextlib.nullcontext() as fd:
                if not _mounts(rest) and (fd is None or _try_lock(fd)):
                    size = _size(rest)
                    if dry_run or _clear(rest):
                        gone[rest.name] = size
        return gone

    def used_at(self, name: str) -> float:
        """When a thing was last asked for: seconds since 1970. Raises NotFoundError."""
        try:
            return (self.folder / name / MANIFEST).stat().st_mtime
        except FileNotFoundError as error:
            raise NotFoundError(f"cannot find {name}: it is not there") from error

    def size_bytes(self, name: str) -> int:
        """What a thing takes on the disk, holes not counted; what vanishes meanwhile neither."""
        return _size(self.folder / name)


def doomed(items: Iterable[tuple[str, float, int]], *, older_than_s: float, keep_bytes: float) -> tuple[str, ...]:
    """What is to go: (name, when it was last used, size in bytes) -> names, the longest unused first. Pure.

    All that was last used before `older_than_s` (seconds since 1970), and of the rest what was not used for
    longest, until it all fits into `keep_bytes`. Where two were last used at the same time, the first goes first.
    """
    items = sorted(items, key=lambda item: item[1])
    left = sum(size for _, _, size in items)
    gone = []
    for name, used_at, size in items:
        if used_at < older_than_s or left > keep_bytes:
            gone.append(name)
            left -= size
    return tuple(gone)


def _clear(place: Path) -> bool:
    """Remove a folder, if it is there; gives whether it is gone.

    It stays where a killed program has left something mounted in it: what is below that is not ours.
    """
    if not _mounts(place):
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(ImageError):  # the tree of an installed image has many owners
            remove_tree(place)
    return not place.exists()


def _in_the_way(place: Path) -> str:
    mounts = _mounts(place)
    return f"something is mounted in it: umount {' '.join(reversed(mounts))}" if mounts else f"remove {place}"


def _mounts(place: Path) -> list[str]:
    """Where something is mounted at or below a folder, the outermost first, see proc_pid_mountinfo(5)."""
    real = os.path.realpath(place)
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    plain = (point.encode().decode("unicode_escape").encode("latin-1").decode(errors="replace") for point in points)
    return [point for point in plain if point == real or point.startswith(f"{real}/")]


def _size(place: Path) -> int:
    total = 0
    for path in place.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.lstat().st_blocks * _BLOCK
    return total


def _beside(place: Path, suffix: str) -> Path:
    return place.with_name(f".{place.name}{suffix}")


def _open_lock(place: Path) -> int:
    """The lock file of a thing, open but not locked. It is left there: to remove it would be a race."""
    place.parent.mkdir(parents=True, exist_ok=True)
    return os.open(_beside(place, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


@contextmanager
def _lock_file(place: Path) -> Generator[int, None, None]:
    fd = _open_lock(place)
    try:
        yield fd
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
