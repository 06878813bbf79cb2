"""What `farm serve` says of itself."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from farm import logs
from farm.config import load_settings
from farm.errors import ConfigError
from farm.model import AttemptKey

TOKEN = "farm_0a1b2c3d_" + "s3cr3t" * 6


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def said(level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, stream)
    return stream


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_what_is_collected_is_one_json_object_a_line_with_its_fields() -> None:
    stream = said()
    structlog.get_logger("farm.x").info("a cell has its verdict", run="demo-1", seconds=0.5)
    structlog.get_logger("farm.x").warning("two\nlines")
    first, second = records(stream)
    assert first | {"timestamp": ""} == {
        "run": "demo-1",
        "seconds": 0.5,
        "event": "a cell has its verdict",
        "level": "info",
        "timestamp": "",
    }
    assert first["timestamp"].endswith("Z")
    assert second["event"] == "two\nlines"


def test_a_terminal_gets_lines_for_people() -> None:
    stream = Terminal()
    logs.configure("info", stream)
    structlog.get_logger("farm.x").info("the store is open", folder="/x")
    assert "the store is open" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize(
    ("level", "heard"),
    [("debug", ["d", "i", "w", "e"]), ("info", ["i", "w", "e"]), ("warning", ["w", "e"]), ("error", ["e"])],
)
def test_less_important_records_than_the_level_are_not_said(level: str, heard: list[str]) -> None:
    stream = said(level)
    log = structlog.get_logger("farm.x")
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    assert [record["event"] for record in records(stream)] == heard


def test_what_libraries_say_goes_the_same_way() -> None:
    stream = said()
    noise = {"color_message": "the same in colours", "_of_a_library": 1}
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7, extra=noise)
    logging.getLogger("sqlalchemy.engine").info("SELECT 1")
    logging.getLogger("sqlalchemy.pool").warning("a connection was lost")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    texts = [record["event"] for record in records(stream)]
    assert set(records(stream)[0]) == {"event", "level", "timestamp"}
    assert texts[:2] == ["Started server process [7]", "a connection was lost"]
    assert "DeprecationWarning: old" in texts[2]


def test_an_attempt_is_told_by_run_cell_and_number() -> None:
    stream = said()
    key = AttemptKey(run="demo-1", cell="debian-13/s390x", number=2)
    structlog.get_logger("farm.x").info("a guest is there", attempt=key, host="h1")
    (record,) = records(stream)
    assert {name: record[name] for name in ("run", "cell", "attempt", "host")} == {
        "run": "demo-1",
        "cell": "debian-13/s390x",
        "attempt": 2,
        "host": "h1",
    }


def test_fields_of_the_context_are_in_every_record() -> None:
    stream = said()
    with structlog.contextvars.bound_contextvars(request="abc"):
        structlog.get_logger("farm.x").info("one")
        logging.getLogger("uvicorn.error").warning("two")
    structlog.get_logger("farm.x").info("three")
    assert [record.get("request") for record in records(stream)] == ["abc", "abc", None]


def test_an_exception_is_told_with_where_it_came_from() -> None:
    stream = said()
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        structlog.get_logger("farm.x").exception("a defect")
    (record,) = records(stream)
    assert "test_server_logs.py" in record["exception"]
    assert record["exception"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    "fields",
    [
        {"token": "s3cr3t" * 6},
        {"headers": {"Authorization": f"Bearer {TOKEN}"}},
        {"error": f"cannot accept {TOKEN}"},
        {"url": "https://joe:s3cr3ts3cr3t@example.org/x.git"},
        {"header": "Bearer s3cr3ts3cr3t"},
        {"webhook_secret": "s3cr3t"},
        {"many": [{"password": "s3cr3t"}, (TOKEN,)]},
        {"error": ValueError(TOKEN)},
    ],
)
@pytest.mark.parametrize("make", [io.StringIO, Terminal])
def test_no_secret_is_told_wherever_it_stands(fields: dict[str, Any], make: type[io.StringIO]) -> None:
    stream = make()
    logs.configure("info", stream)
    structlog.get_logger("farm.x").info("something", **fields)
    logging.getLogger("other").warning("something %s", TOKEN)
    try:
        raise RuntimeError(TOKEN)
    except RuntimeError:
        structlog.get_logger("farm.x").exception("a defect")
    assert stream.getvalue().count("something") == 2
    assert "s3cr3t" not in stream.getvalue()


def test_a_terminal_is_not_told_what_it_should_do() -> None:
    stream = Terminal()
    logs.configure("info", stream)
    structlog.get_logger("farm.x").info("request", path="/a\x1b]0;owned\x07b")
    assert "/ab" in stream.getvalue()
    assert not any(bad in stream.getvalue() for bad in ("\x1b]", "\x07"))


def test_the_level_is_a_setting() -> None:
    assert load_settings({}).log == "info"
    assert load_settings({"FARM_LOG": "debug"}).log == "debug"
    with pytest.raises(ConfigError, match="FARM_LOG"):
        load_settings({"FARM_LOG": "loud"})


def test_without_a_stream_it_is_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    structlog.get_logger("farm.x").info("here")
    captured = capsys.readouterr()
    assert (captured.out, "here" in captured.err) == ("", True)
    assert sys.stderr is not None
