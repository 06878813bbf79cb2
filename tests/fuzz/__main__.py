"""Fuzz each reader for a while, one after the other: `python -m tests.fuzz SECONDS [TARGET ...]`.

Atheris watches which branches the bytes take, and keeps what it learns in `.fuzz/TARGET`. Where it stops at something,
the bytes are in `.fuzz/TARGET-crash-...`: copy them to `tests/data/fuzz/TARGET`, where tests go over them ever after.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(".fuzz")
_LONGEST = 8192
_MODULES = ("farm.results", "farm.text", "farm.mask", "farm.verdict", "runners.collect", "runners.console")
_MODULES_TOO = ("runners.logs", "runners.counters", "runners.calibration.program", "tarfile", "tests.fuzz.targets")
_MODULES_TOO += ("dashboards.ansi", "runners.transport", "runners.chacha", "paramiko.packet")
_CHILD = "FARM_FUZZ_TARGET"


def fuzz(target: str, seconds: int) -> int:
    """Fuzz one target in a process of its own; its status, 0 where it found nothing."""
    from tests.fuzz.targets import DATA, seeds  # noqa: PLC0415 - a child imports them instrumented

    folder = FOLDER / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (folder / f"seed-{number}").write_bytes(seed)
    known = DATA / "fuzz" / target
    options = [f"-max_total_time={seconds}", f"-max_len={_LONGEST}", "-timeout=20", "-rss_limit_mb=2048"]
    command = [sys.executable, "-m", "tests.fuzz", *options, f"-artifact_prefix={FOLDER}/{target}-", str(folder)]
    command += [str(known)] if known.is_dir() else []
    print(f"{target}: {seconds} s", flush=True)
    found = subprocess.run(command, env={**os.environ, _CHILD: target}, capture_output=True, text=True, check=False)
    lines = [line for line in found.stderr.splitlines() if line.startswith(("#", "Done"))]
    print("\n".join(f"  {line}" for line in lines[-1:]) if found.returncode == 0 else found.stderr[-4000:], flush=True)
    return found.returncode


def child(target: str) -> None:
    """Be the process of one target: never comes back."""
    import atheris  # noqa: PLC0415 - only here

    with atheris.instrument_imports(include=[*_MODULES, *_MODULES_TOO]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415
    atheris.Setup(sys.argv, TARGETS[target])
    atheris.Fuzz()


def main(words: list[str]) -> int:
    """Fuzz the targets that are named, or all, for so many seconds each; 1 where something was found."""
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    seconds, *names = words or ["30"]
    return max(min(1, abs(fuzz(name, int(seconds)))) for name in names or TARGETS)


if __name__ == "__main__":
    if _CHILD in os.environ:
        child(os.environ[_CHILD])
    sys.exit(main(sys.argv[1:]))
