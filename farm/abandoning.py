"""The end of a run that nobody goes on with: what is under way ends there, and every open cell gets its verdict."""

from __future__ import annotations

from datetime import UTC, datetime

from farm.lifecycle import given_up
from farm.model import AttemptKey, Outcome, State, Verdict
from farm.store import Store
from farm.verdict import after_hold


def abandon(store: Store, run_id: str, otherwise: Outcome) -> None:
    """End a run: cells of which nothing better is known come to `otherwise`. Raises HostError, ConfigError."""
    for cell in store.state(run_id).cells:
        if attempt := cell.running:
            lose(store, AttemptKey(run=run_id, cell=cell.id, number=attempt.number), otherwise)
    for cell in store.state(run_id).cells:
        if cell.state is not State.FINISHED:
            store.finish_cell(run_id, cell.id, given_up(cell, otherwise), now=_now())
    store.finish_run(run_id, now=_now(), cancelled=otherwise.verdict is Verdict.CANCELLED)


def lose(store: Store, key: AttemptKey, otherwise: Outcome) -> Outcome | None:
    """End an attempt that is not waited for any more; gives what it came to, None where it had ended already.

    That is `otherwise`, unless its guest is kept: what it came to was known before that began.
    """
    held = store.holds.of(key)
    known = after_hold(held.evidence, otherwise) if held else otherwise
    return known if store.finish_attempt(key, known, now=_now()) else None


def _now() -> datetime:
    return datetime.now(UTC)
