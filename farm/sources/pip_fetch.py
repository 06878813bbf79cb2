"""A program: download the sdist of a Python package by pip's own means, and run none of the package's code.

    python pip_fetch.py NAME VERSION FILE LIMIT

writes the sdist to FILE (at most LIMIT bytes) and to standard output one JSON object: `algorithm` and `hash`
(empty where the index gives none), or only `versions`, those there are, the oldest first.

pip offers no public interface for this. The pieces used here (the option parser, the session and the package
finder of `pip download`) are there under these names from pip 22.3 to this day; a test holds them to it.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from pip._internal.commands.download import DownloadCommand
from pip._internal.models.candidate import InstallationCandidate
from pip._internal.models.link import Link
from pip._internal.network.session import PipSession
from pip._vendor.packaging.version import InvalidVersion, Version
from pip._vendor.requests.exceptions import RequestException

_BLOCK_BYTES = 256 * 1024


def main(name: str, version: str, file: str, limit: str) -> int | str:
    """Find and download; the exit status, or what to say before exit status 1."""
    _tell_of_failing_indexes()
    command = DownloadCommand("download", "")
    # `parse_args` reads pip's configuration files and environment variables.
    options, _ = command.parse_args(["--no-binary", ":all:", "--no-deps", "--no-input"])
    with command.main_context():
        session = command.get_default_session(options)
        # The guest's Python counts, not this one: what it requires of a Python does not matter here.
        finder = command._build_package_finder(options, session, ignore_requires_python=True)  # noqa: SLF001
        found = [item for item in finder.find_all_candidates(name) if ".tar" in item.link.filename]
        if not found:
            return f"pip finds no sdist (.tar.*) of {name}"
        link = _choose(found, version)
        if not link:
            _answer(versions=[str(each) for each in sorted({item.version for item in found})])
            return 0
        _download(session, link, Path(file), int(limit))
    _answer(algorithm=link.hash_name, hash=link.hash)
    return 0


def _answer(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")


def _tell_of_failing_indexes() -> None:
    """Report why an index gave nothing (unknown package, no network), which pip keeps to itself."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.funcName == "_handle_get_simple_fail" or record.levelno >= logging.WARNING)
    logger = logging.getLogger("pip._internal.index.collector")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False


def _choose(found: list[InstallationCandidate], version: str) -> Link | None:
    try:
        wanted = Version(version)
    except InvalidVersion:
        return None
    return next((item.link for item in found if item.version == wanted), None)


def _download(session: PipSession, link: Link, file: Path, limit: int) -> None:
    try:
        with session.get(link.url_without_fragment, headers={"Accept-Encoding": "identity"}, stream=True) as answer:
            answer.raise_for_status()
            total = 0
            with file.open("wb") as out:
                for block in answer.iter_content(_BLOCK_BYTES):
                    total += len(block)
                    if total > limit:
                        sys.exit(f"the sdist is larger than {limit} bytes")
                    out.write(block)
    except RequestException as error:
        sys.exit(str(error))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
