"""The images of the machine that a server runs on."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from farm.errors import NotFoundError
from farm.images import ImageDifference, ImageFacts, ImageLine
from farm.remote.client import Client
from farm.remote.wire import Request, path_of


@dataclass(frozen=True)
class RemoteImages:
    """Images (`farm.images`) of a server. Every method raises ServerError, and what the server raised."""

    client: Client

    def all(self) -> tuple[ImageLine, ...]:
        """Every whole image, by name."""
        return self.client.read(_ImageList, self.client.wire.ask(Request("GET", "/images"))).images

    def show(self, name: str) -> ImageFacts:
        """One by `debian-13/riscv64` or the first digits of its digest."""
        title, _, arch = name.rpartition("/")
        params = {}
        if not title:
            line = self._by_digest(name)
            title, arch, params = line.name, line.arch, {"digest": line.digest}
        request = Request("GET", path_of("images", *title.split("/"), arch), params=params)
        return self.client.read(ImageFacts, self.client.wire.ask(request))

    def diff(self, before: str, after: str) -> ImageDifference:
        """What differs between two, each named as for `show`."""
        request = Request("GET", "/images/diff", params={"a": before, "b": after})
        return self.client.read(ImageDifference, self.client.wire.ask(request))

    def _by_digest(self, digits: str) -> ImageLine:
        start = digits.removeprefix("sha256:")
        found = [line for line in self.all() if line.digest.startswith(start)]
        if len({line.digest for line in found}) != 1:
            many = f"{len(found)} images match" if found else "none that the server has matches"
            raise NotFoundError(
                f"cannot find the image {digits!r}: {many}", hint="`farm images list` lists those that there are"
            )
        return found[0]


class _ImageList(BaseModel):
    images: tuple[ImageLine, ...]
