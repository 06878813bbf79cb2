"""All runs: found by what they are, the newest first."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query, Response

from api.params import MOST
from dashboards.route import router as new_router
from dashboards.visit import Reading, Visit, run_path, see
from farm.model import RunQuery, State

router = new_router()
PAGE = 50
_NOTHING_NEW = HTTPStatus.NO_CONTENT

Text = Annotated[str, Query(max_length=200)]


@router.get("/")
def home(_visit: Reading) -> Response:
    """The runs."""
    return see("/runs")


@router.get("/runs")
def all_runs(
    *,
    visit: Reading,
    project: Text = "",
    version: Text = "",
    owner: Text = "",
    state: Text = "",
    label: Text = "",
    before: Text = "",
    seen: Annotated[int | None, Query(ge=0, le=MOST)] = None,
) -> Response:
    """A page of runs. With `seen`, the last event that a browser knows, only what is new is answered: the table."""
    last = visit.server.store.last_event()
    if seen is not None and seen >= last:
        return Response(status_code=_NOTHING_NEW)
    query = RunQuery(
        project=project or None,
        version=version or None,
        owner=owner or None,
        state=State(state) if state in set(State) else None,
        labels=_labels(label),
        before=before or None,
        limit=PAGE + 1,
    )
    found = visit.server.store.runs(query)
    values: dict[str, Any] = {
        "runs": found[:PAGE],
        "next": found[PAGE - 1].id if len(found) > PAGE else None,
        "seen": last,
        "asked": {"project": project, "version": version, "owner": owner, "state": state, "label": label},
        "states": tuple(State),
    }
    return visit.page("runs_table.html" if seen is not None else "runs.html", **values)


def _labels(text: str) -> dict[str, str]:
    """`KEY=VALUE`, or nothing."""
    key, equals, value = text.partition("=")
    return {key.strip(): value.strip()} if equals else {}


def elsewhere(visit: Visit, run: str) -> Response | None:
    """To the same page of the run that is meant, as `farm.references` has it; None where its id says which.

    So a page has the address of what it shows, also when `latest` means another one. Raises NotFoundError.
    """
    found = visit.server.references.resolve(run)
    if found == run:
        return None
    rest = visit.request.scope["path"].removeprefix(f"/runs/{run}")
    return see(f"{run_path(found)}{quote(rest)}{visit.query()}".removesuffix("?"))
