"""The digest of an image names what is in it, so that two builds of the same packages have the same.

The files of an image are not the same each time: a disk holds the moments at which it was filled. So the digest
is made from a listing of the tree that the disk was made from (`listing`), which leaves times out, and from
what else the guest boots with. Whether the files are still what they were is for their own digests to say.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from farm.errors import ImageError
from runners.deadline import Deadline
from runners.guest import TICK, Work
from runners.images import listing
from runners.images.disk import as_root
from runners.images.process import run

_PIECE = 32 * 1024 * 1024


def content_digest(parts: Mapping[str, str]) -> str:
    """The digest of an image: SHA-256 over the digests, or the text, of all that makes its content."""
    return hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()


def tree_digest(
    tree: Path,
    *,
    deadline: Deadline,
    keep_fds: Sequence[int] = (),
    wrap: Callable[[Sequence[str]], tuple[str, ...]] = as_root,
) -> Work[str]:
    """SHA-256 of what is in a tree, with the owners that the disk will have; `wrap`: see `make_disk`.

    Raises DeadlineError, ImageError.
    """
    argv = (sys.executable, "-I", listing.__file__, str(tree))
    ended = yield from run(wrap(argv), deadline=deadline, keep_fds=keep_fds)
    if ended.status:
        said = "\n".join(ended.lines[-3:])
        raise ImageError(f"cannot read what is in an image: the listing ended with {ended.status}: {said}")
    return ended.lines[-1].split()[-1]


def file_digests(folder: Path, names: Sequence[str]) -> Work[dict[str, str]]:
    """The SHA-256 of files in a folder, by their names. Raises OSError."""
    digests = {}
    for name in names:
        whole = hashlib.sha256()
        with (folder / name).open("rb") as file:
            while piece := file.read(_PIECE):
                whole.update(piece)
                yield TICK
        digests[name] = whole.hexdigest()
    return digests
