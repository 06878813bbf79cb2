"""From a request to a run: the matrix, its source, its plan, its images. What `POST /runs` and triggers do."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from farm.config import Settings
from farm.errors import ConfigError, ConflictError, ForbiddenError, NotFoundError, PlanError, SourceError
from farm.matrix import Document, expansion, load, loads
from farm.matrix.near import did_you_mean
from farm.model import (
    FolderSource,
    GitSource,
    Host,
    Matrix,
    Plan,
    RerunRequest,
    ResolvedSource,
    RunRecord,
    RunRequest,
    Source,
    Submission,
    TarballSource,
    UploadedSource,
    Verdict,
    axis_variable,
    version_of,
)
from farm.model.attempt import LONGEST_HOLD_S
from farm.once import once
from farm.planner import plan
from farm.report.words import duration
from farm.select import select
from farm.sources import resolve
from farm.sources.kept import KeptSources
from farm.store import Store
from farm.store.keys import Claim
from farm.text import clean_line

_WEB = re.compile(r"https?://", re.IGNORECASE)
_REPOSITORY = re.compile(r"(https?|ssh|git)://|[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:(?!:)", re.IGNORECASE)
"""`user@host:path` is git's own: of anything else it would be a path."""
_HOST = re.compile(
    r"(?:\w+://(?:[\w.~%+:-]*@)?(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d*)?(?=[/?#]|$)|[\w.-]+@([a-z0-9.-]+):)",
    re.IGNORECASE,
)
"""Nothing that one program may read in one way and another in another: a backslash, a second `@`."""
_ANY_HOST = ("*",)
_NOWHERE = Path("/nonexistent")
_BAD = {Verdict.FAILED, Verdict.ERROR, Verdict.CANCELLED, None}


class Fleet(Protocol):
    """The hosts, as the executor knows them."""

    def hosts(self) -> tuple[Host, ...]:
        """What each can run."""


@dataclass(frozen=True)
class Intake:
    """Takes requests in."""

    settings: Settings
    store: Store
    fleet: Fleet
    settle: Callable[[Plan], Plan]
    """Settles the aliases of images in a plan; may take long. Raises FarmError."""
    hold_limit_s: float = LONGEST_HOLD_S
    """The longest that a guest is kept for a person."""
    source_hosts: tuple[str, ...] = _ANY_HOST
    """Globs of the hosts that the source of a request may be on."""

    @property
    def sources(self) -> KeptSources:
        """Where the sources of runs are kept."""
        return KeptSources(self.settings.state / "sources")

    def read(self, request: RunRequest) -> Document:
        """The matrix of a request. Raises MatrixError, ConfigError, NotFoundError."""
        if (request.matrix is None) == (request.matrix_name is None):
            raise ConfigError("cannot read the matrix: the request has to have either `matrix` or `matrix_name`")
        if request.matrix is not None:
            document = loads(request.matrix, file=_file(request) or "matrix")
            _refuse_files(document)
            return document
        return load(self._named(str(request.matrix_name)))

    def matrices(self) -> tuple[str, ...]:
        """The names of the matrices that the server has."""
        folder = self.settings.matrices
        return tuple(sorted(path.stem for path in folder.glob("*.yaml"))) if folder else ()

    def text(self, name: str) -> str:
        """The text of a matrix that the server has. Raises NotFoundError, ConfigError."""
        path = self._named(name)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the matrix {name!r}: {error}") from error

    def plan(self, request: RunRequest) -> Plan:
        """What a run of it would do; starts nothing. Raises what `read` does, and PlanError."""
        return self._plan(self.read(request), request)

    def _plan(self, document: Document, request: RunRequest) -> Plan:
        matrix = document.matrix
        cells = expansion(matrix, document.at)
        durations = self.store.durations(matrix.name)
        return plan(matrix, cells, self.fleet.hosts(), only=request.only, durations=durations)

    def submit(self, request: RunRequest, *, owner: str, key: str | None = None) -> RunRecord:
        """Store a run; `farm.serve` carries it out. With a key of its owner's, the run that it made before.

        Raises FarmError: what is wrong with the matrix, its source or its plan, ConflictError for the key.
        """
        return self.take(self.read(request), request, owner=owner, key=key)

    def take(self, document: Document, request: RunRequest, *, owner: str, key: str | None = None) -> RunRecord:
        """The same of a matrix that whoever asks has read: it may name files of this machine."""
        return once(
            self.store, request, lambda claim: self._submit(document, request, owner, claim), owner=owner, key=key
        )

    def rerun(self, run: RunRecord, request: RerunRequest, *, owner: str) -> RunRecord:
        """Run some cells of a run again, of the same source and matrix, as a run of their own. Raises PlanError."""
        before = run.submission
        if before.reserved_s:
            raise ConflictError(f"cannot run {run.id} again: it is a reservation", hint="reserve another guest")
        _refuse_hidden(before.plan.matrix, request.secrets)
        chosen = {cell for pattern in request.cells for cell in _chosen(run, pattern)}
        if not chosen:
            raise PlanError(f"cannot run cells of {run.id} again: none of them {_reason(request)}")
        kept = [one for one in before.plan.placements if one.cell.id in chosen]
        submission = before.model_copy(
            update={
                "source": self.sources.keep(before.source),  # that of a run of `farm run` is in the cache
                "plan": before.plan.model_copy(update={"placements": tuple(kept)}),
                "owner": owner,
                "ssh_key": before.ssh_key if owner == before.owner else "",  # nobody gets into another's guests
                "served": True,
                "rerun_of": run.id,
            }
        )
        return self.store.create_run(submission, now=_now(), secrets=request.secrets)

    def _submit(self, document: Document, request: RunRequest, owner: str, claim: Claim | None) -> RunRecord:
        _refuse_hidden(document.matrix, request.secrets)
        if request.hold_on_failure > self.hold_limit_s:
            longest = duration(self.hold_limit_s)
            raise ConfigError(f"cannot keep a failed guest for that long: {longest} is the longest here")
        planned = self.settle(self._plan(document, request))
        submission = Submission(
            plan=planned,
            source=self._source(request, planned),
            matrix_file=_file(request),
            max_parallel=request.max_parallel,
            hold_on_failure_s=request.hold_on_failure,
            hold_limit_s=self.hold_limit_s,
            ssh_key=request.ssh_key or "",
            version=request.version or _version(request, document.matrix),
            labels=request.labels,
            priority=request.priority,
            owner=owner,
            served=True,
        )
        return self.store.create_run(submission, now=_now(), claim=claim, secrets=request.secrets)

    def _source(self, request: RunRequest, planned: Plan) -> ResolvedSource:
        if isinstance(request.source, UploadedSource):
            return self.sources.find(request.source.upload)
        source: Source = request.source or planned.matrix.source
        base = self.settings.matrices
        if request.source or base is None or request.matrix is not None:
            _refuse_local(source)
            _refuse_host(source, self.source_hosts)
            base = _NOWHERE
        found = resolve(source, base=base, cache=self.settings.cache / "sources")
        return self.sources.keep(found)

    def _named(self, name: str) -> Path:
        names = self.matrices()
        if name not in names or self.settings.matrices is None:
            raise NotFoundError(
                f"cannot find a matrix {name!r}: the server has none of this name{did_you_mean(name, names)}",
                hint="FARM_MATRICES names the server's folder of matrices",
            )
        return self.settings.matrices / f"{name}.yaml"


