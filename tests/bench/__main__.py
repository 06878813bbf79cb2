"""The figures: `make bench`. Ratios of two things done side by side in one run, both arms shown."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from farm.model import ImageSpec
from runners.deadline import Deadline
from runners.guest import wait_for
from runners.images import Catalogue
from runners.images.build import mmdebstrap
from runners.images.mirror import machine_mirror
from runners.images.rootfs import prepare_tree
from tests.bench.processes import Sampler

FARM = Path(sys.executable).with_name("farm")
PACKAGES = ("gcc", "libc6-dev", "make")
PAIRS = 7


def main() -> None:
    """Measure everything and print it as a table in Markdown."""
    print("| figure | ours | beside it | ratio |\n|---|---|---|---|")
    bench_demo()
    bench_image()


def bench_demo() -> None:
    """The demo with everything there: wall time, and whose CPU time it was."""
    with tempfile.TemporaryDirectory() as out, Sampler() as sampler:
        started = time.monotonic()
        subprocess.run([FARM, "run", "matrices/demo.yaml", "--out", out], stdout=subprocess.DEVNULL, check=False)
        wall_s = time.monotonic() - started
        cells = json.loads((Path(out) / "report.json").read_text())["cells"]
    usage = sampler.usage()
    ours_s = usage.cpu_s["farm"] + usage.cpu_s["workers"] + usage.cpu_s["reaper"]
    guests_s = sum(phase["duration_s"] or 0 for cell in cells for a in cell["attempts"] for phase in a["phases"])
    row("demo again, wall / sum of its attempts", wall_s, guests_s, "s")
    row("farm's CPU per cell / QEMU's", ours_s / len(cells), usage.cpu_s["qemu"] / len(cells), "s")
    row("controller's memory / the aim of 200", usage.rss_mib["farm"], 200, "MiB")


def bench_image() -> None:
    """An image from nothing, against mmdebstrap unpacking the same packages."""
    pairs = [(_build_s(), _unpack_s()) for _ in range(PAIRS)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    row(f"image from nothing / mmdebstrap alone (median of {PAIRS})", ours, theirs, "s")


def row(figure: str, ours: float, theirs: float, unit: str) -> None:
    """Print a row."""
    print(f"| {figure} | {ours:.2f} {unit} | {theirs:.2f} {unit} | {ours / theirs if theirs else 0:.2f} |", flush=True)


def _build_s() -> float:
    with tempfile.TemporaryDirectory() as folder:
        spec = ImageSpec(name="debian-13", arch="amd64", packages=PACKAGES)
        started = time.monotonic()
        wait_for(Catalogue(Path(folder)).ensure(spec, deadline=Deadline.after(300, "build an image")))
        return time.monotonic() - started


def _unpack_s() -> float:
    folder = Path(tempfile.mkdtemp())
    try:
        prepare_tree(folder / "tree")
        spec = ImageSpec(name="debian-13", arch="amd64", packages=PACKAGES)
        started = time.monotonic()
        command = mmdebstrap(spec, folder / "tree", machine_mirror(), spec.release)
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "TMPDIR": str(folder)})
        return time.monotonic() - started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
