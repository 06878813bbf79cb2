"""The images of this host: found, built once, listed, removed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from farm.errors import ImageError, NotFoundError
from farm.model import Stream
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Work
from runners.images.build import build, full_error
from runners.images.spec import Image, ImageSpec, Manifest

_KEY_LENGTH = 16
_MANIFEST = "manifest.json"
_PARTIAL = ".partial"
_LOCK = ".lock"
_WAIT_S = 0.5


class Catalogue:
    """A folder of images, shared by any number of processes.

    An image is a folder `NAME-ARCH-KEY`, made under another name (`.partial`) and renamed when it is whole.
    Whoever builds or removes one holds the lock of its `.lock` file; so do the programs that a build starts,
    so that a build that was killed is not tried again before they are gone.
    """

    def __init__(self, folder: Path, mirror: str = "") -> None:
        """`mirror` is the Debian mirror to build from; empty: the one of this machine's apt."""
        self._folder = folder
        self._mirror = mirror

    def find(self, spec: ImageSpec) -> Image | None:
        """The image of a spec, if it has been built. Raises ConfigError."""
        return _load(self._place(spec))

    def ensure(self, spec: ImageSpec, *, deadline: Deadline) -> Work[Image]:
        """The image of a spec, built if need be, once however many ask for it at a time.

        Raises ConfigError, PackageError, FullError, DeadlineError, ImageError.
        """
        place = self._place(spec)
        if image := _load(place):
            return image
        try:
            return (yield from self._build(spec, place, deadline))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise full_error(spec) from error
            raise ImageError(f"cannot build {spec.name}/{spec.arch}: {error}") from error

    def list(self) -> tuple[Image, ...]:
        """Every whole image, by name."""
        places = sorted(self._folder.glob(f"*/{_MANIFEST}"))
        return tuple(image for path in places if (image := _load(path.parent)))

    def remove(self, image: Image) -> None:
        """Remove an image; overlays on it are of no more use. Raises NotFoundError, ImageError."""
        with _lock(image.folder) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX)
            doomed = _beside(image.folder, _PARTIAL)
            try:
                shutil.rmtree(doomed, ignore_errors=True)
                image.folder.rename(doomed)
                shutil.rmtree(doomed)
            except FileNotFoundError as error:
                raise NotFoundError(f"cannot remove the image {image.folder.name}: it is not there") from error
            except OSError as error:
                raise ImageError(f"cannot remove the image {image.folder.name}: {error}") from error

    def _place(self, spec: ImageSpec) -> Path:
        return self._folder / f"{spec.name}-{spec.arch}-{spec.key(self._mirror)[:_KEY_LENGTH]}"

    def _build(self, spec: ImageSpec, place: Path, deadline: Deadline) -> Work[Image]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with _lock(place) as fd:
            yield from _wait_for(fd, deadline)
            if image := _load(place):  # another process was quicker
                return image
            partial = _beside(place, _PARTIAL)
            shutil.rmtree(partial, ignore_errors=True)  # of a build that was killed
            partial.mkdir()
            try:
                image = yield from build(spec, partial, mirror=self._mirror, deadline=deadline, keep_fds=(fd,))
                partial.rename(place)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            return Image(folder=place, manifest=image.manifest)


def _load(place: Path) -> Image | None:
    try:
        manifest = Manifest.model_validate_json((place / _MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ImageError(
            f"cannot read the image {place.name}: {error}", hint=f"remove the folder {place}; it is built anew"
        ) from error
    return Image(folder=place, manifest=manifest)


def _beside(place: Path, suffix: str) -> Path:
    return place.with_name(f".{place.name}{suffix}")


@contextmanager
def _lock(place: Path) -> Generator[int, None, None]:
    """The lock file of an image, open but not locked. It is left there: to remove it would be a race."""
    fd = os.open(_beside(place, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield fd
    finally:
        os.close(fd)


def _wait_for(fd: int, deadline: Deadline) -> Work[None]:
    """Take a lock, saying so where another process has it."""
    said = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield TICK if said else Chunk(Stream.FARM, b"waiting for another build of this image\n")
            said = True
            deadline.check()
            time.sleep(min(_WAIT_S, deadline.remaining))
        else:
            return
