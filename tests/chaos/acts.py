"""What the cells of the chaos do. The outcome is a function of the cell: what is broken beside it changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from farm.model import Blame, Outcome, Verdict


class Act(NamedTuple):
    """A script, and what it comes to where nothing is broken."""

    script: str
    verdict: Verdict
    blame: Blame | None = None


ACTS: Mapping[str, Act] = MappingProxyType(
    {
        "passes": Act("echo begins\nsleep 1\necho ends", Verdict.PASSED),
        "passes-at-once": Act("echo well", Verdict.PASSED),
        "passes-late": Act("sleep 3\necho well\nsleep 1", Verdict.PASSED),
        "fails": Act("sleep 1\necho broken >&2\nexit 3", Verdict.FAILED, Blame.TEST),
        "fails-at-once": Act("exit 1", Verdict.FAILED, Blame.TEST),
        "crashes": Act("sleep 1\necho c > /proc/sysrq-trigger\nsleep 60", Verdict.FAILED, Blame.GUEST),
    }
)
SOURCE: Mapping[str, bytes] = MappingProxyType({name: f"{act.script}\n".encode() for name, act in ACTS.items()})
"""A file for each."""


def matrix(hypervisor: str, copies: int) -> str:
    """A matrix with so many cells of each act."""
    return f"""\
name: chaos
axes:
  image: [debian-13]
  arch: [amd64]
  hypervisor: [{hypervisor}]
  act: [{", ".join(ACTS)}]
  copy: [{", ".join(f"c{number}" for number in range(copies))}]
guest: {{memory: 256M}}
retries: 8
timeouts: {{test: 120s}}
test: . "./$ACT"
"""


def expected(cell: str) -> Act:
    """What a cell comes to, by its id."""
    return ACTS[next(part for part in reversed(cell.replace("=", "/").split("/")) if part in ACTS)]


def is_true(cell: str, outcome: Outcome) -> bool:
    """Whether an outcome says what the cell's script has really done, or that the infrastructure kept it from that."""
    act = expected(cell)
    spoilt = outcome.verdict is Verdict.ERROR and outcome.blame is Blame.INFRA
    return spoilt or (outcome.verdict, outcome.blame) == (act.verdict, act.blame)
