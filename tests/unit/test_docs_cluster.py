"""The page about clusters and its units are held against the code."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import typer

from farm.cli import app
from farm.inventory import HostEntry
from farm.node import TOKENS
from runners.hosts.uri import DRIVERS
from tests.lab.cluster import HEAD
from tests.unit.test_docs import fences, sections, text
from tests.unit.test_docs_server import rows

FOLDER = Path(__file__).parents[2] / "docs" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
BIN = "/opt/farm/.venv/bin"


def lines(unit: Path, key: str) -> list[str]:
    """The values of a key, which may stand there several times."""
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


def test_there_is_a_unit_for_each_program() -> None:
    assert [unit.name for unit in UNITS] == ["farm-head.service", "farm-host@.service", "farm-serve.service"]
    assert all(f"(systemd/{unit.name})" in text("docs/cluster.md") for unit in UNITS)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    for unit in UNITS:
        # What is started has to be there for it; where the farm lies is said on the page.
        (tmp_path / unit.name).write_text(re.sub(rf"{BIN}/\w+", "/bin/true", unit.read_text()))
    names = [str(tmp_path / unit.name.replace("@.", "@xen1.")) for unit in UNITS]
    (tmp_path / "farm-host@xen1.service").symlink_to(tmp_path / "farm-host@.service")
    said = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True, check=False)
    ours = [line for line in (said.stdout + said.stderr).splitlines() if "farm-" in line]
    assert ours == []


@pytest.mark.parametrize("name", ["farm-host@.service", "farm-serve.service"])
def test_a_unit_starts_a_command_that_there_is(name: str) -> None:
    (command,) = lines(FOLDER / name, "ExecStart")
    program, *words = shlex.split(command)
    assert program == f"{BIN}/farm"
    found: click.Command = typer.main.get_command(app)
    while isinstance(found, click.Group) or hasattr(found, "commands"):
        found = found.commands[words.pop(0)]
    options = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_head_is_the_one_that_is_tested() -> None:
    (command,) = lines(FOLDER / "farm-head.service", "ExecStart")
    assert set(HEAD) <= set(shlex.split(command))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_unit_has_the_token_and_starts_again(unit: Path) -> None:
    environment = lines(unit, "Environment")
    assert {f"{key}={value}" for key, value in TOKENS.items()} <= set(environment)
    assert "RAY_AUTH_TOKEN_PATH=/etc/farm/ray-token" in environment
    assert lines(unit, "Restart") == ["always"]


def test_a_libvirtd_of_the_machine_itself_has_a_drop_in_that_makes_its_host_root() -> None:
    page = sections(text("docs/cluster.md"))["Ten hosts"]
    (found,) = fences(page, "ini")
    drop_in = configparser.ConfigParser()
    drop_in.optionxform = str  # type: ignore[assignment,method-assign]
    drop_in.read_string(found)
    assert {name: dict(drop_in[name]) for name in drop_in.sections()} == {"Service": {"User": "root"}}
    unit = FOLDER / "farm-host@.service"
    assert f"/etc/systemd/system/{unit.name}.d/root.conf" in page
    assert lines(unit, "User") == ["farm"]
    said = " ".join(re.findall(r"^# (.*)$", unit.read_text(), re.MULTILINE))
    assert "docs/cluster.md" in said
    assert all(f"{driver}:///system" in where for driver in DRIVERS for where in (said, page))


def test_every_key_of_a_host_is_documented_with_its_default() -> None:
    found = rows(sections(text("docs/cluster.md"))["The list of hosts"])
    assert list(found) == list(HostEntry.model_fields)
    for key in ("uri", "labels", "bridge"):
        default = HostEntry.model_fields[key].get_default(call_default_factory=True)
        assert found[key][0] == f"`{json.dumps(default)}`"
