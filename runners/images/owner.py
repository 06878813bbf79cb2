"""Trees whose files belong to every user of an image: written and removed as root, or in a user namespace.

There this user's sub-ids (subuid(5)) are the image's other users: outside of it this user cannot even look into all.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from farm.errors import ImageError

_REMOVE_S = 300


def as_owner(argv: Sequence[str]) -> tuple[str, ...]:
    """A command line that may give files to every user of an image: as root, or in a user namespace.

    What it mounts is seen by it alone, and gone with it: nobody who removes a tree may find the host's /dev in it.
    """
    if os.geteuid() == 0:
        return ("unshare", "--mount", *argv)
    return ("unshare", "--map-root-user", "--map-auto", "--mount", *argv)


def remove_tree(tree: Path) -> None:
    """Remove a tree, if it is there, whoever its files belong to. Raises ImageError."""
    if not tree.exists():
        return
    argv = as_owner(["rm", "-rf", str(tree)])
    try:
        subprocess.run(argv, capture_output=True, text=True, check=True, timeout=_REMOVE_S)
    except subprocess.CalledProcessError as error:
        raise ImageError(f"cannot remove {tree}: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"cannot remove {tree}: {error}") from error
