"""Which farm a command asks, and what it has of it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from farm.cli import app as program
from farm.cli import local
from farm.cli.farms import Farm, at_a_farm, farm_at
from farm.cli.remote import RemoteFarm, _in_the_clear
from farm.config import load_token
from farm.errors import ConfigError, NotFoundError
from farm.schedule import Limits
from farm.select import choose

SELDOM = {"alembic", "fastapi", "libvirt", "paramiko", "pip", "psycopg", "ray", "uvicorn"}
CELLS = ["debian-13/amd64", "debian-13/s390x"]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_STATE", str(tmp_path / "state"))
    for name in ("FARM_SERVER", "FARM_TOKEN", "FARM_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_the_program_tells_its_version() -> None:
    assert CliRunner().invoke(program, ["--version"]).output == f"{version('validation-farm')}\n"


def test_a_command_imports_nothing_that_takes_long_and_that_few_need() -> None:
    loaded = f"import farm.cli, sys; print({SELDOM!r} & sys.modules.keys())"
    told = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


def test_a_command_at_a_farm_has_its_own_options_and_those_that_say_which() -> None:
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @at_a_farm
    def look(farm: Farm, what: str, *, often: int = 1) -> None:
        """Look at something."""
        typer.echo(f"{type(farm).__name__} {what} {often}")

    runner = CliRunner()
    assert runner.invoke(app, ["it", "--often", "2"]).output == "LocalFarm it 2\n"
    assert runner.invoke(app, ["it", "--server", "http://127.0.0.1:1"]).output == "RemoteFarm it 1\n"
    assert runner.invoke(app, ["it"], env={"FARM_SERVER": "http://127.0.0.1:1"}).output == "RemoteFarm it 1\n"
    assert runner.invoke(app, ["it"], env={"FARM_SERVER": ""}).output == "LocalFarm it 1\n"
    assert "Look at something." in runner.invoke(app, ["--help"]).output


def test_a_server_is_not_asked_before_there_is_something_to_ask() -> None:
    with farm_at("http://127.0.0.1:1", None) as farm:
        assert isinstance(farm, RemoteFarm)


@pytest.mark.parametrize(
    ("url", "clear"),
    [
        ("http://farm.example", True),
        ("http://192.0.2.1:8080", True),
        ("https://farm.example", False),
        ("http://localhost:8080", False),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("http://127.0.0.1.example", True),
    ],
)
def test_a_token_is_sent_in_the_clear_only_where_nobody_is_between(url: str, clear: bool) -> None:
    assert _in_the_clear(url) == clear


def test_a_token_comes_from_a_file_before_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("farm_x\n")
    environ = {"FARM_TOKEN": " farm_y "}
    assert (load_token(file, environ), load_token(None, environ), load_token(None, {})) == ("farm_x", "farm_y", "")


@pytest.mark.parametrize("text", ["two words", "two\nlines", "fárm", "a\tb"])
def test_what_is_no_token_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(ConfigError, match="token") as refused:
        load_token(file, {})
    assert text not in refused.value.message


def test_a_token_s_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_token(tmp_path / "nothing", {})


@pytest.mark.parametrize("pattern", ["*/s390x", "debian-13/s390x", "**/s390x"])
def test_a_glob_chooses_a_cell(pattern: str) -> None:
    assert choose(CELLS, pattern, "r-1") == "debian-13/s390x"


@pytest.mark.parametrize(("pattern", "problem"), [("debian-13", "2 cells match"), ("x", "no cell matches")])
def test_a_glob_that_means_no_single_cell_is_told_with_the_cells(pattern: str, problem: str) -> None:
    with pytest.raises(NotFoundError, match=problem) as error:
        choose(CELLS, pattern, "r-1")
    assert error.value.hint == f"one of: {', '.join(CELLS)}"


def test_explain_knows_the_limits_of_the_servers_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "farm.toml"
    told.write_text("guests_per_user = 3\n[guests_of]\nann = 1\n")
    assert local._limits() == Limits()
    monkeypatch.setenv("FARM_CONFIG", str(told))
    assert local._limits() == Limits(each=3, of={"ann": 1})
