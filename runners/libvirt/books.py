"""What this process has made behind libvirtds: in its ledger before it is made, and destroyed when the process ends."""

from __future__ import annotations

import atexit
import functools
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from farm.config import Settings
from farm.errors import HostError
from runners.ledger import Entry, Ledger, read
from runners.libvirt.remains import KIND, Remains, destroy
from runners.reaper import ensure_reaper


class Books:
    """A ledger, and a folder for what of its guests is kept here."""

    def __init__(self, runtime: Path, session: str) -> None:
        """See `runners.ledger.Ledger`."""
        self._ledger = Ledger(runtime, session)
        self._folder = runtime / secrets.token_hex(4)
        self._own = Entry("folder", str(self._folder))
        self._ledger.add(self._own)
        ensure_reaper(runtime)
        self._folder.mkdir(mode=0o700)

    @property
    def path(self) -> Path:
        """The ledger's."""
        return self._ledger.path

    def open(self, remains: Remains) -> Path:
        """Write down a guest that is about to be made; gives a folder for what of it is kept here."""
        self._ledger.add(remains.entry())
        folder = self._folder / remains.name
        folder.mkdir(mode=0o700)
        return folder

    def strike(self, remains: Remains) -> None:
        """Write down that it is gone."""
        self._ledger.drop(remains.entry())

    def close(self) -> None:
        """Destroy what is left; of what cannot be reached the reaper takes care."""
        for entry in read(self.path):
            if entry.kind == KIND:
                with suppress(HostError):
                    destroy(entry.value)
                    self._ledger.drop(entry)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._ledger.drop(self._own)
        self._ledger.close()


def books(settings: Settings) -> Books:
    """This process' own; closed when the process ends."""
    return _opened(settings.runtime, settings.session)


@functools.cache
def _opened(runtime: Path, session: str) -> Books:
    opened = Books(runtime, session)
    atexit.register(opened.close)
    return opened
