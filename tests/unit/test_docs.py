"""The documentation is held against the code: what is there is documented, what is documented is there."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from enum import EnumType, StrEnum
from pathlib import Path
from typing import Any

import pytest
import typer

from farm import config
from farm.cli import app
from farm.config import Settings
from farm.matrix import expansion, loads
from farm.model import words
from runners.images.spec import KERNELS, RELEASES
from runners.machines import MACHINES

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PACKAGES = ("farm", "runners")
ENUMS = [
    thing
    for thing in vars(words).values()
    if isinstance(thing, EnumType) and issubclass(thing, StrEnum) and thing is not StrEnum
]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def sections(page: str) -> dict[str, str]:
    """The sections of the second level: heading -> what stands below it."""
    pieces = re.split(r"^## (.+)$", page, flags=re.MULTILINE)[1:]
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def fences(page: str, language: str = r"\w*") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def code(page: str) -> str:
    """All that is set as code, a piece a line."""
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*fences(page), *spans])


def first_column(table: str) -> list[str]:
    """The words in the first column of a table that are set as code."""
    return re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def commands(command: Any, name: tuple[str, ...] = ("farm",)) -> Iterator[tuple[str, Any]]:
    """Every command of the program with its full name; a group only where it does something by itself."""
    inner = getattr(command, "commands", None)
    if inner is None or command.invoke_without_command:
        yield " ".join(name), command
    for word, below in (inner or {}).items():
        yield from commands(below, (*name, word))


def options(command: Any) -> set[str]:
    return {flag for parameter in command.params if parameter.param_type_name == "option" for flag in parameter.opts}


COMMANDS = dict(commands(typer.main.get_command(app)))


# --- pages ------------------------------------------------------------------------------------------


@every_page
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if heading and target.is_file() else []
        if not target.exists() or (heading and heading not in map(anchor, headings)):
            broken.append(link)
    assert broken == []


@every_page
def test_every_command_on_a_page_exists_with_its_options(page: Path) -> None:
    wrong = []
    for line in code(page.read_text(encoding="utf-8")).splitlines():
        for used in re.findall(r"(?:^|(?<=[\s/;&|]))farm ([a-z][^`#|]*)", line):
            name = max((name for name in COMMANDS if f"farm {used} ".startswith(f"{name} ")), key=len, default="")
            unknown = (
                set(re.findall(r"--[a-z-]+", used)) - options(COMMANDS[name]) - {"--help"} if name else {"command"}
            )
            wrong += [f"farm {used}: {sorted(unknown)}"] if unknown else []
    assert wrong == []


@every_page
def test_every_make_target_on_a_page_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    said = page.read_text(encoding="utf-8")
    # The YAML on a page is of matrices, whose `make` is the program under test's.
    lines = "\n".join([*fences(said, "sh"), *re.findall(r"`(make [^`\n]+)`", said)])
    used = {word for words in re.findall(r"^make ([a-z -]+)", lines, re.MULTILINE) for word in words.split()}
    assert used <= targets


@every_page
def test_every_module_on_a_page_exists(page: Path) -> None:
    groups = set(tomllib.loads(text("pyproject.toml"))["project"]["entry-points"])
    found = set(re.findall(r"`((?:farm|runners)\.[a-z_]+(?:\.[A-Za-z_]+)*)`", page.read_text(encoding="utf-8")))
    assert [name for name in sorted(found - groups) if not exists(name)] == []


def exists(name: str) -> bool:
    """Whether a dotted name is a module or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            thing = getattr(thing, part, None)
        return thing is not None
    return False


@every_page
def test_every_path_of_the_tree_on_a_page_exists(page: Path) -> None:
    found = re.findall(r"`((?:farm|runners|tests|docs|\.ci|matrices|api)/[\w./-]*)`", page.read_text(encoding="utf-8"))
    assert [name for name in found if not (ROOT / name).exists()] == []


# --- README.md --------------------------------------------------------------------------------------


def test_the_matrix_in_the_readme_is_one() -> None:
    (example,) = fences(text("README.md"), "yaml")
    matrix = loads(example, file="README.md").matrix
    assert [cell.id for cell in expansion(matrix).cells] == [
        "debian-13/amd64",
        "debian-13/riscv64",
        "debian-13/s390x",
    ]


def test_the_page_of_commands_begins_with_a_list_of_them() -> None:
    assert first_column(text("docs/cli.md").partition("\n## ")[0]) == list(COMMANDS)


@pytest.mark.parametrize("name", ["report.png", "pages.png"])
def test_a_picture_is_small(name: str) -> None:
    assert (ROOT / "docs" / name).stat().st_size < 200 * 1024


# --- ARCHITECTURE.md --------------------------------------------------------------------------------


def modules(package: str) -> set[str]:
    inside = (ROOT / package).iterdir()
    return {
        f"{package}.{path.stem}"
        for path in inside
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").is_file()
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_the_table_of_modules_is_complete_and_true(package: str) -> None:
    listed = [name for name in first_column(sections(text("ARCHITECTURE.md"))["Modules"]) if name.startswith(package)]
    assert sorted(listed) == sorted(modules(package))


# --- docs/ ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)
def test_the_glossary_has_every_member_of_a_vocabulary_in_its_order(enum: type[StrEnum]) -> None:
    (section,) = [body for head, body in sections(text("docs/glossary.md")).items() if f"(`{enum.__name__}`)" in head]
    assert first_column(section) == [member.value for member in enum]


def test_there_is_a_section_for_each_command() -> None:
    assert list(sections(text("docs/cli.md"))) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_documented_with_all_its_options_and_no_others(name: str) -> None:
    listed = {words.split()[0] for words in first_column(sections(text("docs/cli.md"))[name]) if words.startswith("--")}
    assert listed == options(COMMANDS[name])


def variables() -> set[str]:
    """The environment variables that the program itself reads."""
    of_options = {parameter.envvar for command in COMMANDS.values() for parameter in command.params}
    return of_options - {None} | set(re.findall(r"\bFARM_[A-Z]+(?:_[A-Z]+)*\b", inspect.getsource(config)))


def test_every_setting_is_documented_and_no_other() -> None:
    table = text("docs/configuration.md").partition("\n## ")[0]
    assert set(first_column(table)) == variables()


def test_every_field_of_the_settings_is_an_environment_variable() -> None:
    names = {"uri": "FARM_HOST_URI"}
    assert {names.get(field, f"FARM_{field.upper()}") for field in Settings.model_fields} <= variables()


def test_the_page_about_images_lists_every_release_and_architecture() -> None:
    page = text("docs/images.md")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*)$", page, re.MULTILINE))
    assert set(rows) == {*RELEASES, *MACHINES}
    assert all(release in rows[name] for name, release in RELEASES.items())
    assert all(f"`{machine.machine_type}`" in rows[name] for name, machine in MACHINES.items())
    for arch in MACHINES:
        there = {name: KERNELS[release][arch] for name, release in RELEASES.items() if arch in KERNELS[release]}
        _, releases, kernels = rows[arch].split(" | ")
        assert releases.split(", ") == [name.removeprefix("debian-") for name in there]
        assert set(re.findall("`(.*?)`", kernels)) == {kernel.partition(":")[0] for kernel in there.values()}
