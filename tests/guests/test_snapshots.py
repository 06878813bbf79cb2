"""Boot once, restore many: what a clone is, and what becomes of snapshots that are not as they should be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from paramiko.kex_curve25519 import KexCurve25519
from paramiko.message import Message

from farm.config import Settings, load_settings
from farm.model import GuestSpec, ImageSpec, Order, Start
from runners.deadline import Deadline
from runners.guest import Shell, Work, wait_for
from runners.libvirt import monitor, template
from runners.libvirt.backend import LibvirtBackend
from runners.libvirt.guest import LibvirtGuest
from runners.libvirt.hypervisors import QEMU
from runners.libvirt.pool import pool
from tests.contract.test_guests import machines_left
from tests.orders import make_order
from tests.unit.test_images_process import finish
from tests.waiting import eventually

pytestmark = pytest.mark.guest

ORDER = make_order("true", hypervisor="qemu", guest=GuestSpec(memory=256))
WITH_OPENSSL = ORDER.model_copy(update={"image": ImageSpec(name="debian-13", arch="amd64", packages=("openssl",))})


def soon() -> Deadline:
    return Deadline.after(600, "do this")


@pytest.fixture
def cache(tmp_path: Path) -> Settings:
    """The images of this machine, and no snapshots."""
    settings = load_settings()
    for name in ("images", "libvirt"):
        (settings.cache / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(settings.cache / name)
    return settings.model_copy(update={"cache": tmp_path})


@pytest.fixture
def backend(cache: Settings) -> Iterator[LibvirtBackend]:
    yield LibvirtBackend(QEMU, cache)
    eventually(
        lambda: machines_left() == [],
        within_s=5,
        what=lambda: f"what was killed has ended; there is: {machines_left()}",
    )


@contextmanager
def running(backend: LibvirtBackend, order: Order = ORDER) -> Iterator[tuple[LibvirtGuest, Shell]]:
    """A guest that is up, and a shell in it."""
    guest = wait_for(backend.create(order, soon()))
    try:
        wait_for(guest.boot(soon()))
        shell = wait_for(guest.connect(soon()))
        yield guest, shell
        shell.close()
    finally:
        guest.destroy()


def said(shell: Shell, command: str) -> str:
    output, status = finish(shell.execute(command, deadline=soon()))
    assert status == 0, output
    return output.decode()


IDENTITY = """
head -c 32 /dev/urandom | od -An -tx1
perl -e 'printf "%.17f\\n", rand'
cat /proc/sys/kernel/random/uuid /etc/machine-id /proc/sys/kernel/random/boot_id
dropbearkey -y -f /etc/dropbear/dropbear_ed25519_host_key | grep ^ssh
cat /root/.ssh/authorized_keys
"""


class Hello(NamedTuple):
    """What a server chose at random for a connection, before the client's own choices had any part in it."""

    cookie: bytes
    """RFC 4253, 7.1."""
    ephemeral_key: bytes
    """RFC 5656, 4."""


@pytest.fixture
def hellos(monkeypatch: pytest.MonkeyPatch) -> list[Hello]:
    """What the servers of all connections chose."""
    heard: list[Hello] = []
    parse: Callable[[KexCurve25519, Message], None] = KexCurve25519._parse_kexecdh_reply

    def listen(kex: Any, message: Message) -> None:
        reply = Message(message.asbytes())
        reply.get_string()  # the host key
        heard.append(Hello(kex.transport.remote_kex_init[1:17], reply.get_string()))
        parse(kex, message)

    monkeypatch.setattr(KexCurve25519, "_parse_kexecdh_reply", listen)
    return heard


