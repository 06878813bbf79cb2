"""JUnit XML, as many programs write it and as a hostile one could.

The file is parsed as a stream by defusedxml (no DTD, so no entities), each complete `<testcase>` becomes a
small tree that junitparser reads. So what stands before a defect is kept, and memory is bounded.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser
from junitparser import Error, Failure, Skipped
from junitparser.junitparser import Result
from junitparser.xunit2 import InterimResult, TestCase

from farm.errors import UntrustedError
from farm.model import TestStatus
from farm.results.base import DEEPEST, FLAKY, LONGEST_DETAIL, Gathered
from farm.text import clean_line

_MOST_ELEMENTS = 2_000_000
_MOST_IN_A_CASE = 10_000
_CROWDED = re.compile(r"""<[A-Za-z_:][^<>"']*+(?:(?:"[^"<]*+"|'[^'<]*+')[^<>"']*+){500}""")
"""A tag with so many attributes that it can only be meant to take memory."""
_COUNT = re.compile(r"[0-9]{1,9}")

_ENCODING = re.compile(rb"""^\s*<\?xml[^>]{0,100}?encoding=["']([A-Za-z0-9._-]{1,40})["']""")
_ENCODINGS = {"iso-8859-1", "iso-8859-15", "latin-1", "latin1", "us-ascii", "windows-1252", "windows-1251", "koi8-r"}
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"\xef\xbb\xbf": "utf-8"}

_REFERENCE = re.compile(r"&#(?:x0*([0-9a-fA-F]{1,6})|0*([0-9]{1,7}));")
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_STAND_IN = 0xFDD0
"""XML cannot hold the 32 control characters; the 32 code points from here are free for such internal use
(Unicode 23.7). They are put back after the parse, so that whole terminal sequences can be recognised."""
_STOOD_IN = {_STAND_IN + code: code for code in range(32)}
_REPLACED = {code: _STAND_IN + code for code in range(32) if chr(code) not in "\t\n\r"} | {
    0xFFFE: 0xFFFD,
    0xFFFF: 0xFFFD,
}
_SURROGATES = range(0xD800, 0xE000)
_MOST_REFERENCES = 2_000_000

_STATUS = ((Failure, TestStatus.FAILED), (Error, TestStatus.ERROR), (Skipped, TestStatus.SKIPPED))
"""The first that a test has is its status; one without any passed."""
_NOT_RUN = {"notrun", "disabled", "suppressed"}
"""What GoogleTest and CTest write for a test that was not run, in `status` or `result`."""
_ROOM = 4 * LONGEST_DETAIL
"""Characters that are kept of one test before they are cleaned and cut."""
_OUTPUT = {"system-out", "system-err"}
_FAILED = {"failure", "error"}


def read_junit(data: bytes, gathered: Gathered, stem: str) -> None:
    """Add every complete test of a JUnit file, and note what is wrong with it."""
    reader = _Reader(gathered, stem)
    parser = DefusedXMLParser(target=reader, forbid_dtd=True)
    try:
        # In one piece: expat before 2.6 takes quadratic time for a long token that comes in many.
        parser.feed(_parsable(_decoded(data)))
        parser.close()
        reader.check_promises()
    except ParseError as defect:
        gathered.note(f"its XML breaks off or is broken: {defect}")
    except DefusedXmlException:
        gathered.note("it has a document type declaration, which is not accepted")
    except UntrustedError as refusal:
        gathered.note(refusal.message)


