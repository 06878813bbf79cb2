"""The source distribution of a Python package as a source, fetched by pip without running any of its code.

`pip download` will not do: it always prepares a package's metadata, for which it runs the `setup.py` or the
build backend of the package, here, outside of any guest. So `pip_fetch.py`, in a process of its own, asks
pip's own finder for the file and has pip's own session download it. Everything that a person has configured
for pip counts as it does for `pip install`: indexes, extra indexes, links, proxies, certificates, credentials.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from farm.errors import SourceError
from farm.model import PypiSource
from farm.sources.cached import scratch
from farm.sources.programs import run
from farm.sources.tarball import unpacked
from farm.sources.tree import Limits, Tree

_FETCH = Path(__file__).with_name("pip_fetch.py")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_NEAREST = 5
_HINT = "check the name, and what `pip config list` says of indexes and proxies"


@contextmanager
def open_pypi(source: PypiSource, *, base: Path, cache: Path, limits: Limits) -> Iterator[Tree]:
    """The tree in the sdist, its SHA-256 checked against the index. Raises SourceError."""
    del base
    what = f"{source.pypi} {source.version}"
    if not _NAME.fullmatch(source.pypi) or not _VERSION.fullmatch(source.version):
        raise SourceError(f"cannot use the Python package {what!r}: this is not a name and a version")
    with scratch(cache) as folder:
        file = folder / "sdist"
        argv = [sys.executable, "-P", str(_FETCH), source.pypi, source.version, str(file), str(limits.bytes)]
        answer = json.loads(run(argv, to=f"fetch the Python package {what} with pip", hint=_HINT))
        if "versions" in answer:
            raise _not_there(source, answer["versions"])
        _check(file, answer, what)
        with unpacked(file, f"pypi {what}", limits, whole=False) as tree:
            yield tree


def _check(file: Path, answer: dict[str, Any], what: str) -> None:
    """Compare the file with the hash of the index; an index without hashes (a folder of files) has none."""
    if not answer["algorithm"]:
        return
    with file.open("rb") as content:
        found = hashlib.file_digest(content, answer["algorithm"]).hexdigest()
    if found != answer["hash"]:
        raise SourceError(
            f"cannot use the Python package {what}: the {answer['algorithm']} of its sdist is {found},"
            f" and the index says {answer['hash']}"
        )


def _not_there(source: PypiSource, versions: list[str]) -> SourceError:
    near = difflib.get_close_matches(source.version, versions, n=_NEAREST, cutoff=0.4) or versions[-_NEAREST:]
    return SourceError(
        f"cannot fetch the Python package {source.pypi}: there is no sdist (.tar.*) of version {source.version}",
        hint=f"the nearest versions are {', '.join(near)}; the newest is {versions[-1]}",
    )
