"""Building an image: what its kind makes, and the manifest that says what that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from farm.model import ImageSpec
from runners.deadline import Deadline
from runners.guest import Work
from runners.images import cloud, installed, unpacked
from runners.images.bootstrap import full_error
from runners.images.digest import content_digest, file_digests
from runners.images.made import Kind, Made
from runners.images.spec import BUILDER_VERSION, Image, Manifest, all_packages, recipe
from runners.images.spec import Kind as KindName

__all__ = ["build", "full_error", "keep"]

_KINDS: Mapping[KindName, Kind] = {"unpacked": unpacked.make, "installed": installed.make, "cloud": cloud.make}


def build(
    spec: ImageSpec, folder: Path, *, mirror: str, deadline: Deadline, keep_fds: Sequence[int] = ()
) -> Work[Image]:
    """Build an image into an empty folder; `manifest.json` is written last.

    `mirror` empty: the one of this machine's apt. Programs that this starts keep `keep_fds` open.
    Raises ConfigError, PackageError, FullError, DeadlineError, ImageError.
    """
    kind = recipe(spec).kind
    made = yield from _KINDS[kind](spec, folder, mirror=mirror, deadline=deadline, keep_fds=keep_fds)
    return (yield from keep(spec, made, folder))


def keep(spec: ImageSpec, made: Made, folder: Path) -> Work[Image]:
    """Write the manifest of an image that has been made in a folder."""
    kind, release = recipe(spec)
    files = yield from file_digests(folder, [path.name for path in made.files])
    manifest = Manifest(
        name=spec.name,
        arch=spec.arch,
        kind=kind,
        release=release,
        digest=content_digest({**files, "disk": made.content or files["disk"], "cmdline": made.cmdline}),
        files=files,
        layers=tuple(layer.name for layer in spec.layers),
        base=made.base,
        disk_mib=made.disk_mib,
        disk_format=made.disk_format,
        requested=all_packages(spec),
        packages=made.packages,
        mirror=made.mirror,
        tools=made.tools,
        builder_version=BUILDER_VERSION,
        built_at=datetime.now(UTC),
        cmdline=made.cmdline,
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2))
    return Image(folder=folder, manifest=manifest)
