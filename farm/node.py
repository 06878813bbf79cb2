"""This machine as a node of a Ray cluster: its capacity as numbers, its traits as labels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from farm.executor import MEMORY, labels_of
from farm.model import Host


def ray_command(host: Host, *, address: str | None, port: int, bind: str) -> list[str]:
    """The `ray start` that makes this host a node; without an address, the head of a new cluster."""
    labels = ",".join(f"{key}={value}" for key, value in labels_of(host).items())
    where = [f"--address={address}"] if address else ["--head", f"--port={port}", "--include-dashboard=false"]
    return [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--block",
        *where,
        f"--node-ip-address={bind}",
        f"--num-cpus={host.vcpus}",
        f'--resources={{"{MEMORY}": {host.memory_mib}}}',
        f"--labels={labels}",
        "--disable-usage-stats",
    ]


def start_node(host: Host, *, address: str | None, port: int, bind: str) -> NoReturn:
    """Become the node: this process turns into `ray start`, so that whoever ends it ends that."""
    command = ray_command(host, address=address, port=port, bind=bind)
    if address is None:  # a new cluster needs a token; one that is there is kept
        subprocess.run([command[0], "get-auth-token", "--generate"], stdout=subprocess.DEVNULL, check=True)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted
