import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from farm.errors import ConfigError
from runners.images import aliases
from runners.images.spec import RELEASES
from tests.unit.test_images_process import finish

NOWHERE = "http://127.0.0.1:9/debian"


def meaning(alias: str, cache: Path) -> aliases.Meaning:
    with TemporaryDirectory(prefix="fr") as runtime:
        found = finish(aliases.meaning(alias, mirror=NOWHERE, cache=cache, runtime=Path(runtime)))[1]
        assert not list(Path(runtime).glob("s*"))
    return found


def answered(cache: Path, codename: str, *, age_s: float = 0.0) -> None:
    """As if the archive had been asked what stable is."""
    cache.mkdir(exist_ok=True)
    path = cache / f"stable-{aliases.hashlib.sha256(NOWHERE.encode()).hexdigest()[:16]}.json"
    path.write_text(json.dumps({"codename": codename, "at": time.time() - age_s}))


def test_there_is_an_alias_for_each_release_and_each_means_it() -> None:
    assert {aliases.by_table(alias) for alias in aliases.aliases()} == set(RELEASES)
    assert aliases.by_table("debian/stable") == "debian-13"
    assert aliases.by_table("debian/unstable-installed") == "debian-sid-installed"


@pytest.mark.parametrize(("name", "alias"), [("debian/stable", True), ("debian-13", False), ("mydebian", False)])
def test_an_alias_is_known_by_its_beginning(name: str, alias: bool) -> None:
    assert aliases.is_alias(name) is alias


def test_a_slip_of_the_pen_is_an_error_with_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'debian/stabel': there is no such alias") as caught:
        meaning("debian/stabel", tmp_path)
    assert "did you mean debian/stable?" in caught.value.hint


def test_what_the_archive_said_today_counts(tmp_path: Path) -> None:
    answered(tmp_path, "bookworm")
    assert meaning("debian/stable", tmp_path) == ("debian-12", "")
    assert meaning("debian/stable-installed", tmp_path) == ("debian-12-installed", "")


@pytest.mark.parametrize("age_s", [25 * 3600.0, -3600.0], ids=["yesterday", "from the future"])
def test_an_old_answer_is_asked_again_and_the_table_stands_in_with_the_reason(tmp_path: Path, age_s: float) -> None:
    answered(tmp_path, "bookworm", age_s=age_s)
    found = meaning("debian/stable", tmp_path)
    assert found.name == "debian-13"
    assert found.doubt.startswith(f"cannot ask {NOWHERE} what stable is: ")


def test_a_broken_answer_is_none(tmp_path: Path) -> None:
    answered(tmp_path, "bookworm")
    next(tmp_path.glob("*.json")).write_text("{")
    assert meaning("debian/stable", tmp_path).doubt


def test_a_release_that_this_farm_does_not_know_is_an_error(tmp_path: Path) -> None:
    answered(tmp_path, "forky")
    with pytest.raises(ConfigError, match="it means Debian forky by now") as caught:
        meaning("debian/stable", tmp_path)
    assert "debian-13" in caught.value.hint
