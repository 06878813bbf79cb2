"""QEMU's monitor over its socket: one command, one answer (QMP, qemu-qmp-ref(7))."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from farm.errors import HypervisorError
from runners.deadline import Deadline

_POLL_S = 0.02
_MAPPED_RAM = [{"capability": "mapped-ram", "state": True}]
_BANDWIDTH = 1 << 40
"""Bytes a second: QEMU's own limit, 128 MiB/s, holds for files too."""


class Monitor:
    """A connection to the monitor of one machine."""

    def __init__(self, path: Path) -> None:
        """Raises OSError as long as the machine does not listen there."""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        """What a command returns. Raises HypervisorError."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            self._file.write(json.dumps({"execute": command, "arguments": named}) + "\n")
            self._file.flush()
            for line in self._file:
                said = json.loads(line)
                if "return" in said:
                    return said["return"]
                if "error" in said:
                    raise HypervisorError(f"cannot ask the lab's machine to {command}: {said['error']['desc']}")
        except OSError as error:
            raise HypervisorError(f"cannot ask the lab's machine to {command}: {error}") from error
        raise HypervisorError(f"cannot ask the lab's machine to {command}: it has ended")

    def save(self, state: Path, deadline: Deadline) -> None:
        """Write a machine to a file; it stands still from then on. Raises HypervisorError, DeadlineError."""
        self.ask("stop")
        self._migrate("migrate", state, deadline)

    def load(self, state: Path, deadline: Deadline) -> None:
        """Let a machine that was started to be given one go on as the one in a file. Raises as `save`."""
        self._migrate("migrate-incoming", state, deadline)
        self.ask("cont")

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def _migrate(self, command: str, state: Path, deadline: Deadline) -> None:
        self.ask("migrate-set-capabilities", capabilities=_MAPPED_RAM)
        self.ask("migrate-set-parameters", max_bandwidth=_BANDWIDTH)
        self.ask(command, uri=f"file:{state}")
        while (said := self.ask("query-migrate")).get("status") != "completed":
            if said.get("status") in {"failed", "cancelled"}:
                raise HypervisorError(f"cannot {deadline.what}: {said.get('error-desc', said['status'])}")
            deadline.check()
            time.sleep(_POLL_S)
