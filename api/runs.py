"""Runs: submitting, finding, looking at, ending and repeating them."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from api.apart import apart, fetching
from api.auth import Reader, Submitter, TheServer
from api.params import Key, RunId, run_named
from api.problems import ProblemError, also
from farm.model import Identity, RerunRequest, RunQuery, RunRecord, RunRequest, RunSummary, Scope, State
from farm.report.overview import Overview, overview

router = APIRouter(tags=["runs"])

Label = Annotated[
    list[Annotated[str, Field(max_length=264)]], Query(description="`KEY=VALUE`; repeatable.", max_length=16)
]


class RunPage(BaseModel):
    """Some runs, the newest first."""

    runs: tuple[RunSummary, ...]
    next: str | None
    """What to give as `before` for the next page; null on the last one."""


@router.post(
    "/runs",
    status_code=HTTPStatus.CREATED,
    summary="Submit a run",
    responses=also(HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND),
)
async def submit_run(
    *,
    body: RunRequest,
    request: Request,
    server: TheServer,
    identity: Submitter,
    response: Response,
    key: Key = None,
) -> Overview:
    """Read the matrix, fetch the source, settle the images, and store the run. It is carried out from then on.

    With an `Idempotency-Key`, a second request with the same key and body gets the run of the first.
    """
    run = await fetching(request, lambda: server.intake.submit(body, owner=identity.name, key=key))
    server.wake()
    response.headers["Location"] = f"/api/v1/runs/{run.id}"
    return overview(run, {})


@router.get("/runs", summary="List runs")
def list_runs(
    *,
    server: TheServer,
    _identity: Reader,
    label: Label = [],  # noqa: B006 - FastAPI copies it
    project: Annotated[str | None, Query(max_length=63)] = None,
    version: Annotated[str | None, Query(max_length=200)] = None,
    owner: Annotated[str | None, Query(max_length=80)] = None,
    state: State | None = None,
    exit_code: Annotated[int | None, Query(ge=0, le=255)] = None,
    before: Annotated[str | None, Query(max_length=80)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> RunPage:
    """The newest first, as far as they have all that is asked for."""
    query = RunQuery(
        project=project,
        version=version,
        owner=owner,
        state=state,
        exit_code=exit_code,
        labels=dict(_pair(text) for text in label),
        before=before,
        limit=limit + 1,
    )
    found = server.store.runs(query)
    return RunPage(runs=found[:limit], next=found[limit - 1].id if len(found) > limit else None)


@router.get("/runs/{run}", summary="Look at a run", response_model=Overview)
def show_run(run: RunId, request: Request, server: TheServer, _identity: Reader) -> Response:
    """The run and its cells at a glance. With `If-None-Match` it is sent only where it has changed."""
    look = server.overviews.look(run_named(server, run))
    headers = {"ETag": f'"{look.run.id}-{look.event}"', "Cache-Control": "no-cache"}
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(look.text, media_type="application/json", headers=headers)


@router.post("/runs/{run}/cancel", status_code=HTTPStatus.ACCEPTED, summary="End a run")
def cancel_run(run: RunId, server: TheServer, identity: Submitter) -> Overview:
    """Its guests are destroyed, what has not begun is not begun. Nothing happens where it has ended."""
    run_id = run_named(server, run)
    own_or_operator(server, run_id, identity)
    if server.store.request_cancel(run_id, now=_now()):
        server.access.note(identity.name, "run.cancel", run_id, {}, now=_now())
        server.wake()
    return server.overviews.look(run_id).overview


@router.post("/runs/{run}/rerun", status_code=HTTPStatus.CREATED, summary="Run cells again")
async def rerun_cells(
    *, run: RunId, body: RerunRequest, request: Request, server: TheServer, identity: Submitter, response: Response
) -> Overview:
    """All of them, the failed ones, or some by glob: of the same source, as a run of their own."""

    def rerun() -> RunRecord:
        before = server.store.outline(run_named(server, run))
        return server.intake.rerun(before, body, owner=identity.name)

    again = await apart(request, rerun)
    server.wake()
    response.headers["Location"] = f"/api/v1/runs/{again.id}"
    return overview(again, {})


def own_or_operator(server: TheServer, run_id: str, identity: Identity) -> None:
    """Refuse who may not end a run."""
    owner = server.store.submission(run_id).owner
    if owner != identity.name and not identity.may(Scope.OPERATE):
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            "forbidden",
            f"cannot end {run_id}: it is somebody else's, which takes {Scope.OPERATE}",
        )


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "request", f"cannot read the label {text!r}: write KEY=VALUE"
        )
    return key, value


def _now() -> datetime:
    return datetime.now(UTC)
