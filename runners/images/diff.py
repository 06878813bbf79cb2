"""What differs between two images. Pure."""

from __future__ import annotations

from typing import NamedTuple

from runners.images.spec import Manifest

Change = tuple[str, str]
"""Before and after; empty where there was nothing, or is nothing."""


class Difference(NamedTuple):
    """From one image to another."""

    packages: dict[str, Change] | None
    """Every package that is not the same in both -> its versions; None where it is not known what one of them holds."""
    facts: dict[str, Change]
    """What else is not the same -> what it was and is. Neither the time nor the tools of a build count, nor
    the bytes of a disk: the digest says whether what is in it is the same."""

    @property
    def any(self) -> bool:
        """Whether the images differ at all."""
        return bool(self.packages or self.facts)


def compare(before: Manifest, after: Manifest) -> Difference:
    """What differs between two images."""
    old, new = _facts(before), _facts(after)
    known = before.packages and after.packages
    return Difference(_changes(before.packages, after.packages) if known else None, _changes(old, new))


def _changes(before: dict[str, str], after: dict[str, str]) -> dict[str, Change]:
    names = sorted({**before, **after})
    pairs = {name: (before.get(name, ""), after.get(name, "")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _facts(manifest: Manifest) -> dict[str, str]:
    return {
        "image": manifest.name,
        "architecture": manifest.arch,
        "kind": manifest.kind,
        "release": manifest.release,
        "digest": manifest.digest,
        "kernel": manifest.files.get("kernel", ""),
        "initrd": manifest.files.get("initrd", ""),
        "command line": manifest.cmdline,
        "mirror": manifest.mirror,
        "asked for": " ".join(manifest.requested),
        "layers": ", ".join(manifest.layers),
        "disk": f"{manifest.disk_mib} MiB, {manifest.disk_format}",
    }
