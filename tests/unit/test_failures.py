"""What went wrong in a phase, as evidence: what is made of an error, and of what a guest's console shows."""

from __future__ import annotations

import pytest

from farm.errors import DeadlineError, FarmError, FullError, HypervisorError, LostError, UntrustedError
from farm.model import Ending, Phase
from runners.failures import Where, detail, of_error, of_script
from runners.fake import FakeGuest
from tests.orders import make_order

WHERE = Where(Phase.TEST, builder=False)
PANIC = b"Kernel panic - not syncing: Fatal exception\n"


class Talking(FakeGuest):
    """Its console has said this, and its host may be in trouble."""

    def __init__(self, said: bytes, host: FarmError | None = None) -> None:
        super().__init__(make_order("true\n"))
        self.said, self.host = said, host

    def console(self) -> bytes:
        return self.said

    def trouble(self) -> str:
        if self.host:
            raise self.host
        return ""


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (DeadlineError("cannot test: not done within 2 s"), Ending.TIMEOUT),
        (LostError("cannot test: it is gone"), Ending.LOST),
        (HypervisorError("it refuses"), Ending.FAILED),
        (ZeroDivisionError("division by zero"), Ending.FAILED),
    ],
)
def test_how_a_phase_has_ended_follows_from_its_error(error: Exception, ending: Ending) -> None:
    failure = of_error(error, Talking(b""), WHERE)
    assert (failure.phase, failure.builder, failure.ending) == (Phase.TEST, False, ending)
    assert (failure.error, failure.message) == (type(error).__name__, str(error))


def test_of_a_guest_that_was_lost_the_console_tells_more() -> None:
    lost = LostError("cannot test: it is gone")
    assert of_error(lost, Talking(b"up\n"), WHERE).lines == ("up",)
    crashed = of_error(lost, Talking(b"up\n" + PANIC), WHERE)
    assert crashed.crash
    assert crashed.lines[0] == PANIC.decode().strip()


def test_a_guest_that_sends_what_is_not_accepted_is_no_crash() -> None:
    assert of_error(UntrustedError("not accepted"), Talking(PANIC), WHERE).crash == ""


def test_what_a_guest_suffers_from_its_host_is_the_host_s() -> None:
    full = FullError("the disk is full", hint="make room")
    failure = of_error(LostError("it is gone"), Talking(PANIC, full), WHERE)
    assert (failure.ending, failure.error, failure.crash) == (Ending.LOST, "FullError", "")
    assert failure.message == "the disk is full (make room)"


def test_a_defect_of_the_farm_says_where_it_is() -> None:
    try:
        raise KeyError
    except KeyError as error:
        failure = of_error(error, None, WHERE)
    assert failure.message == "KeyError"
    assert failure.lines[0].startswith("Traceback")


def test_a_script_that_failed_shows_its_last_lines_and_the_crash_behind_them() -> None:
    failure = of_script(3, b"one\ntwo\n", Talking(b""), WHERE)
    assert (failure.ending, failure.exit_status, failure.error, failure.lines) == (Ending.FAILED, 3, "", ("one", "two"))
    crashed = of_script(3, b"one\n", Talking(PANIC + b"more\n"), WHERE)
    assert crashed.crash
    assert crashed.lines == ("one", PANIC.decode().strip())


def test_what_went_wrong_in_the_builder_says_in_which_of_its_phases() -> None:
    lost = LostError("it is gone")
    assert detail(None) == ""
    assert detail(of_script(3, b"", None, WHERE)) == ""
    assert detail(of_error(lost, None, WHERE)) == "it is gone"
    assert detail(of_error(lost, None, Where(Phase.BOOT, builder=True))) == "boot of the builder: it is gone"
    assert detail(of_error(lost, None, Where(Phase.BUILD, builder=True))) == "it is gone"
