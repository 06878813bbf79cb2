"""Which image is meant: by what it is of, by its digest, or by its folder. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from farm.errors import ConfigError, NotFoundError
from farm.model import ImageSpec
from runners.images.spec import Image

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")
_MOST_SHOWN = 8


def parse_spec(text: str, packages: Sequence[str] = ()) -> ImageSpec:
    """`debian-13/riscv64` -> what is asked for. Raises ConfigError."""
    name, _, arch = text.rpartition("/")
    if not name or not arch:
        raise ConfigError(f"cannot read {text!r}: it is no IMAGE/ARCH", hint="write for example debian-13/riscv64")
    return ImageSpec(name=name, arch=arch, packages=tuple(packages))


def choose(images: Sequence[Image], text: str) -> Image:
    """The one image that is meant; of several with the same content, the newest. Raises NotFoundError, ConfigError.

    `text` is `debian-13/riscv64`, the first digits of a digest, at least four, or the name of a folder.
    """
    found = [image for image in images if _is_meant(image, text)]
    if found and len({image.digest for image in found}) == 1:  # the same, wherever it lies
        return max(found, key=lambda image: image.manifest.built_at)
    if found:
        raise ConfigError(
            f"cannot choose an image by {text!r}: {len(found)} images match\n{_listed(found)}",
            hint="name it by its folder or its digest",
        )
    near = get_close_matches(text, {_title(image) for image in images}, n=2)
    raise NotFoundError(
        f"cannot find the image {text!r}: none that is built here matches",
        hint=f"did you mean {' or '.join(near)}?" if near else "`farm images` lists those that are built here",
    )


def _is_meant(image: Image, text: str) -> bool:
    digits = _DIGEST.fullmatch(text)
    return text in {_title(image), image.folder.name} or bool(digits and image.digest.startswith(digits[1]))


def _title(image: Image) -> str:
    return f"{image.manifest.name}/{image.manifest.arch}"


def _listed(images: Sequence[Image]) -> str:
    lines = [
        f"  {image.folder.name}  {image.digest[:12]}  {image.manifest.built_at:%Y-%m-%d}"
        f"  {' '.join(image.manifest.requested) or 'nothing added'}"
        for image in images[:_MOST_SHOWN]
    ]
    left = len(images) - _MOST_SHOWN
    return "\n".join([*lines, f"  … and {left} more"] if left > 0 else lines)
