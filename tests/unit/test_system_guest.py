"""What a guest behind a libvirtd says of itself when it, its libvirtd or its host is gone; its machine is pretended."""

from __future__ import annotations

import errno
import re
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt
import pytest

from farm.config import load_settings
from farm.errors import FullError, HostError, HypervisorError, UntrustedError
from farm.model import GuestFacts, Start
from runners.hosts.libvirtd import Libvirtd
from runners.hosts.link import LocalLink
from runners.hosts.uri import HostUri
from runners.libvirt import system, system_guest
from runners.libvirt.hypervisors import KVM
from runners.libvirt.system import SystemBackend
from runners.libvirt.system_guest import SystemGuest, SystemParts, cause_in
from tests.orders import make_order
from tests.unit.test_domain_xml import behind
from tests.unit.test_images_disk import make_image

FACTS = GuestFacts(
    host="h",
    hypervisor="kvm",
    hypervisor_version="1",
    emulated=False,
    machine="q35",
    cpu="x",
    image="i",
    image_digest="d",
    vcpus=1,
    memory_mib=64,
)


class Pretended(Libvirtd):
    """libvirt's own driver for tests; or an error, when it is asked to connect."""

    error: HostError | None = None

    def _connected(self) -> libvirt.virConnect:
        if self.error:
            raise self.error
        return libvirt.open("test:///default")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Pretended]:
    opened = Pretended(HostUri("qemu"), LocalLink(), tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def guest(host: Pretended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SystemGuest:
    monkeypatch.setattr(system_guest, "_ASK_S", 0.0)
    spec = behind(KVM)
    unused: Any = None
    parts = SystemParts(host, spec, unused, unused, lambda _keys: b"", lambda: None, tmp_path / "console.log")
    return SystemGuest(parts, FACTS)


@pytest.fixture
def domain(host: Pretended, guest: SystemGuest) -> Iterator[libvirt.virDomain]:
    xml = f"<domain type='test'><name>g</name><uuid>{behind(KVM).uuid}</uuid><memory>65536</memory>"
    made = host.connection.createXML(f"{xml}<os><type>hvm</type></os></domain>", 0)
    yield made
    with suppress(libvirt.libvirtError):  # a test may have done so
        made.destroy()


def test_one_that_is_being_made_is_not_asked_what_it_has_used(
    guest: SystemGuest, host: Pretended, domain: libvirt.virDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Future[libvirt.virDomain] = Future()
    monkeypatch.setattr(guest, "_creating", made)
    assert guest.usage().cpu_s is None
    made.set_result(domain)
    assert guest.usage().cpu_s is not None


def test_one_that_runs_has_no_trouble_and_says_what_it_has_used(guest: SystemGuest, domain: libvirt.virDomain) -> None:
    assert guest.trouble() == ""
    assert guest.usage().cpu_s is not None


def test_one_that_has_ended_says_so_and_what_it_had_used(guest: SystemGuest, domain: libvirt.virDomain) -> None:
    used = guest.usage()
    domain.destroy()
    assert guest.trouble() == "its machine has ended"
    assert guest.usage() == used


def test_one_that_stands_still_cannot_go_on(guest: SystemGuest, domain: libvirt.virDomain) -> None:
    domain.suspend()
    assert guest.trouble() == "its machine stands still"


def test_a_libvirtd_that_is_away_is_no_trouble(
    guest: SystemGuest, host: Pretended, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.close()
    monkeypatch.setattr(host, "error", HypervisorError("no libvirtd runs there"))
    assert guest.trouble() == ""


def test_a_host_that_is_gone_is_its_host_s_trouble(
    guest: SystemGuest, host: Pretended, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.close()
    monkeypatch.setattr(host, "error", HostError("cannot reach root@h"))
    with pytest.raises(HostError, match="cannot reach root@h"):
        guest.trouble()


def test_a_console_that_says_too_much_is_not_listened_to(guest: SystemGuest, tmp_path: Path) -> None:
    with (tmp_path / "console.log").open("wb") as file:
        file.truncate(system_guest._CONSOLE_LIMIT_BYTES + 1)
    with pytest.raises(UntrustedError, match="64 MiB"):
        guest.trouble()


def test_a_console_that_cannot_be_kept_is_trouble_of_this_machine(
    guest: SystemGuest, domain: libvirt.virDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest._pump, "_error", OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(FullError, match="No space left on device"):
        guest.trouble()


KEY, KNOWN = Path("/etc/the farm/k%y"), Path("/etc/the farm/known")


@pytest.fixture
def far(tmp_path: Path) -> SystemGuest:
    """A guest on another machine; its address is known, and there is a blank in every path."""
    uri = HostUri("qemu", host="dom0", port=2222, user="me", keyfile=KEY, known_hosts=KNOWN)
    host = Pretended(uri, LocalLink(), tmp_path)
    unused: Any = None
    folder = tmp_path / "a guest"
    folder.mkdir()
    parts = SystemParts(host, behind(KVM), unused, unused, lambda _keys: b"", lambda: None, folder / "console.log")
    guest = SystemGuest(parts, FACTS)
    guest._address = "10.1.2.3"
    return guest


def proxy(command: str) -> list[str]:
    """What ssh's ProxyCommand comes to, by its own rules for `%` and a shell's for words."""
    (line,) = [word for word in shlex.split(command) if word.startswith("ProxyCommand=")]
    tokens = {"%h": "10.1.2.3", "%p": "22", "%%": "%"}
    return shlex.split(re.sub("%.", lambda found: tokens[found[0]], line.removeprefix("ProxyCommand=")))


def test_the_command_for_a_person_keeps_paths_with_blanks_whole(far: SystemGuest, tmp_path: Path) -> None:
    command = far.access()
    folder = tmp_path / "a guest"
    assert shlex.split(command)[:7] == [
        *("ssh", "-i", str(folder / "id_ed25519")),
        *("-o", "IdentitiesOnly=yes", "-o", f'UserKnownHostsFile="{folder / "known_hosts"}"'),
    ]
    assert shlex.split(command)[-1] == "root@10.1.2.3"
    through = [
        "ssh",
        "-i",
        str(KEY),
        "-o",
        f'UserKnownHostsFile="{KNOWN}"',
        "-p",
        "2222",
        "-W",
        "10.1.2.3:22",
        "me@dom0",
    ]
    assert proxy(command) == through
    assert proxy(far.invitation()) == through


def test_ssh_itself_understands_both_commands(far: SystemGuest) -> None:
    for command in (far.access(), far.invitation()):
        said = subprocess.run(
            ["ssh", "-G", *shlex.split(command)[1:]], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert {"user root", "hostname 10.1.2.3"} <= set(said)
        assert any(line.startswith("proxycommand ssh -i '/etc/the farm/k%%y'") for line in said)


LIBXL = b"""\
2026-11-27 10:34:52.121+0000: xc: panic: xg_dom_boot.c:119: can't allocate low memory: Out of memory
2026-11-27 10:34:52.131+0000: libxl: libxl_dom.c:581:build_dom: xc_dom_boot_mem_init failed: Cannot allocate memory
2026-11-27 10:34:52.133+0000: libxl: libxl_create.c:1695:domcreate_rebuild_done: Domain 1:cannot (re-)build domain: -3
"""


def test_the_cause_of_a_refusal_is_found_in_the_log_of_xen_s_driver() -> None:
    assert cause_in(LIBXL) == "xc_dom_boot_mem_init failed: Cannot allocate memory"
    later = b"2026-11-27 10:36:00.000+0000: libxl: libxl_create.c:1:x: Domain 2:cannot\n"
    assert cause_in(LIBXL + later) == "", "that was another domain"
    assert cause_in(b"") == ""


def test_a_report_says_why_it_booted(host: Pretended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "libvirtd", lambda _uri: host)
    unused: Any = None
    backend = SystemBackend(KVM, load_settings({"FARM_HOST_URI": "qemu:///system"}), unused)
    facts = backend._facts(make_order("true\n"), make_image(tmp_path / "image"), behind(KVM))
    assert (facts.start, facts.start_note) == (Start.COLD, "no snapshots behind a libvirtd")
