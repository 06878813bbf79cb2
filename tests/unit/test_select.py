from __future__ import annotations

import pytest

from farm.errors import PlanError
from farm.model import Cell
from farm.select import matches, select

CELL = "debian-13/riscv64/qemu/bug=on"


@pytest.mark.parametrize(
    "pattern",
    [
        CELL,
        "debian-13",
        "debian-13/riscv64",
        "debian-13/*/qemu",
        "debian-*/risc?64/[kq]emu/bug=*",
        "*",
        "**",
        "**/bug=on",
        "**/riscv64",
        "debian-13/**/bug=on",
        "debian-13/**/riscv64/**/qemu",
        "**/**/**/**/**/**",
        "debian-13/riscv64/",
    ],
)
def test_a_pattern_matches_segment_by_segment_from_the_front(pattern: str) -> None:
    assert matches(CELL, pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "riscv64",
        "debian-1",
        "debian-13/qemu",
        "Debian-13",
        "debian-13/*/qemu/bug=on/*",
        "debian*qemu",
        "*/qemu",
        "**/kvm",
        "**/bug=on/**/qemu",
        "debian-13//qemu",
    ],
)
def test_a_pattern_matches_no_part_of_a_segment(pattern: str) -> None:
    assert not matches(CELL, pattern)


def test_many_stars_are_no_trap() -> None:
    assert not matches("/".join("a" * 1000), "/".join(["**", "a"] * 200) + "/b")


CELLS = tuple(
    Cell(id=f"debian-13/{arch}/qemu/bug={bug}", values={"image": "debian-13", "arch": arch})
    for arch in ("amd64", "riscv64", "s390x")
    for bug in ("off", "on")
)


def test_without_patterns_every_cell_is_selected() -> None:
    assert select(CELLS, ()) == CELLS


def test_cells_keep_their_order_and_come_once() -> None:
    assert select(CELLS, ("**/bug=on", "debian-13/amd64")) == (CELLS[0], CELLS[1], CELLS[3], CELLS[5])


def test_a_pattern_that_matches_nothing_is_told_with_the_nearest_cells() -> None:
    with pytest.raises(PlanError, match="cannot select 'debian-13/risv64/qemu/bug=on': no cell matches") as caught:
        select(CELLS, ("debian-13/risv64/qemu/bug=on", "debian-13"))
    assert caught.value.hint.startswith("the nearest cells: debian-13/riscv64/qemu/bug=on, ")


def test_a_pattern_like_no_cell_is_told_some_cells() -> None:
    with pytest.raises(PlanError) as caught:
        select(CELLS, ("x",))
    assert caught.value.hint == "the nearest cells: " + ", ".join(cell.id for cell in CELLS[:3])
