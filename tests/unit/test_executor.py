"""What a task sends together; how Ray carries it is tested with a real one in tests/e2e."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime

import pytest

from farm.executor import together
from farm.model import AttemptEnded, Ending, Event, Evidence, Heartbeat, Phase, PhaseEnded, PhaseStarted, Placed

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PLACED = Placed(at=NOW, host="h")
BEATS = Heartbeat(at=NOW)
ENDED = AttemptEnded(at=NOW, evidence=Evidence())


def starts(phase: Phase) -> Event:
    return PhaseStarted(at=NOW, phase=phase)


def ends(phase: Phase, ending: Ending = Ending.OK) -> Event:
    return PhaseEnded(at=NOW, phase=phase, ending=ending, duration_s=1.0)


def saying(*events: Event, error: type[BaseException] | None = None) -> Generator[Event, None, None]:
    for event in events:  # noqa: UP028 - as a runner does
        yield event
    if error:
        raise error


def test_the_end_of_a_phase_comes_with_the_beginning_of_the_next() -> None:
    boot, test = starts(Phase.BOOT), starts(Phase.TEST)
    told = saying(boot, BEATS, ends(Phase.BOOT), test, ends(Phase.TEST), ENDED)
    assert list(together((PLACED,), told)) == [
        (PLACED, boot),
        (BEATS,),
        (ends(Phase.BOOT), test),
        (ends(Phase.TEST), ENDED),
    ]


def test_what_is_said_last_is_not_lost_without_a_last_word() -> None:
    assert list(together((PLACED,), saying())) == [(PLACED,)]
    assert list(together((PLACED,), saying(ends(Phase.BOOT)))) == [(PLACED, ends(Phase.BOOT))]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_how_a_phase_ended_is_told_before_the_attempt_breaks_off(error: type[BaseException]) -> None:
    last = ends(Phase.TEST, Ending.CANCELLED)
    events = together((PLACED,), saying(BEATS, last, error=error))
    assert [next(events), next(events)] == [(PLACED, BEATS), (last,)]
    with pytest.raises(error):
        next(events)


def test_the_attempt_is_closed_with_it() -> None:
    closed: list[bool] = []

    def attempt() -> Generator[Event, None, None]:
        try:
            yield BEATS
            yield BEATS
        finally:
            closed.append(True)

    events = together((PLACED,), attempt())
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert closed == [True]
