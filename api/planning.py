"""What a run would do: matrices read, expanded and planned, without starting anything."""

from __future__ import annotations

import sys
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel

from api.apart import apart
from api.auth import Reader, Submitter, TheServer
from farm.estimate import capacity, forecast
from farm.matrix import expansion
from farm.model import Cell, Excluded, Plan, RunRequest
from farm.select import select
from farm.serve import Server

router = APIRouter(tags=["planning"])

YAML = "application/yaml"


class Validated(BaseModel):
    """What a matrix expands to."""

    project: str
    """The matrix' name."""
    cells: tuple[Cell, ...]
    excluded: tuple[Excluded, ...]
    warnings: tuple[str, ...]


class ForecastPart(BaseModel):
    """How long it will take, as far as that is known."""

    work_s: float
    """One cell after the other."""
    wall_s: float
    """Side by side, as many as there are slots."""
    known: int
    unknown: int
    """Cells of which nothing is known; they are in neither time."""


class Planned(BaseModel):
    """What a run would do."""

    plan: Plan
    slots: int
    """How many of its cells would run at a time; 0: no host is there."""
    forecast: ForecastPart


class MatrixNames(BaseModel):
    """The matrices that the server has."""

    matrices: tuple[str, ...]


@router.post("/validate", summary="Check a matrix")
async def validate_matrix(body: RunRequest, request: Request, server: TheServer, _identity: Reader) -> Validated:
    """Read a matrix and expand it to its cells. No host is asked, no source is fetched, nothing is stored."""
    return await apart(request, lambda: _validated(server, body))


@router.post("/plan", summary="Plan a run")
async def plan_run(body: RunRequest, request: Request, server: TheServer, _identity: Submitter) -> Planned:
    """Where each cell would run, and how long that will take. Nothing is started, fetched or stored."""
    return await apart(request, lambda: _planned(server, body))


@router.get("/matrices", summary="List the matrices")
def list_matrices(server: TheServer, _identity: Reader) -> MatrixNames:
    """The names of those that the server has; a run names one by `matrix_name`."""
    return MatrixNames(matrices=server.intake.matrices())


@router.get(
    "/matrices/{name}",
    summary="Read a matrix",
    response_class=Response,
    responses={200: {"description": "Its text", "content": {YAML: {"schema": {"type": "string"}}}}},
)
def read_matrix(name: Annotated[str, Path(max_length=63)], server: TheServer, _identity: Reader) -> Response:
    """The text of one that the server has."""
    return Response(server.intake.text(name), media_type=f"{YAML}; charset=utf-8")


def _validated(server: Server, body: RunRequest) -> Validated:
    document = server.intake.read(body)
    found = expansion(document.matrix, document.at)
    return Validated(
        project=document.matrix.name,
        cells=select(found.cells, body.only),
        excluded=found.excluded,
        warnings=found.warnings,
    )


def _planned(server: Server, body: RunRequest) -> Planned:
    plan = server.intake.plan(body)
    matrix = plan.matrix
    most = min(body.max_parallel or sys.maxsize, matrix.max_parallel or sys.maxsize)
    slots = min(capacity(server.fleet.hosts(), matrix.guest), most)
    told = forecast(plan.placements, slots)
    return Planned(plan=plan, slots=slots, forecast=ForecastPart(**told._asdict()))
