"""The cells of a run as a table: any axis on any side, each cell in exactly one place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.heatmap import HeatMap, heatmap
from farm.model import Scalar, State, Verdict
from farm.report.overview import CellBrief
from farm.report.parts import TestCounts

AXES: dict[str, Sequence[Scalar]] = {
    "image": ("debian-13", "debian-12"),
    "arch": ("s390x", "amd64", "riscv64"),
    "bug": (False, True),
}


def cell(values: dict[str, Scalar], hypervisor: str = "qemu") -> CellBrief:
    return CellBrief(
        id="/".join(map(str, values.values())),
        values=values,
        may_fail=False,
        state=State.FINISHED,
        verdict=Verdict.PASSED,
        blame=None,
        rule="passed",
        summary="",
        phase=None,
        hypervisor=hypervisor,
        emulated=True,
        host="h",
        image_digest="",
        attempts=1,
        started=None,
        duration_s=1.0,
        expected_s=None,
        tests=TestCounts(all=1, passed=1, failed=0, error=0, skipped=0),
    )


def cells(axes: dict[str, Sequence[Scalar]] = AXES) -> list[CellBrief]:
    return [cell(dict(zip(axes, values, strict=True))) for values in product(*axes.values())]


def heads(table: HeatMap) -> list[list[tuple[str, int]]]:
    return [[(head.text, head.span) for head in row.heads] for row in table.rows]


def test_the_users_own_axes_are_columns_unless_somebody_says_otherwise() -> None:
    table = heatmap(cells(), AXES)
    assert (table.row_axes, table.column_axes) == (("image", "arch"), ("bug",))
    assert table.common == ("hypervisor qemu",)


@pytest.mark.parametrize("columns", [(), ("arch",), ("image", "bug"), ("image", "arch", "bug"), ("unknown",)])
def test_any_axis_stands_on_the_side_where_it_is_wanted(columns: tuple[str, ...]) -> None:
    table = heatmap(cells(), AXES, columns)
    assert set(table.column_axes) == set(columns) & set(AXES)
    assert {one.id for slot in table.slots() for one in slot.cells} == {one.id for one in cells()}
    assert all(len(slot.cells) == 1 for slot in table.slots())


def test_headings_span_what_belongs_to_them_in_the_order_of_the_matrix() -> None:
    table = heatmap(reversed_(cells()), AXES, ("bug",))
    assert heads(table) == [
        [("debian-13", 3), ("s390x", 1)],
        [("amd64", 1)],
        [("riscv64", 1)],
        [("debian-12", 3), ("s390x", 1)],
        [("amd64", 1)],
        [("riscv64", 1)],
    ]
    assert [[(head.text, head.span) for head in level] for level in table.columns] == [[("false", 1), ("true", 1)]]
    nested = heatmap(cells(), AXES, ("image", "bug")).columns
    assert [[head.span for head in level] for level in nested] == [[2, 2], [1, 1, 1, 1]]


def test_what_is_not_in_the_matrix_is_an_empty_slot() -> None:
    table = heatmap([one for one in cells() if one.id != "debian-12/amd64/True"], AXES, ("bug",))
    assert [slot.id for slot in table.slots() if not slot.cells] == ["s4-1"]


def test_where_the_matrix_leaves_the_hypervisor_open_it_is_what_the_cell_got() -> None:
    table = heatmap([cell({"arch": "amd64"}, "kvm"), cell({"arch": "s390x"}, "qemu")], {"arch": ("amd64", "s390x")})
    assert {axis.name for axis in table.axes} == {"arch", "hypervisor"}


def test_a_run_of_one_cell_is_a_table_of_one() -> None:
    table = heatmap([cell({"arch": "amd64"})], {"arch": ("amd64",)})
    assert (table.columns, table.width, [row.heads for row in table.rows]) == ((), 1, [()])


def test_no_cells_are_no_rows() -> None:
    assert heatmap([], AXES).rows == ()


@given(
    st.dictionaries(
        st.sampled_from(("image", "arch", "hypervisor", "with", "bug", "tls")),
        st.lists(st.sampled_from(("a", "b", "c", 1, True)), min_size=1, max_size=4, unique_by=str),
        min_size=1,
        max_size=4,
    ),
    st.one_of(st.none(), st.lists(st.sampled_from(("image", "arch", "bug", "tls")))),
)
def test_every_cell_is_in_exactly_one_slot_and_every_row_is_as_wide(
    axes: dict[str, Sequence[Scalar]], columns: list[str] | None
) -> None:
    made = cells(axes)
    table = heatmap(made, axes, columns)
    assert sorted(one.id for slot in table.slots() for one in slot.cells) == sorted(one.id for one in made)
    assert {len(row.slots) for row in table.rows} == {table.width}
    assert len({slot.id for slot in table.slots()}) == len(list(table.slots()))
    assert {sum(head.span for head in level) for level in table.columns} <= {table.width}


def reversed_(found: list[CellBrief]) -> list[CellBrief]:
    return found[::-1]
