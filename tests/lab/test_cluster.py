"""Several hosts in one Ray cluster, each on a machine of its own as far as the network is concerned."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.config import EMBEDDED, load_settings
from farm.model import ImageSpec
from tests.lab.cluster import BIN, Cluster, Node, cluster
from tests.lab.lab import Lab, lab_host
from tests.lab.network import network
from tests.lab.priming import know_slowness, prime
from tests.waiting import eventually

XEN = ("xen-hvm", "xen-pvh", "xen-pv")
ARCHS = ("amd64", "riscv64", "s390x")
NATIVE = ("amd64", "i386")
"""A KVM of amd64 is tried with both."""
_RUN_S = 900.0
_GONE_S = 240.0
"""Ray asks for its head for a minute, and then some."""
_LAB_S = 3600.0
"""Guests in an emulated host, which may have to share this machine with others."""
PATIENT = {"boot": "10m", "connect": "5m", "upload": "5m", "collect": "5m", "teardown": "2m"}
"""The hypervisors of the lab are none that an emulated machine's deadlines would be scaled for, and are in one."""

pytestmark = [
    pytest.mark.timeout(7200),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may make network namespaces"),
]


@pytest.fixture(scope="module")
def images() -> None:
    """Namespaces reach no mirror: what their guests boot has to be there already."""
    for arch in {*ARCHS, *NATIVE}:
        subprocess.run([BIN / "farm", "images", "build", f"debian-13/{arch}"], check=True, timeout=_RUN_S)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, images: None) -> Iterator[Cluster]:
    """A head, and three hosts that emulate. The last three tests take them away, one after the other."""
    tmp_path = tmp_path_factory.mktemp("cluster")
    (tmp_path / "farm.toml").write_text(
        "".join(
            f'[[hosts]]\nname = "{name}"\nvcpus = 1\nmemory = "1G"\nlabels = {{rack = "{name}"}}\n' for name in "abc"
        )
    )
    with network() as net, cluster(tmp_path, net) as made:
        for name in "abc":  # one after the other: Ray gives each of them 30 s, however busy this machine is
            made.start(name, "--config", str(tmp_path / "farm.toml"))
            made.wait_for(name)
        yield made


def test_a_host_that_is_short_of_memory_gets_nothing_new_and_says_why(three: Cluster) -> None:
    short = three.start("short", variables={"FARM_KEEP_MEMORY": "999G"})
    three.wait_for("a", "b", "c")
    listed = eventually(
        lambda: _with(three.ask("host", "list"), "takes nothing new"),
        within_s=120,
        what=lambda: f"short is seen; the list is: {three.ask('host', 'list')}",
    )
    assert "short" in listed
    assert "takes nothing new with fewer than 1022976" in " ".join(listed.split())
    axes = {"image": ["debian-13"], "arch": ["amd64"], "hypervisor": ["qemu"], "n": [1, 2, 3]}
    assert three.run({"axes": axes, "test": "true"}).wait(_RUN_S) == 0, three.said()
    hosts = {attempt["guest"]["host"] for cell in three.report().values() for attempt in cell["attempts"]}
    assert hosts <= {"a", "b", "c"}
    short.end()
    del three.nodes["short"]


def test_a_drained_host_ends_what_it_has_and_gets_nothing_new(three: Cluster) -> None:
    three.wait_for("a", "b", "c")
    axes = {"image": ["debian-13"], "arch": ["amd64"], "hypervisor": ["qemu"], "n": [1, 2, 3, 4]}
    run = three.run({"axes": axes, "test": "sleep 45\n"})
    _until_a_guest_is_on(three, "a", run, within_s=_RUN_S)
    said = three.ask("host", "drain", "a", "--reason", "a new disk")
    assert "a gets nothing new; 1 guests go on to their end" in said
    assert "drained: a new disk" in three.ask("host", "list")
    assert run.wait(_RUN_S) == 0, three.said()
    hosts = [attempt["guest"]["host"] for cell in three.report().values() for attempt in cell["attempts"]]
    assert len(hosts) == 4, "nothing was tried twice"
    assert hosts.count("a") == 1
    three.ask("host", "resume", "a")
    assert "a new disk" not in three.ask("host", "list")


def test_a_host_is_killed_and_its_cells_finish_elsewhere(three: Cluster) -> None:
    listed = three.wait_for("a", "b", "c")
    assert "rack=b" in listed
    assert listed.count("1 vCPUs, 1024 MiB") == 3

    matrix = {
        "axes": {"image": ["debian-13"], "arch": list(ARCHS), "hypervisor": ["qemu"]},
        "retries": {"infra": 2},
        "test": "sleep 20\ncat hello.txt\n",
    }
    run = three.run(matrix)
    _until_a_guest_is_on(three, "b", run, within_s=_RUN_S)
    three.cut("b")

    status = run.wait(_RUN_S)
    assert status == 0, three.said()
    cells = three.report()
    assert {cell["outcome"]["verdict"] for cell in cells.values()} == {"passed"}
    again = [cell for cell in cells.values() if len(cell["attempts"]) > 1]
    assert again
    for cell in again:
        first, last = cell["attempts"][0], cell["attempts"][-1]
        assert first["outcome"]["blame"] == "infra"
        assert last["guest"]["host"] in {"a", "c"}
    assert "b" not in {line.split()[0] for line in three.wait_for("a", "c").splitlines()}


