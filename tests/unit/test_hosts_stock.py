"""What the farm keeps on a host: what of it may go, whose it is, and how libvirt gets there."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

from farm.errors import ConfigError
from runners.hosts.folders import farm_id
from runners.hosts.libvirtd import dotted, kept_program, ssh_program
from runners.hosts.scripts import script
from runners.hosts.stock import SPARED_S, Kept, chosen, read_kept
from runners.hosts.uri import parse_uri

NOW = 1_000_000.0
GIB = 1024**3


def kept(name: str, age_s: float, *, size: int = GIB, in_use: bool = False) -> Kept:
    return Kept(name, NOW - age_s, size, in_use)


IMAGES = (
    kept("recent", SPARED_S / 2),
    kept("old", 3 * SPARED_S),
    kept("older", 5 * SPARED_S),
    kept("used", 9 * SPARED_S, in_use=True),
)


@pytest.mark.parametrize(
    ("older_than_s", "keep_bytes", "gone"),
    [
        (0.0, float("inf"), []),
        (NOW - 4 * SPARED_S, float("inf"), ["older"]),
        (NOW, float("inf"), ["older", "old"]),
        (0.0, 4 * GIB, []),
        (0.0, 4 * GIB - 1, ["older"]),
        (0.0, 0, ["older", "old"]),
    ],
)
def test_what_is_unused_for_longest_goes_first(older_than_s: float, keep_bytes: float, gone: list[str]) -> None:
    victims = chosen(IMAGES, older_than_s=older_than_s, keep_bytes=keep_bytes, now=NOW)
    assert [one.digest for one in victims] == gone


def test_what_a_host_says_is_read() -> None:
    said = "image aa 100 2048\nimage bb 200 4\nused aa\nused cc\n"
    assert read_kept(said) == (Kept("aa", 100.0, 2048 * 1024, in_use=True), Kept("bb", 200.0, 4096, in_use=False))
    assert read_kept("") == ()


def test_a_farm_has_one_id_however_many_ask(tmp_path: Path) -> None:
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(farm_id(tmp_path / "state"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 1
    assert len(ids[0]) == 16
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["farm-id"]
    assert farm_id(tmp_path / "other") != ids[0]


def test_an_id_that_is_none_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "farm-id").write_text("../../etc")
    with pytest.raises(ConfigError, match="it holds no id of a farm"):
        farm_id(tmp_path)


def test_a_script_gets_its_words_as_they_are() -> None:
    text = script("sweep", pool="/no such'place", other="$(echo evil)")
    assert "pool='/no such'\"'\"'place'\n" in text
    assert "other='$(echo evil)'\n" in text
    assert subprocess.run(["/bin/sh", "-c", text], check=False).returncode == 0


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in Path("runners/hosts/scripts").glob("*.sh")) or ["there are none"]
)
def test_scripts_are_of_the_plain_shell(name: str) -> None:
    assert subprocess.run(["dash", "-n", f"runners/hosts/scripts/{name}.sh"], check=False).returncode == 0


def test_versions_are_written_as_people_do() -> None:
    assert [dotted(number) for number in (11_003_000, 9_000_000, 4_020_002)] == ["11.3.0", "9.0.0", "4.20.2"]


def test_libvirt_runs_ssh_with_our_key_and_a_checked_host(tmp_path: Path) -> None:
    key, known_hosts = tmp_path / "my key", tmp_path / "known hosts"
    key.touch()
    uri = parse_uri(f"qemu+ssh://root@lab/system?keyfile={quote(str(key))}&known_hosts={quote(str(known_hosts))}")
    text = ssh_program(uri)
    assert text.startswith("#!/bin/sh\nexec ssh -F /dev/null ")
    assert text.endswith(f" -i '{key}' \"$@\"\n")
    resolved = subprocess.run(
        ["/bin/sh", "-c", text.replace("exec ssh", "exec ssh -G"), "sh", "lab"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in (
        "stricthostkeychecking true",
        f"userknownhostsfile {known_hosts}",
        "globalknownhostsfile /dev/null",
        "identitiesonly yes",
        f"identityfile {key}",
        "batchmode yes",
    ):
        assert line in resolved.splitlines()


def test_the_program_that_runs_ssh_is_kept_once_and_can_be_run(tmp_path: Path) -> None:
    made = [kept_program(tmp_path, "#!/bin/sh\necho $1\n") for _ in range(2)]
    assert list(tmp_path.iterdir()) == [made[0]]
    assert made[0] == made[1]
    assert subprocess.run([made[0], "ran"], capture_output=True, check=True).stdout == b"ran\n"
