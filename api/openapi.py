"""The OpenAPI document: what FastAPI finds out by itself, made complete.

Which problems a route may answer with follows from what it has (a scope, parameters, a body); what does not
follow it says by `responses=also(…)`. The examples are in `api.examples`.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi

from api.examples import EXAMPLES
from api.problems import KINDS, MEDIA_TYPE, Problem
from farm.model import Scope

DESCRIPTION = """\
Every request but those for health, webhooks and this document has a token: `Authorization: Bearer farm_…`.
A token has a scope, and each scope includes those before it: read, submit, operate, admin; `x-scope` says which one
an operation takes.
Errors are problem details (RFC 9457) whose `type` stays what it is. Pages of a list name the next one as `next`.
"""

TAGS = {
    "planning": "What a run would do.",
    "sources": "What is tested.",
    "runs": "Submitting, finding, ending and repeating runs.",
    "events": "What happens, as it happens.",
    "cells": "What became of each cell, its attempts and their tests.",
    "logs and artifacts": "What attempts left behind.",
    "reports": "Runs as documents.",
    "reservations": "Guests for people: reserved ones, and failed ones that are kept.",
    "history": "What many runs of a project say together.",
    "compatibility": "Runs compared, failures explained, the support statement, waivers.",
    "hosts": "Where guests run.",
    "images": "What guests run from.",
    "triggers": "Webhooks of forges, and what others were told.",
    "access": "Tokens, and who did what.",
    "health": "For whoever watches over the server.",
}

_JSON = "application/json"
_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_CHECKED = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.TOO_MANY_REQUESTS,
)
_FORGOTTEN = ("HTTPValidationError", "ValidationError")
"""FastAPI's own, in whose place problems are."""


def describe(app: FastAPI) -> None:
    """Have the application tell all about itself; made once, when it is first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of every operation of a document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    schemas = document["components"]["schemas"]
    for name in _FORGOTTEN:
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs", {}) | {"Problem": problem}
    scopes = {route.name: _scope(route.dependant) for _, route in app.state.routes}
    for _path, _method, operation in operations(document):
        _complete(operation, scopes.get(operation["operationId"]))
    return document


def _scope(dependant: Dependant) -> Scope | None:
    """The scope that a route asks for; None: it asks for none."""
    own = getattr(dependant.call, "scope", None)
    return next((scope for scope in (own, *map(_scope, dependant.dependencies)) if isinstance(scope, Scope)), None)


def _complete(operation: dict[str, Any], scope: Scope | None) -> None:
    answers = operation["responses"]
    if scope:
        operation["x-scope"] = scope.value
    for status in _statuses(operation, scope):
        answers.setdefault(str(status.value), {"description": status.phrase})
    for code, answer in answers.items():
        if code.isdigit() and int(code) >= HTTPStatus.BAD_REQUEST:
            answer |= {"description": HTTPStatus(int(code)).phrase, "content": _PROBLEM | _example(int(code))}
    answers["default"] = {"description": "Another problem", "content": _PROBLEM}
    _illustrate(operation)


def _statuses(operation: dict[str, Any], scope: Scope | None) -> Iterator[HTTPStatus]:
    parameters = operation.get("parameters", [])
    if scope:
        yield from _CHECKED
        if scope is not Scope.READ:
            yield HTTPStatus.FORBIDDEN
    if any(parameter["in"] == "path" for parameter in parameters):
        yield HTTPStatus.NOT_FOUND
    if parameters or "requestBody" in operation:
        yield HTTPStatus.UNPROCESSABLE_ENTITY
    if "requestBody" in operation:
        yield HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    if any(parameter["name"] == "Range" for parameter in parameters):
        yield HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def _example(status: int) -> dict[str, Any]:
    """A problem of a status, as an example of it."""
    for kind, (its, meaning) in KINDS.items():
        if its == status:
            value = {"type": f"/problems/{kind}", "title": its.phrase, "status": status, "detail": meaning}
            return {MEDIA_TYPE: _PROBLEM[MEDIA_TYPE] | {"example": value | {"hint": "", "mistakes": []}}}
    return {}


def _illustrate(operation: dict[str, Any]) -> None:
    example = EXAMPLES.get(operation["operationId"])
    if example is None:
        return
    if example.body is not None:
        for content in operation["requestBody"]["content"].values():
            content["example"] = example.body
    if example.answer is not None:
        for code, answer in operation["responses"].items():
            if code.startswith("2") and _JSON in answer.get("content", {}):
                answer["content"][_JSON]["example"] = example.answer