@pytest.mark.timeout(900)  # the image of another architecture may have to be built
@pytest.mark.parametrize("arch", ["amd64", "ppc64el"])  # whose kernels number their calls differently
def test_clones_differ_in_all_that_has_to_be_their_own(backend: LibvirtBackend, hellos: list[Hello], arch: str) -> None:
    image = ImageSpec(name="debian-13", arch=arch)
    order = make_order("true", hypervisor="qemu", arch=arch, image=image, guest=GuestSpec(memory=256))
    with running(backend, order) as (one, first), running(backend, order) as (two, second):
        assert (one.facts.start, two.facts.start) == (Start.RESTORED, Start.RESTORED)
        assert one.facts.start_note == "shared"
        of_one, of_two = said(first, IDENTITY).split("\n"), said(second, IDENTITY).split("\n")
        assert len(of_one) == len(of_two)
        same = [line for line, other in zip(of_one, of_two, strict=True) if line and line == other]
        assert same == []
        of_the_first, of_the_second = hellos
        assert of_the_first.cookie != of_the_second.cookie
        assert of_the_first.ephemeral_key != of_the_second.ephemeral_key
        for shell in (first, second):
            assert said(shell, "hostname; cat /etc/hostname") == f"debian-13-{arch}\ndebian-13-{arch}\n"
            assert abs(int(said(shell, "date +%s")) - time.time()) < 60
        said(first, "echo mine > /root/mine && sync")
        assert said(second, "ls /root") == ""


VERIFY = """
cd /tmp
cat > key-and-certificate
openssl verify -CAfile key-and-certificate key-and-certificate 2>&1 || true
"""


