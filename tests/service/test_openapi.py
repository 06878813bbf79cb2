"""The OpenAPI document is complete: whoever reads nothing else can use the API."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from api import examples, problems
from api.reports import MEDIA_TYPES, Format
from farm.report import FORMATS
from tests.service.serving import Serving

pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
DOCUMENT = "/api/v1/openapi.json"
_JSON = "application/json"


@pytest.fixture(scope="module")
def document(server: Serving) -> Any:
    return server.client("").get(DOCUMENT).json()


def operations(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def missing(document: Any, lacks: Any) -> list[str]:
    """The operations that lack something."""
    return [name for name, operation in operations(document) if lacks(operation)]


def test_every_operation_says_what_it_does(document: Any) -> None:
    assert missing(document, lambda one: not one.get("summary") or not one.get("description")) == []


def test_every_operation_has_a_name_that_reads_well(document: Any) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)+", name)] == []
    assert len(names) == len(set(names))


def test_every_operation_is_under_a_heading_that_is_explained(document: Any) -> None:
    explained = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert missing(document, lambda one: len(one.get("tags", ())) != 1 or not explained.issuperset(one["tags"])) == []


def test_every_parameter_is_explained_or_speaks_for_itself(document: Any) -> None:
    obvious = {"limit", "before", "after", "state", "status", "verdict", "version", "owner", "project", "exit_code"}
    obvious |= {"format", "name", "arch", "delivery", "accept", "run"}
    unexplained = {
        f"{name}: {parameter['name']}"
        for name, operation in operations(document)
        for parameter in operation.get("parameters", ())
        if not parameter.get("description") and parameter["name"] not in obvious
    }
    assert unexplained == set()


def test_every_parameter_is_bounded(document: Any) -> None:
    elsewhere = {"max_age", "accept"}  # a duration may be a text, too; the header is as long as a header may be
    unbounded = {
        f"{name}: {parameter['name']}"
        for name, operation in operations(document)
        for parameter in operation.get("parameters", ())
        if parameter["name"] not in elsewhere and not _bounded(document, parameter["schema"])
    }
    assert unbounded == set()


def _bounded(document: Any, schema: Any) -> bool:
    if "$ref" in schema:
        return _bounded(document, _resolved(document, schema))
    if "anyOf" in schema:
        return all(_bounded(document, one) for one in schema["anyOf"])
    bounds: Mapping[str, Any] = {
        "string": lambda: (
            {"maxLength", "enum", "const", "format"} & set(schema) or schema.get("pattern", "").endswith("$")
        ),
        "integer": lambda: {"maximum", "exclusiveMaximum"} & set(schema),
        "number": lambda: {"maximum", "exclusiveMaximum"} & set(schema),
        "array": lambda: "maxItems" in schema and _bounded(document, schema["items"]),
    }
    return "enum" in schema or "const" in schema or bool(bounds.get(schema.get("type", ""), lambda: True)())


def _resolved(document: Any, schema: Any) -> Any:
    return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]


def test_every_operation_that_takes_a_token_says_which_scope_and_what_happens_without(document: Any) -> None:
    scopes = {"read", "submit", "operate", "admin"}
    secured = [(name, one) for name, one in operations(document) if one.get("security")]
    assert [name for name, one in secured if one.get("x-scope") not in scopes] == []
    assert [name for name, one in secured if not {"401", "429"} <= set(one["responses"])] == []


@pytest.mark.parametrize(
    ("status", "concerned"),
    [
        ("403", lambda one: one.get("x-scope") not in {None, "read"}),
        ("404", lambda one: any(parameter["in"] == "path" for parameter in one.get("parameters", ()))),
        ("413", lambda one: "requestBody" in one),
        ("416", lambda one: any(parameter["name"] == "Range" for parameter in one.get("parameters", ()))),
        ("422", lambda one: "parameters" in one or "requestBody" in one),
    ],
)
def test_problems_that_can_happen_are_described(document: Any, status: str, concerned: Any) -> None:
    assert missing(document, lambda one: concerned(one) and status not in one["responses"]) == []


def test_every_problem_is_described_as_one(document: Any) -> None:
    others = [
        f"{name}: {code}"
        for name, operation in operations(document)
        for code, answer in operation["responses"].items()
        if (code == "default" or code >= "400") and list(answer["content"]) != [problems.MEDIA_TYPE]
    ]
    assert others == []


def test_every_body_and_every_answer_of_json_has_an_example(document: Any) -> None:
    places = {name: [place for place, _, _ in _places(one)] for name, one in operations(document)}
    without = {
        f"{name} ({one['operationId']}): {place}"
        for name, one in operations(document)
        for place, content, _ in _places(one)
        if "example" not in content and "examples" not in content
    }
    assert any(places.values())
    assert without == set()


def test_every_example_is_as_its_schema_says(document: Any) -> None:
    for name, operation in operations(document):
        for place, content, schema in _places(operation):
            if "example" in content:
                whole = schema | {"components": document["components"]}
                try:
                    jsonschema.validate(content["example"], whole, cls=jsonschema.Draft202012Validator)
                except jsonschema.ValidationError as error:
                    pytest.fail(f"{name}, {place}, {error.json_path}: {error.message}")


def _places(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Where JSON goes in and out, but problems: what it is called, its description, its schema."""
    contents = {"body": operation.get("requestBody", {}).get("content", {})}
    contents |= {code: one.get("content", {}) for code, one in operation["responses"].items() if code.startswith("2")}
    for place, content in contents.items():
        if _JSON in content and content[_JSON].get("schema"):
            yield place, content[_JSON], content[_JSON]["schema"]


def test_no_example_is_of_an_operation_that_there_is_not(document: Any) -> None:
    assert set(examples.EXAMPLES) <= {operation["operationId"] for _, operation in operations(document)}


def test_every_format_of_a_report_has_its_media_type() -> None:
    assert [one.value for one in Format] == list(FORMATS) == list(MEDIA_TYPES)


def test_every_problem_that_is_raised_is_in_the_table() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "api").glob("*.py"))
    raised = set(re.findall(r'ProblemError\(\s*HTTPStatus\.\w+,\s*"([^"]+)"', source))
    assert raised
    assert raised - set(problems.KINDS) == set()


def test_every_error_of_the_farm_has_the_status_that_the_table_says() -> None:
    for error, status in problems.STATUS.items():
        assert problems.KINDS[problems.kind_of(error)][0] is status
