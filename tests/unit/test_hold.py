"""Guests that are kept for a person: in the worker, with scripted guests."""

from __future__ import annotations

from typing import Any

import pytest

from farm.model import (
    ArtifactFound,
    AttemptEnded,
    Collect,
    Event,
    Held,
    LogChunk,
    Order,
    Phase,
    PhaseEnded,
    PhaseStarted,
    Stream,
    TestsFound,
    Verdict,
)
from farm.results.base import LONGEST_MESSAGE
from farm.verdict import classify
from runners.attempt import Attempt, run_attempt
from runners.fake import FakeBackend, FakeGuest
from runners.steps import _take_artifact
from tests.orders import make_order, make_source

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKbM4CDBKWIPCAsg0ksEWhMfXtFnJ4AjUKfz5wGzFzXi"


class Lab(FakeBackend):
    """Remembers its guests, and what files they had when they ended."""

    def __init__(self) -> None:
        self.kept: list[dict[str, bytes]] = []

    def __call__(self, _name: str) -> Lab:
        return self

    def create(self, order: Order, deadline: Any) -> Any:
        guest = yield from super().create(order, deadline)
        destroy = guest.destroy

        def remembered() -> None:
            if guest.running:
                self.kept.append(dict(guest.files))
            destroy()

        guest.destroy = remembered  # type: ignore[method-assign]
        assert isinstance(guest, FakeGuest)
        return guest


def run(order: Order, lab: Lab | None = None) -> list[Event]:
    return list(run_attempt(order, make_source(), lab or Lab()))


def held(events: list[Event]) -> list[Held]:
    return [event for event in events if isinstance(event, Held)]


def test_a_failed_guest_is_kept_and_its_verdict_is_known_before() -> None:
    events = run(make_order("exit 3", hold_on_failure_s=3600.0, hold_limit_s=0.1))
    (told,) = held(events)
    assert (classify(told.evidence).rule, (told.until - told.at).total_seconds()) == ("script-failed", 3600)
    assert told.usage is not None
    assert isinstance(events[-1], AttemptEnded)
    assert events[-1].evidence == told.evidence


def test_a_guest_that_passed_is_not_kept() -> None:
    assert held(run(make_order("true", hold_on_failure_s=3600.0))) == []


def test_a_guest_that_crashed_is_not_kept_for_long() -> None:
    events = run(make_order("echo c > /proc/sysrq-trigger", hold_on_failure_s=3600.0))
    assert isinstance(events[-1], AttemptEnded)


def test_whoever_a_failed_guest_is_kept_for_gets_in() -> None:
    lab = Lab()
    run(make_order("exit 3", hold_on_failure_s=60.0, hold_limit_s=0.1, ssh_key=KEY), lab)
    assert [files["authorized_keys"] for files in lab.kept] == [f"\n{KEY}\n".encode()]


def test_in_a_reserved_guest_nothing_runs() -> None:
    lab = Lab()
    events = run(make_order("exit 3", reserved_s=60.0, hold_limit_s=0.1, ssh_key=KEY, scripts={}), lab)
    phases = [event.phase for event in events if isinstance(event, PhaseStarted)]
    assert phases == [Phase.PROVISION, Phase.BOOT, Phase.CONNECT, Phase.TEARDOWN]
    (told,) = held(events)
    assert (classify(told.evidence).verdict, told.evidence.reserved) == (Verdict.SKIPPED, True)
    assert [files["authorized_keys"] for files in lab.kept] == [f"\n{KEY}\n".encode()]


def test_a_reserved_guest_that_does_not_come_up_is_not_kept() -> None:
    events = run(make_order("", reserved_s=60.0, ssh_key=KEY, scripts={}, env={"FAKE_BOOT": "refuse"}))
    assert held(events) == []
    assert isinstance(events[-1], AttemptEnded)
    assert classify(events[-1].evidence).rule == "start"


# --- secrets ----------------------------------------------------------------------------------------

SECRET = "s3cr&t of <nobody>"  # noqa: S105
ALSO = "another0ne"
JUNIT = "<testsuite name='u'><testcase name='t'><failure message='$SHORT'>at $SHORT</failure></testcase></testsuite>"


def said(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, LogChunk))


