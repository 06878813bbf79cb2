"""A matrix file -> Matrix; every mistake in it at once, each with its position."""

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

from pydantic import ValidationError

from farm.errors import ConfigError, MatrixError, Problem
from farm.matrix import words
from farm.matrix.tree import MAX_BYTES, Path, Tree, parse
from farm.model import Matrix

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_AS_WRITTEN = frozenset({"axes", "exclude", "include", "env", "continue-on-error"})


@dataclass(frozen=True)
class Document:
    """A matrix with the file that it came from."""

    matrix: Matrix
    tree: Tree

    def at(self, path: Path, what: str, *, key: bool = False) -> Problem:
        """A mistake at a value of the file (`("axes", "arch", 0)`), or at its key."""
        return self.tree.problem(path, what, key=key)


def load(path: FilePath) -> Document:
    """Read a matrix file. Raises ConfigError where it cannot be read, MatrixError where it is wrong."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read the matrix {path}: {(error.strerror or str(error)).lower()}",
            hint="name a matrix file, for example matrices/demo.yaml",
        ) from error
    document = loads(_decode(data, str(path)), file=str(path))
    return replace(document, matrix=_located(document.matrix, path.absolute().parent))


def loads(text: str, *, file: str) -> Document:
    """Read a matrix from text; `file` is what messages call it. Raises MatrixError with all that is wrong."""
    tree = parse(text.removeprefix("\ufeff"), file)
    try:
        matrix = _validated(tree)
    except ValidationError as error:
        found = [*tree.problems, *_rewritten(tree), *words.problems(error.errors(include_url=False), tree)]
        raise _matrix_error(found) from error
    if found := [*tree.problems, *_rewritten(tree)]:
        raise _matrix_error(found)
    return Document(matrix, tree)


def _located(matrix: Matrix, base: FilePath) -> Matrix:
    """The matrix with absolute paths of its images: it is read here, and they are where a worker is."""
    images = {
        name: image.model_copy(update={"cloud": image.cloud if _URL.match(image.cloud) else str(base / image.cloud)})
        for name, image in matrix.images.items()
    }
    return matrix.model_copy(update={"images": images})


def _decode(data: bytes, file: str) -> str:
    if len(data) > MAX_BYTES:
        raise MatrixError((Problem(file, 1, 1, f"the file is larger than {MAX_BYTES} bytes"),))
    try:
        return codecs.decode(data, "utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode(errors="replace")) + 1
        raise MatrixError((Problem(file, line, column, "the file is not UTF-8"),)) from error


def _validated(tree: Tree) -> Matrix:
    if isinstance(tree.value, dict):
        return Matrix.model_validate(tree.value, by_alias=True, by_name=False)
    keys = ", ".join(words.keys_of(Matrix))
    given = "is empty" if tree.value is None else f"holds {words.found(tree.value)} alone"
    raise _matrix_error([tree.problem((), f"the file {given}; a matrix is a mapping with the keys {keys}")])


def _rewritten(tree: Tree) -> Iterator[Problem]:
    """Versions are not numbers: 3.10 would reach the scripts as 3.1, and 010 as 10."""
    for path, text in tree.rewritten.items():
        if path[0] in _AS_WRITTEN:
            value = words.found(functools.reduce(lambda node, part: node[part], path, tree.value))  # type: ignore[index]
            yield tree.problem(path, f"{text} is read as the number {value}; put it in quotes to keep it as written")


def _matrix_error(problems: list[Problem]) -> MatrixError:
    """The problems in the order of the file; the same thing said twice at one place is said once."""
    order = dict.fromkeys(sorted(problems, key=lambda problem: (problem.line, problem.column)))
    return MatrixError(tuple(order), hint="every key is described in docs/matrix.md")