@dataclass
class _Reader:
    """A target of the parser: knows where it stands, and keeps no more than one testcase."""

    gathered: Gathered
    stem: str
    path: list[str] = field(default_factory=list)
    suites: list[str] = field(default_factory=list)
    case: TreeBuilder | None = None
    case_depth: int = 0
    room: int = 0
    elements: int = 0
    in_case: int = 0
    declared: int = 0
    failed: int = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        tag = tag.rpartition("}")[2]
        self._check(tag)
        self.path.append(tag)
        if self.case is None and tag in {"testcase", *_FAILED}:
            self.case, self.case_depth = TreeBuilder(), len(self.path)
            self.room, self.in_case = _ROOM, 0
        if self.case is not None:
            self.case.start(tag, {key: self._bounded(value) for key, value in attributes.items()})
        elif tag in {"testsuite", "testsuites"}:
            self.suites.append(attributes.get("name", "") if tag == "testsuite" else "")
            self.declared += _count(attributes, "failures") + _count(attributes, "errors")

    def data(self, text: str) -> None:
        """Text in an element. What a test wrote takes no more than half of the room, the rest is its failures'."""
        if self.case is not None:
            self.case.data(self._bounded(text, leave=_ROOM // 2 if self.path[-1] in _OUTPUT else 0))

    def end(self, tag: str) -> None:
        """An element ends."""
        tag = self.path.pop()
        if self.case is not None:
            self.case.end(tag)
            if len(self.path) < self.case_depth:
                self._add(self.case.close())
                self.case = None
        elif tag in {"testsuite", "testsuites"}:
            self.suites.pop()

    def check_promises(self) -> None:
        """Note where a suite counts failures of which the file names none: a pass would be a lie."""
        if self.declared and not self.failed:
            self.gathered.note("it counts failures or errors, but no test in it failed")

    def _check(self, tag: str) -> None:
        """Keep the bounds. Raises UntrustedError."""
        self.elements += 1
        self.in_case += 1
        if not self.path and tag not in {"testsuite", "testsuites"}:
            raise UntrustedError(f"its root is <{clean_line(tag, limit=60)}>, not <testsuites> or <testsuite>")
        if len(self.path) >= DEEPEST:
            raise UntrustedError(f"its elements are nested deeper than {DEEPEST}")
        if self.elements > _MOST_ELEMENTS or (self.case is not None and self.in_case > _MOST_IN_A_CASE):
            raise UntrustedError(f"it has more than {_MOST_ELEMENTS} elements, or {_MOST_IN_A_CASE} in one test")

    def _bounded(self, text: str, *, leave: int = 0) -> str:
        kept = text[: max(0, self.room - leave)]
        self.room -= len(kept)
        return kept.translate(_STOOD_IN)

    def _add(self, element: Element) -> None:
        if element.tag != "testcase":
            element = _suite_failure(element)
        case: TestCase = TestCase.fromelem(element)  # type: ignore[no-untyped-call]
        results = case.result
        status = _status(element, results)
        self.failed += status in {TestStatus.FAILED, TestStatus.ERROR}
        self.gathered.add(
            suite=" > ".join(filter(None, self.suites)) or self.stem,
            name=case.name or "",
            classname=case.classname or "",
            status=status,
            duration_s=_seconds(element.get("time")),
            message=_message(results, case.interim_result, status),
            detail=_detail(case, results, status),
        )


def _suite_failure(element: Element) -> Element:
    """A failure that stands in a suite itself, as a test of its own."""
    case = Element("testcase", name="(suite)")
    case.append(element)
    return case


def _status(element: Element, results: Sequence[Result]) -> TestStatus:
    for kind, status in _STATUS:
        if any(isinstance(result, kind) for result in results):
            return status
    if {element.get("status", "").lower(), element.get("result", "").lower()} & _NOT_RUN:
        return TestStatus.SKIPPED
    return TestStatus.PASSED


def _message(results: Sequence[Result], interim: Sequence[InterimResult], status: TestStatus) -> str:
    messages = [result.message or _first_line(result.text) for result in results]
    if status is TestStatus.PASSED and interim:
        again = interim[0].message or _first_line(interim[0].text) or interim[0].type or "no message"
        return f"{FLAKY}{len(interim)} failed tries: {again}"
    return next(filter(None, messages), "") or next((result.type for result in results if result.type), "")


def _detail(case: TestCase, results: Sequence[Result], status: TestStatus) -> str:
    """What the failures say, of earlier tries too; where they say nothing, what a failed test wrote."""
    tries = [entry.stack_trace or entry.text for entry in case.interim_result]
    texts = [text for text in [*(result.text for result in results), *tries] if text and text.strip()]
    if not texts and status in {TestStatus.FAILED, TestStatus.ERROR}:
        texts = [text for text in (case.system_err, case.system_out) if text and text.strip()]
    return "\n\n".join(texts)


def _first_line(text: str | None) -> str:
    return next((line for line in (text or "").splitlines() if line.strip()), "")


def _seconds(text: str | None) -> float:
    """`1.5`, `1,5`, `1,234.5`; anything else that is no length of time is 0."""
    number = (text or "").strip()
    number = number.replace(",", "") if "." in number else number.replace(",", ".")
    try:
        seconds = float(number)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds >= 0 else 0.0


def _count(attributes: dict[str, str], key: str) -> int:
    number = attributes.get(key, "")
    return int(number) if _COUNT.fullmatch(number) else 0


def _decoded(data: bytes) -> str:
    """By the byte order mark, else by the declaration where that is a plain old encoding, else as UTF-8."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    declared = _ENCODING.match(data)
    encoding = declared[1].decode().lower() if declared else ""
    return data.decode(encoding if encoding in _ENCODINGS else "utf-8", "replace")


def _parsable(text: str) -> str:
    """The same with a stand-in for each control character, written as itself or by reference. Raises UntrustedError."""
    references = text.count("&#")
    if references > _MOST_REFERENCES:
        raise UntrustedError(f"it has {references} character references, more than {_MOST_REFERENCES}")
    text = _REFERENCE.sub(_allowed_reference, text) if references else text
    text = text.translate(_REPLACED) if _NO_XML.search(text) else text
    if _CROWDED.search(text):
        raise UntrustedError("it has an element with more than 500 attributes")
    return text.lstrip("\ufeff \t\r\n")


def _allowed_reference(found: re.Match[str]) -> str:
    code = int(found[1], 16) if found[1] else int(found[2])
    if code > sys.maxunicode or code in _SURROGATES:
        return "\ufffd"
    return chr(_REPLACED[code]) if code in _REPLACED else found[0]
