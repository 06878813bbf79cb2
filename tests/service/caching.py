"""A cache for a server: what the machine's own knows of hypervisors, and images that are played."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from farm.config import load_settings
from tests.unit.test_images_disk import make_image

OLD = {"gcc": "4:12.2", "make": "4.3-4.1", "sed": "4.9-1"}
NEW = {"gcc": "4:14.2", "make": "4.4.1-2", "tar": "1.35"}
DIGESTS = {"debian-12": "12" * 32, "debian-13": "13" * 32}
_PROBED = ("hosts", "libvirt")
"""What was found out about this machine: to find it out again takes minutes."""


def make_cache(cache: Path) -> None:
    """Make the folder, with an image of two releases."""
    own = load_settings().cache
    cache.mkdir()
    for name in _PROBED:
        (own / name).mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(own / name)
    for name, release, packages in (("debian-12", "bookworm", OLD), ("debian-13", "trixie", NEW)):
        make_image(
            cache / "images" / f"{name}-s390x-0",
            name=name,
            release=release,
            digest=DIGESTS[name],
            packages=packages,
            requested=("gcc", "make"),
            mirror="http://somebody:secret@mirror.example/debian",
            tools={"mke2fs": "1.47"},
            built_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        )
