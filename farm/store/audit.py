"""The audit log: who has changed what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert

from farm.model import COMMAND_LINE, Submission
from farm.store import tables as t
from farm.store.events import text_of


def write(db: Connection, actor: str, action: str, target: str, detail: Mapping[str, Any], *, now: datetime) -> None:
    """Somebody changes something, in the transaction of this."""
    row = {"at": text_of(now), "actor": actor, "action": action, "target": target, "detail": dict(detail)}
    db.execute(insert(t.audit), row)


def write_run(db: Connection, run_id: str, submission: Submission, *, key: str | None, now: datetime) -> None:
    """Somebody submits a run, repeats one, or reserves a guest, with an idempotency key where there is one."""
    if submission.reserved_s:
        cell = submission.plan.placements[0].cell.id
        action, detail = "reservation.create", {"cell": cell, "for_s": submission.reserved_s}
    elif submission.rerun_of:
        action, detail = "run.rerun", {"of": submission.rerun_of, "cells": len(submission.plan.placements)}
    else:
        action, detail = "run.submit", {"project": submission.plan.matrix.name}
    write(db, submission.owner or COMMAND_LINE, action, run_id, detail | ({"key": key} if key else {}), now=now)
