"""The images of this host: found, built once, listed, removed."""

from __future__ import annotations

import errno
from pathlib import Path

from pydantic import ValidationError

from farm.errors import ImageError, NotFoundError
from farm.model import ImageSpec
from runners.deadline import Deadline
from runners.guest import Work
from runners.images.build import build, full_error
from runners.images.shelf import MANIFEST, Shelf
from runners.images.spec import Image, Manifest, key

_KEY_LENGTH = 16


class Catalogue:
    """A shelf of images; one is called `NAME-ARCH-KEY`."""

    def __init__(self, folder: Path, mirror: str = "") -> None:
        """`mirror` is the Debian mirror to build from; empty: the one of this machine's apt."""
        self.shelf = Shelf(folder)
        self._mirror = mirror

    def find(self, spec: ImageSpec) -> Image | None:
        """The image of a spec, if it has been built. Raises ConfigError, ImageError."""
        place = self.shelf.find(self.name(spec))
        return _load(place) if place else None

    def ensure(self, spec: ImageSpec, *, deadline: Deadline) -> Work[Image]:
        """The image of a spec, built if need be, once however many ask for it at a time.

        Raises ConfigError, PackageError, FullError, DeadlineError, ImageError.
        """

        def make(folder: Path, fd: int) -> Work[None]:
            yield from build(spec, folder, mirror=self._mirror, deadline=deadline, keep_fds=(fd,))

        try:
            return _load((yield from self.shelf.ensure(self.name(spec), make, deadline=deadline)))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise full_error(spec) from error
            raise ImageError(f"cannot build {spec.name}/{spec.arch}: {error}") from error

    def list(self) -> tuple[Image, ...]:
        """Every whole image, by name."""
        return tuple(_load(self.shelf.folder / name) for name in self.shelf.names())

    def remove(self, image: Image) -> bool:
        """Remove an image; False where a guest or a snapshot uses it. Raises NotFoundError, ImageError."""
        return self.shelf.remove(image.folder.name)

    def name(self, spec: ImageSpec) -> str:
        """What the image of a spec is called on the shelf. Raises ConfigError."""
        return f"{spec.name}-{spec.arch}-{key(spec, self._mirror)[:_KEY_LENGTH]}"


def _load(place: Path) -> Image:
    try:
        manifest = Manifest.model_validate_json((place / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise NotFoundError(f"cannot use the image {place.name}: it is not there any more") from error
    except (OSError, ValidationError) as error:
        raise ImageError(
            f"cannot read the image {place.name}: {error}", hint=f"remove the folder {place}; it is built anew"
        ) from error
    return Image(folder=place, manifest=manifest)
