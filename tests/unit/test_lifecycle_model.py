"""A simulated executor drives `reconcile` through any order of endings, losses, cancels and restarts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from farm import verdict
from farm.lifecycle import (
    AttemptState,
    Cancel,
    CellState,
    Command,
    Conclude,
    Expire,
    Finish,
    Release,
    RunState,
    Step,
    backoff_s,
    reconcile,
)
from farm.model import Blame, Outcome, State, Verdict

OUTCOMES = st.sampled_from(
    [
        Outcome(verdict=Verdict.PASSED),
        Outcome(verdict=Verdict.FAILED, blame=Blame.TEST),
        Outcome(verdict=Verdict.ERROR, blame=Blame.INFRA),
        Outcome(verdict=Verdict.ERROR, blame=Blame.INFRA, retry=True),
    ]
)
LEASE = timedelta(seconds=60)
CELLS = st.lists(
    st.builds(lambda may, problem: (may, problem), st.booleans(), st.sampled_from(["", "", "no host"])), max_size=5
)


class Farm(RuleBasedStateMachine):
    """What the store and the executor would be, in memory; each command is carried out as soon as it is given."""

    @initialize(
        cells=CELLS,
        fail_fast=st.booleans(),
        max_parallel=st.none() | st.integers(1, 3),
        retries=st.tuples(st.integers(0, 2), st.integers(0, 2)),
        capacity=st.integers(1, 4),
    )
    def submit(
        self,
        cells: list[tuple[bool, str]],
        fail_fast: bool,
        max_parallel: int | None,
        retries: tuple[int, int],
        capacity: int,
    ) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)
        self.capacity = capacity
        self.alive: set[tuple[str, int]] = set()
        self.heard: dict[str, datetime] = {}
        """When the running attempt of a cell has beaten last."""
        self.asked: list[tuple[str, int]] = []
        self.released: set[tuple[str, int]] = set()
        self.concluded: list[str] = []
        self.run = RunState(
            tuple(CellState(f"c{number}", may_fail=may, problem=why) for number, (may, why) in enumerate(cells)),
            fail_fast=fail_fast,
            max_parallel=max_parallel,
            retries_infra=retries[0],
            retries_test=retries[1],
        )

    @rule()
    def tick(self) -> None:
        step = self._step()
        for command in step.commands:
            self._apply(command)
        limit = min(self.capacity, self.run.max_parallel or self.capacity)
        room = limit - sum(1 for cell in self.run.cells if cell.running)
        for cell in step.waiting[: max(0, room)]:
            self._start(cell.id, len(cell.attempts) + 1)

    @rule()
    def ticking_twice_asks_for_nothing_twice(self) -> None:
        self.tick()
        before = len(self.asked)
        again = self._step()
        assert not [command for command in again.commands if isinstance(command, Cancel | Release)]
        assert len(self.asked) == before

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), outcome=OUTCOMES)
    def an_attempt_ends(self, data: st.DataObject, outcome: Outcome) -> None:
        cell, number = data.draw(st.sampled_from(sorted(self.alive)))
        self._end(cell, number, outcome)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def a_worker_dies_in_silence(self, data: st.DataObject) -> None:
        self.alive.discard(data.draw(st.sampled_from(sorted(self.alive))))

    @rule(seconds=st.integers(1, 100))
    def time_passes_and_the_living_beat(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.heard |= {cell: self.now for cell, _ in self.alive}

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), seconds=st.integers(0, 200))
    def a_guest_is_held_or_its_end_is_moved(self, data: st.DataObject, seconds: int) -> None:
        cell, number = data.draw(st.sampled_from(sorted(self.alive)))
        if (cell, number) not in self.released:
            self._change(cell, number, held_until=self.now + timedelta(seconds=seconds))

    @rule()
    def somebody_cancels(self) -> None:
        self.run = replace(self.run, cancel_requested=True)

    @precondition(lambda self: self.run.cells)
    @rule(data=st.data())
    def somebody_cancels_a_cell(self, data: st.DataObject) -> None:
        cell = self._cell(data.draw(st.sampled_from([one.id for one in self.run.cells])))
        self._put(replace(cell, cancel_requested=True))

    @rule()
    def the_controller_restarts_and_its_workers_are_gone(self) -> None:
        self.alive.clear()

    @invariant()
    def no_more_run_than_may(self) -> None:
        running = sum(1 for cell in self.run.cells if cell.running)
        assert running <= min(self.capacity, self.run.max_parallel or self.capacity)

    def teardown(self) -> None:
        """Let every attempt fall silent: the run has to come to its end by itself."""
        if not hasattr(self, "run"):
            return
        attempts = len(self.run.cells) * (self.run.retries_infra + self.run.retries_test + 1)
        for _ in range(3 * attempts + 2):  # each starts, expires and concludes, with room for one perhaps
            self.the_controller_restarts_and_its_workers_are_gone()
            self.now += timedelta(seconds=61)
            self.tick()
        self.tick()
        assert self.run.state is State.FINISHED
        assert sorted(self.concluded) == sorted(cell.id for cell in self.run.cells)
        assert self._step() == Step()

    def _step(self) -> Step:
        silent = {cell for cell, at in self.heard.items() if self.now - at > LEASE}
        return reconcile(self.run, now=self.now, silent=silent)

    def _apply(self, command: Command) -> None:
        match command:
            case Cancel(cell, number, reason):
                assert reason
                assert (cell, number) not in self.asked
                self.asked.append((cell, number))
                self._change(cell, number, cancel_asked=True)
            case Release(cell, number):
                assert not self.run.cancel_requested
                assert (cell, number) not in self.released
                held = self._cell(cell).attempts[-1].held_until
                assert held is not None
                assert held <= self.now
                self.released.add((cell, number))
                self._change(cell, number, held_until=None)
            case Expire(cell, number):
                assert (cell, number) not in self.alive
                self._end(cell, number, verdict.lost_attempt("killed"))
            case Conclude(cell, outcome):
                assert not self._cell(cell).running
                self._is_honest(self._cell(cell), outcome)
                self.concluded.append(cell)
                self._put(replace(self._cell(cell), state=State.FINISHED, outcome=outcome))
            case Finish():
                assert all(cell.outcome for cell in self.run.cells)
                self.run = replace(self.run, state=State.FINISHED)

    def _start(self, cell_id: str, number: int) -> None:
        cell = self._cell(cell_id)
        assert not self.run.cancel_requested
        assert cell.state is not State.FINISHED
        assert not cell.problem
        assert not cell.running
        assert not cell.cancel_requested
        assert number == len(cell.attempts) + 1
        outcomes = [one.outcome for one in cell.attempts if one.outcome]
        assert sum(one.verdict is Verdict.FAILED for one in outcomes) <= self.run.retries_test
        assert sum(one.retry for one in outcomes) <= self.run.retries_infra
        assert all(one.verdict is Verdict.FAILED or one.retry for one in outcomes)
        if outcomes and outcomes[-1].retry:
            tries = sum(one.retry for one in outcomes)
            assert self.now >= cell.attempts[-1].since + timedelta(seconds=backoff_s(tries))
        attempt = AttemptState(number, State.RUNNING, self.now)
        self._put(replace(cell, state=State.RUNNING, attempts=(*cell.attempts, attempt)))
        self.alive.add((cell_id, number))
        self.heard[cell_id] = self.now

    @staticmethod
    def _is_honest(cell: CellState, outcome: Outcome) -> None:
        """A pass is one that was seen, and a failure that was seen is not forgotten."""
        seen = [one.outcome for one in cell.attempts if one.outcome]
        failed = any(one.verdict is Verdict.FAILED for one in seen)
        if outcome.verdict is Verdict.PASSED:
            assert seen[-1].verdict is Verdict.PASSED
            assert outcome.flaky == failed
        else:
            assert not outcome.flaky
            assert not failed or outcome.verdict is Verdict.FAILED

    def _end(self, cell: str, number: int, outcome: Outcome) -> None:
        self.alive.discard((cell, number))
        self._change(cell, number, state=State.FINISHED, outcome=outcome)

    def _cell(self, cell_id: str) -> CellState:
        return next(cell for cell in self.run.cells if cell.id == cell_id)

    def _change(self, cell_id: str, number: int, **changes: object) -> None:
        cell = self._cell(cell_id)
        *before, last = cell.attempts
        assert last.number == number
        self._put(replace(cell, attempts=(*before, replace(last, **changes))))  # type: ignore[arg-type]

    def _put(self, cell: CellState) -> None:
        self.run = replace(self.run, cells=tuple(cell if old.id == cell.id else old for old in self.run.cells))


Farm.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestFarm = Farm.TestCase
