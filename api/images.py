"""The images of the machine that the server runs on."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from api.auth import Reader, TheServer
from api.problems import also
from farm.images import ImageDifference, ImageFacts, ImageLine

router = APIRouter(tags=["images"])

Named = Annotated[
    str, Query(min_length=1, max_length=200, description="`debian-13/riscv64`, or the first digits of a digest.")
]


class ImageList(BaseModel):
    """Images, by name."""

    images: tuple[ImageLine, ...]


@router.get("/images", summary="List the images")
def list_images(server: TheServer, _identity: Reader) -> ImageList:
    """Those that have been built where the server runs; other hosts have their own."""
    return ImageList(images=server.images.all())


@router.get("/images/diff", summary="Compare two images", responses=also(HTTPStatus.NOT_FOUND))
def diff_images(a: Named, b: Named, server: TheServer, _identity: Reader) -> ImageDifference:
    """Package by package, what is not the same in both."""
    return server.images.diff(a, b)


@router.get("/images/{name:path}/{arch}", summary="Look at an image")
def show_image(
    name: Annotated[str, Path(max_length=100)],
    arch: Annotated[str, Path(max_length=30)],
    server: TheServer,
    _identity: Reader,
    digest: Annotated[
        str | None, Query(pattern=r"^[0-9a-f]{4,64}$", description="Its first digits, where several have this name.")
    ] = None,
) -> ImageFacts:
    """What it holds, with the version of every package, and how it was made."""
    return server.images.show(digest or f"{name}/{arch}")
