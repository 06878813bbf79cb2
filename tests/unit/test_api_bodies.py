"""What may stand in the body of a request: nothing that the API does not know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from api.app import create_app
from farm.serve import Server
from tests.unit.test_api_head import farm

__all__ = ["farm"]


@pytest.fixture
def document(farm: Server) -> dict[str, Any]:
    return create_app(farm).openapi()


def objects(document: dict[str, Any], part: Any, seen: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schemas of objects with fields in a part of a document, and in what it refers to, by their titles."""
    if isinstance(part, list):
        for one in part:
            yield from objects(document, one, seen)
    if not isinstance(part, dict):
        return
    name = str(part.get("$ref", "")).rpartition("/")[2]
    if name and name not in seen:
        seen.add(name)
        yield from objects(document, document["components"]["schemas"][name], seen)
    if "properties" in part:
        yield str(part["title"]), part
    for one in part.values():
        yield from objects(document, one, seen)


def test_a_field_that_no_body_has_is_refused_everywhere(document: dict[str, Any]) -> None:
    found: dict[str, dict[str, Any]] = {}
    for methods in document["paths"].values():
        for operation in methods.values():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            found.update(objects(document, body.get("schema"), set()))
    assert {"RunRequest", "BaselineRequest", "WaiverRequest", "TokenRequest", "GitSource"} <= set(found)
    assert [name for name, schema in found.items() if schema.get("additionalProperties") is not False] == []
