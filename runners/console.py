"""Reading a guest's console: is it up, has it crashed? Pure; golden files are in `tests/data/console`.

The patterns are the kernel's own words: `panic()` and `oops_enter()` in Linux' kernel/panic.c, the
out-of-memory killer's in mm/oom_kill.c, each architecture's in its traps or fault code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

READY = b"farm-guest: ready"
"""What the guest's init says when its SSH server listens (`runners/images/guest`)."""

HUNG = "hung"
"""The rule of a guest that stands still although its machine runs, whoever has found that out."""

_CONTEXT_LINES = 12


@dataclass(frozen=True)
class Crash:
    """A crash that the console shows: its rule and the lines around it, the decisive one first."""

    rule: str
    lines: tuple[str, ...]


RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("init-died", re.compile(r"Kernel panic - not syncing: Attempted to kill init")),
    ("no-root", re.compile(r"Kernel panic - not syncing: VFS: Unable to mount root|farm-guest: cannot mount")),
    ("out-of-memory-panic", re.compile(r"Kernel panic - not syncing: (System is deadlocked on memory|Out of memory)")),
    ("kernel-panic", re.compile(r"Kernel panic - not syncing")),
    (
        "kernel-oops",
        re.compile(
            r"\bOops( - [A-Za-z ]+)?[:#\[ ]|BUG: unable to handle|kernel BUG at|Unable to handle kernel|"
            r"BUG: Unable to handle|BUG: Kernel |illegal operation: |Internal error: "
        ),
    ),
    # An orderly end (kernel/reboot.c, drivers/tty/sysrq.c), in the way the guest itself was told to.
    ("powered-off", re.compile(r"reboot: (Power down|Restarting system|System halted)|sysrq: Resetting")),
    ("out-of-memory", re.compile(r"(Out of memory|Memory cgroup out of memory): Killed process|invoked oom-killer: ")),
    ("disk-error", re.compile(r"Buffer I/O error on dev|I/O error, dev (vd|sd|xvd|hd|nvme)")),
    ("read-only", re.compile(r"Remounting filesystem read-only|Read-only file system")),
    ("no-space", re.compile(r"No space left on device|Delayed block allocation failed .* with error 28")),
    (
        HUNG,
        re.compile(r"watchdog: BUG: soft lockup|rcu: INFO: .* detected stalls|INFO: task .* blocked for more than"),
    ),
)
"""What a console may show, the gravest first. What of it is the guest's own doing is for `farm.verdict` to say."""


def find_crash(console: bytes) -> Crash | None:
    """The crash that a console shows, the gravest rule first; None where it shows none."""
    lines = console.decode("utf-8", "replace").replace("\r", "").split("\n")
    for rule, pattern in RULES:
        for number, line in enumerate(lines):
            if pattern.search(line):
                return Crash(
                    rule, tuple(text.rstrip() for text in lines[number : number + _CONTEXT_LINES] if text.strip())
                )
    return None


def tail(console: bytes, lines: int = 15) -> tuple[str, ...]:
    """The last lines that say something."""
    said = [line.rstrip() for line in console.decode("utf-8", "replace").replace("\r", "").split("\n")]
    return tuple([line for line in said if line][-lines:])
