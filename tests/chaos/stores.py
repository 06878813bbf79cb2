"""Faults of the store."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import time
from contextlib import closing, suppress
from io import RawIOBase

import psycopg

from farm.store.dialects import WRITERS
from tests.chaos.scene import LONGEST_S, Scene

_FILES = ("farm.db", "farm.db-wal", "farm.db-shm")
_LOCKED_S = (1.0, LONGEST_S, 25.0)
"""Also for longer than anybody waits."""


def full(scene: Scene) -> bool:
    """The file system of the state has no space."""
    if not os.path.ismount(scene.state):
        return False
    ballast = scene.state / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                _fill(file, size)
        time.sleep(scene.dice.uniform(0.5, LONGEST_S))
    finally:
        ballast.unlink(missing_ok=True)
    return True


def locked(scene: Scene) -> bool:
    """Somebody else is in the middle of writing, unless another fault of the volley keeps him from it."""
    with suppress(sqlite3.OperationalError, psycopg.OperationalError):
        if scene.server is None:
            there = f"file:{scene.state / 'farm.db'}?mode=rw"
            with closing(sqlite3.connect(there, uri=True, timeout=30, isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")
                time.sleep(scene.dice.choice(_LOCKED_S))
                db.execute("ROLLBACK")
            return True
        with psycopg.connect(scene.database) as connection:
            connection.execute(f"SELECT pg_advisory_xact_lock({WRITERS})")
            time.sleep(scene.dice.choice(_LOCKED_S))
            return True
    return False


def gone(scene: Scene) -> bool:
    """The file is not where it was; what was made in its place meanwhile is nobody's."""
    away = scene.state / "away"
    away.mkdir()
    try:
        for name in _FILES:
            (scene.state / name).rename(away / name)
        time.sleep(scene.dice.uniform(0.5, LONGEST_S))
    finally:
        for name in _FILES:
            if (away / name).exists():
                (away / name).replace(scene.state / name)
        away.rmdir()
    return True


def stopped(scene: Scene) -> bool:
    """PostgreSQL is stopped, in good order or at once, and started again."""
    assert scene.server
    scene.server.stop(scene.dice.choice((signal.SIGINT, signal.SIGQUIT)))
    try:
        time.sleep(scene.dice.uniform(0.2, LONGEST_S))
    finally:
        scene.server.start()
    return True


def killed(scene: Scene) -> bool:
    """One of its processes that speak to the farm is killed; PostgreSQL ends all others then, and begins anew."""
    found: list[int] = []
    with suppress(psycopg.OperationalError), psycopg.connect(scene.database, autocommit=True) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        found = sorted(pid for (pid,) in connection.execute(query).fetchall())
    if not found:
        return False
    try:
        os.kill(scene.dice.choice(found), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _fill(file: RawIOBase, size: int) -> None:
    try:
        while True:
            file.write(bytes(size))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
