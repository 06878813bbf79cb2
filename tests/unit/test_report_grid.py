from farm.model import Cell, CellRecord, Placement, Scalar
from farm.report.document import document
from farm.report.grid import Grid, grid
from tests.unit.records import cell_record, demo_run


def cell(**values: Scalar) -> CellRecord:
    record = cell_record("amd64", "on")
    name = "/".join(str(value) for value in values.values())
    placement = Placement(cell=Cell(id=name, values=values), hypervisor="qemu", emulated=True)
    return record.model_copy(update={"placement": placement, "attempts": ()})


def table(*cells: CellRecord) -> Grid:
    return grid(document(demo_run(cells)).cells)


def test_the_machine_makes_the_rows_and_the_users_axes_the_columns() -> None:
    found = grid(document(demo_run()).cells)
    assert found.corner == "arch"
    assert found.columns == ("bug=off", "bug=on")
    assert [(row.label, row.note) for row in found.rows] == [
        ("amd64", "kvm"),
        ("riscv64", "qemu, emulated"),
        ("s390x", "qemu, emulated"),
    ]
    assert found.common == ("image debian-13",)
    assert [[len(slot) for slot in row.slots] for row in found.rows] == [[1, 1]] * 3


def test_without_axes_of_the_user_the_machine_makes_both() -> None:
    cells = [cell(image=image, arch=arch) for image in ("a", "b") for arch in ("x", "y", "z")]
    found = table(*cells)
    assert (found.corner, found.columns) == ("image", ("x", "y", "z"))
    assert [row.label for row in found.rows] == ["a", "b"]


def test_layers_make_columns_alone_and_with_the_axis_that_they_are_attached_to() -> None:
    cells = [{"image": "a", "arch": arch, "with": layer} for arch in ("x", "y") for layer in ("db", "none")]
    found = table(*(cell(**values) for values in cells))
    assert (found.corner, found.columns) == ("arch", ("db", "none"))
    found = table(*(cell(**values, database=values["with"]) for values in cells))
    assert (found.corner, found.columns) == ("arch", ("db · database=db", "none · database=none"))


def test_one_axis_is_a_list() -> None:
    found = table(*(cell(image="a", arch=arch) for arch in ("x", "y")))
    assert (found.corner, found.columns) == ("arch", ("result",))
    assert len(found.rows) == 2


def test_one_cell_is_a_table_too() -> None:
    found = table(cell(image="a", arch="x"))
    assert (found.corner, found.columns, [row.label for row in found.rows]) == ("cell", ("result",), ["all"])


def test_an_axis_with_too_many_values_goes_to_the_rows() -> None:
    found = table(*(cell(image="a", arch="x", n=n, fast=fast) for n in range(20) for fast in (True, False)))
    assert found.columns == ("fast=true", "fast=false")
    assert len(found.rows) == 20


def test_what_is_not_in_the_matrix_is_an_empty_slot() -> None:
    found = table(cell(image="a", arch="x", bug="on"), cell(image="a", arch="y", bug="off"), cell(image="a", arch="y"))
    assert found.columns == ("bug=on", "bug=off", "bug=–")
    assert [[len(slot) for slot in row.slots] for row in found.rows] == [[1, 0, 0], [0, 1, 1]]


def test_no_cells_make_an_empty_table() -> None:
    assert table().rows == ()
