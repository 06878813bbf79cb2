from __future__ import annotations

import errno
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, text

from farm.errors import ConfigError, ConflictError, FarmError, FullError, HostError
from farm.model import AttemptKey, Heartbeat
from farm.store import Store
from farm.store.database import MIGRATIONS, NEWEST, store_errors
from farm.store.history import History
from farm.store.keys import Claim, Keys
from farm.store.tables import metadata
from tests.unit.test_store import CELLS, NOW, submission

OLD_ROWS = Path(__file__).parents[1] / "data/store/0001.sql"
"""What a farm of the first schema wrote: one run of one cell."""


def url_of(folder: Path, options: str = "") -> str:
    return f"sqlite:///{folder / 'farm.db'}{options}"


def opened(folder: Path, options: str = "") -> Store:
    return Store.open(url_of(folder, options), folder)


def test_the_migrated_schema_is_that_of_the_tables(tmp_path: Path) -> None:
    opened(tmp_path).close()
    engine = create_engine(url_of(tmp_path))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM sqlite_master WHERE name = 'attempts'")) == 1
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_newest_revision_is_that_of_the_last_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == NEWEST


def test_a_store_of_the_first_version_keeps_its_runs(tmp_path: Path) -> None:
    engine = create_engine(url_of(tmp_path))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for statement in OLD_ROWS.read_text(encoding="utf-8").strip().split(";\n"):
            connection.exec_driver_sql(statement)
    engine.dispose()
    store = opened(tmp_path)
    run = store.run("hello-1")
    assert [(cell.id, cell.outcome.verdict) for cell in run.cells if cell.outcome] == [("debian-13/amd64", "passed")]
    (attempt,) = run.cells[0].attempts
    assert (attempt.usage, attempt.cpu_s, len(attempt.phases)) == (None, 0.25, 2)
    assert attempt.facts
    assert (attempt.facts.image, attempt.facts.start, attempt.facts.slowness) == ("debian-13/amd64", "cold", None)
    assert run.submission.plan.matrix.guest.cpu_percent is None
    (tallied,) = History(store.engine).tests("hello", last=1).tests
    assert (tallied.name, tallied.passed, tallied.failed, tallied.skipped) == ("it's one", 1, 0, 0)
    key = AttemptKey(run=run.id, cell=run.cells[0].id, number=2)
    assert store.create_run(submission(name="hello"), now=NOW).id == "hello-2"
    assert not store.record(key, [Heartbeat(at=NOW)])
    store.close()


def test_digests_of_requests_that_were_made_without_a_key_are_forgotten(tmp_path: Path) -> None:
    engine = create_engine(url_of(tmp_path))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        row = {"owner": "ada", "key": "k", "digest": "d" * 64, "created": NOW.isoformat()}
        connection.execute(text("INSERT INTO idempotency VALUES (:owner, :key, :digest, NULL, :created)"), row)
    engine.dispose()
    store = opened(tmp_path)
    with store.engine.connect() as connection:
        assert connection.execute(text("SELECT key, digest FROM idempotency")).all() == [("k", "")]
    with pytest.raises(ConflictError, match="it was used for another request"):
        Keys(store.engine).claim(Claim("ada", "k", "d" * 64), now=NOW)
    store.close()


def test_a_store_is_found_again_as_it_was_left(tmp_path: Path) -> None:
    first = opened(tmp_path)
    run = first.create_run(submission(), now=NOW)
    first.close()
    second = opened(tmp_path)
    assert second.run(run.id) == run
    second.close()


def test_only_the_owner_may_look_into_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    store = opened(folder)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "runs")} == {0o700}
    store.close()


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(0o750)
    opened(folder).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_a_path_may_hold_the_signs_of_ini_files(tmp_path: Path) -> None:
    folder = tmp_path / "100%(here)s"
    opened(folder).close()
    assert (folder / "farm.db").exists()


def test_several_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(6)

    def open_and_create(_: int) -> str:
        together.wait()
        store = opened(tmp_path)
        run = store.create_run(submission(), now=NOW)
        store.close()
        return run.id

    with ThreadPoolExecutor(6) as pool:
        ids = sorted(pool.map(open_and_create, range(6)))
    assert ids == [f"demo-{number}" for number in range(1, 7)]