def test_a_clone_of_an_old_snapshot_knows_the_time_and_so_checks_certificates(
    backend: LibvirtBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Callable[..., Any] = LibvirtBackend._domain
    monkeypatch.setattr(LibvirtBackend, "_domain", lambda *args: replace(made(*args), clock_offset_s=-10 * 86400))
    with running(backend, WITH_OPENSSL) as (guest, shell):
        assert guest.facts.start is Start.RESTORED
        certificate = new_certificate()
        assert verified(shell, certificate).strip().endswith("OK")
    cold = backend.cold(WITH_OPENSSL, guest._parts.image)
    try:  # the clock that the snapshot was made with: a guest that believes it does not accept the certificate
        wait_for(cold.boot(soon()))
        assert "not yet valid" in verified(wait_for(cold.connect(soon())), certificate)
    finally:
        cold.destroy()


def new_certificate() -> bytes:
    """One that is valid from now on, signed by itself."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=farm -keyout -"
    return subprocess.run(command.split(), capture_output=True, check=True).stdout


def verified(shell: Shell, certificate: bytes) -> str:
    command = f"cat > /tmp/c <<'EOF'\n{certificate.decode()}EOF\nopenssl verify -CAfile /tmp/c /tmp/c 2>&1 || true"
    return said(shell, command)


def test_one_template_for_all_who_ask_at_a_time(backend: LibvirtBackend) -> None:
    first, second = backend.create(ORDER, soon()), backend.create(ORDER, soon())
    until(first, b"booting a guest to be kept")
    assert b"waiting for another process that makes debian-13-amd64-" in until(second, b"waiting")
    one, _ = ended(first)
    two, said_second = ended(second)
    assert one.facts.start is two.facts.start is Start.RESTORED
    assert b"booting a guest" not in said_second
    assert one._parts.snapshot == two._parts.snapshot
    one.destroy()
    two.destroy()


def until(work: Work[Any], text: bytes) -> bytes:
    """Do some work until it says something; gives all that it said."""
    heard = b""
    while text not in heard:
        heard += next(work).data
    return heard


def ended(work: Work[LibvirtGuest]) -> tuple[LibvirtGuest, bytes]:
    heard, guest = finish(work)
    return guest, heard


@pytest.mark.parametrize("file", ["memory", "state", "disk.qcow2", "manifest.json"])
def test_a_truncated_snapshot_is_not_used_but_made_anew(backend: LibvirtBackend, file: str) -> None:
    with running(backend) as (guest, _):
        folder = guest._snapshot.folder if guest._snapshot else Path()
    os.truncate(folder / file, (folder / file).stat().st_size // 2)
    guest, heard = ended(backend.create(ORDER, soon()))
    assert f"the snapshot's {file} is damaged; it is made anew".encode() in heard
    wait_for(guest.boot(soon()))
    assert guest.facts.start is Start.RESTORED
    guest.destroy()


def test_a_snapshot_that_cannot_be_restored_is_taken_away_and_the_guest_boots(backend: LibvirtBackend) -> None:
    with running(backend) as (guest, _):
        assert guest._snapshot
        state = guest._snapshot.state
    data = bytearray(state.read_bytes())
    data[1000:60000] = os.urandom(59000)
    state.write_bytes(data)
    guest, _ = ended(backend.create(ORDER, soon()))
    heard, _ = finish(guest.boot(soon()))
    assert b"booting instead of restoring: cannot" in heard
    assert guest.facts.start is Start.COLD
    assert "cannot" in guest.facts.start_note
    said(wait_for(guest.connect(soon())), "true")
    guest.destroy()
    with running(backend) as (guest, _):
        assert guest.facts.start is Start.RESTORED


def test_where_one_way_to_save_cannot_be_used_the_other_is(
    backend: LibvirtBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(monitor.CAPABILITIES, "shared", "multifd")  # which QEMU does not do to a file
    guest, heard = ended(backend.create(ORDER, soon()))
    guest.destroy()
    assert b"cannot use the mode shared" in heard
    assert (guest.facts.start, guest.facts.start_note) == (Start.RESTORED, "mapped")


def test_memory_can_also_be_read_from_the_state(backend: LibvirtBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "MODES", ("mapped",))
    with running(backend) as (guest, shell):
        assert (guest.facts.start, guest.facts.start_note) == (Start.RESTORED, "mapped")
        assert guest._snapshot
        assert not (guest._snapshot.folder / "memory").exists()
        said(shell, "true")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that has no room for a guest's memory."""
    if os.geteuid():
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "snapshots"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "small", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("spare_bytes", [template._SPARE_BYTES, -1 << 40], ids=["known before", "while it is used"])
def test_a_full_disk_makes_no_snapshot_and_the_guest_boots(
    backend: LibvirtBackend, small_disk: Path, monkeypatch: pytest.MonkeyPatch, spare_bytes: int
) -> None:
    monkeypatch.setattr(template, "_SPARE_BYTES", spare_bytes)
    with running(backend) as (guest, shell):
        assert guest.facts.start is Start.COLD
        assert "cannot" in guest.facts.start_note
        said(shell, "true")
    assert [path.name for path in small_disk.iterdir() if not path.name.endswith(".lock")] == []


MAKER = """
import sys
from pathlib import Path
from farm.config import load_settings
from runners.deadline import Deadline
from runners.libvirt.backend import qemu
from tests.guests.test_snapshots import ORDER

work = qemu().create(ORDER, Deadline.after(240, "make a guest"))
while True:
    try:
        data = next(work).data
    except StopIteration:
        break
    print(data.decode(errors="replace"), flush=True)
"""


def test_a_killed_save_leaves_nothing_that_is_used(backend: LibvirtBackend, cache: Settings) -> None:
    environment = {**os.environ, "FARM_CACHE": str(cache.cache)}
    maker = subprocess.Popen([sys.executable, "-c", MAKER], stdout=subprocess.PIPE, env=environment, text=True)
    assert maker.stdout
    for line in maker.stdout:
        if "booting a guest to be kept" in line:
            break
    eventually(
        lambda: list(cache.cache.glob("snapshots/.*.partial/memory")),
        within_s=240,
        as_long_as=lambda: maker.poll() is None,
        what="the memory is being saved",
    )
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    with running(backend) as (guest, _):
        assert guest.facts.start is Start.RESTORED
    assert not list(cache.cache.glob("snapshots/.*.partial"))


def test_a_clone_that_stood_ready_is_used_once(backend: LibvirtBackend) -> None:
    order = ORDER.model_copy(update={"guest": GuestSpec(memory=256, min_ready=2)})
    seen = []
    promised: list[str] = []
    ready: list[LibvirtGuest] = []
    for _ in range(3):
        with running(backend, order) as (guest, shell):
            seen.append((guest._parts.spec.uuid, said(shell, "cat /etc/machine-id")))
            pool()._filling.join()  # type: ignore[union-attr]
            (ready,) = [guests for guests in pool()._ready.values() if guests]
            assert len(ready) == 2
            assert all(one.stands_ready for one in ready)
            assert not promised or guest._parts.spec.uuid in promised
            promised = [one._parts.spec.uuid for one in ready]
            assert guest._parts.spec.uuid not in promised
    assert len({machine for _, machine in seen}) == 3
    while ready:
        ready.pop().destroy()
