"""A temporary folder that goes with the process that made it, however that ends."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runners.ledger import Entry, Ledger
from runners.reaper import destroy_folder, ensure_reaper


@contextmanager
def scratch(runtime: Path) -> Iterator[Path]:
    """An empty folder in the runtime folder, for this user alone; removed at the end, or by the reaper.

    Raises ConfigError where the runtime folder is somebody else's.
    """
    ledger = Ledger(runtime)
    folder = runtime / f"s{secrets.token_hex(4)}"
    entry = Entry("folder", str(folder))
    ledger.add(entry)
    try:
        ensure_reaper(runtime)
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        destroy_folder(str(folder))
        ledger.drop(entry)
        ledger.close()
