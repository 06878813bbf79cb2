"""What a server says of itself: lines for a person at a terminal, JSON for whatever collects logs otherwise.

A record is a sentence and fields. All of it goes through here, also what libraries say by Python's `logging`.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from farm.model import AttemptKey
from farm.text import clean

_QUIET = ("alembic", "asyncio", "httpcore", "httpx", "paramiko", "ray", "sqlalchemy")
"""Whose chatter is nobody's business; their warnings are."""
_NOISE = frozenset({"color_message"})
"""Fields of libraries that say what another says, as those do that begin with a `_`."""
_LONGEST = 20_000
_SECRET_KEYS = re.compile(r"token|secret|password|passwd|authorization|cookie|credential|api_?key", re.IGNORECASE)
_SECRET_TEXTS = (
    (re.compile(r"\b(farm_[0-9a-f]{8})_[A-Za-z0-9_-]{20,}"), r"\1_***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"://[^/\s@:]*:[^/\s@]+@"), "://***@"),
)
"""Tokens of the farm, headers, and passwords in URLs, wherever they stand."""


def configure(level: str, stream: TextIO | None = None) -> None:
    """Say what is at least as important as a level (`debug`, `info`, `warning`, `error`), by default to stderr."""
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_attempt,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(shared, terminal=stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    logging.captureWarnings(capture=True)


def _formatter(shared: list[Processor], *, terminal: bool) -> logging.Formatter:
    last: Callable[..., Any] = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if terminal
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            mask,
            last,
        ],
    )


def name_attempt(_logger: WrappedLogger, _method: str, record: EventDict) -> EventDict:
    """A field that is an AttemptKey becomes `run`, `cell` and `attempt`, its number."""
    key = record.get("attempt")
    if isinstance(key, AttemptKey):
        record.update(run=key.run, cell=key.cell, attempt=key.number)
    return record


def mask(_logger: WrappedLogger, _method: str, record: EventDict) -> EventDict:
    """No secret and no control character leaves, whoever has put it into a record."""
    return {key: _masked(value, key) for key, value in record.items() if key not in _NOISE and key[0] != "_"}


def _masked(value: Any, key: str = "") -> Any:
    if _SECRET_KEYS.search(key) and isinstance(value, str | bytes | list | tuple | Mapping):
        return "***"
    match value:
        case str():
            for secret, shown in _SECRET_TEXTS:
                value = secret.sub(shown, value)
            return clean(value, limit=_LONGEST)
        case MutableMapping():
            return {str(inner): _masked(one, str(inner)) for inner, one in value.items()}
        case list() | tuple():
            return [_masked(one) for one in value]
        case bool() | int() | float() | None:
            return value
        case _:
            return _masked(str(value))
