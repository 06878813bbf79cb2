"""The images of this machine, for `farm serve` to show: `farm.images` says what of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from farm.config import Settings
from farm.images import ImageDifference, ImageFacts, ImageLine

if TYPE_CHECKING:  # a third of a second
    from runners.images import Image
    from runners.images.prune import Thing

_PASSWORD = re.compile(r"(?<=//)[^/@\s]*@")


@dataclass(frozen=True)
class ShelfImages:
    """What `farm images` knows; nothing here asks the network, builds or removes."""

    settings: Settings

    def all(self) -> tuple[ImageLine, ...]:
        """Every whole image, by name."""
        images, things = self._found()
        return tuple(_line(image, things) for image in images)

    def show(self, name: str) -> ImageFacts:
        """One image. Raises NotFoundError, ConfigError."""
        images, things = self._found()
        image = _chosen(images, name)
        manifest = image.manifest
        return ImageFacts(
            image=_line(image, things),
            mirror=_PASSWORD.sub("", manifest.mirror),
            **manifest.model_dump(include={"packages", "files", "base", "disk_mib", "disk_format", "cmdline", "tools"}),
        )

    def diff(self, before: str, after: str) -> ImageDifference:
        """What differs between two. Raises NotFoundError, ConfigError."""
        from runners.images.diff import compare  # noqa: PLC0415

        images, things = self._found()
        old, new = _chosen(images, before), _chosen(images, after)
        found = compare(old.manifest, new.manifest)
        facts = {name: (_PASSWORD.sub("", was), _PASSWORD.sub("", is_)) for name, (was, is_) in found.facts.items()}
        return ImageDifference(
            before=_line(old, things), after=_line(new, things), packages=found.packages, facts=facts
        )

    def _found(self) -> tuple[tuple[Image, ...], dict[str, Thing]]:
        from runners.images import Catalogue, prune  # noqa: PLC0415

        things = {thing.name: thing for thing in prune.survey(self.settings.cache) if thing.kind == "image"}
        catalogue = Catalogue(self.settings.cache / "images", self.settings.mirror)
        return tuple(image for image in catalogue.list() if image.folder.name in things), things


def _chosen(images: Sequence[Image], text: str) -> Image:
    from runners.images import aliases  # noqa: PLC0415
    from runners.images.naming import choose  # noqa: PLC0415

    name, slash, arch = text.rpartition("/")
    return choose(images, f"{aliases.by_table(name)}{slash}{arch}" if aliases.is_alias(name) else text)


def _line(image: Image, things: Mapping[str, Thing]) -> ImageLine:
    thing = things[image.folder.name]
    return ImageLine(
        package_count=image.manifest.package_count,
        used_at=datetime.fromtimestamp(thing.used_at, UTC),
        in_use=thing.in_use,
        size_bytes=thing.size_bytes,
        **image.manifest.model_dump(
            include={"name", "arch", "kind", "release", "digest", "requested", "layers", "built_at"}
        ),
    )
