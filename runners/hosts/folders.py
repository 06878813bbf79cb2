"""The folders of guests on a host: all that a guest has there, so that removing one folder removes it.

They lie in `ROOT/guests/FARM/NAME`. `FARM` is the id of this farm: two farms that use one host never touch what is not
their own.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
from pathlib import Path
from typing import BinaryIO

from farm.errors import ConfigError, HostError
from runners.deadline import Deadline
from runners.guest import Work
from runners.hosts.command import CommandError
from runners.hosts.link import Link
from runners.hosts.pool import ROOT, Stored
from runners.hosts.scripts import GONE, script

_ID = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def farm_id(state: Path) -> str:
    """The name by which hosts know this farm: random, made once, kept in its state. Raises ConfigError."""
    file = state / "farm-id"
    if not file.exists():
        state.mkdir(parents=True, exist_ok=True)
        fresh = state / f".farm-id-{os.getpid()}-{secrets.token_hex(4)}"
        fresh.write_text(secrets.token_hex(8))
        try:
            file.hardlink_to(fresh)
        except FileExistsError:  # another process was quicker
            pass
        finally:
            fresh.unlink()
    found = file.read_text().strip()
    if not _ID.fullmatch(found):
        raise ConfigError(
            f"cannot use {file}: it holds no id of a farm",
            hint="if no guest of this farm is left on any host, remove it; a new one is made",
        )
    return found


class Folders:
    """The folders of a farm's guests on a host."""

    def __init__(self, link: Link, farm: str, root: str = ROOT) -> None:
        """`farm`: see `farm_id`."""
        self._link = link
        self._root = root
        self._ours = f"{root}/guests/{farm}"

    def make(self, name: str, stored: Stored, owner: Path, deadline: Deadline) -> str:
        """The folder of a new guest; from now on its image stays where it is. Raises HostError.

        `owner` is the ledger of who makes it.
        """
        folder = self.path(name)
        values: dict[str, object] = {
            "root": self._root,
            "pool": f"{self._root}/pool",
            "digest": stored.digest,
            "folder": folder,
            "owner": owner,
        }
        try:
            self._link.run(script("claim", **values), deadline=deadline)
        except CommandError as error:
            cause = "its image is not there any more" if error.status == GONE else error.said
            raise HostError(f"cannot make a guest's folder on {self._link.place}: {cause}", hint="try again") from error
        return folder

    def path(self, name: str) -> str:
        """Where the folder of a guest is, or would be; a name is of small letters, digits and dashes."""
        if not _NAME.fullmatch(name):
            raise ValueError(name)
        return f"{self._ours}/{name}"

    def put(self, name: str, file: str, data: BinaryIO, deadline: Deadline) -> Work[str]:
        """Write a file into a guest's folder; comes to its path there. Raises HostError, FullError, DeadlineError."""
        path = f"{self.path(name)}/{file}"
        yield from self._link.execute(f"umask 077; cat > {shlex.quote(path)}", stdin=data, deadline=deadline)
        return path

    def remove(self, name: str, deadline: Deadline) -> None:
        """Remove all that a guest has there; no harm if there is nothing. Raises HostError."""
        self._link.run(script("discard", folder=self.path(name)), deadline=deadline)

    def owners(self, deadline: Deadline) -> dict[str, Path]:
        """The guests of this farm that have a folder there -> the ledgers of who made them. Raises HostError."""
        said = self._link.run(script("stale", ours=self._ours), deadline=deadline).decode()
        found = (line.split(" ", 1) for line in said.splitlines())
        return {name: Path(owner) for name, owner in found if _NAME.fullmatch(name)}
