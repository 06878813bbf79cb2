"""Sources that outlive the cache: those that were uploaded, and those of runs that somebody else carries out."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from farm.errors import HostError, NotFoundError
from farm.model import ResolvedSource
from farm.sources.cached import written
from farm.sources.tarball import unpacked
from farm.sources.tree import LIMITS, Limits, pack

UPLOAD = "upload"
UPLOADING: Final = ".upload-"
"""How the names begin of files in which uploads arrive."""


class KeptSources:
    """A folder of archives, each with its description beside it, by digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def upload(self, path: Path, description: str, *, limits: Limits = LIMITS) -> ResolvedSource:
        """Take a tar archive, compressed or not, of the tree that is tested. Raises SourceError."""
        with unpacked(path, description, limits, whole=True) as tree:
            packed = pack(tree, self._folder, limits=limits)
        source = ResolvedSource(
            kind=UPLOAD,
            description=description,
            digest=packed.digest,
            archive=str(packed.archive),
            files=packed.files,
            bytes=packed.bytes,
        )
        try:
            return self.keep(source)
        finally:
            packed.archive.unlink(missing_ok=True)

    def keep(self, source: ResolvedSource) -> ResolvedSource:
        """The same source with an archive that stays. Raises HostError."""
        archive = self._folder / f"{source.digest}.tar"
        kept = source.model_copy(update={"archive": str(archive)})
        try:
            if not archive.exists():
                self._put(Path(source.archive), source.digest)
            self._describe(kept)
        except OSError as error:
            raise HostError(f"cannot keep the source {source.digest[:12]}: {error.strerror}") from error
        return kept

    def find(self, digest: str) -> ResolvedSource:
        """A source that was uploaded or kept. Raises NotFoundError."""
        path = self._folder / f"{digest}.json"
        if not re.fullmatch(r"[0-9a-f]{64}", digest) or not path.exists():
            raise NotFoundError(
                f"cannot find the source {digest!r}: it was not uploaded, or has been removed", hint="upload it first"
            )
        found = ResolvedSource.model_validate_json(path.read_bytes())
        path.touch()  # it is used: `unused_since`
        return found

    def unused_since(self, before: datetime) -> tuple[str, ...]:
        """The digests of the sources that nobody has kept or found after a point in time."""
        return tuple(path.stem for path in self._folder.glob("*.json") if _is_older(path, before))

    def remove(self, digest: str, *, unused_since: datetime) -> bool:
        """Remove a source that is still unused; gives whether it was. Raises HostError."""
        path = self._folder / f"{digest}.json"
        try:
            if not _is_older(path, unused_since):
                return False
            path.unlink()
            path.with_suffix(".tar").unlink(missing_ok=True)
        except OSError as error:
            raise HostError(f"cannot remove the source {digest[:12]}: {error.strerror}") from error
        return True

    def sweep(self, before: datetime) -> int:
        """Remove the beginnings of uploads that a killed server left: nothing was written to them since; how many."""
        left = [path for path in self._folder.glob(f"{UPLOADING}*") if _is_older(path, before)]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def _put(self, archive: Path, digest: str) -> None:
        with archive.open("rb") as content, written(self._folder, ".tar") as (file, name):
            shutil.copyfileobj(content, file)
            name(digest)

    def _describe(self, kept: ResolvedSource) -> None:
        with written(self._folder, ".json") as (file, name):
            file.write(kept.model_dump_json().encode())
            name(kept.digest)


def _is_older(path: Path, than: datetime) -> bool:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC) < than
    except FileNotFoundError:  # an upload that came to its end
        return False
