"""CPU time and memory of the processes of a run, told apart by whose they are."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PERIOD_S = 0.1
_KINDS = (
    ("qemu", ("qemu-system-", "qemu-img")),
    ("ray's daemons", ("raylet", "gcs_server", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "log_monitor")),
    ("workers", ("ray::",)),
    ("reaper", ("runners.reaper",)),
)


@dataclass
class Usage:
    """By kind of process: CPU seconds, and the highest resident memory of one of them in MiB."""

    cpu_s: Counter[str] = field(default_factory=Counter)
    rss_mib: Counter[str] = field(default_factory=Counter)


class Sampler:
    """Looks at all descendants-by-session of a run several times a second until it is left."""

    def __init__(self) -> None:
        self._before = set(_pids())
        self._seen: dict[tuple[int, str], tuple[str, float, float]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def usage(self) -> Usage:
        """What was seen."""
        usage = Usage()
        for kind, cpu_s, rss_mib in self._seen.values():
            usage.cpu_s[kind] += cpu_s
            usage.rss_mib[kind] = max(usage.rss_mib[kind], rss_mib)
        return usage

    def _watch(self) -> None:
        while not self._end.wait(_PERIOD_S):
            for pid in _pids():
                if pid not in self._before:
                    self._look(pid)

    def _look(self, pid: int) -> None:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return
        # proc(5): after the command's name, utime is the 12th field, stime the 13th, starttime the 20th, rss the 22nd
        key = (pid, fields[19])
        kind = next((kind for kind, marks in _KINDS if any(mark in command for mark in marks)), None)
        if kind is None:
            kind = self._seen[key][0] if key in self._seen and not command.strip() else "farm"
        cpu_s = (int(fields[11]) + int(fields[12])) * _TICK_S
        rss_mib = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024
        self._seen[key] = (kind, cpu_s, max(rss_mib, self._seen.get(key, ("", 0.0, 0.0))[2]))


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]
