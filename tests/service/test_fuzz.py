"""Every operation with much that it might be sent, good and bad: no defect, and every answer as it is described."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks

from tests.service.serving import Serving
from tests.service.test_details import CELL
from tests.service.test_details import MATRIX as RICH
from tests.service.test_reserve import KEY

pytestmark = pytest.mark.timeout(600)

EXAMPLES = 6
"""Of each operation in each way: about a minute in all."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
)
ENDLESS = "listen_to_all"
"""What it takes is answered for ever; what it refuses is not. What it sends is looked at in `test_live`."""
COSTLY = "reserve_guest"
"""Of what it takes, guests would come that are none of a script: of those it is asked for."""
SENT_S = 30.0


@schemathesis.serializer("application/x-tar")
def _as_it_is(_context: Any, value: bytes) -> bytes:
    return value


def names_of_what_is_there(server: Serving) -> Mapping[str, str]:
    """A run with a log, tests and an artifact, so that what is asked for is there."""
    client = server.client("submit")
    run = server.submit(client, matrix=RICH)
    server.wait_for(client, run)
    return {
        "run": run,
        "cell": CELL,
        "number": "1",
        "path": "out/a-füle.txt",
        "project": "details",
        "name": "test",
        "arch": "amd64",
        "format": "json",
    }


def ways(operation: Any, there: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """How an operation is tried: with anything, with what is there, with what it should refuse."""
    name = operation.definition.raw["operationId"]
    if name == COSTLY:
        yield "what is there", operation.as_strategy().map(_scripted)
    elif name != ENDLESS:
        yield "anything", operation.as_strategy()
    names = [one.name for one in operation.path_parameters]
    if names and set(names) <= set(there):
        yield "what is there", operation.as_strategy(path_parameters={name: there[name] for name in names})
    if any(True for _ in operation.iter_parameters()) or operation.body:
        yield "bad", operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)


def _scripted(case: Any) -> Any:
    """The same wish for a guest that is played."""
    if isinstance(case.body, dict):
        case.body |= {"arch": "amd64", "hypervisor": "fake", "ssh_key": KEY}
    return case


def tried(strategy: Any, url: str, headers: dict[str, str]) -> None:
    """Send what a strategy gives, and check what comes back."""
    wanted = [check for check in checks.CHECKS.get_all() if check.__name__ in CHECKS]
    assert len(wanted) == len(CHECKS)

    @seed(4)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def once(case: Any) -> None:
        # What nobody knows is passed over; it makes a request neither good nor bad.
        assume(set(case.query or ()) <= {one.name for one in case.operation.query})
        answer = case.call(base_url=url, headers=headers, timeout=SENT_S)
        case.validate_response(answer, checks=wanted)
        if answer.headers.get("content-type", [""])[0] == "application/problem+json":
            told = answer.json()
            # A matrix has its mistakes with their places instead.
            assert told["type"] == "/problems/matrix" or told["detail"].startswith("cannot "), told

    once()


@pytest.mark.filterwarnings("default")
def test_the_api_answers_everything_as_its_document_says(own_server: Callable[..., Serving]) -> None:
    server = own_server(settings="rate = 100000\nburst = 100000\n")
    headers = {"Authorization": f"Bearer {server.token('admin')}"}
    schema = schemathesis.openapi.from_url(f"{server.url}/api/v1/openapi.json")
    there, wrong, count = names_of_what_is_there(server), [], 0
    for found in schema.get_all_operations():
        operation = found.ok()
        for way, strategy in ways(operation, there):
            count += 1
            try:
                tried(strategy, server.url, headers)
            except Unsatisfiable:  # nothing that it takes can be wrong
                continue
            except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - all are to be told, whatever they are
                wrong.append(f"{operation.label} with {way}: {error}")
    assert count > 100
    assert wrong == [], "\n\n".join(wrong)
    assert server.client("admin").get("/readyz").status_code == 200
    assert b"defect" not in server.log.read_bytes()