@pytest.mark.parametrize("phase", [Phase.PREPARE, Phase.BUILD, Phase.TEST])
def test_a_secret_is_a_variable_of_every_script_and_in_no_log(phase: Phase) -> None:
    script = "echo it is $SECRET\necho and $SECRET >&2\n"
    order = make_order("true", scripts={phase: script, Phase.TEST: script}, secrets={"SECRET": SECRET})
    events = run(order)
    chunks = [event for event in events if isinstance(event, LogChunk) and event.phase is phase]
    texts = {
        stream: b"".join(chunk.data for chunk in chunks if chunk.stream is stream)
        for stream in (Stream.STDOUT, Stream.STDERR)
    }
    assert texts == {Stream.STDOUT: b"it is ***\n", Stream.STDERR: b"and ***\n"}
    assert SECRET not in repr([order, *events])


def test_a_secret_that_a_log_ends_with_half_of_is_shown_as_far_as_it_goes() -> None:
    assert b"its s3cr\n" in said(run(make_order("echo its s3cr", secrets={"SECRET": SECRET})))


def test_a_secret_stands_in_no_result_and_in_no_evidence() -> None:
    script = f'echo "{JUNIT}" > r.xml\nexit 1\n'
    events = run(make_order(script, secrets={"SHORT": ALSO}, collect=Collect(junit=("r.xml",))))
    (found,) = [event for event in events if isinstance(event, TestsFound)]
    assert [(test.message, test.detail) for test in found.tests] == [("***", "at ***")]
    assert ALSO not in repr(events)


@pytest.mark.parametrize("before", range(970, 990))
def test_no_half_of_a_secret_is_left_where_a_long_result_is_cut(before: int) -> None:
    long = JUNIT.replace("'$SHORT'", f"'{'x' * before}$SHORT-{'y' * 3_000}'")
    events = run(make_order(f'echo "{long}" > r.xml', secrets={"SHORT": ALSO}, collect=Collect(junit=("r.xml",))))
    (found,) = [event for event in events if isinstance(event, TestsFound)]
    assert len(found.tests[0].message) == LONGEST_MESSAGE
    assert ALSO[:4] not in found.tests[0].message


def test_a_secret_that_control_characters_are_in_is_known_before_they_are_taken_away() -> None:
    script = f'echo "{JUNIT}" > r.xml\n'
    events = run(make_order(script, secrets={"SHORT": "four\x01ty2"}, collect=Collect(junit=("r.xml",))))
    (found,) = [event for event in events if isinstance(event, TestsFound)]
    assert found.tests[0].message == "***"


def test_results_are_read_although_a_secret_is_a_word_of_their_format() -> None:
    script = f'echo "{JUNIT}" > r.xml\nexit 1\n'
    events = run(make_order(script, secrets={"SHORT": "testcase"}, collect=Collect(junit=("r.xml",))))
    (found,) = [event for event in events if isinstance(event, TestsFound)]
    assert [(test.name, test.message) for test in found.tests] == [("t", "***")]


def artifacts(events: list[Event]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for one in (event for event in events if isinstance(event, ArtifactFound)):
        found[one.path] = found.get(one.path, b"") + one.data
    return found


def test_a_secret_stands_in_no_artifact_that_is_text() -> None:
    script = 'echo "token=$SHORT; $SHORT" > out.txt\necho nothing > other.txt\n'
    events = run(make_order(script, secrets={"SHORT": ALSO}, collect=Collect(artifacts=("*.txt",))))
    found = artifacts(events)
    assert (found["out.txt"], found["other.txt"]) == (b"token=***; ***\n", b"nothing\n")
    assert ALSO not in repr(events)


@pytest.mark.parametrize("content", [b"\0%s\n", b"\xff%s\n"])
def test_an_artifact_that_is_no_text_and_has_a_secret_is_not_kept_and_that_is_said(content: bytes) -> None:
    order = make_order("true", secrets={"SHORT": ALSO}, collect=Collect(artifacts=("*.bin",)))
    attempt = Attempt(order, make_source(), Lab())
    said_ = b"".join(chunk.data for chunk in _take_artifact(attempt, "a.bin", content % ALSO.encode()))
    assert (attempt.found, said_) == (
        [],
        b"[farm: the artifact 'a.bin' is not kept: a secret is in it, and it is no text]\n",
    )
    list(_take_artifact(attempt, "b.bin", content % b"nothing"))
    assert artifacts(attempt.found) == {"b.bin": content % b"nothing"}


def test_a_secret_stands_in_no_error() -> None:
    events = run(make_order("true", env={"FAKE_BOOT": "refuse"}, secrets={"WORD": "scripted"}))
    (failed,) = [event for event in events if isinstance(event, PhaseEnded) and event.detail]
    assert "the *** guest refuses" in failed.detail
    assert "scripted" not in repr([event for event in events if isinstance(event, PhaseEnded | AttemptEnded)])
