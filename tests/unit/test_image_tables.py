from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from rich.console import Console, RenderableType

from farm.cli.image_tables import ago, difference_tables, image_facts, images_table, total
from farm.images import ImageFacts, ImageLine
from runners.images.prune import Thing

NOW = datetime(2025, 3, 10, 12, tzinfo=UTC).timestamp()
GIB = 1024**3


def text(*shown: RenderableType) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        for one in shown:
            console.print(one)
    return captured.get()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (3599, "59 minutes ago"),
        (7200, "2 hours ago"),
        (86399, "23 hours ago"),
        (86400 * 40, "40 days ago"),
    ],
)
def test_a_time_is_told_in_its_largest_unit(seconds: float, words: str) -> None:
    assert ago(NOW - seconds, NOW) == words


LINE = ImageLine(
    name="debian-13",
    arch="s390x",
    kind="unpacked",
    release="trixie",
    digest="ab12" * 16,
    package_count=7,
    requested=("gcc", "make"),
    layers=("db",),
    built_at=datetime(2025, 3, 8, 12, tzinfo=UTC),
    used_at=datetime(2025, 3, 10, 11, tzinfo=UTC),
    in_use=False,
    size_bytes=3 * GIB // 2,
)


def test_the_list_has_what_tells_images_apart() -> None:
    line = text(images_table([LINE], NOW)).splitlines()[1]
    for word in ("debian-13/s390x", "ab12ab12ab12 ", "unpacked", "gcc make +db", "1.5 GiB", "2 days ago", "1 hour ago"):
        assert word in line
    assert "in use" in text(images_table([LINE.model_copy(update={"in_use": True})], NOW))


def test_what_the_cache_takes_is_summed_up() -> None:
    things = [Thing("image", "a", 0, GIB), Thing("image", "b", 0, GIB), Thing("snapshot", "s", 0, GIB // 2)]
    assert total(things, 40 * 1024, "F") == "2 images, 2.0 GiB, and 1 snapshot, 512.0 MiB, of at most 40.0 GiB in F"
    assert total(things[:1], 0, "F") == "1 image, 1.0 GiB in F"
    assert total([], 0, "F") == "nothing in F"


FACTS = ImageFacts(
    image=LINE,
    packages={},
    files={},
    base="",
    disk_mib=1,
    disk_format="qcow2",
    cmdline="quiet",
    mirror="http://mirror.example",
    tools={"mke2fs": "1.47"},
)


def test_all_facts_of_an_image_are_shown() -> None:
    shown = text(image_facts(FACTS, {"snapshots": "", "folder": "/cache/i"}, NOW))
    for word in (
        "Debian trixie",
        "ab12" * 16,
        "quiet",
        "http://mirror.example",
        "mke2fs (1.47)",
        "1 hour ago",
        "/cache/i",
    ):
        assert word in shown
    assert "snapshots" not in shown


def test_of_a_cloud_image_the_packages_are_not_known() -> None:
    line = LINE.model_copy(update={"kind": "cloud", "release": "", "package_count": None})
    facts = FACTS.model_copy(update={"image": line})
    for shown in (image_facts(facts, {}, NOW), images_table([line], NOW)):
        assert "not known" in text(shown)


def test_a_difference_shows_both_versions() -> None:
    packages = {"gcc": ("4:14", "4:15"), "sed": ("4.9", ""), "tar": ("", "1.35")}
    tables: Iterable[RenderableType] = difference_tables(packages, {"kind": ("unpacked", "installed")})
    lines = [line.split() for line in text(*tables).splitlines()]
    assert ["kind", "unpacked", "installed"] in lines
    assert ["~", "gcc", "4:14", "4:15"] in lines
    assert ["-", "sed", "4.9", "–"] in lines
    assert ["+", "tar", "–", "1.35"] in lines
