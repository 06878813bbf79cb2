"""OpenSSH's client beside ours, to the same guest."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runners.libvirt.guest import LibvirtGuest


def openssh(guest: LibvirtGuest) -> tuple[str, ...]:
    """The command line up to the command, a connection for each."""
    program, *arguments = shlex.split(guest.access())
    return (program, "-F", "none", *arguments)


@contextmanager
def master(guest: LibvirtGuest) -> Iterator[tuple[str, ...]]:
    """The command line up to the command, on a connection that stays open (ControlMaster)."""
    with tempfile.TemporaryDirectory() as folder:
        program, *arguments = openssh(guest)
        control = (program, "-o", f"ControlPath={Path(folder) / 'control'}")
        subprocess.run([*control, "-M", "-N", "-f", *arguments], check=True, stderr=subprocess.DEVNULL)
        try:
            yield (*control, *arguments)
        finally:
            subprocess.run([*control, "-O", "exit", *arguments], check=True, capture_output=True)
