"""What people have agreed on for a project: failures that are waived, and runs that others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Form, Path, Response
from pydantic import BaseModel

from api import compat as waiving
from api import history as api
from api.apart import apart
from api.params import MOST
from dashboards.forms import Refusal, refused
from dashboards.route import router as new_router
from dashboards.visit import Operating, Reading, Visit, see
from farm.compat import Compatibility
from farm.errors import ConfigError
from farm.model import RunQuery, State, Waiver
from farm.model.waiver import EVERY_TEST, WaiverRequest
from farm.report.waivers import WaiverUse

router = new_router()

_OFFERED = 30
"""Runs to choose a baseline from."""

WaiverId = Annotated[int, Path(ge=1, le=MOST)]
Line = Annotated[str, Form(max_length=2_000)]


class WaiverForm(BaseModel):
    """A waiver, as it was typed."""

    cells: Line = "**"
    tests: Line = EVERY_TEST
    reason: Line = ""
    link: Line = ""
    expires: Annotated[str, Form(max_length=40)] = ""

    def request(self) -> WaiverRequest:
        """What is asked for. Raises ConfigError for the day, ValidationError for the rest."""
        return WaiverRequest.model_validate(self.model_dump() | {"expires": _day(self.expires.strip())})


class BaselineForm(BaseModel):
    """A baseline, as it was typed."""

    name: Line = ""
    run: Line = ""


@dataclass(frozen=True)
class WaiverLine:
    """A waiver, and what is wrong with it."""

    waiver: Waiver
    flags: Sequence[str]


@router.get("/history/{project}/waivers")
async def waivers(visit: Reading, project: str) -> Response:
    """The waivers of a project; what they were good for in its newest finished run."""
    return await apart(visit.request, lambda: _waivers(visit, project, WaiverForm()))


@router.post("/history/{project}/waivers")
async def add_waiver(visit: Operating, project: str, form: Annotated[WaiverForm, Form()]) -> Response:
    """Accept failures."""

    def add() -> Response:
        refusal = refused(lambda: waiving.add_waiver(project, form.request(), visit.server, visit.identity, Response()))
        return _waivers(visit, project, form, refusal) if refusal else see(_path(project, "waivers"))

    return await apart(visit.request, add)


@router.get("/history/{project}/waivers/{waiver}")
def one_waiver(visit: Operating, project: str, waiver: WaiverId) -> Response:
    """A form that changes one."""
    found = visit.server.waivers.get(project, waiver)
    typed = found.model_dump(include={"cells", "tests", "reason", "link"})
    expires = f"{found.expires.astimezone(UTC):%Y-%m-%d}" if found.expires else ""
    return visit.page("waiver.html", waiver=found, form=WaiverForm(**typed, expires=expires), problem="")


@router.post("/history/{project}/waivers/{waiver}")
def change_waiver(visit: Operating, project: str, waiver: WaiverId, form: Annotated[WaiverForm, Form()]) -> Response:
    """Have it say something else."""
    found = visit.server.waivers.get(project, waiver)
    refusal = refused(lambda: waiving.change_waiver(project, waiver, form.request(), visit.server, visit.identity))
    if refusal:
        return visit.page("waiver.html", status=refusal.status, waiver=found, form=form, problem=refusal.why)
    return see(_path(project, "waivers"))


@router.post("/history/{project}/waivers/{waiver}/remove")
def remove_waiver(visit: Operating, project: str, waiver: WaiverId) -> Response:
    """What it named is no longer accepted."""
    waiving.remove_waiver(project, waiver, visit.server, visit.identity)
    return see(_path(project, "waivers"))


@router.get("/history/{project}/baselines")
def baselines(visit: Reading, project: str) -> Response:
    """The runs of a project that have a name."""
    return _baselines(visit, project, BaselineForm())


@router.post("/history/{project}/baselines")
def set_baseline(visit: Operating, project: str, form: Annotated[BaselineForm, Form()]) -> Response:
    """Give a run a name."""
    refusal = refused(lambda: _set_baseline(visit, project, form))
    return _baselines(visit, project, form, refusal) if refusal else see(_path(project, "baselines"))


@router.post("/history/{project}/baselines/{name}/remove")
def remove_baseline(visit: Operating, project: str, name: str) -> Response:
    """The name is free again."""
    api.remove_baseline(project, name, visit.server, visit.identity)
    return see(_path(project, "baselines"))


def _waivers(visit: Visit, project: str, form: WaiverForm, refusal: Refusal | None = None) -> Response:
    found = waiving.list_waivers(project, visit.server, visit.identity)
    judged, uses = _uses(visit, project) if found else ("", {})
    lines = [WaiverLine(one, _flags(one, uses.get(one.id), visit.now)) for one in found]
    return _shown(visit, "waivers.html", refusal, project=project, lines=lines, judged=judged, form=form)


def _uses(visit: Visit, project: str) -> tuple[str, dict[int, WaiverUse]]:
    """The newest finished run of a project, and what each waiver was good for in it."""
    finished = visit.server.store.runs(RunQuery(project=project, state=State.FINISHED, limit=1))
    if not finished:
        return "", {}
    uses = visit.server.compat.ask(Compatibility.waived, finished[0].id, now=visit.now).uses
    return finished[0].id, {use.id: use for use in uses}


def _flags(waiver: Waiver, use: WaiverUse | None, now: datetime) -> Sequence[str]:
    if use:
        return use.flags
    return ("expired",) if waiver.expired(now) else ()


def _set_baseline(visit: Visit, project: str, form: BaselineForm) -> None:
    name = form.name.strip()
    if not api.BASELINE.fullmatch(name):
        raise ConfigError(f"cannot set the baseline {name!r}: a name has letters, digits, '.', '_' and '-', at most 63")
    request = api.BaselineRequest(run=form.run.strip())
    api.set_baseline(project, name, request, visit.server, visit.identity)


def _baselines(visit: Visit, project: str, form: BaselineForm, refusal: Refusal | None = None) -> Response:
    found = api.list_baselines(project, visit.server, visit.identity)
    offered = visit.server.store.runs(RunQuery(project=project, state=State.FINISHED, limit=_OFFERED))
    return _shown(visit, "baselines.html", refusal, project=project, baselines=found, offered=offered, form=form)


def _shown(visit: Visit, template: str, refusal: Refusal | None, **values: Any) -> Response:
    status = refusal.status if refusal else HTTPStatus.OK
    return visit.page(template, status=status, problem=refusal.why if refusal else "", **values)


def _day(text: str) -> datetime | None:
    """The beginning of a day in UTC, or a time; None for nothing. Raises ConfigError."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"cannot read the day {text!r}", hint="write it as 2027-01-31") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _path(project: str, what: str) -> str:
    return f"/history/{quote(project, safe='')}/{what}"
