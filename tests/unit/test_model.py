"""What the types promise each other."""

from __future__ import annotations

from typing import get_args

from farm.model import SCRIPTS, Matrix, Phase, Source, Timeouts
from farm.sources import _KINDS


def test_every_phase_has_a_timeout_and_every_timeout_a_phase() -> None:
    assert set(Timeouts.model_fields) - {"scale", "queue"} == {phase.value for phase in Phase}


def test_every_phase_with_a_script_is_a_key_of_the_matrix() -> None:
    assert {phase.value for phase in SCRIPTS} <= set(Matrix.model_fields)


def test_every_kind_of_source_can_be_resolved() -> None:
    assert set(_KINDS) == set(get_args(Source))
