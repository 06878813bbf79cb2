"""A simulated executor drives `reconcile` through any order of endings, losses, cancels, restarts and duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from farm import rules, verdict
from farm.lifecycle import (
    PATIENCE_WITH_FULL_HOSTS,
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
        Outcome(verdict=Verdict.ERROR, blame=Blame.INFRA, rule=rules.HOST_FULL, retry=True),
    ]
)
AWAY = verdict.interrupted("the farm was started again")
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
        queue_s=st.none() | st.integers(30, 500),
    )
    def submit(
        self,
        *,
        cells: list[tuple[bool, str]],
        fail_fast: bool,
        max_parallel: int | None,
        retries: tuple[int, int],
        capacity: int,
        queue_s: int | None,
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
            created=self.now,
            queue_s=queue_s,
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

    @rule(data=st.data())
    def a_tick_is_cut_off_in_the_middle(self, data: st.DataObject) -> None:
        commands = self._step().commands
        for command in commands[: data.draw(st.integers(0, len(commands)))]:
            self._apply(command)

    @rule(data=st.data(), outcome=OUTCOMES)
    def what_was_decided_is_done_late_and_twice(self, data: st.DataObject, outcome: Outcome) -> None:
        """Two processes for a moment, as one of them does not know yet that it is to end."""
        commands = self._step().commands
        if self.alive and data.draw(st.booleans()):
            self._end(*data.draw(st.sampled_from(sorted(self.alive))), outcome)
        for command in (*commands, *commands):
            if not self._is_done(command):
                self._apply(command)

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
    def the_controller_is_gone_and_its_workers_with_it(self) -> None:
        self.alive.clear()

    @rule()
    def another_takes_the_run_up(self) -> None:
        self.alive.clear()
        for cell in self.run.cells:
            if attempt := cell.running:
                self._end(cell.id, attempt.number, AWAY)

    @invariant()
    def no_more_run_than_may(self) -> None:
        running = sum(1 for cell in self.run.cells if cell.running)
        assert running <= min(self.capacity, self.run.max_parallel or self.capacity)

    def teardown(self) -> None:
        """Let every attempt fall silent: the run has to come to its end by itself."""
        if not hasattr(self, "run"):
            return
        tries = self.run.retries_infra + self.run.retries_test + PATIENCE_WITH_FULL_HOSTS + 1
        # Each starts, expires, perhaps waits for two rounds, and concludes, with room for one perhaps.
        for _ in range(5 * len(self.run.cells) * tries + 2):
            self.the_controller_is_gone_and_its_workers_with_it()
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
        assert all(one.verdict is Verdict.FAILED or one.retry for one in outcomes)
        assert _tries(outcomes) <= self.run.retries_infra
        spoilt = _spoilt(outcomes)
        if outcomes and outcomes[-1] in spoilt:
            assert self.now >= cell.attempts[-1].since + timedelta(seconds=backoff_s(len(spoilt)))
        since = cell.attempts[-1].since if cell.attempts else self.run.created
        assert since
        assert self.run.queue_s is None or (self.now - since).total_seconds() <= self.run.queue_s
        attempt = AttemptState(number, State.RUNNING, self.now)
        self._put(replace(cell, state=State.RUNNING, attempts=(*cell.attempts, attempt)))
        self.alive.add((cell_id, number))
        self.heard[cell_id] = self.now

    def _is_honest(self, cell: CellState, outcome: Outcome) -> None:
        """A pass is one that was seen, a failure that was seen is not forgotten, and no retry that was left is."""
        seen = [one.outcome for one in cell.attempts if one.outcome]
        failed = any(one.verdict is Verdict.FAILED for one in seen)
        if outcome.verdict is Verdict.PASSED:
            assert seen[-1].verdict is Verdict.PASSED
            assert outcome.flaky == failed
        else:
            assert not outcome.flaky
            assert not failed or outcome.verdict is Verdict.FAILED
            assert not outcome.retry or _tries(seen) > self.run.retries_infra

    def _is_done(self, command: Command) -> bool:
        """Whether the store would not take it any more: what was known first counts."""
        match command:
            case Conclude(cell):
                return self._cell(cell).state is State.FINISHED
            case Finish():
                return self.run.state is State.FINISHED
            case Cancel(cell, number):
                return not self._goes_on(cell, number) or (cell, number) in self.asked
            case Release(cell, number):
                return not self._goes_on(cell, number) or (cell, number) in self.released
            case Expire(cell, number):
                return not self._goes_on(cell, number)

    def _goes_on(self, cell: str, number: int) -> bool:
        running = self._cell(cell).running
        return running is not None and running.number == number

    def _end(self, cell: str, number: int, outcome: Outcome) -> None:
        self.alive.discard((cell, number))
        self._change(cell, number, state=State.FINISHED, outcome=outcome, since=self.now)

    def _cell(self, cell_id: str) -> CellState:
        return next(cell for cell in self.run.cells if cell.id == cell_id)

    def _change(self, cell_id: str, number: int, **changes: object) -> None:
        cell = self._cell(cell_id)
        *before, last = cell.attempts
        assert last.number == number
        self._put(replace(cell, attempts=(*before, replace(last, **changes))))  # type: ignore[arg-type]

    def _put(self, cell: CellState) -> None:
        self.run = replace(self.run, cells=tuple(cell if old.id == cell.id else old for old in self.run.cells))


def _spoilt(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [one for one in outcomes if one.retry and one != AWAY]


def _tries(outcomes: Sequence[Outcome]) -> int:
    """Those that use up a retry: neither what ended with the farm, nor the first that a full host has ended."""
    spoilt = _spoilt(outcomes)
    full = sum(one.rule == rules.HOST_FULL for one in spoilt)
    return len(spoilt) - min(full, PATIENCE_WITH_FULL_HOSTS)


Farm.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestFarm = Farm.TestCase
