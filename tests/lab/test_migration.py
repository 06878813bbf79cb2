"""A guest goes from one host with KVM to another while it runs, by the steps of docs/hypervisors.md."""

from __future__ import annotations

import random
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt
import pytest

from farm.config import load_settings
from runners.deadline import Deadline
from runners.guest import load_backend, wait_for
from runners.hosts.folders import farm_id
from runners.hosts.libvirtd import libvirtd
from runners.hosts.network import Networks
from runners.hosts.uri import parse_uri
from runners.libvirt.remains import Remains, remove
from tests.lab.lab import Lab, lab_host
from tests.lab.priming import IMAGE
from tests.orders import make_order

_HERE = "10.0.2.2"
"""This machine, as each of the hosts sees it: it forwards the ports of the other."""
_PORTS = range(49152, 49216)
"""Those that libvirt uses for it."""
FLAGS = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_NON_SHARED_INC | libvirt.VIR_MIGRATE_AUTO_CONVERGE
COUNTER = 'nohup sh -c "while :; do date +%s >> /root/ticks; sleep 0.2; done" >/dev/null 2>&1 </dev/null &'
WRITE = "head -c 4194304 /dev/urandom > /root/kept; sync; md5sum /root/kept; cat /proc/sys/kernel/random/boot_id"
READ = "echo 3 > /proc/sys/vm/drop_caches; md5sum /root/kept; cat /proc/sys/kernel/random/boot_id"


@pytest.fixture(scope="module")
def other(primed: Callable[[Lab], None]) -> Iterator[Lab]:
    """A second host. It goes on from the same saved one as the first: libvirt has to be told that it is another."""
    with lab_host("kvm") as lab:
        primed(lab)
        lab.ssh(f"echo 'host_uuid = \"{uuid.uuid4()}\"' >> /etc/libvirt/libvirtd.conf; systemctl restart libvirtd")
        yield lab


def forwarded(lab: Lab) -> int:
    """A port of a host that has the same number here, for who sees only this machine."""
    for port in random.sample(_PORTS, len(_PORTS)):
        said = lab.machine.monitor.ask(
            "human-monitor-command", command_line=f"hostfwd_add net tcp:127.0.0.1:{port}-:{port}"
        )
        if not said:
            return port
    raise AssertionError("all of them are taken")


def test_a_guest_is_taken_to_another_host_while_it_runs(
    kvm_host: Lab, other: Lab, primed: Callable[[Lab], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    primed(kvm_host)
    monkeypatch.setenv("FARM_HOST_URI", kvm_host.uri("qemu"))
    here, there = (libvirtd(parse_uri(lab.uri("qemu"))) for lab in (kvm_host, other))
    order = make_order("true\n", hypervisor="kvm", image=IMAGE)
    guest = wait_for(load_backend("kvm").create(order, Deadline.after(600, "make a guest")))
    try:
        wait_for(guest.boot(Deadline.after(600, "boot a guest")))
        wait_for(guest.connect(Deadline.after(300, "connect to a guest"))).close()
        ssh = guest.access()
        said = in_guest(ssh, WRITE)
        in_guest(ssh, COUNTER)

        (domain,) = here.connection.listAllDomains()
        name, id_ = domain.name(), domain.UUIDString()
        make_way(kvm_host, other, domain)
        wait_for(
            Networks(there.connection, there.link).ensure(
                order.guest.network, deadline=Deadline.after(120, "make a network")
            )
        )
        parameters = {
            libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{_HERE}:{forwarded(other)}",
            libvirt.VIR_MIGRATE_PARAM_DISKS_PORT: forwarded(other),
            libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS: "0.0.0.0",  # noqa: S104 - of a lab host, behind QEMU's network
            libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS: ["vda"],
        }
        began = time.monotonic()
        try:
            moved = domain.migrate3(there.connection, parameters, FLAGS)
            took_s = time.monotonic() - began
            assert here.connection.listAllDomains() == []
            assert moved.isActive()
            stats = moved.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
            print(f"migrated in {took_s:.1f} s, of which it stood still for {stats.get('downtime')} ms")
            ssh = ssh.replace(str(kvm_host.known_hosts), str(other.known_hosts))
            ssh = ssh.replace(f" {kvm_host.port} ", f" {other.port} ")
            assert in_guest(ssh, READ) == said
            ticks = [in_guest(ssh, "wc -l < /root/ticks; sleep 1") for _ in range(2)]
            assert int(ticks[0]) < int(ticks[1])
            guest.destroy()  # on the host that it has left; it takes the key of the way in along
            assert moved.isActive()
        finally:
            remove(there, Remains(other.uri("qemu"), farm_id(load_settings().state), name, id_))
        assert there.connection.listAllDomains() == []
    finally:
        guest.destroy()


def make_way(here: Lab, there: Lab, domain: libvirt.virDomain) -> None:
    """Let a host have what a guest has on another, at the same paths: its folder, an empty disk of the same size."""
    disks = ET.fromstring(domain.XMLDesc()).iter("disk")  # noqa: S314 - libvirt's own
    disk = next(disk for disk in disks if disk.find("readonly") is None)
    source, base = disk.find("source"), disk.find("backingStore/source")
    assert source is not None
    assert base is not None
    path, bytes_ = Path(source.attrib["file"]), domain.blockInfo("vda")[0]
    rest = here.ssh(f"tar -C {path.parent} --exclude ./{path.name} -czf - . | base64")
    there.ssh(
        f"mkdir -p {path.parent}; base64 -d | tar -C {path.parent} -xzf -;"
        f" qemu-img create -q -f qcow2 -F raw -b {base.attrib['file']} {path} {bytes_}",
        stdin=rest.encode(),
    )


def in_guest(ssh: str, command: str) -> str:
    """What a command line says there; `ssh` is the way in."""
    done = subprocess.run(
        ["/bin/sh", "-c", f"{ssh} '{command}'"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
