"""What every backend must do, on real hypervisors: the tests of `tests/contract`, and what only a libvirtd can show."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm.config import load_settings
from farm.errors import ConfigError, HostError
from farm.model import Ending, GuestSpec, LogChunk, Phase, PhaseStarted, Stream, Timeouts
from runners.attempt import run_attempt
from runners.deadline import Deadline
from runners.guest import load_backend, wait_for
from runners.hosts.folders import farm_id
from runners.hosts.libvirtd import libvirtd
from runners.hosts.uri import parse_uri
from runners.libvirt import remains
from runners.libvirt.hypervisors import HYPERVISORS
from tests.contract.test_guests import (  # noqa: F401 - tests that run here too
    Backend,
    attempt,
    endings,
    evidence,
    log,
    test_a_cancel_in_any_phase_leaves_nothing,
    test_a_crash_under_the_test_is_seen_on_the_console,
    test_a_flood_is_bounded,
    test_a_script_that_never_ends_is_ended,
    test_an_attempt_says_what_its_guest_is_and_takes_the_phases_in_order,
    test_output_and_status_of_a_script_come_back,
    test_the_source_is_there_and_what_the_globs_mean_comes_back,
)
from tests.contract.test_usage import usage
from tests.lab.lab import Lab
from tests.lab.priming import IMAGE
from tests.orders import make_order, make_source
from tests.waiting import eventually

HOSTS = {
    "kvm": "kvm_host",
    "lxc": "kvm_host",
    "qemu": "kvm_host",
    "xen-hvm": "xen_host",
    "xen-pvh": "xen_host",
    "xen-pv": "xen_host",
}
EMULATED_TWICE = (
    "test_the_source_is_there_and_what_the_globs_mean_comes_back",
    "test_a_crash_under_the_test_is_seen_on_the_console",
)
"""What is tried in an emulator of an emulated host, where a guest takes minutes; `test_local` tries everything."""
PATIENT = Timeouts(boot=600, connect=120, upload=120, test=600, teardown=120, scale=False)
"""The lab is emulated, and what runs in it twice."""
SENT = 2 * 1024 * 1024
SENDER = f"""\
(head -c {SENT} /dev/zero | busybox nc -l -p 9999) >/dev/null 2>&1 &
until grep -q ':270F 0*:0000 0A' /proc/net/tcp*; do sleep 0.1; done
"""
RECEIVER = "date +%s%N; nc -d {} 9999 | wc -c; date +%s%N"
STRANGER = """\
<domain type='{type}'>
  <name>farm-0badcafe</name>
  <memory unit='MiB'>64</memory>
  <metadata><farm:guest xmlns:farm='urn:validation-farm:guest:1' owner='x' farm='{farm}' ledger='/nowhere'/></metadata>
  <os><type arch='x86_64'>{os}</type>{kernel}</os>
</domain>
"""


@pytest.fixture
def lab(request: pytest.FixtureRequest, primed: Callable[[Lab], None]) -> Lab:
    """The host that a test's hypervisor is on."""
    host: Lab = request.getfixturevalue(HOSTS[request.node.callspec.params["hypervisor"]])
    primed(host)
    return host


