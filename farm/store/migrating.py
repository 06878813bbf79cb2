"""Brings the schema of a database up to date, with Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from farm.errors import ConfigError


def migrate(connection: Connection, migrations: Path, what: str) -> None:
    """To the newest revision; `what` is a verb and a thing. Raises ConfigError where the database has a newer one."""
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(
            f"cannot {what}: it was written by a newer version of the farm ({error})",
            hint="update the farm, or set FARM_STATE to another folder",
        ) from error
