"""Logs: the pages and fragments that show them while they grow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Path, Query, Response

from api.params import MOST, Number
from dashboards.ansi import Style
from dashboards.loglines import MOST_BYTES, Cursor, Piece, find, piece, stretch, tail
from dashboards.route import router as new_router
from dashboards.runs import elsewhere
from dashboards.visit import Reading, cell_path, run_path
from farm.model import AttemptKey, State
from farm.serve import Server

router = new_router()

CONSOLE = "console"
_STORY_BYTES = 64 * 1024
"""Of each phase, where all of them are shown."""


@dataclass(frozen=True)
class Chapter:
    """The log of a phase, or a part of it."""

    name: str
    heading: bool
    """Whether it begins here."""
    piece: Piece
    skipped: int
    """Bytes before the first line that are not shown."""
    path: str
    """Where this log alone is shown."""


@dataclass(frozen=True)
class Story:
    """The logs of an attempt's phases, one after the other, as far as they have come."""

    chapters: tuple[Chapter, ...]
    more: str | None
    """Where what comes next is asked for; None where nothing will come."""


@router.get("/runs/{run}/story/{number}/{cell:path}")
def story_goes_on(
    *,
    visit: Reading,
    run: str,
    cell: str,
    number: Number,
    log: Annotated[str, Query(max_length=20)] = "",
    offset: Annotated[int, Query(ge=0, le=MOST)] = 0,
    line: Annotated[int, Query(ge=1, le=MOST)] = 1,
    style: Annotated[str, Query(max_length=80)] = "",
) -> Response:
    """What the logs of an attempt say after a place."""
    key = AttemptKey(run=run, cell=cell, number=number)
    finished = _finished(visit.server, key)
    told = story(visit.server, key, finished=finished, log=log, start=Cursor(offset, line, Style.read(style)))
    if not finished and not any(chapter.piece.lines or chapter.heading for chapter in told.chapters):
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return visit.page("story_more.html", story=told)


@router.get("/runs/{run}/log/{number}/{name}/{cell:path}")
def one_log(
    *,
    visit: Reading,
    run: str,
    cell: str,
    number: Number,
    name: Annotated[str, Path(max_length=20)],
    offset: Annotated[int | None, Query(ge=0, le=MOST)] = None,
    line: Annotated[int, Query(ge=1, le=MOST)] = 1,
    q: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """One log: its end, a part of it, or the lines that hold a text."""
    if other := elsewhere(visit, run):
        return other
    key = AttemptKey(run=run, cell=cell, number=number)
    data = visit.server.store.files.log(key, name)
    start = tail(data) if offset is None else Cursor(min(offset, len(data)), line)
    shown = piece(data, start, ended=True)
    found, more = find(data, q) if q else ((), 0)
    values: dict[str, Any] = {
        "key": key,
        "name": name,
        "names": visit.server.store.files.logs(key),
        "size": len(data),
        "start": start,
        "piece": shown,
        "q": q,
        "found": found,
        "found_more": more,
        "paths": {one: log_path(key, one) for one in visit.server.store.files.logs(key)},
        "here": log_path(key, name),
    }
    return visit.page("log.html", **values)


def log_path(key: AttemptKey, name: str) -> str:
    """The address of a log's page."""
    return f"{run_path(key.run)}/log/{key.number}/{name}/{cell_path('', key.cell).removeprefix('/runs//cells/')}"


def story(server: Server, key: AttemptKey, *, finished: bool, log: str = "", start: Cursor | None = None) -> Story:
    """The logs of an attempt's phases, from a place in one of them on; without one from the beginning."""
    names = [name for name in server.store.files.logs(key) if name != CONSOLE]
    later = names[names.index(log) :] if log in names else names
    chapters = []
    for name in later:
        ended = finished or name != names[-1]
        if start and name == log:
            part = _rest(server, key, name, start, ended=ended)
            chapters.append(Chapter(name, heading=False, piece=part, skipped=0, path=log_path(key, name)))
            continue
        data = server.store.files.log(key, name)
        place = tail(data, _STORY_BYTES)
        part = piece(data, place, ended=ended)
        chapters.append(Chapter(name, heading=True, piece=part, skipped=place.offset, path=log_path(key, name)))
    return Story(tuple(chapters), None if finished else _more(key, chapters, log, start))


def _rest(server: Server, key: AttemptKey, name: str, start: Cursor, *, ended: bool) -> Piece:
    """A log from a place on; nothing before that is read, which those who watch it would have read each second."""
    with server.store.files.open_log(key, name) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(min(start.offset, size))
        return stretch(file.read(MOST_BYTES), start, size=size, ended=ended)


def _more(key: AttemptKey, chapters: list[Chapter], log: str, start: Cursor | None) -> str:
    end = chapters[-1].piece.end if chapters else start or Cursor()
    name = chapters[-1].name if chapters else log
    query = urlencode({"log": name, "offset": end.offset, "line": end.number, "style": end.style.classes})
    return f"{run_path(key.run)}/story/{key.number}/{cell_path('', key.cell).removeprefix('/runs//cells/')}?{query}"


def _finished(server: Server, key: AttemptKey) -> bool:
    return server.details.state(key) is State.FINISHED
