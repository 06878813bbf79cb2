"""The lab by hand: `python -m tests.lab` makes all hosts, `python -m tests.lab kvm` brings one of them up."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from farm.config import load_settings
from farm.errors import FarmError
from farm.model import Stream
from runners.guest import T, Work
from runners.images.shelf import MANIFEST
from tests.lab.lab import Labs, lab_host
from tests.lab.machine import KINDS


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument("name", nargs="?", choices=tuple(KINDS), help="bring this one up; none: make all")
    parser.add_argument("--address", default="127.0.0.1", help="where its SSH server is to be reached")
    asked = parser.parse_args()
    try:
        if asked.name:
            _show(asked.name, asked.address)
        else:
            _make()
    except FarmError as error:
        sys.exit(f"lab: {error}")


def _make() -> None:
    """Build the image, then boot and save the hosts, side by side."""
    labs = Labs(load_settings())
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        image, seconds = _timed(labs.image(stack))
        print(f"lab: the image {image.folder.name}, {image.manifest.disk_mib} MiB: {seconds:.0f} s", flush=True)
        made = pool.map(lambda name: _timed(labs.template(name, stack)), KINDS)
        for template, seconds in made:
            size = sum(path.stat().st_blocks * 512 for path in template.folder.iterdir()) >> 20
            took = json.loads((template.folder / MANIFEST).read_text())
            booted = f"booted in {took['boot_s']} s, {took['boot_cpu_s']} s of a CPU; saved in {took['save_s']} s"
            print(f"lab: the host {template.folder.name}, {size} MiB: {seconds:.0f} s ({booted})", flush=True)
    for name in KINDS:
        started = time.monotonic()
        with lab_host(name) as lab:
            lab.ssh("true")
            print(f"lab: {name} goes on from there: {time.monotonic() - started:.1f} s", flush=True)


def _timed(work: Work[T]) -> tuple[T, float]:
    """Do some work; gives what it comes to and how long it took, and prints what the farm says meanwhile."""
    started = time.monotonic()
    while True:
        try:
            chunk = next(work)
        except StopIteration as end:
            return end.value, time.monotonic() - started
        if chunk.stream is Stream.FARM and chunk.data:
            print(f"lab: {chunk.data.decode().strip()}", flush=True)


def _show(name: str, address: str) -> None:
    with lab_host(name, address=address) as lab:
        print(shlex.join(lab.ssh_command))
        for driver in lab.kind.drivers:
            print(lab.uri(driver))
        print("Ctrl-C ends it", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
