"""Reports of runs in every format, and the badge of a project."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from api.apart import apart
from api.auth import Reader, TheServer
from api.params import RunId, run_named
from farm import report
from farm.documents import rendered
from farm.errors import NotFoundError
from farm.model import RunQuery
from farm.serve import Server

router = APIRouter(tags=["reports"])


class Format(StrEnum):
    """A format of `farm.report.FORMATS`; a test holds the two against each other."""

    JSON = "json"
    JUNIT = "junit"
    MARKDOWN = "markdown"
    HTML = "html"
    CTRF = "ctrf"
    CSV = "csv"
    BADGE = "badge"


MEDIA_TYPES = {
    "json": "application/json",
    "junit": "application/xml",
    "markdown": "text/markdown; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ctrf": "application/json",
    "csv": "text/csv; charset=utf-8",
    "badge": "image/svg+xml",
}
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
}
_BADGE_S = 60
"""How long a badge may be shown before it is asked for again."""


def _content() -> dict[int | str, dict[str, Any]]:
    kinds = {kind.partition(";")[0] for kind in MEDIA_TYPES.values()}
    return {200: {"description": "The report", "content": {kind: {"schema": {}} for kind in sorted(kinds)}}}


@router.get("/runs/{run}/report/{format}", summary="Get a report", response_class=Response, responses=_content())
async def get_report(
    request: Request,
    run: RunId,
    format: Format,  # noqa: A002 - its name in the path
    server: TheServer,
    _identity: Reader,
) -> Response:
    """Of a run, finished or not, as `farm report` writes it."""
    text, name = await apart(request, lambda: _rendered(server, run, format.value))
    headers = {**_SAFE, "Content-Disposition": f'inline; filename="{name}"', "Cache-Control": "no-cache"}
    return Response(text, media_type=MEDIA_TYPES[format.value], headers=headers)


@router.get(
    "/projects/{project}/badge",
    summary="Get a project's badge",
    response_class=Response,
    responses={200: {"description": "An SVG picture", "content": {"image/svg+xml": {"schema": {"type": "string"}}}}},
)
def get_badge(project: Annotated[str, Path(max_length=63)], server: TheServer, _identity: Reader) -> Response:
    """What its newest run came to, in the size of a line of text; for a README the server has to let anybody read."""
    server.history.check(project)
    newest = server.store.runs(RunQuery(project=project, limit=1))
    if not newest:
        raise NotFoundError(f"cannot find a run of the project {project!r}: there has been none")
    text = report.render("badge", server.store.outline(newest[0].id), server.store.files.log)
    headers = {**_SAFE, "Cache-Control": f"max-age={_BADGE_S}, must-revalidate"}
    return Response(text, media_type=MEDIA_TYPES["badge"], headers=headers)


def _rendered(server: Server, run: str, format_: str) -> tuple[str, str]:
    run_id = run_named(server, run)
    return server.reports.ask(rendered, run_id, format_), f"{run_id}-{report.FORMATS[format_].file}"
