"""Which run is meant: by its id, or as the newest of a kind.

| reference | the run |
|---|---|
| `demo-12` | of this id |
| `latest` | the newest of all |
| `demo@latest` | the newest of the project |
| `demo@v1.2` | the newest finished run of this version |
| `demo@baseline:NAME` | the one that has this name |
| `demo@image:DIGEST` | the newest finished one in which a guest had the image whose digest begins so |
| `demo@last-release` | the newest finished one with a label `release` and the exit code 0 |
"""

from __future__ import annotations

from farm.errors import NotFoundError
from farm.model import RunQuery, State
from farm.store import Store
from farm.store.baselines import Baselines
from farm.store.history import History

_BASELINE = "baseline:"
_IMAGE = "image:"
_FEWEST_DIGITS = 6


class References:
    """What references mean in a store, now."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._baselines = Baselines(store.engine)
        self._history = History(store.engine)

    def resolve(self, reference: str, *, head: str | None = None) -> str:
        """The id of the run that is meant. Raises NotFoundError.

        `head` is the id of the run that it will be compared with: the last release is one before that.
        A reference that is an id comes back as it is, whether there is such a run or not.
        """
        project, at, which = reference.partition("@")
        if reference == "latest":
            return self._found(reference, self._store.latest(), "there has been no run yet", "start one: `farm run`")
        if not at:
            return reference
        self._history.check(project)
        return self._of(project, which, reference, head)

    def _of(self, project: str, which: str, reference: str, head: str | None) -> str:
        if which.startswith(_BASELINE):
            return self._baselines.get(project, which.removeprefix(_BASELINE)).run
        if which.startswith(_IMAGE):
            return self._with_image(reference, project, which.removeprefix(_IMAGE))
        if which == "last-release":
            return self._release(reference, project, head)
        if which == "latest":
            return self._newest(reference, RunQuery(project=project, limit=1), f"{project} has no run")
        query = RunQuery(project=project, version=which, state=State.FINISHED, limit=1)
        return self._newest(reference, query, f"{project} has no finished run of the version {which!r}")

    def _release(self, reference: str, project: str, head: str | None) -> str:
        before = f" before {head}" if head else ""
        return self._found(
            reference,
            self._history.last_release(project, before=head),
            f"no finished run of {project}{before} has a label `release` and the exit code 0",
            "submit releases with such a label, or set a baseline: `farm baseline set`",
        )

    def _with_image(self, reference: str, project: str, digest: str) -> str:
        long_enough = len(digest) >= _FEWEST_DIGITS
        return self._found(
            reference,
            self._history.last_with_image(project, digest) if long_enough else None,
            f"no finished run of {project} had an image whose digest begins so"
            if long_enough
            else f"a digest has at least {_FEWEST_DIGITS} digits",
            "reports and `farm images` tell the digests",
        )

    def _newest(self, reference: str, query: RunQuery, why_not: str) -> str:
        found = self._store.runs(query)
        return self._found(reference, found[0].id if found else None, why_not, "see `farm runs`")

    @staticmethod
    def _found(reference: str, run_id: str | None, why_not: str, hint: str) -> str:
        if run_id is None:
            raise NotFoundError(f"cannot find the run {reference!r}: {why_not}", hint=hint)
        return run_id
