"""A tree into a guest."""

from __future__ import annotations

import random
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from runners.attempt import Attempt
from runners.collect import WORK_FOLDER
from runners.guest import wait_for
from runners.steps import _upload
from tests.bench.figures import Aim, Figure, side_by_side
from tests.bench.guests import Kind, running, soon
from tests.bench.openssh import master

FILES = 20_000
BYTES = 200_000_000
_FOLDERS = 200
_KIND = Kind("amd64", memory="1G")


def figures() -> Iterator[Figure]:
    """Against `tar | ssh tar`, each time in a fresh guest, since a file system that is used is slower."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        make_tree(tree)
        source = subprocess.run(["tar", "-C", tree, "-cf", "-", "."], check=True, capture_output=True).stdout
        yield side_by_side(
            f"upload of {BYTES // 1_000_000} MB in {FILES} files, against `tar c | ssh … tar x` with OpenSSH",
            Aim(1.1),
            "s",
            lambda: _ours_s(source),
            lambda: _theirs_s(tree),
        )


def make_tree(folder: Path) -> None:
    """Files of very different sizes (a log-normal distribution, as in source trees), pieces of Python's own library."""
    chance = random.Random(7)  # noqa: S311 - sizes, no secrets
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = b"".join(path.read_bytes() for path in library)
    sizes = [chance.lognormvariate(8, 1.2) for _ in range(FILES)]
    scale = BYTES / sum(sizes)
    for number, size in enumerate(sizes):
        place = folder / f"d{number % _FOLDERS:03}"
        place.mkdir(exist_ok=True)
        length = round(size * scale)
        start = chance.randrange(max(1, len(text) - length))
        (place / f"f{number:05}.py").write_bytes(text[start : start + length])


def _ours_s(source: bytes) -> float:
    with running(_KIND.restored()) as (_, shell):
        attempt = Attempt(_KIND.order, source, lambda _: None)  # type: ignore[arg-type,return-value]
        attempt.shell = shell
        started = time.monotonic()
        wait_for(_upload(attempt, soon()))
        return time.monotonic() - started


def _theirs_s(tree: Path) -> float:
    with running(_KIND.restored()) as (guest, _), master(guest) as ssh:
        unpack = f"mkdir -p {WORK_FOLDER} && tar -xf - -C {WORK_FOLDER}"
        started = time.monotonic()
        with subprocess.Popen(["tar", "-C", tree, "-cf", "-", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run([*ssh, unpack], check=True, stdin=tar.stdout)
        return time.monotonic() - started