def _version(request: RunRequest, matrix: Matrix) -> str:
    """What was uploaded is anything; whoever uploads what the matrix names says its version."""
    if isinstance(request.source, UploadedSource):
        return ""
    return version_of(request.source or matrix.source)


def _file(request: RunRequest) -> str:
    return f"{request.matrix_name}.yaml" if request.matrix_name else clean_line(request.matrix_file, limit=500)


def _chosen(run: RunRecord, pattern: str) -> set[str]:
    if pattern == "all":
        return {cell.id for cell in run.cells}
    if pattern == "failed":
        return {cell.id for cell in run.cells if (cell.outcome.verdict if cell.outcome else None) in _BAD}
    return {cell.id for cell in select([cell.placement.cell for cell in run.cells], [pattern])}


def _reason(request: RerunRequest) -> str:
    return "failed" if request.cells == ("failed",) else "is chosen"


def _refuse_hidden(matrix: Matrix, secrets: Mapping[str, str]) -> None:
    """A secret must not be mistaken for what the matrix says of the same name."""
    taken = {*matrix.env, *map(axis_variable, matrix.axes), *(axis_variable(a) for one in matrix.include for a in one)}
    if both := sorted(taken & set(secrets)):
        raise ConfigError(
            f"cannot take the secret {both[0]}: the matrix itself sets this variable", hint="rename one of them"
        )


def _refuse_local(source: Source) -> None:
    """A request must not have the server read its own files."""
    if isinstance(source, FolderSource):
        raise SourceError(
            f"cannot use the folder {source.folder!r} as the source: it is not on the server",
            hint="upload it and name its digest, or submit with `farm submit`, which does that",
        )
    if isinstance(source, TarballSource) and not _WEB.match(source.tarball):
        raise SourceError(
            "cannot use the tarball: it names a file of the server", hint="allowed are https and http URLs"
        )
    if isinstance(source, GitSource) and not _REPOSITORY.match(source.git):
        raise SourceError(
            "cannot use the source: it names a file of the server", hint="allowed are https, http, ssh and git URLs"
        )


def _refuse_host(source: Source, allowed: tuple[str, ...]) -> None:
    """The administrator may not want everybody to have the server ask others."""
    if not isinstance(source, GitSource | TarballSource) or allowed == _ANY_HOST:
        return
    found = _HOST.match(source.git if isinstance(source, GitSource) else source.tarball)
    host = (found[1] or found[2]).strip("[]").lower() if found else ""
    if not host or not any(fnmatchcase(host, glob.lower()) for glob in allowed):
        raise ForbiddenError(
            f"cannot use the source: the server does not fetch from {host or 'a host that is written like this'}",
            hint=f"allowed are {', '.join(allowed) or 'none'}; upload the source instead",
        )


def _refuse_files(document: Document) -> None:
    for name, image in document.matrix.images.items():
        if not re.match(r"https?://", image.cloud):
            raise _local_image(document, name)


def _local_image(document: Document, name: str) -> ConfigError:
    at = document.at(("images", name), "")
    return ConfigError(
        f"cannot use the image {name!r} (line {at.line}): it names a file of the server",
        hint="name an https or http URL, or have the matrix put into the server's folder",
    )


def _now() -> datetime:
    return datetime.now(UTC)
