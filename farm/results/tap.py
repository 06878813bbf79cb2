"""TAP, versions 12 to 14 (testanything.org): test points, plans, directives, diagnostics, subtests."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from dataclasses import dataclass, field
from io import BytesIO
from typing import TypedDict

from farm.model import TestStatus
from farm.results.base import DEEPEST, LONGEST_DETAIL, MOST_TESTS, Gathered

LINE = re.compile(r"^[ ]*(?:TAP version 1\d\b|1\.\.\d+|(?:not )?ok\b|Bail out!)", re.MULTILINE)
"""Any line of these makes a text TAP."""

_POINT = re.compile(r"(?P<not>not )?ok\b(?:[ \t]+(?P<number>\d{1,9})\b)?[ \t]*(?:- ?)?(?P<rest>.*)")
_DIRECTIVE = re.compile(r"(?<!\\)#[ \t]*(?P<kind>skip|todo)\w*:?[ \t]*(?P<why>.*)", re.IGNORECASE)
_TIME = re.compile(r"(?<!\\)#[ \t]*time=(?P<number>\d{1,12}(?:\.\d{1,12})?)(?P<unit>ms|s)\b.*")
_YAML_TIME = re.compile(r"^\s*duration_ms: ['\"]?(\d{1,12}(?:\.\d{1,12})?)", re.MULTILINE)
_YAML_MESSAGE = re.compile(r"^\s*message: ['\"]?(.*?)['\"]?\s*$", re.MULTILINE)
_PLAN = re.compile(r"1\.\.(?P<last>\d{1,9})[ \t]*(?:#(?P<why>.*))?$")
_BAIL = re.compile(r"Bail out!(?P<why>.*)", re.IGNORECASE)
_ESCAPED = re.compile(r"\\([#\\])")

_INDENT = 4
_FAILED = {TestStatus.FAILED, TestStatus.ERROR}


def read_tap(data: bytes, gathered: Gathered, stem: str) -> None:
    """Add every test of a TAP file, and note what is wrong with it."""
    reader = _Reader(gathered)
    for line in BytesIO(data.removeprefix(BOM_UTF8)):
        if not reader.take(line.decode("utf-8", "replace").rstrip("\r\n")):
            break
    for point in reader.finish():
        gathered.add(
            suite=stem,
            classname=" > ".join(point.parents),
            name=point.name,
            status=point.status,
            duration_s=point.duration_s,
            message=point.message,
            detail=point.detail,
        )


class _Facts(TypedDict):
    name: str
    status: TestStatus
    message: str
    duration_s: float


@dataclass
class _Point:
    """A test point; `lines` are the diagnostics that follow it."""

    name: str
    status: TestStatus
    message: str = ""
    duration_s: float = 0.0
    lines: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    room: int = 2 * LONGEST_DETAIL

    @property
    def detail(self) -> str:
        return "\n".join(self.lines)

    def say(self, line: str) -> None:
        if self.room > 0:
            self.lines.append(line[: self.room])
            self.room -= len(line) + 1


@dataclass
class _Level:
    """The points at one indentation, and those of the finished subtests below it."""

    points: list[_Point] = field(default_factory=list)
    seen: int = 0
    plan: int | None = None
    skipped: str | None = None
    """Why the whole of it was skipped, where its plan says so."""

    def defect(self) -> str:
        """How it does not keep to its plan."""
        if self.plan is None:
            return "there is no plan, so its end may be missing"
        return "" if self.plan == self.seen else f"the plan says {self.plan} tests, there are {self.seen}"


@dataclass
class _Reader:
    gathered: Gathered
    levels: list[_Level] = field(default_factory=lambda: [_Level()])
    last: _Point | None = None
    last_indent: int = 0
    yaml_indent: int | None = None
    bailed: bool = False
    total: int = 0

    def take(self, line: str) -> bool:
        """Read a line; False: nothing after it counts."""
        text = line.lstrip(" ")
        indent = len(line) - len(text)
        if self._in_yaml(line, text, indent):
            return True
        if bail := _BAIL.match(text):
            self.gathered.note(f"the tests bailed out: {bail['why'].strip() or 'no reason given'}")
            self.bailed = True
            return False
        if point := _POINT.match(text):
            return self._take_point(point, indent // _INDENT)
        if plan := _PLAN.match(text):
            self._take_plan(plan, indent // _INDENT)
        elif text.startswith("#"):
            self._take_comment(text)
        return True

    def finish(self) -> list[_Point]:
        """All points, subtests flattened, in their order."""
        while len(self.levels) > 1:
            orphans = self._close_level()
            self.gathered.note("a subtest breaks off")
            self.levels[-1].points.extend(orphans)
        top = self.levels[0]
        if not self.bailed and (defect := top.defect()):
            self.gathered.note(defect)
        if top.plan == 0 and not top.points:
            return [_Point("(all)", TestStatus.SKIPPED, top.skipped or "the plan has no tests")]
        return top.points

    def _in_yaml(self, line: str, text: str, indent: int) -> bool:
        """A diagnostic block: `---` to `...`, indented below the point it belongs to."""
        if self.yaml_indent is None:
            if text.rstrip() == "---" and self.last is not None and indent > self.last_indent:
                self.yaml_indent = indent
                return True
            return False
        if text.strip() and indent < self.yaml_indent:
            self.gathered.note("a diagnostic block has no end")
            self._end_yaml()
            return False
        if text.rstrip() == "..." and indent == self.yaml_indent:
            self._end_yaml()
        elif self.last is not None:
            self.last.say(line[self.yaml_indent :])
        return True

    def _end_yaml(self) -> None:
        self.yaml_indent = None
        if self.last is None:
            return
        if found := _YAML_TIME.search(self.last.detail):
            self.last.duration_s = float(found[1]) / 1000
        if not self.last.message and (found := _YAML_MESSAGE.search(self.last.detail)):
            self.last.message = found[1]

    def _take_point(self, match: re.Match[str], depth: int) -> bool:
        self.total += 1
        if self.total > 2 * MOST_TESTS or not self._descend(depth):
            self.gathered.note(f"test points beyond the first {self.total - 1} are left out")
            self.bailed = True
            return False
        point = _Point(**_facts(match))
        children: list[_Point] = []
        while len(self.levels) > depth + 1:
            children = self._close_level() + children
        level = self.levels[depth]
        level.seen += 1
        level.points.extend(_flattened(point, children))
        self.last, self.last_indent = point, depth * _INDENT
        return True

    def _take_plan(self, match: re.Match[str], depth: int) -> None:
        if not self._descend(depth):
            return
        level = self.levels[depth]
        if level.plan is not None:
            self.gathered.note("there is more than one plan")
        level.plan = int(match["last"])
        level.skipped = match["why"] and match["why"].strip()

    def _take_comment(self, text: str) -> None:
        if self.last is not None and self.last.status in _FAILED and not text.startswith("# Subtest"):
            self.last.say(text[1:].removeprefix(" "))

    def _descend(self, depth: int) -> bool:
        """Open the levels down to this one; False: deeper than is accepted."""
        if depth >= DEEPEST:
            return False
        while len(self.levels) <= depth:
            self.levels.append(_Level())
        return True

    def _close_level(self) -> list[_Point]:
        level = self.levels.pop()
        if (level.points or level.plan) and (defect := level.defect()):
            self.gathered.note(f"in a subtest, {defect}")
        return level.points


def _flattened(parent: _Point, children: list[_Point]) -> list[_Point]:
    """A test with subtests as its subtests, as long as they tell the same: its own point decides (TAP 14)."""
    failed = any(child.status in _FAILED for child in children)
    if not children or (failed and parent.status not in _FAILED):
        return [parent]
    for child in children:
        child.parents.insert(0, parent.name)
    return children if failed or parent.status is TestStatus.PASSED else [*children, parent]


def _facts(match: re.Match[str]) -> _Facts:
    rest, duration_s = match["rest"], 0.0
    if time := _TIME.search(rest):
        duration_s = float(time["number"]) / (1000 if time["unit"] == "ms" else 1)
        rest = rest[: time.start()]
    directive = _DIRECTIVE.search(rest)
    name = rest[: directive.start()] if directive else rest
    kind = directive["kind"].lower() if directive else ""
    status, word = _meaning(ok=not match["not"], kind=kind)
    why = directive["why"].strip() if directive else ""
    return _Facts(
        name=_ESCAPED.sub(r"\1", name).strip() or f"test {match['number'] or '(no number)'}",
        status=status,
        message=": ".join(filter(None, (word, why))),
        duration_s=duration_s,
    )


def _meaning(*, ok: bool, kind: str) -> tuple[TestStatus, str]:
    """The status, and a word for its message.

    A failed test that is still to do counts as no failure; one that says both `not ok` and `SKIP` does, as
    the harnesses of Perl and Automake have it.
    """
    return {
        (True, ""): (TestStatus.PASSED, ""),
        (False, ""): (TestStatus.FAILED, ""),
        (True, "skip"): (TestStatus.SKIPPED, ""),
        (False, "skip"): (TestStatus.FAILED, "failed although skipped"),
        (True, "todo"): (TestStatus.PASSED, "passed although still to do"),
        (False, "todo"): (TestStatus.SKIPPED, "still to do"),
    }[ok, kind]
