"""Secrets of runs: sealed with a key that lies beside the database, read by the controller alone, forgotten early."""

from __future__ import annotations

import hashlib
import hmac
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import Connection, bindparam, delete, insert, select

from farm.errors import ConfigError
from farm.store import tables as t

_KEY = "secret.key"
_OF_RUN = select(t.secrets.c.name, t.secrets.c.sealed).where(t.secrets.c.run == bindparam("run_id"))


class Vault:
    """Seals what goes into the table of secrets, and marks what must be known again."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)
        self._mark = key  # as it is written: Fernet's own two keys are made of other bytes

    @classmethod
    def open(cls, folder: Path) -> Vault:
        """With the key in a folder, which is made if there is none. Raises OSError."""
        path = folder / _KEY
        if not path.exists():
            descriptor, unfinished = tempfile.mkstemp(prefix=f".{_KEY}.", dir=folder)  # for the owner alone
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor is no path
                file.write(Fernet.generate_key())
            try:
                os.link(unfinished, path)  # of several at once, one is the first
            except FileExistsError:
                pass
            finally:
                Path(unfinished).unlink()
        return cls(path.read_bytes())

    def mark(self, text: str) -> str:
        """What tells a text that holds secrets from others: 64 hexadecimal digits.

        Without the key nobody can try out which text it was.
        """
        return hmac.new(self._mark, text.encode(), hashlib.sha256).hexdigest()

    def put(self, db: Connection, run_id: str, secrets: Mapping[str, str]) -> None:
        """Keep the secrets of a run."""
        rows = [
            {"run": run_id, "name": name, "sealed": self._fernet.encrypt(value.encode()).decode()}
            for name, value in secrets.items()
        ]
        if rows:
            db.execute(insert(t.secrets), rows)

    def get(self, db: Connection, run_id: str) -> dict[str, str]:
        """The secrets of a run. Raises ConfigError where the key is another one by now."""
        rows = db.execute(_OF_RUN, {"run_id": run_id})
        try:
            return {name: self._fernet.decrypt(sealed.encode()).decode() for name, sealed in rows}
        except InvalidToken as error:
            raise ConfigError(
                f"cannot unseal the secrets of {run_id}: {_KEY} in the folder of the store is not the key of then",
                hint="put the old key back, or submit the run again",
            ) from error

    def forget(self, db: Connection, run_id: str) -> None:
        """The secrets of a run are not needed any more."""
        db.execute(delete(t.secrets).where(t.secrets.c.run == run_id))