def test_a_node_leaves_nothing_behind_when_it_is_told_to_end(three: Cluster) -> None:
    three.wait_for("a", "c")
    axes = {"image": ["debian-13"], "arch": ["amd64"], "hypervisor": ["qemu"], "n": [1, 2]}
    run = three.run({"axes": axes, "retries": {"infra": 2}, "test": "sleep 30\n"})
    _until_a_guest_is_on(three, "c", run, within_s=_RUN_S)
    node = three.nodes["c"]
    node.end()
    assert node.process.returncode == 0, node.log.read_text()
    _until_nothing_runs_on(node)
    assert {path.name for path in node.runtime.iterdir()} <= {"ledger", "reaper.lock", "reaper.log"}
    assert run.wait(_RUN_S) == 0, three.said()


def test_a_host_ends_when_its_head_is_gone(three: Cluster) -> None:
    node = three.nodes["a"]
    three.head.kill()
    assert node.process.wait(_GONE_S) == 2
    assert "cannot go on as a node: Ray has ended" in node.log.read_text()
    _until_nothing_runs_on(node)


@pytest.fixture
def mixed(tmp_path: Path, images: None) -> Iterator[tuple[Cluster, Lab]]:
    """A head; a host that emulates; gateways of a machine with KVM and LXC, and of one with Xen, given as well."""
    with (
        network() as net,
        lab_host("kvm", address=net.address) as kvm,
        lab_host("xen", address=net.address) as xen,
        cluster(tmp_path, net) as made,
    ):
        cache = tmp_path / "cache"
        cache.mkdir()
        (cache / "images").symlink_to(load_settings().cache / "images")
        prime(xen)
        for arch in NATIVE:
            prime(kvm, ImageSpec(name="debian-13", arch=arch))
        # One host is one hypervisor's URI: LXC is another host than KVM, though on the same machine.
        uris = {"emulates": EMBEDDED, "kvm": kvm.uri("qemu"), "lxc": kvm.uri("lxc"), "xen": xen.uri("xen")}
        (tmp_path / "farm.toml").write_text(
            "".join(
                f'[[hosts]]\nname = "{name}"\nuri = "{uri}"\nvcpus = 1\nmemory = "1G"\n' for name, uri in uris.items()
            )
        )
        for name, uri in uris.items():
            if uri != EMBEDDED:
                know_slowness(name, uri, cache)
            made.start(name, "--config", str(tmp_path / "farm.toml"), variables={"FARM_CACHE": str(cache)})
            made.wait_for(name, within_s=_LAB_S)
        yield made, xen


def test_one_matrix_over_all_hypervisors_and_one_host_of_them_is_killed(mixed: tuple[Cluster, Lab]) -> None:
    made, xen = mixed
    axes = {"image": ["debian-13"], "arch": ["amd64"], "hypervisor": ["qemu", "kvm", "lxc", *XEN]}
    foreign = [{"image": "debian-13", "arch": arch, "hypervisor": "qemu"} for arch in ARCHS[1:]]
    common = {"guest": {"memory": "256M"}, "timeouts": PATIENT}
    matrix = {"axes": axes, "include": foreign, "test": "cat hello.txt\n", **common}
    assert made.run(matrix).wait(_LAB_S) == 0, made.said()
    found = {id_: cell["attempts"][-1]["guest"] for id_, cell in made.report().items()}
    assert {guest["hypervisor"] for guest in found.values()} == set(axes["hypervisor"])
    assert {guest["image"].partition("/")[2] for guest in found.values()} == set(ARCHS)
    own = {"kvm": "kvm", "lxc": "lxc"} | dict.fromkeys(XEN, "xen")
    assert {name: found[f"debian-13/amd64/{name}"]["host"] for name in own} == own

    axes |= {"hypervisor": ["qemu", "xen-pv"]}
    # With a second try, its cell would wait for the host to come back.
    run = made.run({"axes": axes, "retries": {"infra": 0}, "test": "sleep 60\n", **common})
    _until_a_guest_is_on(made, "xen", run, within_s=_LAB_S)
    xen.kill()
    assert run.wait(_LAB_S) == 2, made.said()
    cells = made.report()
    lost = cells["debian-13/amd64/xen-pv"]["outcome"]
    assert (lost["verdict"], lost["blame"]) == ("error", "infra"), lost
    assert lost["summary"]
    assert cells["debian-13/amd64/qemu"]["outcome"]["verdict"] == "passed"


def _until_a_guest_is_on(made: Cluster, name: str, run: subprocess.Popen[bytes], *, within_s: float) -> None:
    """It is one of a run's."""
    eventually(
        lambda: made.guests_on(name),
        within_s=within_s,
        as_long_as=lambda: run.poll() is None,
        what=lambda: f"a guest is on {name}; the commands said: {made.said()}",
    )


def _until_nothing_runs_on(node: Node) -> None:
    eventually(
        lambda: not node.machine.processes(),
        within_s=30,
        what=lambda: f"nothing runs on {node.name}; there is: {node.machine.processes()}",
    )


def _with(said: str, word: str) -> str:
    return said if word in said else ""
