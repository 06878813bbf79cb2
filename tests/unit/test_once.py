"""A request that comes twice with one key, and what of it is kept to know it again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from sqlalchemy import text

from farm.errors import ConflictError
from farm.model import RunRequest
from farm.once import once
from farm.store import Store
from tests.unit.test_store import NOW, submission

REQUEST = RunRequest(matrix="name: hello", secrets={"PIN": "1234"})


def opened(folder: Path) -> Store:
    return Store.open(f"sqlite:///{folder / 'farm.db'}", folder)


def asked(store: Store, request: RunRequest = REQUEST) -> str:
    """The run that comes of a request of ada's with one key."""
    return once(
        store, request, lambda claim: store.create_run(submission(), now=NOW, claim=claim), owner="ada", key="k"
    ).id


def digest_in(store: Store) -> str:
    with store.engine.connect() as db:
        return str(db.scalar(text("SELECT digest FROM idempotency")))


def test_a_request_is_known_again_after_a_restart(tmp_path: Path) -> None:
    first = opened(tmp_path)
    run = asked(first)
    first.close()
    second = opened(tmp_path)
    assert asked(second) == run
    with pytest.raises(ConflictError, match="it was used for another request"):
        asked(second, REQUEST.model_copy(update={"secrets": {"PIN": "1235"}}))
    second.close()


def test_what_is_kept_of_a_request_cannot_be_worked_out_from_it(tmp_path: Path) -> None:
    """A secret may be a short one: whoever reads the database alone must not be able to try them all."""
    kept = []
    for name in ("a", "b"):
        store = opened(tmp_path / name)
        asked(store)
        kept.append(digest_in(store))
        store.close()
    assert len(set(kept)) == 2  # of the same request: it hangs on the key, and each store has its own
    assert hashlib.sha256(REQUEST.model_dump_json().encode()).hexdigest() not in kept
