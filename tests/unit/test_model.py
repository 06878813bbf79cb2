"""What the types promise each other."""

from __future__ import annotations

from typing import get_args

from farm.model import SCRIPTS, Cell, Matrix, Phase, Placement, Source, Timeouts
from farm.sources import _KINDS


def test_every_phase_has_a_timeout_and_every_timeout_a_phase() -> None:
    assert set(Timeouts.model_fields) - {"scale", "queue"} == {phase.value for phase in Phase}


def test_every_phase_with_a_script_is_a_key_of_the_matrix() -> None:
    assert {phase.value for phase in SCRIPTS} <= set(Matrix.model_fields)


def test_every_kind_of_source_can_be_resolved() -> None:
    assert set(_KINDS) == set(get_args(Source))


def test_hosts_that_are_the_same_for_all_cells_are_kept_once() -> None:
    cells = [Cell(id=name, values={}) for name in ("a", "b")]
    texts = [Placement(cell=cell, hosts=("h1", "h2")).model_dump_json() for cell in cells]
    first, second = (Placement.model_validate_json(text) for text in texts)
    assert first.hosts == ("h1", "h2")
    assert first.hosts is second.hosts
