import fcntl
import json
import os
import time
from pathlib import Path

import pytest

from farm.config import Settings
from runners.images.prune import Limits, Removed, Thing, chosen, prune, survey, tidy
from runners.images.shelf import Shelf
from tests.unit.test_images_process import finish

MIB = 1024 * 1024
HOUR_S = 3600


def image(name: str, used_at: float, size: int = 10, *, in_use: bool = False) -> Thing:
    return Thing("image", name, used_at, size, in_use, digest=f"digest of {name}")


def snapshot(name: str, of: str, used_at: float, size: int = 10, *, in_use: bool = False) -> Thing:
    return Thing("snapshot", name, used_at, size, in_use, digest=f"digest of {of}", image=of)


def names(things: tuple[Thing, ...], limits: Limits) -> list[str]:
    return [thing.name for thing, _ in chosen(things, limits)]


# --- the choice -------------------------------------------------------------------------------------


def test_without_limits_only_snapshots_without_their_image_go() -> None:
    things = (snapshot("s1", "gone", 300), snapshot("s2", "kept", 1), image("kept", 1))
    assert [(thing.name, why) for thing, why in chosen(things, Limits())] == [("s1", "its image is gone")]


def test_a_snapshot_of_what_the_image_was_before_goes() -> None:
    things = (snapshot("s", "i", 300)._replace(digest="older"), image("i", 300))
    assert names(things, Limits()) == ["s"]


def test_an_image_outlives_its_snapshots_and_counts_as_used_when_they_were() -> None:
    things = (snapshot("s", "i", 300), image("i", 100), image("other", 200))
    assert names(things, Limits(keep_bytes=20)) == ["other"]
    assert names(things, Limits(keep_bytes=10)) == ["other", "s"]
    assert names(things, Limits(keep_bytes=0)) == ["other", "s", "i"]
    assert names(things, Limits(older_than_s=250)) == ["other"]


def test_what_is_in_use_stays_and_takes_its_share() -> None:
    things = (snapshot("s", "i", 100, in_use=True), image("i", 100, in_use=True), image("a", 200), image("b", 300))
    assert names(things, Limits(keep_bytes=30)) == ["a"]
    assert names(things, Limits(keep_bytes=0)) == ["a", "b"]
    assert names(things, Limits(older_than_s=1000)) == ["a", "b"]


def test_a_snapshot_in_use_stays_although_its_image_is_gone() -> None:
    assert names((snapshot("s", "gone", 1, in_use=True),), Limits(keep_bytes=0)) == []


def test_why_something_goes_is_told() -> None:
    things = (image("a", 100), image("b", 200), image("c", 300))
    found = chosen(things, Limits(older_than_s=150, keep_bytes=10))
    assert [(thing.name, why) for thing, why in found] == [("a", "not used for long"), ("b", "beyond the limit")]


# --- the shelves ------------------------------------------------------------------------------------


def put(cache: Path, name: str, *, image: str = "", age_s: float = 0, mib: int = 1) -> Path:
    place = cache / ("snapshots" if image else "images") / name
    place.mkdir(parents=True)
    (place / "disk").write_bytes(os.urandom(mib * MIB))
    values = {"image": image, "image_digest": image} if image else {"digest": name}
    (place / "manifest.json").write_text(json.dumps(values))
    when = time.time() - age_s
    os.utime(place / "manifest.json", (when, when))
    return place


def settings(cache: Path, limit_mib: int) -> Settings:
    return Settings(cache=cache, state=cache, runtime=cache, cache_limit=limit_mib)


def test_a_survey_finds_what_is_there(tmp_path: Path) -> None:
    put(tmp_path, "i", age_s=HOUR_S)
    put(tmp_path, "s", image="i")
    fd = Shelf(tmp_path / "images").hold("i")
    found = {thing.name: thing for thing in survey(tmp_path)}
    os.close(fd)
    assert found["s"].image == "i"
    assert found["s"].digest == found["i"].digest == "i"
    assert found["i"].in_use
    assert not found["s"].in_use
    assert MIB <= found["i"].size_bytes < 2 * MIB


def test_a_survey_of_nothing_is_empty(tmp_path: Path) -> None:
    assert survey(tmp_path / "none") == ()


def test_a_thing_with_a_broken_manifest_can_still_be_pruned(tmp_path: Path) -> None:
    (put(tmp_path, "i") / "manifest.json").write_text("{")
    assert [gone.name for gone in prune(tmp_path, Limits(keep_bytes=0))] == ["i"]
    assert survey(tmp_path) == ()