def test_runs_can_be_read_while_another_process_writes(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    writer.create_run(submission(), now=NOW)
    other = sqlite3.connect(tmp_path / "farm.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM cells")
    reader = opened(tmp_path, "?timeout=0")
    assert len(reader.run("demo-1").cells) == len(CELLS)
    assert reader.runs()[0].cells == len(CELLS)
    other.execute("ROLLBACK")
    other.close()
    for store in (reader, writer):
        store.close()


def test_a_locked_store_says_so(tmp_path: Path) -> None:
    store = opened(tmp_path, "?timeout=0")
    other = sqlite3.connect(tmp_path / "farm.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(HostError, match="cannot store the run: database is locked") as caught:
        store.create_run(submission(), now=NOW)
    assert "another program" in caught.value.hint
    other.execute("ROLLBACK")
    assert store.create_run(submission(), now=NOW).id == "demo-1"
    other.close()
    store.close()


def test_a_full_disk_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    store = opened(tmp_path)
    run = store.create_run(submission(), now=NOW)
    key = AttemptKey(run=run.id, cell=CELLS[0], number=1)
    store.start_attempt(key, now=NOW)
    # SQLite's own way to run full: no page more than there are.
    event.listen(store._engine, "begin", lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 1"))
    many = [f"cell-{number}" for number in range(5_000)]
    with pytest.raises(FullError, match="cannot store the run") as caught:
        store.create_run(submission(*many), now=NOW)
    assert "free some disk space" in caught.value.hint
    assert store.record(key, [Heartbeat(at=NOW)])
    assert [summary.id for summary in store.runs()] == [run.id]
    store.close()


def test_a_store_of_a_newer_farm_is_left_alone(tmp_path: Path) -> None:
    opened(tmp_path).close()
    database = sqlite3.connect(tmp_path / "farm.db")
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.commit()
    with pytest.raises(ConfigError, match="newer version of the farm") as caught:
        opened(tmp_path)
    assert "update the farm" in caught.value.hint
    assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    database.close()


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "farm.db").write_text("my diary\n" * 200)
    with pytest.raises(ConfigError, match="not a database") as caught:
        opened(tmp_path)
    assert "FARM_STATE" in caught.value.hint
    assert (tmp_path / "farm.db").read_text().startswith("my diary")


def test_a_database_where_nothing_can_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot open the store"):
        Store.open(f"sqlite:///{tmp_path / 'nowhere' / 'farm.db'}", tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(HostError, match="cannot open the store in"):
        opened(tmp_path / "state")


@pytest.mark.parametrize("url", ["", "nonsense", "nosuch:///x", "mysql://u:secret@h/d"])
def test_a_database_that_is_not_supported_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="cannot open the store") as caught:
        Store.open(url, tmp_path)
    assert "sqlite:///" in caught.value.hint
    assert "secret" not in str(caught.value)


def test_a_disk_that_is_full_for_files_is_full() -> None:
    with pytest.raises(FullError, match="cannot write it: No space left on device"), store_errors("write it"):
        Path("/dev/full").write_bytes(b"x")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, FullError),
        (errno.EDQUOT, FullError),
        (errno.EACCES, ConfigError),
        (errno.EROFS, ConfigError),
        (errno.EIO, HostError),
    ],
)
def test_errors_of_the_file_system_are_the_farms(code: int, kind: type[FarmError]) -> None:
    with pytest.raises(FarmError, match="cannot write it") as caught, store_errors("write it"):
        raise OSError(code, "why")
    assert type(caught.value) is kind
    assert caught.value.hint


def test_a_file_that_is_moved_away_is_missed_and_comes_back(tmp_path: Path) -> None:
    """SQLite would go on with it, or make an empty one in its place."""
    store, file = opened(tmp_path), tmp_path / "farm.db"
    store.create_run(submission(), now=NOW)
    away = tmp_path / "away"
    file.rename(away)
    for _ in range(2):
        with pytest.raises(ConfigError, match="cannot read the runs"):
            store.runs()
        assert not file.exists(), "none is made in its place"
    away.rename(file)
    assert [run.id for run in store.runs()] == ["demo-1"]
    store.close()


def test_a_store_whose_file_is_gone_is_no_new_one(tmp_path: Path) -> None:
    store = opened(tmp_path)
    key = AttemptKey(run=store.create_run(submission(), now=NOW).id, cell=CELLS[0], number=1)
    store.files.of(key).mkdir(parents=True)
    store.close()
    (tmp_path / "farm.db").unlink()
    with pytest.raises(ConfigError, match="is gone, though there are files of runs beside it"):
        opened(tmp_path)
