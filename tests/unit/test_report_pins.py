"""What an alias was settled to is in the reports."""

import json

import pytest

from farm.model import ImageSpec, RunRecord
from farm.report import render
from tests.unit.records import cell_record, demo_run, read_log

PINNED = "ab" * 32


@pytest.fixture
def run() -> RunRecord:
    """Three cells, two of an alias."""
    cells = []
    for arch, bug in (("s390x", "off"), ("s390x", "on")):
        record = cell_record(arch, bug)
        values = {**record.placement.cell.values, "image": "debian/stable"}
        placement = record.placement.model_copy(
            update={
                "cell": record.placement.cell.model_copy(update={"values": values}),
                "pinned": ImageSpec(name="debian-13", arch=arch, digest=PINNED),
            }
        )
        cells.append(record.model_copy(update={"placement": placement}))
    return demo_run((*cells, cell_record("amd64", "off")))


def test_the_document_has_name_and_digest_for_cells_of_an_alias_alone(run: RunRecord) -> None:
    cells = json.loads(render("json", run, read_log))["cells"]
    assert cells[0]["pinned"] == {"name": "debian-13", "arch": "s390x", "digest": PINNED}
    assert cells[0]["values"]["image"] == "debian/stable"
    assert cells[2]["pinned"] is None


def test_the_summary_tells_each_alias_once(run: RunRecord) -> None:
    lines = [line for line in render("markdown", run, read_log).splitlines() if "debian/stable` on" in line]
    assert lines == [f"`debian/stable` on s390x was debian-13, digest `{PINNED}`."]


def test_the_page_tells_it_in_each_cell(run: RunRecord) -> None:
    page = render("html", run, read_log)
    assert page.count("<code>debian/stable</code> meant debian-13") == 2
    assert PINNED in page
