"""The demo with everything there: wall time, and whose CPU time and memory it was."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.bench.figures import Aim, Figure, seconds
from tests.bench.processes import Sampler

_FARM = Path(sys.executable).with_name("farm")
_TIMES = 3


class _Run(NamedTuple):
    wall_s: float
    attempts_s: float
    farm_cpu_s: float
    qemu_cpu_s: float
    farm_mib: float


def figures() -> Iterator[Figure]:
    """Both arms of each figure come from the same run."""
    wall_s, attempts_s, farm_cpu_s, qemu_cpu_s, farm_mib = zip(*(_run() for _ in range(_TIMES)), strict=True)
    yield Figure("the demo again, against the sum of its attempts", Aim(75, "s"), "s", wall_s, attempts_s)
    yield Figure("the farm's own CPU time per cell, against its QEMU's", Aim(1.5, "s"), "s", farm_cpu_s, qemu_cpu_s)
    yield Figure("memory of the controller", Aim(200, "MiB"), "MiB", farm_mib, (200.0,))


def _run() -> _Run:
    with tempfile.TemporaryDirectory() as out, Sampler() as sampler:
        command = [_FARM, "run", "matrices/demo.yaml", "--out", out]
        wall_s = seconds(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=False))
        cells = json.loads((Path(out) / "report.json").read_text())["cells"]
    usage = sampler.usage()
    ours_s = usage.cpu_s["farm"] + usage.cpu_s["workers"] + usage.cpu_s["reaper"]
    phases = [phase for cell in cells for attempt in cell["attempts"] for phase in attempt["phases"]]
    return _Run(
        wall_s=wall_s,
        attempts_s=sum(phase["duration_s"] or 0 for phase in phases),
        farm_cpu_s=ours_s / len(cells),
        qemu_cpu_s=usage.cpu_s["qemu"] / len(cells),
        farm_mib=usage.rss_mib["farm"],
    )
