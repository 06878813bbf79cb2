"""The kinds of image that are more than unpacked packages, in real guests."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from farm.config import load_settings
from farm.model import CloudSpec, GuestSpec, ImageSpec, Start
from runners.deadline import Deadline
from runners.guest import Shell
from runners.images import Catalogue
from runners.libvirt.backend import LibvirtBackend
from runners.libvirt.guest import LibvirtGuest
from runners.libvirt.hypervisors import QEMU
from tests.guests.cloud_image import cloud_image, sha256
from tests.orders import make_order
from tests.unit.test_images_process import finish

# A guest with a BIOS, a boot loader and cloud-init takes its time, emulated beside others.
pytestmark = [pytest.mark.guest, pytest.mark.timeout(1500)]

INSTALLED = ImageSpec(name="debian-13-installed", arch="amd64")


def deadline(seconds: float = 900) -> Deadline:
    return Deadline.after(seconds, "do it in a test")


def said(shell: Shell, command: str) -> str:
    output, status = finish(shell.execute(command, deadline=deadline(120)))
    text = bytes(output).decode()
    assert status == 0, text
    return text.strip()


def start(guest: LibvirtGuest) -> Shell:
    finish(guest.boot(deadline(600)))
    shell: Shell = finish(guest.connect(deadline(120)))[1]
    return shell


def make_guest(image: ImageSpec, *, cold: bool = False) -> LibvirtGuest:
    backend = LibvirtBackend(QEMU)
    order = make_order("true", hypervisor="qemu", image=image, guest=GuestSpec(memory=512))
    if not cold:
        guest: LibvirtGuest = finish(backend.create(order, deadline()))[1]
        return guest
    settings = load_settings()
    built = finish(Catalogue(settings.cache / "images", settings.mirror).ensure(image, deadline=deadline()))[1]
    return backend.cold(order, built)


@pytest.fixture(scope="module")
def installed() -> Iterator[Shell]:
    guest = make_guest(INSTALLED, cold=True)
    try:
        yield start(guest)
    finally:
        guest.destroy()


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("cat /proc/1/comm", "systemd"),
        ("systemctl is-system-running", "running"),
        ("systemctl list-units --type=timer --state=active --no-legend | wc -l", "0"),
        ("hostname; cat /etc/hostname", "debian-13-installed-amd64\ndebian-13-installed-amd64"),
        ("stat -c %U:%G:%a /etc/shadow /usr/bin/su /usr/lib/dbus-1.0/dbus-daemon-launch-helper",
         "root:shadow:640\nroot:root:4755\nroot:messagebus:4754"),
        ("dpkg --audit; dpkg-query -W -f '${db:Status-Abbrev}\\n' | sort -u", "ii"),
        ("test $(df --output=size -m / | tail -1) -gt 1900; echo $?", "0"),
        ("grep -c . /etc/machine-id; pwd; echo $HOME $SHELL; yes | head -1", "1\n/root\n/root /bin/sh\ny"),
        ("systemd-run -q --wait --pipe echo from a unit", "from a unit"),
        ("cat /sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup)/pids.max", "max"),
        ("ip -4 -o address show eth0 | grep -o 10.0.2.15/24; grep nameserver /etc/resolv.conf",
         "10.0.2.15/24\nnameserver 10.0.2.3"),
    ],
    ids=lambda value: value[:20],
)  # fmt: skip
def test_an_installed_guest_is_a_whole_system(installed: Shell, command: str, answer: str) -> None:
    assert said(installed, command) == answer


def test_commands_see_the_same_environment_as_in_an_unpacked_guest(installed: Shell) -> None:
    guest = make_guest(ImageSpec(name="debian-13", arch="amd64"))
    names = "env | cut -d= -f1 | sort; echo $PATH"
    try:
        assert said(start(guest), names) == said(installed, names)
    finally:
        guest.destroy()


def test_an_installed_guest_is_restored_as_somebody_else() -> None:
    machine_ids, random_bytes = set(), set()
    for _ in range(2):
        guest = make_guest(INSTALLED)
        try:
            shell = start(guest)
            assert guest.facts.start is Start.RESTORED
            assert guest.facts.image_kind == "installed"
            assert said(shell, "systemctl is-system-running") == "running"
            machine_ids.add(said(shell, "cat /etc/machine-id"))
            random_bytes.add(said(shell, "head -c 16 /dev/urandom | od -An -tx1"))
        finally:
            guest.destroy()
    assert len(machine_ids) == 2
    assert len(random_bytes) == 2


def test_a_cloud_image_boots_as_who_its_seed_says() -> None:
    disk = cloud_image()
    guest = make_guest(ImageSpec(name="mine", arch="amd64", cloud=CloudSpec(location=str(disk), sha256=sha256(disk))))
    try:
        shell = start(guest)  # which accepts no host key but the attempt's own
        assert guest.facts.start is Start.COLD
        assert guest.facts.image_kind == "cloud"
        assert said(shell, "hostname") == "mine-amd64"
        assert said(shell, "cloud-init status --wait") == "status: done"
        assert said(shell, "ls /etc/ssh/ssh_host_*_key") == "/etc/ssh/ssh_host_ed25519_key"
        assert int(said(shell, "df --output=size -m / | tail -1")) > 1800
        assert "10.0.2.15/24" in said(shell, "ip -4 -o address show eth0")
    finally:
        guest.destroy()


MATRIX = """\
name: cloud
images:
  mine: {{cloud: "{location}", sha256: {digest}}}
axes:
  image: [mine]
  arch: [amd64]
  hypervisor: [qemu]
timeouts: {{boot: 10m, connect: 2m}}
test: |
  test "$(cat hello)" = "hello from the source"
  test "$(hostname)" = mine-amd64
  cloud-init status --wait
"""


@pytest.fixture
def server() -> Iterator[str]:
    """What serves the test's image on the loopback."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=cloud_image().parent)) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}/{cloud_image().name}"
        serving.shutdown()
        thread.join()


def test_a_matrix_runs_on_a_cloud_image_behind_a_url(tmp_path: Path, server: str) -> None:
    source = tmp_path / "matrix"
    source.mkdir()
    (source / "hello").write_text("hello from the source\n")
    (source / "cloud.yaml").write_text(MATRIX.format(location=server, digest=sha256(cloud_image())))
    (tmp_path / "cache").mkdir()
    shared = load_settings().cache
    for name in ("libvirt", "hosts"):  # what was found out about this machine; the images are to be fetched
        if (shared / name).exists():
            (tmp_path / "cache" / name).symlink_to(shared / name)
    env = {**os.environ, "FARM_CACHE": str(tmp_path / "cache"), "FARM_STATE": str(tmp_path / "state")}
    ended = subprocess.run(
        [Path(sys.executable).with_name("farm"), "run", "cloud.yaml"],
        cwd=source, env=env, capture_output=True, text=True, check=False, timeout=1400,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
