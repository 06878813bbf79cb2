"""What is fuzzed: a function for each reader, which takes bytes and raises where the reader does not keep its promises.

`UntrustedError` is a reader's way to refuse, and the only exception that may come out of one.
"""

from __future__ import annotations

import io
import re
import struct
import tarfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from html import unescape
from pathlib import Path

from paramiko import SSHException

from dashboards import ansi
from farm.errors import UntrustedError
from farm.mask import needles_of
from farm.model import Evidence, Stream, TestStatus, Verdict
from farm.results import Results, read
from farm.results.base import LONGEST_DETAIL, LONGEST_MESSAGE, LONGEST_NAME, MOST_TESTS
from farm.text import clean, clean_line, safe_path, terminal
from farm.verdict import classify
from runners import counters
from runners.calibration.program import read_numbers
from runners.chacha import KEY_BYTES, ChaChaPoly
from runners.collect import matching, read_archive, safe_names
from runners.console import RULES, find_crash, tail
from runners.guest import Chunk
from runners.logs import HEAD_BYTES, TAIL_BYTES, Discretion, LogBuffer
from runners.transport import Packets

DATA = Path(__file__).parents[1] / "data"
SECRET = "hunter2!"  # noqa: S105 - nobody's
WANTED = ("a", "b/c", "d")
KEY = bytes(range(KEY_BYTES))
_BLOCK = 8
_SERVER_LIMIT = 1 << 20
_SPAN = re.compile(r'<span class="[a-z0-9 ]+">(.*?)</span>', re.DOTALL)


def results(data: bytes) -> None:
    """JUnit and TAP, told apart by their content."""
    _check_results(read("a.txt", data))


def junit(data: bytes) -> None:
    """JUnit XML."""
    _check_results(read("a.xml", b"<testsuites><testsuite name='s'>" + data + b"</testsuite></testsuites>"))
    _check_results(read("a.xml", data))


def tap(data: bytes) -> None:
    """TAP."""
    _check_results(read("a.tap", b"TAP version 14\n" + data))
    _check_results(read("a.tap", data))


def _check_results(found: Results) -> None:
    assert len(found.tests) <= MOST_TESTS
    for test in found.tests:
        for text, limit in ((test.suite, LONGEST_NAME), (test.name, LONGEST_NAME), (test.message, LONGEST_MESSAGE)):
            assert clean_line(text, limit=limit) == text
        assert len(test.detail) <= LONGEST_DETAIL
        assert terminal(test.detail) == test.detail
        assert 0 <= test.duration_s < float("inf")
    assert terminal(found.problem) == found.problem
    counts = {status: sum(1 for test in found.tests if test.status is status) for status in TestStatus}
    outcome = classify(
        Evidence(junit_promised=True, junit_files=1, junit_problem=found.problem, tests=counts),
    )
    failed = counts[TestStatus.FAILED] + counts[TestStatus.ERROR]
    assert outcome.verdict is not Verdict.PASSED or (found.tests and not failed and not found.problem)


def archive(data: bytes) -> None:
    """The tar of what is collected."""
    seen: list[str] = []
    with suppress(UntrustedError):
        for name, content in read_archive(data, WANTED):
            assert name in WANTED
            assert name not in seen
            assert len(content) <= len(data)
            seen.append(name)


def listing(data: bytes) -> None:
    """The names of files."""
    names = safe_names(data)
    for name in names:
        assert not safe_path(name).is_absolute()
        assert ".." not in safe_path(name).parts
        assert name.isprintable()
    assert set(matching(names, ("**/*.xml", "*"))) <= set(names)


def console(data: bytes) -> None:
    """The console's classification."""
    crash = find_crash(data)
    if crash:
        assert crash.rule in {rule for rule, _ in RULES}
        assert crash.lines
    assert len(tail(data)) <= 15
    assert all(line.strip() for line in tail(data))


def text(data: bytes) -> None:
    """What is shown of a log, in terminals and in pages."""
    shown = terminal(data)
    assert terminal(shown) == shown
    assert all(character in "\n\t" or ord(character) >= 0x20 for character in shown)
    assert not any("\x7f" <= character <= "\x9f" for character in shown)
    assert len(clean(data, limit=100)) <= 100
    assert "\n" not in clean_line(data, limit=100)
    with suppress(UntrustedError):
        assert ".." not in safe_path(data.decode("utf-8", "replace")).parts


def log(data: bytes) -> None:
    """The log on its way out of the worker: masked and bounded, however it is cut into pieces."""
    size = 1 + (data[0] if data else 0)
    discretion, buffer, said = Discretion(needles_of([SECRET])), LogBuffer(), b""
    for start in range(0, len(data), size):
        chunk = discretion.take(Chunk(Stream.STDOUT, data[start : start + size]))
        said += b"".join(piece.data for piece in buffer.add(chunk))
    for rest in discretion.rest(console=True):
        said += b"".join(piece.data for piece in buffer.add(rest))
    said += b"".join(piece.data for piece in buffer.end())
    assert SECRET.encode() not in said
    assert len(said) <= HEAD_BYTES + TAIL_BYTES + 1000
    if SECRET.encode() not in data and b"***" not in said:
        assert said == data


def answers(data: bytes) -> None:
    """What a guest answers: its network's counters, and how fast it is."""
    if found := counters.read(data):
        assert found.received >= 0
        assert found.sent >= 0
    with suppress(UntrustedError):
        rate, share = read_numbers(data)
        assert 0 < rate < 1e10
        assert 0 <= share < 1e10


