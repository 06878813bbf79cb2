"""How much room a tree needs in an ext4: a program that prints it as two numbers.

It is run like the one that makes the disk (`make_disk`), because a folder may be closed to this user that is not
to the image's own. It imports nothing that is not Python's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple, NoReturn

BLOCK = 4096


class Usage(NamedTuple):
    """What a tree needs in an ext4: blocks of 4 KiB, and inodes."""

    blocks: int
    inodes: int


def usage(tree: Path) -> Usage:
    """What a tree needs; a file with several names is counted for each. Raises OSError."""
    blocks = inodes = 1
    for folder, folders, names in os.walk(tree, onerror=_fail):
        inodes += len(folders) + len(names)
        blocks += len(folders)
        for name in names:
            blocks += -(-os.lstat(Path(folder, name)).st_size // BLOCK)
    return Usage(blocks, inodes)


def _fail(error: OSError) -> NoReturn:
    raise error


if __name__ == "__main__":
    print(*usage(Path(sys.argv[1])))  # noqa: T201 -- its way to speak
