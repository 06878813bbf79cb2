"""The images of this host: found, built once, listed, removed."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from farm.errors import ConfigError, ImageError, NotFoundError
from farm.model import ImageSpec
from runners.deadline import Deadline
from runners.guest import Work
from runners.images.build import build, full_error, keep
from runners.images.made import Made
from runners.images.shelf import MANIFEST, Shelf
from runners.images.spec import Image, Manifest, base, key, needs_guest

_KEY_LENGTH = 16
_SHORT = 12
_NEXT = "-next"


class Configure(Protocol):
    """Makes an image from another one, in a guest of that."""

    @property
    def disk_mib(self) -> int:
        """The size of the guest's disk, and of the image's own."""

    def __call__(
        self, spec: ImageSpec, base: Image, folder: Path, *, deadline: Deadline, keep_fds: Sequence[int]
    ) -> Work[Made]:
        """Put the files and scripts of a spec's layers on its base, into an empty folder; see `made.Kind`."""


class Catalogue:
    """A shelf of images; one is called `NAME-ARCH-KEY`."""

    def __init__(self, folder: Path, mirror: str = "") -> None:
        """`mirror` is the Debian mirror to build from; empty: the one of this machine's apt."""
        self.shelf = Shelf(folder)
        self._mirror = mirror

    def find(self, spec: ImageSpec) -> Image | None:
        """The image of a spec, if it has been built; of one that needs a guest, what is under its layers.

        Raises ConfigError, ImageError.
        """
        place = self.shelf.find(self.name(base(spec)))
        return _load(place) if place else None

    def ensure(self, spec: ImageSpec, *, deadline: Deadline, configure: Configure | None = None) -> Work[Image]:
        """The image of a spec, built if need be, once however many ask for it at a time.

        `configure` makes those that need a guest. Raises ConfigError, PackageError, FullError, DeadlineError,
        ImageError; this also where the spec names a digest and the image, or what is under its layers, has another.
        """

        def make(folder: Path, fd: int) -> Work[None]:
            yield from build(base(spec), folder, mirror=self._mirror, deadline=deadline, keep_fds=(fd,))

        def make_in_guest(folder: Path, fd: int) -> Work[None]:
            under = yield from self.ensure(base(spec), deadline=deadline)
            made = yield from _asked(spec, configure)(spec, under, folder, deadline=deadline, keep_fds=(fd,))
            yield from keep(spec, made, folder)

        with _told(spec):
            name = self.name(spec, configure.disk_mib if configure else 0)
            how = make_in_guest if needs_guest(spec) else make
            image = _load((yield from self.shelf.ensure(name, how, deadline=deadline)))
            if needs_guest(spec) and self._rests_on_another(image, base(spec)) and self.remove(image):
                image = _load((yield from self.shelf.ensure(name, how, deadline=deadline)))
        if spec.digest not in {"", image.manifest.base or image.digest}:
            raise _other_content(spec, image)
        return image

    def renew(self, spec: ImageSpec, *, deadline: Deadline) -> Work[tuple[Image, Image | None]]:
        """Build an image once more, from the archive as it is now; comes to it, and to what it has taken the place of.

        That is kept under another name. None: it was not there before, or was the same. Raises what `ensure`
        does, and ImageError where the old one is in use.
        """
        spec = base(spec)

        def make(folder: Path, fd: int) -> Work[None]:
            yield from build(spec, folder, mirror=self._mirror, deadline=deadline, keep_fds=(fd,))

        old = self.find(spec)
        if old is None:
            return (yield from self.ensure(spec, deadline=deadline)), None
        name = self.name(spec)
        with _told(spec):
            new = _load((yield from self.shelf.ensure(f"{name}{_NEXT}", make, deadline=deadline)))
        if new.digest == old.digest:
            self.shelf.remove(new.folder.name)
            return old, None
        kept_as = f"{name}-{old.digest[:_SHORT]}"
        if not self.shelf.supersede(name, new.folder.name, kept_as=kept_as):
            self.shelf.remove(new.folder.name)
            raise ImageError(
                f"cannot replace the image {name}: it is in use", hint="try again when no guest runs from it"
            )
        return _load(self.shelf.folder / name), _load(self.shelf.folder / kept_as)

    def list(self) -> tuple[Image, ...]:
        """Every whole image, by name; see `unreadable` for the others."""
        return tuple(image for image in map(self._look, self.shelf.names()) if isinstance(image, Image))

    def unreadable(self) -> dict[str, str]:
        """The folders of images whose manifests cannot be read -> why."""
        looked = {name: self._look(name) for name in self.shelf.names()}
        return {name: found.message for name, found in looked.items() if isinstance(found, ImageError)}

    def remove(self, image: Image) -> bool:
        """Remove an image; False where a guest or a snapshot uses it. Raises NotFoundError, ImageError."""
        return self.shelf.remove(image.folder.name)

    def _rests_on_another(self, image: Image, under: ImageSpec) -> bool:
        """Whether what is under its layers has been built anew since they were put on; False where it is gone."""
        found = self._look(self.name(under))
        return isinstance(found, Image) and found.digest != image.manifest.base

    def _look(self, name: str) -> Image | ImageError | None:
        try:
            return _load(self.shelf.folder / name)
        except ImageError as error:
            return error
        except NotFoundError:  # removed meanwhile
            return None

    def name(self, spec: ImageSpec, disk_mib: int = 0) -> str:
        """What the image of a spec is called on the shelf. Raises ConfigError.

        `disk_mib` is the size of the disk of the guest that it is made in, where it needs one: its own is as large.
        """
        name = f"{spec.name}-{spec.arch}-{key(spec, self._mirror)[:_KEY_LENGTH]}"
        return f"{name}-{disk_mib}" if needs_guest(spec) else name


@contextmanager
def _told(spec: ImageSpec) -> Iterator[None]:
    """What the host's files cannot do, said of the image that is to be built."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full_error(spec) from error
        raise ImageError(f"cannot build {spec.name}/{spec.arch}: {error}") from error


def _asked(spec: ImageSpec, configure: Configure | None) -> Configure:
    if configure is None:
        names = " and ".join(layer.name for layer in spec.layers)
        raise ConfigError(
            f"cannot build {spec.name}/{spec.arch} with {names}: its script has to be run in a guest",
            hint="a run makes it, when a cell asks for it",
        )
    return configure


def _other_content(spec: ImageSpec, image: Image) -> ImageError:
    return ImageError(
        f"cannot use the image {spec.name}/{spec.arch}: on this host it is {image.digest[:12]}, built"
        f" {image.manifest.built_at:%Y-%m-%d}, and the run was submitted with {spec.digest[:12]}",
        hint=f"the archive has changed between the two builds: copy the folder {image.folder.name} from the catalogue"
        " of the machine that submits, or remove it on both and submit again",
    )


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
