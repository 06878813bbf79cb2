"""QEMU's own monitor, through libvirt: saving a machine to files and loading it again (QMP, qemu-qmp-ref(7))."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from farm.errors import ConnectError, HypervisorError
from runners.deadline import Deadline
from runners.guest import TICK, Work
from runners.libvirt.connection import hypervisor_errors, refusal

CAPABILITIES = {"shared": "x-ignore-shared", "mapped": "mapped-ram"}
"""Ways to save the memory, and QEMU's words for them. `shared`: it is a file already, which all clones map,
each keeping what it writes to itself; QEMU calls it unstable. `mapped`: it is written into the state's file."""

_POLL_S = 0.003
_BANDWIDTH = 1 << 40
"""Bytes a second: QEMU's own limit, 128 MiB/s, holds for files too."""
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)")


def ask(domain: libvirt.virDomain, command: str, **arguments: Any) -> Any:
    """What a QMP command returns. Raises HypervisorError."""
    with hypervisor_errors(f"ask the guest's machine to {command}"):
        said = json.loads(libvirt_qemu.qemuMonitorCommand(domain, json.dumps(_message(command, arguments)), 0))
    if "error" in said:
        raise HypervisorError(f"cannot ask the guest's machine to {command}: {said['error'].get('desc', said)}")
    return said["return"]


def _message(command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"execute": command, "arguments": {name.replace("_", "-"): value for name, value in arguments.items()}}


def save(domain: libvirt.virDomain, state: Path, mode: str, deadline: Deadline) -> Work[None]:
    """Write the state of a machine that stands still to a file. Raises HypervisorError, FullError, DeadlineError."""
    _prepare(domain, mode)
    ask(domain, "migrate", uri=f"file:{state}")
    yield from _wait(domain, "save the guest", deadline)


def load(domain: libvirt.virDomain, state: Path, mode: str, deadline: Deadline) -> Work[None]:
    """Give a machine that was started to be given one the state in a file; it stands still. Raises as `save`."""
    _prepare(domain, mode)
    ask(domain, "migrate-incoming", uri=f"file:{state}")
    yield from _wait(domain, "restore the guest", deadline)


def go_on(domain: libvirt.virDomain) -> None:
    """Let a machine that stands still run. Raises HypervisorError."""
    with hypervisor_errors("let the guest go on"):
        domain.resume()


def forwarded_port(domain: libvirt.virDomain) -> int:
    """The port of the host's loopback that leads to the guest's SSH server. Raises ConnectError, HypervisorError."""
    said = ask(domain, "human-monitor-command", command_line="info usernet")
    match = _FORWARD.search(said)
    if not match:
        raise ConnectError(f"cannot find the guest's SSH port: QEMU forwards none ({said.strip()!r})")
    return int(match[1])


def _prepare(domain: libvirt.virDomain, mode: str) -> None:
    wanted = [{"capability": name, "state": key == mode} for key, name in CAPABILITIES.items()]
    ask(domain, "migrate-set-capabilities", capabilities=wanted)
    ask(domain, "migrate-set-parameters", max_bandwidth=_BANDWIDTH)


def _wait(domain: libvirt.virDomain, what: str, deadline: Deadline) -> Work[None]:
    while True:
        said = ask(domain, "query-migrate")
        status = said.get("status", "none")
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            cause = said.get("error-desc", status)
            raise refusal(cause)(f"cannot {what}: {cause}")
        deadline.check()
        yield TICK
        time.sleep(_POLL_S)
