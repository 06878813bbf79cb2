"""A command on a connection that is open, and the opening of one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence

from runners.guest import Shell, wait_for
from runners.libvirt.guest import LibvirtGuest
from runners.ssh import connect, tcp
from tests.bench.figures import Aim, Figure, seconds, side_by_side
from tests.bench.guests import Kind, running, soon
from tests.bench.openssh import master, openssh

_PAIRS = 41
_REST_S = 0.3
_ROW = 10


def figures() -> Iterator[Figure]:
    """Against OpenSSH's ControlMaster."""
    with running(Kind("amd64").restored()) as (guest, shell), master(guest) as ssh:
        yield side_by_side(
            "a command on the open connection, the guest idle before it, against OpenSSH's ControlMaster",
            Aim(0.5),
            "ms",
            lambda: _rested_ms(shell),
            lambda: _rested_ms(ssh),
            pairs=_PAIRS,
        )
        yield side_by_side(
            f"{_ROW} commands, one right after the other, against the same",
            None,
            "ms",
            lambda: _row_ms(shell),
            lambda: _row_ms(ssh),
        )
        yield side_by_side(
            "a new connection and a command, against OpenSSH",
            None,
            "ms",
            lambda: 1000 * seconds(lambda: _connect(guest)),
            lambda: 1000 * seconds(lambda: _run(openssh(guest))),
            pairs=15,
        )


def _rested_ms(client: Shell | Sequence[str]) -> float:
    time.sleep(_REST_S)
    return 1000 * seconds(lambda: _run(client))


def _row_ms(client: Shell | Sequence[str]) -> float:
    time.sleep(_REST_S)
    return 1000 * seconds(lambda: [_run(client) for _ in range(_ROW)])


def _run(client: Shell | Sequence[str]) -> None:
    if isinstance(client, Sequence):
        subprocess.run([*client, ":"], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    else:
        assert wait_for(client.execute(":", deadline=soon())) == 0


def _connect(guest: LibvirtGuest) -> None:
    client, server = guest._keys
    shell = wait_for(connect(tcp("127.0.0.1", guest._port), client=client, server=server, deadline=soon()))
    _run(shell)
    shell.close()
