"""What a server forgets when it is old, and what it keeps."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from farm.errors import NotFoundError
from farm.model import Identity, Push, ResolvedSource, Scope, Triggered
from farm.serverconfig import Keep
from farm.sources.kept import UPLOADING, KeptSources
from farm.store import Store
from farm.store import tables as t
from farm.store.access import Access
from farm.store.database import reading, writing
from farm.store.events import text_of
from farm.store.hooks import Hooks
from farm.tidying import tidy
from tests.unit.documents import cell
from tests.unit.seeded import seed
from tests.unit.test_store import submission

NOW = datetime(2026, 11, 26, tzinfo=UTC)
OLD = NOW - timedelta(days=400)
AMD = "debian-13/amd64"


@pytest.fixture
def sources(tmp_path: Path) -> KeptSources:
    return KeptSources(tmp_path / "sources")


def forgotten(store: Store, sources: KeptSources) -> dict[str, int]:
    return {kind: count for kind, count in tidy(store, sources, Keep(), now=NOW).items() if count}


def kept(sources: KeptSources, digest: str, used: datetime) -> ResolvedSource:
    archive = sources.folder.parent / "some.tar"
    archive.write_bytes(b"tar")
    source = ResolvedSource(kind="upload", description="x", digest=digest, archive=str(archive), files=1, bytes=3)
    made = sources.keep(source)
    os.utime(sources.folder / f"{digest}.json", (used.timestamp(), used.timestamp()))
    return made


def hook(delivery: str) -> Triggered:
    push = Push(
        repository="acme/hello", ref="refs/heads/main", commit="c" * 40, clone_url="https://x.example/hello.git"
    )
    return Triggered(trigger="main", delivery=delivery, also=(f"also {delivery}",), push=push)


def test_old_pushes_that_are_finished_runs_are_forgotten(store: Store, sources: KeptSources) -> None:
    hooks, done = Hooks(store.engine), seed(store, cell(AMD, "passed"))
    going = store.create_run(submission(), now=OLD).id
    for name, at, run in (("old", OLD, done), ("new", NOW, done), ("goes on", OLD, going), ("waits", OLD, None)):
        hooks.take(hook(name), now=at)
        if run:
            hooks.submitted(hook(name), run)
    assert forgotten(store, sources) == {"pushes": 4}  # the old one, and three other names, by which nobody is found
    with reading(store.engine, "look") as db:
        assert set(db.scalars(select(t.hooks.c.delivery).where(t.hooks.c.push.is_not(None)))) == {
            "new",
            "goes on",
            "waits",
        }
    assert [one.delivery for one in hooks.waiting()] == ["waits"]


def test_old_deliveries_that_have_ended_are_forgotten(store: Store, sources: KeptSources) -> None:
    run, base = seed(store, cell(AMD, "passed")), {"target": "notify x", "event": "run-finished", "payload": {}}
    rows = [
        base | {"run": run, "created": text_of(at), "due": due, "done": done}
        for at in (OLD, NOW)
        for due, done in ((None, text_of(at)), (None, None), (text_of(at), None))
    ]
    with writing(store.engine, "seed") as db:
        db.execute(insert(t.deliveries), rows)
    assert forgotten(store, sources) == {"deliveries": 2}


def test_sessions_that_are_over_are_forgotten(store: Store, sources: KeptSources) -> None:
    access = Access(store.engine)
    token, _ = access.create_token("ada", Scope.READ, by="x", now=OLD)
    who = Identity(name="ada", scope=Scope.READ, token=token.id)
    access.open_session(who, now=NOW - timedelta(hours=13), lasts=timedelta(hours=12))
    secret = access.open_session(who, now=NOW - timedelta(hours=2), lasts=timedelta(hours=12))
    assert forgotten(store, sources) == {"sessions": 1}
    assert access.session(secret, now=NOW)


def test_old_sources_go_but_those_that_an_unfinished_run_needs(store: Store, sources: KeptSources) -> None:
    needed, unused, used = "a" * 64, "b" * 64, "c" * 64
    going = kept(sources, needed, OLD)
    kept(sources, unused, OLD)
    kept(sources, used, OLD)
    store.create_run(submission().model_copy(update={"source": going}), now=OLD)
    assert sources.find(used).digest == used  # that is to use it
    assert forgotten(store, sources) == {"sources": 1}
    assert sorted(path.name for path in sources.folder.glob("*")) == sorted(
        f"{digest}.{kind}" for digest in (needed, used) for kind in ("json", "tar")
    )
    with pytest.raises(NotFoundError):
        sources.find(unused)


def test_what_killed_uploads_have_left_is_swept(store: Store, sources: KeptSources) -> None:
    for name, at in (("left", NOW - timedelta(hours=2)), ("under way", NOW - timedelta(seconds=5))):
        path = sources.folder / f"{UPLOADING}{name}"
        path.write_bytes(b"half")
        os.utime(path, (at.timestamp(), at.timestamp()))
    assert forgotten(store, sources) == {"uploads": 1}
    assert [path.name for path in sources.folder.iterdir()] == [f"{UPLOADING}under way"]