def test_pruning_removes_and_a_dry_run_only_tells(tmp_path: Path) -> None:
    put(tmp_path, "old", age_s=2 * HOUR_S)
    put(tmp_path, "new")
    widow = put(tmp_path, "widow", image="gone")
    half = put(tmp_path, ".half.partial")
    limits = Limits(older_than_s=time.time() - HOUR_S)
    told = list(prune(tmp_path, limits, dry_run=True))
    assert widow.exists()
    assert half.exists()
    done = list(prune(tmp_path, limits))
    assert done == told
    assert [(gone.kind, gone.name, gone.why) for gone in done] == [
        ("image", ".half.partial", "left half made by a process that was killed"),
        ("snapshot", "widow", "its image is gone"),
        ("image", "old", "not used for long"),
    ]
    assert all(isinstance(gone, Removed) and gone.size_bytes >= MIB for gone in done)
    assert [thing.name for thing in survey(tmp_path)] == ["new"]
    assert list(prune(tmp_path, limits)) == []


def test_what_somebody_begins_to_use_meanwhile_stays(tmp_path: Path) -> None:
    put(tmp_path, "first", age_s=20)
    put(tmp_path, "second", age_s=10)
    work = prune(tmp_path, Limits(keep_bytes=0))
    assert next(work).name == "first"
    fd = Shelf(tmp_path / "images").hold("second")
    assert list(work) == []
    os.close(fd)
    assert [thing.name for thing in survey(tmp_path)] == ["second"]


# --- by itself --------------------------------------------------------------------------------------


def test_the_cache_is_kept_within_its_limit_and_says_so(tmp_path: Path) -> None:
    for name, age_s in (("old", 4 * HOUR_S), ("older", 5 * HOUR_S), ("new", 2 * HOUR_S)):
        put(tmp_path, name, age_s=age_s)
    said, _ = finish(tidy(settings(tmp_path, 2)))
    assert said == (
        b"[farm: removed the image older from the cache: beyond the limit]\n"
        b"[farm: removed the image old from the cache: beyond the limit]\n"
    )
    assert [thing.name for thing in survey(tmp_path)] == ["new"]


def test_what_was_used_within_the_hour_stays_however_much_it_is(tmp_path: Path) -> None:
    put(tmp_path, "a", mib=3)
    put(tmp_path, "b", age_s=HOUR_S / 2)
    put(tmp_path, "old", age_s=2 * HOUR_S)
    finish(tidy(settings(tmp_path, 1)))
    assert {thing.name for thing in survey(tmp_path)} == {"a", "b"}


@pytest.mark.parametrize("limit_mib", [0, 40], ids=["no limit", "a limit"])
def test_what_a_killed_process_left_half_made_goes_and_what_is_being_made_stays(tmp_path: Path, limit_mib: int) -> None:
    put(tmp_path, "whole")
    for name in ("left", "made"):
        (tmp_path / f"images/.{name}.partial").mkdir()
    with (tmp_path / "images/.made.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said, _ = finish(tidy(settings(tmp_path, limit_mib)))
    assert said == (
        b"[farm: removed the image .left.partial from the cache: left half made by a process that was killed]\n"
    )
    assert {path.name for path in (tmp_path / "images").glob("*") if path.is_dir()} == {"whole", ".made.partial"}


def test_without_a_limit_nothing_is_removed(tmp_path: Path) -> None:
    put(tmp_path, "old", age_s=2 * HOUR_S)
    assert finish(tidy(settings(tmp_path, 0))) == (b"", None)
    assert len(survey(tmp_path)) == 1


def test_nobody_looks_again_before_something_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr("runners.images.prune.survey", lambda cache: looked.append(cache) or ())
    put(tmp_path, "one")
    settled = settings(tmp_path, 40)
    os.utime(tmp_path / "images", (1, 1))  # long before the clock's next step
    finish(tidy(settled))
    finish(tidy(settled))
    assert looked == [tmp_path]
    put(tmp_path, "two")
    later = time.time() + 1
    os.utime(tmp_path / "images", (later, later))
    finish(tidy(settled))
    assert looked == [tmp_path, tmp_path]


def test_a_cache_that_is_not_there_needs_no_tidying(tmp_path: Path) -> None:
    assert finish(tidy(settings(tmp_path / "none", 1))) == (b"", None)
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_removed_is_told_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "old", age_s=2 * HOUR_S, mib=2)

    def refuse(_self: Shelf, name: str) -> bool:
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(Shelf, "remove", refuse)
    said, _ = finish(tidy(settings(tmp_path, 1)))
    assert said.startswith(b"[farm: cannot tidy the cache: ")
