"""YAML text as plain values, with the position of every key and every value.

YAML 1.2 (https://yaml.org/spec/1.2.2/), so that `on`, `off`, `yes` and `no` stay words. It stops at
ruamel's node tree, where every node has its mark, and builds only what a matrix may hold from there:
mappings, lists, texts, numbers, booleans and nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError, MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from farm.errors import MatrixError, Problem
from farm.model import scalar_text

Path = tuple[str | int, ...]
"""Where something is: `("axes", "arch", 0)`."""

Mark = tuple[int, int]
"""Line and column, from 1."""

MAX_BYTES = 1024 * 1024
"""Of a matrix file: far more than a person writes."""

MAX_NODES = 50_000
"""Keys and values of a file, which ruamel reads in some seconds; and values with every alias written out: a few
aliases of aliases can stand for billions."""

MAX_DEPTH = 20
"""Of nesting: a matrix needs six levels."""

_LONGEST_NUMBER = 40  # Python refuses to read integers of more than 4300 digits; nobody needs 40


@dataclass(frozen=True)
class Tree:
    """A document: its value, where everything in it is, and the mistakes that were found on the way."""

    file: str
    value: object
    keys: Mapping[Path, Mark] = field(repr=False)
    values: Mapping[Path, Mark] = field(repr=False)
    problems: tuple[Problem, ...] = ()
    rewritten: Mapping[Path, str] = field(default_factory=dict)
    """Numbers that come out otherwise than they were written (3.10 as 3.1), as they were written."""
    broken: frozenset[Path] = frozenset()
    """Values that could not be built; something of another type stands in their place."""

    def path(self, loc: Path) -> Path:
        """The path in the document that a location of pydantic's names, which has more parts than the document."""
        path: Path = ()
        for part in loc:
            path = (*path, part) if (*path, part) in self.values else path
        return path

    def problem(self, path: Path, what: str, *, key: bool = False) -> Problem:
        """A mistake at the value of a path, or at its key; at the nearest thing around it that is in the file."""
        found = self.path(path)
        marks = self.keys if key else self.values
        return Problem(self.file, *marks.get(found, self.values.get(found, (1, 1))), what)


def parse(text: str, file: str) -> Tree:
    """Read one YAML document. Raises MatrixError where it is no YAML at all; lesser mistakes are in the tree."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise _refused(file, (1, 1), f"the file is larger than {MAX_BYTES} bytes")
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    yaml.max_depth = MAX_DEPTH
    yaml.composer.warn_double_anchors = False  # YAML 1.2 lets a name be given again
    try:
        root = yaml.compose(text)
    except MaxDepthExceededError as error:
        raise _refused(file, _mark(error.problem_mark), f"nested deeper than {MAX_DEPTH} levels") from error
    except _TooManyError as error:
        raise _refused(file, _mark(error.mark), f"more than {MAX_NODES} keys and values") from error
    except MarkedYAMLError as error:
        raise _not_yaml(text, file, error) from error
    except ReaderError as error:
        what = f"the character U+{ord(text[error.position]):04X} is not allowed in a YAML file"
        raise _refused(file, _position(text, error.position), what) from error
    builder = _Builder(file, yaml.constructor)
    value = builder.build(root, ()) if root is not None else None
    return Tree(
        file, value, builder.keys, builder.values, tuple(builder.problems), builder.rewritten, frozenset(builder.broken)
    )


class _TooManyError(Exception):
    """There are more nodes than a matrix may have."""

    def __init__(self, mark: Any) -> None:
        super().__init__(mark)
        self.mark = mark


class _Composer(Composer):
    """Counts, so that it need not read to its end what is too large anyway."""

    _nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One node, and all in it, for every key and every value."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _TooManyError(self.parser.peek_event().start_mark)
        return super().compose_node(parent, index)


def _mark(mark: Any) -> Mark:
    return mark.line + 1, mark.column + 1


def _position(text: str, index: int) -> Mark:
    before = text[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1


def _refused(file: str, mark: Mark, what: str) -> MatrixError:
    return MatrixError((Problem(file, *mark, what),))


def _not_yaml(text: str, file: str, error: MarkedYAMLError) -> MatrixError:
    """What YAML's own error comes to in words for a person."""
    mark = error.problem_mark or error.context_mark
    if isinstance(error, ComposerError) and error.context_mark:  # its one error that has a context
        return _refused(file, _mark(mark), "a second document begins here; a matrix file holds one")
    first = error.context_mark or mark
    for number, line in list(enumerate(text.splitlines(), 1))[first.line : mark.line + 1]:
        if tab := re.match(r" *\t", line):
            return _refused(file, (number, tab.end()), "a tab cannot indent YAML; use spaces")
    what = f"this is no YAML: {', '.join(filter(None, (error.context, error.problem)))}"
    sign = text[first.index : first.index + 1]
    if sign and sign in "*&!%@`":
        what += f"; put a text that begins with {sign} in quotes"
    return _refused(file, _mark(mark), what)


