"""What `.gitignore` files leave out: gitignore(5), for a walk from the top down.

Written here and not taken from pathspec, because that matches files by their whole path only. Git asks at every
folder whether *it* is ignored, and never looks into one that is; patterns such as `*`, `!*/`, `!*.c` or
`out/**`, `!out/keep` come out differently. The tests hold this against git itself.

Git compares bytes. So do these rules: names and patterns are text with one character for each byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache as remember
from pathlib import Path

from farm.errors import SourceError


@dataclass(frozen=True)
class Rule:
    """One line of a `.gitignore` file."""

    pattern: re.Pattern[str]
    ignores: bool
    """False for a line that starts with `!`."""
    folders_only: bool
    whole_path: bool
    """It has a slash, and so is about the path from the file's folder on, not about the last name in it."""

    def matches(self, path: str, *, is_folder: bool) -> bool:
        """Whether it is about this path (relative to its file's folder)."""
        subject = path if self.whole_path else path.rpartition("/")[2]
        return (is_folder or not self.folders_only) and bool(self.pattern.fullmatch(subject))


class Ignored:
    """The `.gitignore` files in a folder, and above it up to the top of its repository."""

    def __init__(self, root: Path) -> None:
        self._rules = remember(_read)
        top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)
        # A folder that is itself ignored was named on purpose: the rules above it do not speak of its inside.
        inner = root.relative_to(top)
        if any(self._ignores(top, part, is_folder=True) for part in (inner, *inner.parents) if part.name):
            top = root
        self._top = top
        self._prefix = root.relative_to(top)

    def skip(self, path: str, is_folder: bool) -> bool:
        """Whether a path (relative to the folder) is left out; none of its parents may be."""
        inner = self._prefix / path
        return inner.name == ".git" or self._ignores(self._top, inner, is_folder=is_folder)

    def _ignores(self, top: Path, path: Path, *, is_folder: bool) -> bool:
        """Ask the file nearest to the path first; in a file, the last line that matches decides."""
        for parent in path.parents:
            below = _one_each(str(path.relative_to(parent)).encode("utf-8", "surrogateescape"))
            for rule in reversed(self._rules(top / parent)):
                if rule.matches(below, is_folder=is_folder):
                    return rule.ignores
        return False


def _read(folder: Path) -> tuple[Rule, ...]:
    file = folder / ".gitignore"
    if file.is_symlink() or not file.is_file():  # git does not follow a link here either
        return ()
    try:
        return parse(file.read_bytes())
    except OSError as error:
        raise SourceError(f"cannot read {file}: {error.strerror}") from error


def parse(content: bytes) -> tuple[Rule, ...]:
    """The rules of a `.gitignore` file; a pattern that git cannot read matches nothing, and has no rule."""
    lines = _one_each(content.removeprefix(b"\xef\xbb\xbf")).split("\n")
    rules = (_rule(line.removesuffix("\r")) for line in lines)
    return tuple(rule for rule in rules if rule)


def _one_each(data: bytes) -> str:
    return data.decode("latin-1")


def _rule(line: str) -> Rule | None:
    line = _without_spaces(line)
    if not line or line.startswith("#"):
        return None
    ignores = not line.startswith("!")
    text = line.removeprefix("!")
    body = text.removesuffix("/")
    expression = _expression(body.removeprefix("/"))
    if not body or expression is None:
        return None
    return Rule(re.compile(expression, re.DOTALL), ignores, folders_only=body != text, whole_path="/" in body)


def _without_spaces(line: str) -> str:
    """A line without the spaces at its end, of which a backslash keeps one."""
    bare = line.rstrip(" ")
    backslashes = len(bare) - len(bare.rstrip("\\"))
    return bare + " " if backslashes % 2 and bare != line else bare


_TOKEN = re.compile(
    r"""
      (?P<deep> (?:(?<=/)|\A) \*\*+ / )      # no folder, or any number of them
    | (?P<rest> (?:(?<=/)|\A) \*\*+ \Z )     # everything below
    | (?P<star> \*+ )
    | (?P<any>  \? )
    | \[ (?P<not> [!^]?+ ) (?P<set> (?: \]?+ ) (?: \[:[a-z]+:\] | \\. | [^\]\\] )* ) \]
    | \\ (?P<quoted> . )
    | (?P<plain> [^\\\[] )
    """,
    re.VERBOSE | re.DOTALL,
)
_FIXED = {"deep": "(?:.*/)?", "rest": ".*", "star": "[^/]*", "any": "[^/]"}
_CLASSES = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "blank": " \\t", "cntrl": "\\x00-\\x1f\\x7f", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@\\[-`{-~", "space": " \\t-\\r", "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_IN_SET = re.compile(r"\[:(?P<name>[a-z]+):\]|(?P<from>\\.|[^\\])(?:-(?P<to>\\.|[^\\]))?", re.DOTALL)


def _expression(pattern: str) -> str | None:
    """The regular expression of a pattern; None if it has no end or an unknown class."""
    parts = []
    at = 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        part = _part(token) if token else None
        if token is None or part is None:
            return None
        parts.append(part)
        at = token.end()
    return "".join(parts)


def _part(token: re.Match[str]) -> str | None:
    kind = str(token.lastgroup)
    if kind in _FIXED:
        return _FIXED[kind]
    return _set(token) if kind == "set" else re.escape(token[kind])


def _set(token: re.Match[str]) -> str | None:
    """A bracket expression; it never matches a slash."""
    members = []
    for member in _IN_SET.finditer(token["set"]):
        if member["name"] and member["name"] not in _CLASSES:
            return None
        members.append(_CLASSES[member["name"]] if member["name"] else _range(member["from"], member["to"]))
    inside = "".join(members)
    if token["not"]:
        return f"[^/{inside}]"
    return f"(?!/)[{inside}]"


def _range(first: str, last: str | None) -> str:
    low, high = ord(first[-1]), ord((last or first)[-1])
    return f"\\x{low:02x}-\\x{max(low, high):02x}"  # of a range that goes backwards, git takes the start alone
