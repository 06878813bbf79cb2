"""The parameters that several routes have, each bounded once."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Path, Query

from farm.serve import Server

MOST = 2**63 - 1
"""The largest number that the database takes."""

REFERENCE = (
    "A run: `demo-12`, `latest`, `demo@latest`, `demo@v1.2`, `demo@baseline:NAME`, `demo@image:DIGEST`"
    " or `demo@last-release`."
)
RunId = Annotated[str, Path(max_length=300, description=REFERENCE)]
CellId = Annotated[str, Path(max_length=2000, description="A cell's id, with its slashes as they are.")]
Number = Annotated[int, Path(ge=1, le=1_000_000, description="An attempt's number, from 1.")]
Cells = Annotated[str | None, Query(max_length=500, description="Only cells that this glob names: `debian-13/*/qemu`.")]
After = Annotated[int, Query(ge=0, le=MOST, description="What the page before gave as `next`.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The same key twice is the same request: it makes one run, or one reservation.",
    ),
]


def run_named(server: Server, run: str) -> str:
    """The id of a run that a path names, by its id or as `farm.references` has it. Raises NotFoundError."""
    return server.references.resolve(run)
