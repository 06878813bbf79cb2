"""A wall clock that can be put wrong for programs that are started with it; see `clock.c`."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """Of all processes that have its environment."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._library = folder / "clock.so"
        self._file.write_bytes(struct.pack("=q", 0))
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", self._library, _SOURCE, "-ldl"], check=True)

    @staticmethod
    def can_be_made() -> bool:
        """Whether this machine has what it takes."""
        return shutil.which("gcc") is not None

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs whose clock this is to be; Ray hands it on to its workers."""
        return {
            "LD_PRELOAD": str(self._library),
            "RAY_LD_PRELOAD_ON_WORKERS": "1",
            "CHAOS_CLOCK": str(self._file),
        }

    def put(self, wrong_by_s: int) -> None:
        """By so much it is wrong from now on. The file is written in place: others have it in their memory."""
        descriptor = os.open(self._file, os.O_WRONLY)
        try:
            os.pwrite(descriptor, struct.pack("=q", wrong_by_s), 0)
        finally:
            os.close(descriptor)
