import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from farm.errors import DeadlineError, ImageError
from runners.deadline import Deadline
from runners.guest import Chunk
from runners.images.process import Ended, run
from tests.waiting import eventually

T = TypeVar("T")


def finish(work: Generator[Chunk, None, T]) -> tuple[bytes, T]:
    """What it said, and what it came to."""
    said = b""
    while True:
        try:
            said += next(work).data
        except StopIteration as end:
            return said, end.value


def deadline(seconds: float = 60.0) -> Deadline:
    return Deadline.after(seconds, "run a program")


def has_ended(pid: int) -> bool:
    """Gone, or dead and only not yet reaped by whoever adopted it."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


def members_of(group: int) -> list[int]:
    """The processes of a group."""
    found = subprocess.run(["pgrep", "-g", str(group)], capture_output=True, text=True, check=True)
    return [int(pid) for pid in found.stdout.split()]


def test_what_a_program_says_and_how_it_ends_come_back() -> None:
    said, ended = finish(run(["sh", "-c", "echo out; echo err >&2; exit 3"], deadline=deadline()))
    assert sorted(said.splitlines()) == [b"err", b"out"]
    assert ended == Ended(3, tuple(said.decode().splitlines()))


def test_only_the_last_lines_are_kept_however_much_it_says() -> None:
    said, ended = finish(run(["seq", "200000"], deadline=deadline()))
    assert len(said.splitlines()) == 200_000
    assert ended.lines == tuple(str(number) for number in range(199_961, 200_001))


def test_a_silent_program_still_beats() -> None:
    work = run(["sleep", "600"], deadline=deadline())
    assert next(work).data == b""
    work.close()


def test_its_environment_is_this_one_in_english_and_what_is_added() -> None:
    said, _ = finish(run(["env"], deadline=deadline(), env={"ADDED": "1"}))
    assert {b"ADDED=1", b"LC_ALL=C", f"PATH={os.environ['PATH']}".encode()} <= set(said.splitlines())


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, RuntimeError])
def test_leaving_early_kills_the_program_and_its_children(error: type[BaseException] | None) -> None:
    script = "import os,time; child = os.fork(); child and print(os.getpid(), child, flush=True); time.sleep(600)"
    work = run([sys.executable, "-c", script], deadline=deadline())
    pids = b""
    while not pids.endswith(b"\n"):
        pids += next(work).data
    if error:
        with pytest.raises(error):
            work.throw(error())
    else:
        work.close()
    parent, child = map(int, pids.split())
    assert has_ended(parent)
    # It is killed together with its parent; the kernel may take a moment.
    eventually(lambda: has_ended(child), within_s=240, what="the child has ended")


BUILDER = """
import sys
from runners.deadline import Deadline
from runners.images.process import run
for chunk in run(sys.argv[1:], deadline=Deadline.after(600, "build")):
    sys.stdout.buffer.write(chunk.data)
    sys.stdout.flush()
"""


def test_nothing_of_a_program_outlives_a_builder_that_is_killed() -> None:
    """apt and mmdebstrap would go on for minutes, into a folder that nobody wants any more."""
    script = "sleep 600 & (trap '' HUP TERM; sleep 600) & echo $$ $!; wait"
    builder = subprocess.Popen([sys.executable, "-c", BUILDER, "sh", "-c", script], stdout=subprocess.PIPE)
    with builder:
        assert builder.stdout
        group = os.getpgid(int(builder.stdout.readline().split()[0]))
        members = members_of(group)
        assert len(members) >= 4  # the program, its children, and who watches
        builder.kill()
        eventually(lambda: all(map(has_ended, members)), what="all of them have ended")
    assert group != os.getpgid(0)


def test_who_watches_a_program_ends_with_it() -> None:
    work = run(["sh", "-c", "echo $$; read -r _"], deadline=deadline())
    members = members_of(os.getpgid(int(next(work).data)))
    finish(work)
    eventually(lambda: all(map(has_ended, members)), what="all of them have ended")


def test_a_program_that_outlasts_its_deadline_is_killed() -> None:
    with pytest.raises(DeadlineError, match="cannot run a program"):
        finish(run(["sleep", "600"], deadline=deadline(0.0)))


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(ImageError, match="cannot run no-such-program: it is not installed"):
        finish(run(["no-such-program"], deadline=deadline()))


def test_a_program_keeps_the_files_that_it_is_told_to_keep() -> None:
    read, write = os.pipe()
    try:
        argv = ["sh", "-c", f"echo kept > /proc/self/fd/{write}"]
        assert finish(run(argv, deadline=deadline(), keep_fds=(write,))) == (b"", Ended(0, ()))
        assert os.read(read, 10) == b"kept\n"
    finally:
        os.close(read)
        os.close(write)