class _Builder:
    """Walks the nodes of one document; every alias is walked again, under its own path."""

    def __init__(self, file: str, constructor: Any) -> None:
        self.file = file
        self.keys: dict[Path, Mark] = {}
        self.values: dict[Path, Mark] = {}
        self.problems: list[Problem] = []
        self.rewritten: dict[Path, str] = {}
        self.broken: set[Path] = set()
        self._scalars: dict[str, Callable[[Any], object]] = {
            "bool": constructor.construct_yaml_bool,
            "float": constructor.construct_yaml_float,
            "int": constructor.construct_yaml_int,
            "null": lambda _node: None,
            **dict.fromkeys(("str", "timestamp", "value", "merge"), lambda node: node.value),
        }

    def build(self, node: Node, path: Path) -> object:
        self.values[path] = _mark(node.start_mark)
        kind = (node.tag or "").removeprefix("tag:yaml.org,2002:")
        if len(self.values) > MAX_NODES or len(path) > MAX_DEPTH:
            raise _refused(self.file, self.values[path], "this stands for too many values; use fewer aliases")
        if isinstance(node, MappingNode) and kind == "map":
            return self._mapping(node, path)
        if isinstance(node, SequenceNode) and kind == "seq":
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if not isinstance(node, ScalarNode) or kind not in self._scalars:
            return self._unbuilt(node, path, f"the tag {node.tag} is not known here; leave it out")
        return self._scalar(node, kind, path)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, object]:
        built: dict[str, object] = {}
        for key, value in node.value:
            if what := self._wrong_key(key, (*path, key.value) if isinstance(key, ScalarNode) else path):
                self._problem(key, what)
                continue
            here = (*path, key.value)
            self.keys[here] = _mark(key.start_mark)
            built[key.value] = self.build(value, here)
            if built[key.value] is None:  # nothing has its mark at whatever follows it
                self.values[here] = self.keys[here]
        return built

    def _wrong_key(self, key: Node, path: Path) -> str:
        if not isinstance(key, ScalarNode):
            return "a key has to be a word"
        if key.tag == "tag:yaml.org,2002:merge":
            return "merge keys (<<) are not read; write the keys themselves"
        if path in self.keys:
            return f"duplicate key {key.value!r}; it is on line {self.keys[path][0]} already"
        return ""

    def _scalar(self, node: ScalarNode, kind: str, path: Path) -> object:
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in node.value):
            return self._unbuilt(node, path, "a text cannot hold a NUL or half of a surrogate pair")
        if kind in ("int", "float") and len(node.value) > _LONGEST_NUMBER:
            return self._unbuilt(node, path, f"a number has at most {_LONGEST_NUMBER} digits")
        try:
            value = self._scalars[kind](node)
        except ValueError:  # an explicit tag on something else: `!!int x`
            return self._unbuilt(node, path, f"{node.value!r} is no {kind}")
        if isinstance(value, int | float) and kind in ("int", "float") and scalar_text(value) != node.value:
            self.rewritten[path] = node.value
        return value

    def _unbuilt(self, node: Node, path: Path, what: str) -> object:
        """What stands in the place of a value that is wrong already."""
        self.broken.add(path)
        self._problem(node, what)
        return ""

    def _problem(self, node: Node, what: str) -> None:
        self.problems.append(Problem(self.file, *_mark(node.start_mark), what))