@pytest.fixture(params=HOSTS)
def hypervisor(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "qemu" and request.node.originalname not in EMULATED_TWICE:
        pytest.skip("an emulator in an emulated host takes minutes: tests/lab/test_local.py runs this with qemu")
    return name


@pytest.fixture
def backend(hypervisor: str, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    monkeypatch.setenv("FARM_HOST_URI", lab.uri(HYPERVISORS[hypervisor].driver))
    yield {"hypervisor": hypervisor, "image": IMAGE, "timeouts": PATIENT}
    assert left_on(lab) == []


def only(*names: str) -> pytest.MarkDecorator:
    """A test of what does not depend on which hypervisor it is, on those where it costs least."""
    return pytest.mark.parametrize("hypervisor", names, indirect=False)


def left_on(lab: Lab) -> list[str]:
    """Domains, folders and mounts of guests."""
    domains = [f"virsh -q -c {driver}:///system list --all --name" for driver in lab.kind.drivers]
    said = lab.ssh(
        "; ".join([*domains, "ls -d /var/lib/farm/guests/*/* 2>/dev/null", "grep guests /proc/mounts; true"])
    )
    return [word for word in said.split() if word != "Domain-0"]


def test_an_attempt_ends_with_what_its_guest_has_used(backend: Backend) -> None:
    used = usage(attempt(backend, "dd if=/dev/zero of=/root/file bs=1M count=8 2>/dev/null; sync\n"))
    assert used.cpu_s
    assert used.memory_peak_mib
    if HYPERVISORS[backend["hypervisor"]].driver == "qemu":
        assert (used.disk_written_bytes or 0) >= 8 * 1024 * 1024


WORKER = """
import sys
from runners.attempt import run_attempt
from farm.model import Order, Phase
from tests.contract.test_guests import is_in
from tests.orders import make_source
for event in run_attempt(Order.model_validate_json(sys.stdin.read()), make_source()):
    if is_in(Phase(sys.argv[1]), event):
        print("there", flush=True)
"""


@pytest.mark.parametrize("phase", [Phase.PROVISION, Phase.BOOT, Phase.TEST])
def test_nothing_is_left_of_a_worker_that_is_killed(backend: Backend, lab: Lab, phase: Phase) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, phase],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(make_order("sleep 600\n", **backend).model_dump_json())
    worker.stdin.close()
    try:
        assert worker.stdout.readline() == "there\n"
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        worker.stdout.close()
    ledgers = load_settings().runtime / "ledger"
    eventually(
        lambda: not list(ledgers.glob(f"*-{worker.pid}-*")), within_s=180, what="the reaper has destroyed what it had"
    )
    assert left_on(lab) == []


@only("kvm", "xen-pv")
def test_a_libvirtd_that_is_restarted_in_the_middle_of_a_test_is_not_missed(backend: Backend, lab: Lab) -> None:
    running = run_attempt(make_order("sleep 15\necho still here\n", **backend), make_source())
    events = []
    for event in running:
        events.append(event)
        if isinstance(event, PhaseStarted) and event.phase is Phase.TEST:
            lab.ssh("systemctl restart libvirtd")
    assert evidence(events).failure is None
    assert log(events, Phase.TEST) == b"still here\n"
    assert endings(events)[Phase.TEARDOWN] is Ending.OK


@only("kvm", "xen-pv")
def test_what_the_hypervisor_refuses_is_told_in_its_own_words_with_the_domain(backend: Backend) -> None:
    events = attempt(backend, "true\n", guest=GuestSpec.model_validate({"memory": "512G"}))
    failure = evidence(events).failure
    assert failure
    assert failure.phase is Phase.BOOT
    assert failure.error == {"kvm": "FullError", "xen-pv": "HypervisorError"}[backend["hypervisor"]]
    assert failure.message.startswith("cannot start the guest on root@")
    assert "emory" in failure.message  # QEMU and libxl: Cannot allocate memory
    said = b"".join(e.data for e in events if isinstance(e, LogChunk) and e.stream is Stream.FARM)
    assert b'<memory unit="MiB">524288</memory>' in said


@only("kvm")
def test_limits_are_the_domain_s(backend: Backend, lab: Lab) -> None:
    order = make_order("true\n", **backend, guest=GuestSpec.model_validate({"cpu": "90%", "disk-bandwidth": "8M"}))
    guest = wait_for(load_backend(order.hypervisor).create(order, Deadline.after(600, "make a guest")))
    try:
        wait_for(guest.boot(Deadline.after(600, "boot a guest")))
        name = lab.ssh("virsh -q list --name").strip()
        assert "90000" in lab.ssh(f"virsh schedinfo {name} | grep global_quota")
        assert "8388608" in lab.ssh(f"virsh blkdeviotune {name} vda | grep total_bytes_sec:")
    finally:
        guest.destroy()


@only("lxc")  # the same traffic control; a virtual machine of the lab sends hardly more than the least limit, unlimited
def test_a_limit_of_the_network_is_kept(backend: Backend, lab: Lab) -> None:
    rate = 64 * 1024
    free, held = (sent_per_s(backend, lab, limits) for limits in ({}, {"network-bandwidth": rate}))
    assert held < 1.5 * rate  # a second's worth may come at once
    assert free > 3 * held


def sent_per_s(backend: Backend, lab: Lab, limits: dict[str, int]) -> float:
    """How many bytes a second come out of a guest that may send as much as it can."""
    order = make_order("true\n", **backend, guest=GuestSpec.model_validate({"memory": 256, **limits}))
    guest = wait_for(load_backend(order.hypervisor).create(order, Deadline.after(600, "make a guest")))
    try:
        wait_for(guest.boot(Deadline.after(600, "boot a guest")))
        shell = wait_for(guest.connect(Deadline.after(300, "connect to a guest")))
        wait_for(shell.execute(SENDER, deadline=Deadline.after(60, "start a sender")))
        address = guest.invitation().rpartition("@")[2]
        began, count, ended = map(int, lab.ssh(RECEIVER.format(address), seconds=300).split())
        shell.close()
    finally:
        guest.destroy()
    assert count == SENT
    return SENT * 1e9 / (ended - began)


@only("xen-pv", "lxc")
def test_a_limit_that_the_driver_does_not_have_is_refused(backend: Backend) -> None:
    order = make_order("true\n", **backend, guest=GuestSpec.model_validate({"disk-bandwidth": "1M"}))
    with pytest.raises(ConfigError, match=f"cannot limit disk-bandwidth of a guest of {order.hypervisor}"):
        wait_for(load_backend(order.hypervisor).create(order, Deadline.after(60, "make a guest")))


@only("kvm", "xen-pvh")
def test_what_no_farm_or_another_one_made_is_not_touched(backend: Backend, lab: Lab) -> None:
    row = HYPERVISORS[backend["hypervisor"]]
    kernel = "<kernel>/nowhere</kernel>" if row.driver == "xen" else ""
    strangers = ("0" * 16, "")
    host = libvirtd(parse_uri(lab.uri(row.driver)))
    farm = farm_id(load_settings().state)
    for stranger in strangers:
        xml = STRANGER.format(type=row.domain_type, os=row.os_type, kernel=kernel, farm=stranger)
        domain = host.connection.defineXML(xml)
        try:
            similar = remains.Remains(lab.uri(row.driver), farm, domain.name(), domain.UUIDString())
            remains.destroy(json.dumps(similar._asdict()))
            assert remains.sweep(similar.uri, farm) == ()
            assert domain.name() in left_on(lab)
        finally:
            domain.undefine()


@only("kvm")
def test_what_no_ledger_names_is_found_by_what_it_says_of_itself(backend: Backend, lab: Lab, tmp_path: Path) -> None:
    order = make_order("true\n", **backend)
    uri, farm = lab.uri("qemu"), farm_id(load_settings().state)
    guest = wait_for(load_backend(order.hypervisor).create(order, Deadline.after(600, "make a guest")))
    try:
        wait_for(guest.boot(Deadline.after(600, "boot a guest")))
        assert remains.left_on(uri, farm) == ()  # its owner lives
        (domain,) = libvirtd(parse_uri(uri)).connection.listAllDomains()
        owner = remains.owner_of(domain.XMLDesc())
        assert owner
        hidden = owner.ledger.rename(tmp_path / owner.ledger.name)
        assert [one.name for one in remains.sweep(uri, farm)] == [domain.name()]
        hidden.rename(owner.ledger)
        assert left_on(lab) == []
    finally:
        guest.destroy()


@only("kvm")
def test_a_person_here_gets_in_by_the_command_that_is_told(backend: Backend) -> None:
    order = make_order("true\n", **backend)
    guest = wait_for(load_backend(order.hypervisor).create(order, Deadline.after(600, "make a guest")))
    try:
        wait_for(guest.boot(Deadline.after(600, "boot a guest")))
        wait_for(guest.connect(Deadline.after(300, "connect to a guest"))).close()
        told = subprocess.run(
            ["/bin/sh", "-c", f"{guest.access()} hostname"], capture_output=True, text=True, check=False, timeout=120
        )
        assert told.stdout == "debian-13-amd64\n", told.stderr
    finally:
        guest.destroy()


@only("kvm", "lxc", "xen-hvm")
def test_a_hypervisor_says_what_it_offers(backend: Backend) -> None:
    offers = load_backend(backend["hypervisor"]).look()
    native = [offer for offer in offers if offer.arch == "amd64"]
    assert [offer.problem for offer in native] == [""]
    assert native[0].version
    assert native[0].container == (backend["hypervisor"] == "lxc")


@only("kvm")
def test_kvm_is_proved_by_a_guest(backend: Backend) -> None:
    (offer, *_) = load_backend("kvm").probe()
    assert (offer.arch, offer.problem) == ("amd64", "")
    assert "qemu64" in offer.cpus
    assert "EPYC" not in offer.cpus  # it has MONITOR, which the lab's hosts have not


def test_a_host_that_cannot_be_reached_offers_nothing_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_HOST_URI", "qemu+ssh://root@127.0.0.1:1/system")
    (offer,) = load_backend("kvm").look()
    assert "127.0.0.1:1" in offer.problem
    with pytest.raises(HostError):
        load_backend("kvm").probe()
