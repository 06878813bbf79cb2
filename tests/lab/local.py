"""A libvirtd of this machine, in namespaces of its own: what it makes is gone with them.

    python -m tests.lab.local COMMAND …

runs a command beside one, `qemu:///system`, on a machine whose only network is a bridge with a DHCP server, as
owners of machines have them. Needs root, and Debian's packages libvirt-daemon, libvirt-daemon-driver-qemu and
dnsmasq-base.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

BRIDGE = "br0"
PROGRAMS = ("unshare", "libvirtd", "dnsmasq", "qemu-system-x86_64")
_EMPTY = ("/run", "/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/lib/farm", "/var/log")
"""Folders of the machine in whose place there are empty ones."""
_MADE = ("/run/farm", "/run/lock", "/etc/libvirt/qemu", "/var/log/libvirt/qemu")
_QEMU_CONF = """\
security_driver = "none"
user = "root"
group = "root"
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""
_SOCKET = Path("/run/libvirt/libvirt-sock")
_UP_S = 60.0
_INSIDE = "--inside"


def missing() -> str:
    """What keeps one from being started here; empty: nothing."""
    if os.geteuid() != 0:
        return "only root can make namespaces"
    absent = [program for program in PROGRAMS if not shutil.which(program)]
    return f"there is no {' and no '.join(absent)} here" if absent else ""


def beside_it(*command: str) -> list[str]:
    """The command line that runs another beside a libvirtd of its own; all that is left of it then is killed."""
    namespaces = ("--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
    return ["unshare", *namespaces, "--", sys.executable, "-m", "tests.lab.local", _INSIDE, *command]


def main() -> int:
    """See the module."""
    if sys.argv[1:2] != [_INSIDE]:
        if lacks := missing():
            sys.exit(f"cannot start a libvirtd: {lacks}")
        return subprocess.run(beside_it(*sys.argv[1:]), check=False).returncode
    if os.getpid() != 1:
        sys.exit("cannot start a libvirtd: this is not a namespace of its own")
    return _inside(sys.argv[2:])


def _inside(command: list[str]) -> int:
    """What is mounted from now on, this machine does not see: unshare(1) has made its mounts private."""
    for folder in _EMPTY:
        Path(folder).mkdir(exist_ok=True)
        _run("mount", "-t", "tmpfs", "none", folder)
    _run("mount", "-t", "sysfs", "none", "/sys")  # with the network cards of this namespace
    for folder in _MADE:
        Path(folder).mkdir(parents=True)
    Path("/etc/libvirt/qemu.conf").write_text(_QEMU_CONF)
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", BRIDGE, "type", "bridge")
    _run("ip", "address", "add", "192.0.2.1/24", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    leases = ("--dhcp-range=192.0.2.10,192.0.2.250,1h", "--dhcp-leasefile=/run/leases", "--pid-file=/run/dnsmasq.pid")
    _run("dnsmasq", "--conf-file=/dev/null", "--user=root", "--port=0", f"--interface={BRIDGE}", *leases)
    _run("libvirtd", "--daemon", "--pid-file", "/run/libvirtd.pid")
    until = time.monotonic() + _UP_S
    while not _SOCKET.exists():
        if time.monotonic() > until:
            sys.exit("there is no libvirtd, see /var/log/libvirt")
        time.sleep(0.1)
    own = {"FARM_RUNTIME": "/run/farm", "FARM_STATE": "/run/state"}
    host = {"FARM_HOST_URI": "qemu:///system", "FARM_HOST_BRIDGE": BRIDGE}
    return _as_init(subprocess.Popen(command, env=os.environ | own | host))


def _as_init(command: subprocess.Popen[bytes]) -> int:
    """Wait for a command, and for whatever else has lost its parent: libvirtd takes a QEMU that is dead for alive."""
    while True:
        pid, status = os.wait()
        if pid == command.pid:
            command.returncode = os.waitstatus_to_exitcode(status)
            return command.returncode


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True)


if __name__ == "__main__":
    sys.exit(main())
