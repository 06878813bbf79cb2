"""Sources are kept by many threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from farm.errors import HostError
from farm.model import NO_SOURCE
from farm.sources.kept import KeptSources

DIGEST = "a" * 64


def test_many_threads_keep_the_same_source_at_once(tmp_path: Path) -> None:
    archive, threads = tmp_path / "new.tar", 16
    archive.write_bytes(b"x" * 1_000_000)
    source = NO_SOURCE.model_copy(update={"digest": DIGEST, "archive": str(archive)})
    for number in range(8):
        folder = tmp_path / f"kept-{number}"
        kept = KeptSources(folder)
        with ThreadPoolExecutor(threads) as pool:
            found = {one.archive for one in pool.map(lambda _, kept=kept: kept.keep(source), range(threads))}
        assert found == {str(folder / f"{DIGEST}.tar")}
        assert (folder / f"{DIGEST}.tar").read_bytes() == archive.read_bytes()
        assert kept.find(DIGEST).archive in found
        assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".tar"]


def test_a_source_that_is_gone_cannot_be_kept_and_leaves_nothing(tmp_path: Path) -> None:
    source = NO_SOURCE.model_copy(update={"digest": DIGEST, "archive": str(tmp_path / "gone.tar")})
    with pytest.raises(HostError, match="cannot keep the source aaaaaaaaaaaa: No such file"):
        KeptSources(tmp_path / "kept").keep(source)
    assert not list((tmp_path / "kept").iterdir())
