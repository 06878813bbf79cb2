"""Who asks twice with the same idempotency key gets what the first request has made."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import BaseModel

from farm.model import RunRecord
from farm.store import Store
from farm.store.keys import Claim, Keys


def once(
    store: Store, request: BaseModel, make: Callable[[Claim | None], RunRecord], *, owner: str, key: str | None
) -> RunRecord:
    """The run that a request makes, or has made. `make` stores the claim with it.

    Raises ConflictError where the key was used for another request, BusyError where that one is being worked on, and
    what `make` raises; then the key is free again.
    """
    if key is None:
        return make(None)
    claim = Claim(owner, key, store.mark(request.model_dump_json()))
    keys = Keys(store.engine)
    if made := keys.claim(claim, now=datetime.now(UTC)):
        return store.outline(made)
    try:
        return make(claim)
    except BaseException:
        keys.release(claim)
        raise
