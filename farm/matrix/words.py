"""What pydantic found wrong with a matrix, in words and positions for the person who wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

from pydantic_core import ErrorDetails

from farm.errors import Problem
from farm.matrix.near import did_you_mean
from farm.matrix.tree import Path, Tree
from farm.model import Build, Matrix, Model
from farm.model.fields import GUEST_PATH, LOCATION, NAME, NOT_BLANK, PACKAGE, SOURCES, VARIABLE

_PATTERNS = {
    NAME: "a name: a letter, then letters, digits, '_', '.' or '-', 63 at most",
    VARIABLE: "the name of an environment variable: letters, digits and '_', no digit first",
    PACKAGE: "the name of a Debian package: small letters, digits, '+', '.' or '-'",
    NOT_BLANK: "a script: there is nothing in it",
    GUEST_PATH: "the absolute path of a file in the guest",
    LOCATION: "a path or a URL",
    "^[0-9a-f]{64}$": "a SHA-256: 64 hexadecimal digits in small letters",
}

SENTENCES = {
    "bool_type": "expected true or false; found {found}",
    "dict_type": "expected a mapping; found {found}",
    "expected": "expected {what}; found {found}",
    "finite_number": "expected a finite number; found {found}",
    "float_type": "expected a number; found {found}",
    "greater_than": "has to be more than {gt:g}; found {found}",
    "greater_than_equal": "has to be at least {ge}; found {found}",
    "int_type": "expected a whole number; found {found}",
    "less_than_equal": "has to be at most {le}; found {found}",
    "literal_error": "expected {expected}; found {found}{near}",
    "model_type": "expected a mapping; found {found}",
    "string_pattern_mismatch": "{found} is not {pattern}",
    "string_too_long": "longer than {max_length} characters",
    "string_type": "expected text; found {found}",
    "tuple_type": "expected a list; found {found}",
    "value_error": "{error}",
}
"""One for each error that the types of the model can give; a test puts wrong values everywhere to see."""

_LONGEST_QUOTE = 60


def problems(errors: list[ErrorDetails], tree: Tree) -> Iterator[Problem]:
    """Every error as one problem with its place in the file."""
    for error in errors:
        path = tree.path(error["loc"])
        if any(path[: len(broken)] == broken for broken in tree.broken):
            continue  # said already, and what stands there now is not what the person wrote
        yield from _BY_TYPE.get(error["type"], _plain)(error, tree)


def found(value: object) -> str:
    """A value of the file, as a message names it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value if len(value) <= _LONGEST_QUOTE else value[:_LONGEST_QUOTE] + "…")
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
    return str(value)


def _dotted(path: Path) -> str:
    """`axes.arch[0]`; the document itself has no name."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _plain(error: ErrorDetails, tree: Tree) -> Iterator[Problem]:
    context: dict[str, Any] = dict(error.get("ctx", {}))
    context["pattern"] = _PATTERNS.get(context.get("pattern", ""), "what is expected here")
    context["near"] = did_you_mean(str(error["input"]), re.findall(r"'(.*?)'", str(context.get("expected", ""))))
    path = tree.path(error["loc"])
    # A type of error that has no sentence yet is still worth more than a traceback.
    what = SENTENCES.get(error["type"], "{found} is not accepted").format(found=found(error["input"]), **context)
    is_key = error["loc"][-1:] == ("[key]",)
    yield tree.problem(path, what if is_key or not path else f"{_dotted(path)}: {what}", key=is_key)


def _empty(error: ErrorDetails, tree: Tree) -> Iterator[Problem]:
    if not error["input"]:  # pydantic counts the items that are right: this is also said of one with wrong items
        path = tree.path(error["loc"])
        yield tree.problem(path, f"{_dotted(path)}: empty; at least one is needed")


def _missing(error: ErrorDetails, tree: Tree) -> Iterator[Problem]:
    path = tree.path(error["loc"][:-1])
    place = f" in {_dotted(path)}" if path else ""
    yield tree.problem(path, f"missing key {str(error['loc'][-1])!r}{place}")


def _unknown(error: ErrorDetails, tree: Tree) -> Iterator[Problem]:
    *level, key = error["loc"]
    what = f"unknown key {str(key)!r}{did_you_mean(str(key), known_keys(tuple(level)))}"
    yield tree.problem(error["loc"], what, key=True)


def _mistakes(error: ErrorDetails, tree: Tree) -> Iterator[Problem]:
    is_key = error["loc"][-1:] == ("[key]",)
    for mistake in error["ctx"]["mistakes"]:
        yield tree.problem((*error["loc"], *mistake.at), mistake.what, key=mistake.key or is_key)


def _source_kind(error: ErrorDetails, tree: Tree) -> Iterator[Problem]:
    source = error["input"]
    kinds = ", ".join(SOURCES)
    if not isinstance(source, dict):
        yield tree.problem(("source",), f"source: expected a folder or one of {kinds}; found {found(source)}")
        return
    given = [key for key in source if key in SOURCES]
    if given:
        names = " and ".join(map(repr, given))
        yield tree.problem(("source", given[1]), f"two kinds of source at once: {names}; keep one", key=True)
        return
    known = {name for kind in SOURCES.values() for name in kind.model_fields}
    odd = next((key for key in source if key not in known), "")
    what = f"unknown source kind {odd!r}{did_you_mean(odd, SOURCES)}" if odd else "the kind of source is missing"
    yield tree.problem(("source", odd) if odd else ("source",), f"{what} (known: {kinds})", key=bool(odd))


_BY_TYPE: dict[str, Callable[[ErrorDetails, Tree], Iterator[Problem]]] = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    "mistakes": _mistakes,
    "source_kind": _source_kind,
    "too_short": _empty,
}


def known_keys(level: Path) -> list[str]:
    """The keys that may be written at a location of pydantic's: `()`, `("guest",)`, `("source", "GitSource")`."""
    # Parts that the file itself names (`layers`) have all the same keys.
    return keys_of(_LEVELS[level] if level in _LEVELS else _LEVELS[level[:1]])


def keys_of(model: type[Model]) -> list[str]:
    """The keys of a part of the file, as they are written."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _parts(model: type[Model], at: Path = ()) -> Iterator[tuple[Path, type[Model]]]:
    """A part of the file, and all the parts in it: that a key holds, or may hold, or holds by their names."""
    yield at, model
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Model):
                yield from _parts(kind, (*at, field.alias or name))


_LEVELS: dict[Path, type[Model]] = {
    **dict(_parts(Matrix)),
    ("build", "mapping"): Build,
    **{("source", kind.__name__): kind for kind in SOURCES.values()},
}
