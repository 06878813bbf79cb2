"""From an event of a run to deliveries: who of farm.toml is told, and what. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from farm.model import RESERVATION, DeliveryRecord, EventRecord, NewDelivery, RunRecord, State, TestStatus, Triggered
from farm.report.overview import Overview, overview
from farm.triggers.messages import links, message
from farm.triggers.settings import Notify, Status, Trigger
from farm.triggers.statuses import BY_EXIT_CODE, CommitStatus, status
from farm.verdict import exit_code

KINDS = frozenset({"run-submitted", "run-finished"})
"""The events that others may be told of."""


class Targets(Protocol):
    """What farm.toml says about who is told: `farm.serverconfig.ServerConfig`."""

    @property
    def public_url(self) -> str:
        """What others reach the server by."""

    @property
    def trigger(self) -> tuple[Trigger, ...]:
        """The triggers."""

    @property
    def notify(self) -> tuple[Notify, ...]:
        """Who gets webhooks."""

    @property
    def status(self) -> tuple[Status, ...]:
        """Which forges get statuses."""


@dataclass(frozen=True)
class Happened:
    """An event, and what has to be known about its run."""

    event: EventRecord
    run: RunRecord
    before: tuple[RunRecord, ...]
    """The runs that this one repeats cells of, the first one first."""
    counts: Mapping[tuple[str, int], Mapping[TestStatus, int]]
    """How many tests had which result, by cell and number of the attempt."""
    hook: Triggered | None
    """The push that the first of the runs was made for."""

    @property
    def project(self) -> str:
        """The matrix' name."""
        return self.run.submission.plan.matrix.name


def deliveries(happened: Happened, targets: Targets) -> tuple[NewDelivery, ...]:
    """Everything that is to be told, and to whom; of a reserved machine nothing, since that is no result."""
    if RESERVATION in happened.run.submission.labels:
        return ()
    seen = overview(happened.run, happened.counts)
    return (*_webhooks(happened, targets, seen), *_statuses(happened, targets, seen))


def replaces(new: NewDelivery, old: DeliveryRecord) -> bool:
    """Whether something new makes an older delivery to the same target pointless: of statuses the last one counts."""
    if not new.target.startswith("status "):
        return False
    return CommitStatus.model_validate(new.payload).same_place(CommitStatus.model_validate(old.payload))


def whole(run: RunRecord, before: Sequence[RunRecord]) -> RunRecord:
    """A run of some cells, with the others as the runs before have left them.

    So that a commit does not become green because the one cell that was repeated did.
    """
    cells = {cell.id: cell for one in (*before, run) for cell in one.cells}
    return run.model_copy(update={"cells": tuple(cells.values())})


def _webhooks(happened: Happened, targets: Targets, seen: Overview) -> list[NewDelivery]:
    event = happened.event
    return [
        NewDelivery(
            target=one.target,
            event=event.kind,
            payload=message(event, seen, hook=happened.hook, public_url=targets.public_url).model_dump(mode="json"),
        )
        for one in targets.notify
        if one.wants(event.kind, happened.project)
    ]


def _statuses(happened: Happened, targets: Targets, seen: Overview) -> list[NewDelivery]:
    hook = happened.hook
    trigger = next((one for one in targets.trigger if hook and one.name == hook.trigger), None)
    if hook is None or trigger is None:
        return []
    wanted = [one for one in targets.status if one.wants(trigger, hook.push.repository)]
    return [
        NewDelivery(
            target=one.target,
            event=happened.event.kind,
            payload=_status(happened, hook, one, seen, targets.public_url).model_dump(mode="json"),
        )
        for one in wanted
    ]


def _status(happened: Happened, hook: Triggered, told: Status, seen: Overview, public_url: str) -> CommitStatus:
    run = happened.run
    finished = run.state is State.FINISHED and happened.event.kind == "run-finished"
    return status(
        hook.push,
        context=told.context.replace("{project}", happened.project),
        state=BY_EXIT_CODE[exit_code(whole(run, happened.before))] if finished else "pending",
        description=f"{run.id}: {seen.run.headline if finished else f'{len(run.cells)} cells to run'}",
        link=links(run.id, public_url).get("page", ""),
    )
