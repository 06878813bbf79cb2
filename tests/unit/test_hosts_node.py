"""What a host has left, and everything that it needs: asked through a link that is played."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from farm.config import Settings
from farm.errors import HostError
from farm.model import Host, Offer
from runners import probe
from runners.hosts import checkup, node
from runners.hosts.checkup import Checkup, Finding
from runners.hosts.command import CommandError

MEMINFO = "MemTotal: 9000000 kB\nMemAvailable: 4096000 kB\n"
SPACE = "/dev/vda1 1000000 1 {kib} 1% /\n"
REMOTE = "{driver}+ssh://root@h.lan/system"


class Link:
    """Answers commands by their first words."""

    place = "root@h.lan"

    def __init__(self, **answers: str | HostError) -> None:
        self.answers = answers

    def run(self, command: str, **_: object) -> bytes:
        for word, answer in self.answers.items():
            if word in command:
                if isinstance(answer, HostError):
                    raise answer
                return answer.encode()
        raise AssertionError(command)


def settings(tmp_path: Path, driver: str = "qemu", **changes: int) -> Settings:
    uri = REMOTE.format(driver=driver)
    return Settings(cache=tmp_path, state=tmp_path, runtime=tmp_path, uri=uri).model_copy(update=changes)


def play(monkeypatch: pytest.MonkeyPatch, **answers: str | HostError) -> None:
    for module in (node, checkup):
        monkeypatch.setattr(module, "link_to", lambda _uri: Link(**answers))


def test_room_is_what_is_free_in_truth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    play(monkeypatch, meminfo=MEMINFO + SPACE.format(kib=5 * 1024 * 1024))
    room = node.room_of(settings(tmp_path))
    assert (room.memory_mib, room.disk_mib, room.shortage) == (4000, 5120, "")


def test_of_xen_it_is_the_hypervisors_memory_not_that_of_dom0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = "total_memory : 8191\nfree_memory            : 3072\n" + SPACE.format(kib=5 * 1024 * 1024)
    play(monkeypatch, xl=said)
    assert node.room_of(settings(tmp_path, "xen")).memory_mib == 3072


def test_a_host_that_is_short_says_of_what(tmp_path: Path) -> None:
    short = node.judged(100, 200, settings(tmp_path, keep_memory=512, keep_disk=2048))
    assert short.shortage == (
        "it has 100 MiB of memory left, and takes nothing new with fewer than 512; "
        "it has 200 MiB of disk left, and takes nothing new with fewer than 2048"
    )
    assert node.judged(512, 2048, settings(tmp_path)).shortage == ""


def test_a_host_that_cannot_be_asked_is_short_for_that_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    play(monkeypatch, meminfo=HostError("cannot reach root@h.lan by SSH: connection refused"))
    host = node.with_room(Host(name="h", uri="", vcpus=1, memory_mib=1, offers=()), settings(tmp_path))
    assert host.shortage == "cannot reach root@h.lan by SSH: connection refused"


def findings(settings: Settings) -> dict[str, Finding]:
    return {found.what: found for found in Checkup(settings).findings()}


def test_nothing_is_asked_of_a_host_that_is_not_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    play(monkeypatch, uname=HostError("cannot reach it", hint="is it up?"))
    assert list(Checkup(settings(tmp_path)).findings()) == [Finding("reach", False, "cannot reach it", "is it up?")]


def test_each_check_says_what_is_wrong_and_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Libvirtd:
        version = "10.0.2"

        @property
        def connection(self) -> object:
            raise HostError("no libvirtd runs there", hint="install it")

    monkeypatch.setattr(checkup, "libvirtd", lambda _uri: Libvirtd())
    play(
        monkeypatch,
        uname="Linux 6.12\nroot\n",
        date=f"{time.time() - 3600:.3f}",
        meminfo=MEMINFO + SPACE.format(kib=1024),
        command="/usr/bin/tar\n/usr/bin/sha256sum\n/usr/bin/df\n/usr/bin/flock\n/usr/bin/qemu-img\n",
    )
    found = findings(settings(tmp_path))
    assert list(found) == ["reach", "time", "room", "programs", "libvirt"]
    assert found["reach"].good
    assert "3600 s off" in found["time"].said
    assert "it has 1 MiB of disk left" in found["room"].said
    assert found["programs"].said == "there is no nft, dnsmasq"
    assert found["programs"].todo == "apt-get install dnsmasq-base nftables"
    assert found["libvirt"] == Finding("libvirt", False, "no libvirtd runs there", "install it")


def test_a_host_that_lacks_nothing_says_what_runs_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Connection:
        def getInfo(self) -> list[object]:  # noqa: N802 - libvirt's
            return ["x86_64", 64000, 32, 0, 0, 0, 0, 0]

        def getLibVersion(self) -> int:  # noqa: N802
            return 11_003_000

        def getType(self) -> str:  # noqa: N802
            return "QEMU"

    class Libvirtd:
        version = "10.0.2"
        connection = Connection()

    kvm = Offer(hypervisor="kvm", arch="amd64", emulated=False, problem="no guest comes up in it")
    qemu = Offer(hypervisor="qemu", arch="s390x", emulated=True, version="10.0.2")
    host = Host(name="h", uri="", vcpus=1, memory_mib=1, offers=(kvm, qemu), probed=False)
    monkeypatch.setattr(probe, "probe_host", lambda _settings: host)
    monkeypatch.setattr(checkup, "libvirtd", lambda _uri: Libvirtd())
    play(
        monkeypatch,
        uname="Linux 6.12\nroot\n",
        date=f"{time.time():.3f}",
        meminfo=MEMINFO + SPACE.format(kib=9000000),
        command="\n".join(f"/usr/bin/{name}" for name in checkup._PROGRAMS),
        nft="",
        ip_forward="1",
    )
    found = findings(settings(tmp_path))
    assert [what for what, one in found.items() if not one.good] == ["kvm"]
    assert found["libvirt"].said == "libvirt 11.3.0, QEMU 10.0.2, 32 CPUs (x86_64), 64000 MiB"
    assert found["kvm"].said == "no guest comes up in it"
    assert found["qemu"] == Finding("qemu", True, "qemu 10.0.2 emulates s390x", runs=True)


def test_rules_that_cannot_be_set_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refused = CommandError("cannot run a command", status=1, said="Operation not permitted")
    play(monkeypatch, nft=refused)
    with pytest.raises(HostError, match="nftables cannot be used there: Operation not permitted"):
        Checkup(settings(tmp_path))._network()
