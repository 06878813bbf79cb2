"""Compatibility: runs compared, what separates failures, the support statement, and waivers."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BeforeValidator

from api.apart import apart
from api.auth import Operator, Reader, TheServer
from api.history import Project
from api.params import MOST, REFERENCE, RunId
from farm.compat import comparison_text, patterns_text, statement_text
from farm.model.base import parse_duration
from farm.model.waiver import Waiver, WaiverRequest
from farm.report.changes import Comparison
from farm.report.patterns import Patterns
from farm.report.support import Statement

router = APIRouter(tags=["compatibility"])

Run = Annotated[str, Query(min_length=1, max_length=300, description=REFERENCE)]
MaxAge = Annotated[
    float | None,
    BeforeValidator(parse_duration),
    Query(ge=0, le=3_000_000_000, description="Evidence older than this is stale: seconds, or `30d`."),
]
WaiverId = Annotated[int, Path(ge=1, le=MOST, description="A waiver's number.")]


class CompareFormat(StrEnum):
    """How a comparison is answered."""

    JSON = "json"
    TEXT = "text"
    MARKDOWN = "markdown"


class PatternsFormat(StrEnum):
    """How patterns are answered."""

    JSON = "json"
    TEXT = "text"


class StatementFormat(StrEnum):
    """How a statement is answered."""

    JSON = "json"
    TEXT = "text"
    MARKDOWN = "markdown"
    CSV = "csv"
    HTML = "html"


_MEDIA = MappingProxyType(
    {
        "json": "application/json",
        "text": "text/plain; charset=utf-8",
        "markdown": "text/markdown; charset=utf-8",
        "csv": "text/csv; charset=utf-8",
        "html": "text/html; charset=utf-8",
    }
)
_HARMLESS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
}


def _formats(names: type[StrEnum]) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of answers that are no JSON."""
    texts = {_MEDIA[name].partition(";")[0]: {"schema": {"type": "string"}} for name in names if name != "json"}
    return {200: {"content": texts}}


def _answer(text: str, form: StrEnum) -> Response:
    return Response(text, media_type=_MEDIA[form.value], headers=_HARMLESS)


@router.get("/compare", summary="Compare two runs", response_model=Comparison, responses=_formats(CompareFormat))
async def compare_runs(
    *,
    request: Request,
    server: TheServer,
    _identity: Reader,
    base: Run,
    head: Run,
    form: Annotated[CompareFormat, Query(alias="format")] = CompareFormat.JSON,
) -> Response:
    """What became of every cell and test from the base to the head, and what else is not the same."""
    return await apart(request, lambda: _answer(server.compat.ask(comparison_text, base, head, form.value), form))


@router.get(
    "/runs/{run}/patterns",
    summary="Explain where tests fail",
    response_model=Patterns,
    responses=_formats(PatternsFormat),
)
async def explain_failures(
    *,
    run: RunId,
    request: Request,
    server: TheServer,
    _identity: Reader,
    form: Annotated[PatternsFormat, Query(alias="format")] = PatternsFormat.JSON,
) -> Response:
    """For each failing test the smallest combination of axis values that separates where it fails and passes."""
    return await apart(request, lambda: _answer(server.compat.ask(patterns_text, run, form.value), form))


@router.get(
    "/runs/{run}/statement",
    summary="State what is supported",
    response_model=Statement,
    responses=_formats(StatementFormat),
)
async def get_statement(
    *,
    run: RunId,
    request: Request,
    server: TheServer,
    _identity: Reader,
    baseline: Annotated[str | None, Query(min_length=1, max_length=300, description=REFERENCE)] = None,
    max_age: MaxAge = None,
    form: Annotated[StatementFormat, Query(alias="format")] = StatementFormat.JSON,
) -> Response:
    """Every platform of a release with its status and the reasons, by the project's waivers."""
    asked = partial(statement_text, form=form.value, now=datetime.now(UTC), baseline=baseline, max_age_s=max_age)
    return await apart(request, lambda: _answer(server.compat.ask(asked, run), form))


@router.get("/projects/{project}/waivers", summary="List waivers")
def list_waivers(project: Project, server: TheServer, _identity: Reader) -> tuple[Waiver, ...]:
    """All of a project, the oldest first, also those whose time is over."""
    server.history.check(project)
    return server.waivers.list(project)


@router.post("/projects/{project}/waivers", status_code=HTTPStatus.CREATED, summary="Add a waiver")
def add_waiver(
    project: Project, request: WaiverRequest, server: TheServer, identity: Operator, response: Response
) -> Waiver:
    """Accept failures. They stay failures, and are shown with the reason."""
    server.history.check(project)
    now = datetime.now(UTC)
    made = server.waivers.add(project, request, by=identity.name, now=now)
    server.access.note(identity.name, "waiver.add", _name(made), made.model_dump(mode="json"), now=now)
    response.headers["Location"] = f"/api/v1/projects/{project}/waivers/{made.id}"
    return made


@router.get("/projects/{project}/waivers/{waiver}", summary="Look at a waiver")
def show_waiver(project: Project, waiver: WaiverId, server: TheServer, _identity: Reader) -> Waiver:
    """What is accepted, why, and until when."""
    return server.waivers.get(project, waiver)


@router.put("/projects/{project}/waivers/{waiver}", summary="Change a waiver")
def change_waiver(
    project: Project, waiver: WaiverId, request: WaiverRequest, server: TheServer, identity: Operator
) -> Waiver:
    """Have it say something else, such as a later end."""
    made = server.waivers.change(project, waiver, request)
    detail = made.model_dump(mode="json")
    server.access.note(identity.name, "waiver.change", _name(made), detail, now=datetime.now(UTC))
    return made


@router.delete("/projects/{project}/waivers/{waiver}", status_code=HTTPStatus.NO_CONTENT, summary="Remove a waiver")
def remove_waiver(project: Project, waiver: WaiverId, server: TheServer, identity: Operator) -> None:
    """What it named is no longer accepted."""
    gone = server.waivers.remove(project, waiver)
    detail = gone.model_dump(mode="json")
    server.access.note(identity.name, "waiver.remove", _name(gone), detail, now=datetime.now(UTC))


def _name(waiver: Waiver) -> str:
    return f"{waiver.project}/{waiver.id}"