def colours(data: bytes) -> None:
    """A log in a page, with its colours, however it is cut into pieces."""
    shown = data.decode("utf-8", "replace")
    for size in (len(shown) or 1, 1 + (data[0] if data else 0)):
        style = ansi.PLAIN
        for start in range(0, len(shown), size):
            lines, style = ansi.lines(shown[start : start + size], style)
            assert ansi.Style.read(style.classes) == style
            for line in lines:
                plain = _SPAN.sub(r"\1", line)
                assert not any(sign in plain for sign in "<>\"'")
                assert terminal(unescape(plain)) == unescape(plain)


def packets(data: bytes) -> None:
    """The packets of an SSH server, in clear and as one encrypts them who knows the keys."""
    _read_packets(Packets(_Server(data)))
    there = ChaChaPoly(KEY)
    packet = data.ljust(_BLOCK, b"\0")
    sealed = there.wrap(packet[:4] + there.encrypt(b"", packet[4:], packet[:4]))
    for sent in (sealed, data):
        reader = Packets(_Server(sent))
        reader.set_inbound_cipher(ChaChaPoly(KEY), _BLOCK, None, 16, None, aead=True, iv_in=bytes(12))
        _read_packets(reader)


def _read_packets(reader: Packets) -> None:
    with suppress(SSHException, EOFError):
        while True:
            kind, message = reader.read_message()
            assert 0 <= kind <= 255
            assert len(message.asbytes()) < _SERVER_LIMIT


class _Server:
    """The socket of one that says this."""

    def __init__(self, data: bytes) -> None:
        self._said = io.BytesIO(data)

    def recv(self, size: int) -> bytes:
        """Python makes room for as much as is asked for."""
        assert 0 < size <= _SERVER_LIMIT
        return self._said.read(size)

    def close(self) -> None:
        """It has no more to say."""


Target = Callable[[bytes], None]

TARGETS: Mapping[str, Target] = {
    one.__name__: one for one in (results, junit, tap, archive, listing, console, text, log, answers, colours, packets)
}


def seeds(target: str) -> tuple[bytes, ...]:
    """Where to begin: real consoles, and small files of each format."""
    return (b"", *_SEEDS.get(target, ()), *(_consoles() if target in ("console", "text", "colours") else ()))


def _consoles() -> Iterable[bytes]:
    for file in sorted((DATA / "console").glob("*/*.log")):
        yield file.read_bytes()[-4096:]


def _tar(members: Mapping[str, bytes], kind: bytes = tarfile.REGTYPE, layout: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = (len(data) if kind == tarfile.REGTYPE else 0), kind
            member.linkname = "" if kind == tarfile.REGTYPE else "/etc/passwd"
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _packet(message: bytes) -> bytes:
    """Of the SSH protocol, in clear (RFC 4253, 6)."""
    padding = _BLOCK - (5 + len(message)) % _BLOCK + _BLOCK
    return struct.pack(">IB", 1 + len(message) + padding, padding) + message + bytes(padding)


_JUNIT = (
    (
        b"<testsuites><testsuite name='s' tests='2'><testcase classname='c' name='one' time='1,5'/>"
        b"<testcase name='two'><failure message='m'>trace \x1b[31m</failure></testcase></testsuite></testsuites>"
    ),
    b"<testcase name='t'><flakyFailure message='m'/><skipped/><error/><system-out>&#x1b;[0m</system-out></testcase>",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]><testsuite name='&b;'/>",
    "<?xml version='1.0' encoding='utf-16'?><testsuite/>".encode("utf-16"),
)
_TAP = (
    (
        b"TAP version 14\n1..3\nok 1 - one # time=3ms\nnot ok 2 - two\n  ---\n  message: why\n  duration_ms: 1\n  ...\n"
        b"# Subtest: three\n    1..1\n    ok 1 - in\nok 3 - three # TODO later\n"
    ),
    b"1..0 # SKIP nothing here\n",
    b"ok\nok 99999999999999999999\nBail out! no\n",
)
_SEEDS: Mapping[str, tuple[bytes, ...]] = {
    "results": (*_JUNIT, *_TAP),
    "junit": _JUNIT,
    "tap": _TAP,
    "archive": (
        _tar({"./a": b"1", "b/c": b"2"}),
        _tar({"a": b"1"}, layout=tarfile.GNU_FORMAT),
        _tar({"a": b""}, tarfile.SYMTYPE),
        _tar({"../a": b"1"}),
        _tar({"a": b"1", "é" * 120: b"2"}),
    ),
    "listing": (b"./a\0./b/c.xml\0", b"./../x\0/etc/passwd\0./new\nline\0", b"\xff\xfe\0"),
    "text": (b"\x1b[31mred\x1b[0m\r\n\x1b]0;title\x07", b"\x9b1m\x90q\x9c\xe2\x80\xae", b"../a", b"\xed\xa0\x80"),
    "log": (b"before hunter2! after", b"\x02hunter2!", b"aHVudGVyMiE=", b"hunter2%21 hunter2\\u0021"),
    "colours": (
        b"\x1b[1;31mred\x1b[0m <b>&\r\n\x1b[38;5;208mx\x1b[48;2;1;2;3my\x1b[m",
        b"\x1b[38;5m\x1b[;;m\x1b[999m'",
    ),
    "packets": (
        _packet(b"\x15"),
        _packet(b"\x5b" + struct.pack(">IIII", 0, 0, 65536, 32768)),
        _packet(b"\x5e" + struct.pack(">II", 0, 5) + b"hello") * 2,
    ),
    "answers": (
        (DATA / "proc-net-dev").read_bytes(),
        b"farm-rate 12.0000 0.5000\n",
        b"farm-rate 999999999.0000 000000000.0000\n",
    ),
}
