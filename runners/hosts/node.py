"""What the host of this process is like now: what it can run, and what it has left in truth.

What guests may take is arithmetic (`Host.memory_mib`); others use the machine, too. So the true numbers are asked for
where the guests are, which may be another machine: its free memory, and the free space where the disks of guests lie.
"""

from __future__ import annotations

import re
import shlex

from farm.config import Settings, load_settings
from farm.errors import HostError
from farm.model import Host, Room
from runners.deadline import Deadline
from runners.hosts.link import link_to
from runners.hosts.uri import parse_uri
from runners.probe import known_host

_LOOK_S = 20.0
_REMOTE_FOLDER = "/var/lib/farm"
"""Where guests and images lie on a hypervisor's machine that is not this process' own libvirt."""
_SPACE = 'p={}; until [ -e "$p" ]; do p=$(dirname "$p"); done; df -Pk "$p" | tail -n 1'
_SPACES = re.compile(r"^\S.* \d+ +\d+ +(\d+) +\d+% ", re.MULTILINE)
"""The kibibytes that df(1) says are available, in the format of POSIX."""
_MEMORY = {
    "qemu": ("cat /proc/meminfo", re.compile(r"^MemAvailable:\s+(\d+) kB", re.MULTILINE), 1024),
    "lxc": ("cat /proc/meminfo", re.compile(r"^MemAvailable:\s+(\d+) kB", re.MULTILINE), 1024),
    "xen": ("xl info", re.compile(r"^free_memory\s*:\s*(\d+)", re.MULTILINE), 1),
}
"""By driver: how to ask for free memory, the number in the answer, and how many of it are a MiB.

Xen's own, since dom0 sees only what it has itself (xl(1), `info`)."""


def look() -> Host:
    """The host that this process' environment names. Raises HostError, ConfigError."""
    settings = load_settings()
    return with_room(known_host(settings), settings)


def with_room(host: Host, settings: Settings) -> Host:
    """A host with what it has left; where that cannot be found out, it is short of that. Raises ConfigError."""
    try:
        room = room_of(settings)
    except HostError as error:
        room = Room(memory_mib=0, disk_mib=0, shortage=error.message)
    return host.model_copy(update={"room": room})


def room_of(settings: Settings) -> Room:
    """What the host of these settings has left. Raises HostError, ConfigError."""
    uri = parse_uri(settings.uri)
    ask, number, per_mib = _MEMORY[uri.driver]
    folders = (str(settings.runtime), str(settings.cache)) if uri.embedded else (_REMOTE_FOLDER,)
    command = "; ".join([ask, *(_SPACE.format(shlex.quote(folder)) for folder in folders)])
    deadline = Deadline.after(_LOOK_S, f"look at {uri.place}")
    said = link_to(uri).run(command, deadline=deadline).decode(errors="replace")
    memory, spaces = number.search(said), _SPACES.findall(said)
    if memory is None or len(spaces) != len(folders):
        asked = ask if memory is None else "df"
        raise HostError(f"cannot find out what is free on {uri.place}: {asked} does not say it")
    return judged(int(memory[1]) // per_mib, min(map(int, spaces)) // 1024, settings)


def judged(memory_mib: int, disk_mib: int, settings: Settings) -> Room:
    """Whether that is enough for a host to take something new. Pure."""
    short = [
        f"it has {left} MiB of {what} left, and takes nothing new with fewer than {kept}"
        for what, left, kept in (
            ("memory", memory_mib, settings.keep_memory),
            ("disk", disk_mib, settings.keep_disk),
        )
        if left < kept
    ]
    return Room(memory_mib=memory_mib, disk_mib=disk_mib, shortage="; ".join(short))
