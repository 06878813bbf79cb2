"""What `make bench` makes of a figure, without measuring any."""

from __future__ import annotations

import sys

import pytest

from tests.bench import __main__ as bench
from tests.bench.figures import Aim, Figure


def figure(aim: Aim | None) -> Figure:
    """Three seconds against six."""
    return Figure("something", aim, "s", (3.0, 2.0, 9.0), (6.0,))


@pytest.mark.parametrize(
    ("aim", "shown", "missed"),
    [
        (Aim(0.5), "≤ 0.5", False),
        (Aim(1 / 6), "≤ 0.167, **missed**", True),
        (Aim(3, "s"), "≤ 3 s", False),
        (Aim(2.5, "s"), "≤ 2.5 s, **missed**", True),
        (None, "", False),
    ],
)
def test_a_figure_is_held_against_its_aim(aim: Aim | None, shown: str, missed: bool) -> None:
    assert figure(aim).missed is missed
    assert figure(aim).row().startswith(f"| something | {shown} | 3 s (2–9) | 6 s | 0.500 |")


@pytest.mark.parametrize(("aim", "status"), [(Aim(0.5), 0), (Aim(0.4), 1)])
def test_a_missed_aim_is_the_exit_status_and_what_cannot_be_measured_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], aim: Aim, status: int
) -> None:
    monkeypatch.setattr(bench, "FIGURES", {"one": lambda: iter([figure(aim), figure(None)]), "other": pytest.fail})
    monkeypatch.setattr(bench, "_NEEDED", {"other": ("no-such-program", "some-package")})
    monkeypatch.setattr(sys, "argv", ["bench"])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    said = capsys.readouterr()
    assert int(ended.value.code or 0) == status
    assert said.out.count("| something |") == 2
    assert said.err == "left out: other; there is no no-such-program: apt-get install some-package\n"
