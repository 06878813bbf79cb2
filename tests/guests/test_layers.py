"""Layers: what a script leaves in a guest is kept as an image, once; and what becomes of one that does not end well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm.config import Settings, load_settings
from farm.errors import ConfigError
from farm.model import CloudSpec, GuestSpec, ImageSpec, LayerSpec, Order, Start, Timeouts
from runners.deadline import Deadline
from runners.guest import Chunk, Shell, Work, wait_for
from runners.images import Catalogue, Image
from runners.libvirt.backend import LibvirtBackend
from runners.libvirt.configure import Configurer
from runners.libvirt.hypervisors import QEMU
from tests.contract.test_guests import machines_left
from tests.guests.cloud_image import cloud_image, sha256
from tests.orders import make_order
from tests.unit.test_images_process import finish
from tests.waiting import eventually

pytestmark = pytest.mark.guest

GONE_S = 30.0

# A process of its own that puts a layer with a script on the image of the tests, and says all that is said meanwhile.
CONFIGURER = """
import sys
from farm.config import load_settings
from farm.model import Order
from runners.deadline import Deadline
from runners.images import Catalogue
from runners.libvirt.backend import LibvirtBackend
from runners.libvirt.configure import Configurer
from runners.libvirt.hypervisors import QEMU

settings = load_settings()
order = Order.model_validate_json(sys.argv[1])
work = Catalogue(settings.cache / "images", settings.mirror).ensure(
    order.image,
    deadline=Deadline.after(280, "make an image"),
    configure=Configurer(order, LibvirtBackend(QEMU, settings).cold),
)
try:
    while True:
        sys.stdout.buffer.write(next(work).data)
        sys.stdout.buffer.flush()
except StopIteration as end:
    print("digest", end.value.digest)
"""


@pytest.fixture
def token() -> str:
    """Others run the same tests on the same images."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def layer(token: str) -> Callable[..., Order]:
    """Orders of guests whose image has a layer that no other test has."""

    def make(script: str, **files: str) -> Order:
        spec = LayerSpec(
            name=token, files={f"/{path}": text for path, text in files.items()}, script=f"# {token}\n{script}"
        )
        order = make_order("true", hypervisor="qemu", guest=GuestSpec(memory=384, disk=1024))
        return order.model_copy(update={"image": order.image.model_copy(update={"layers": (spec,)})})

    return make


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The images of this machine, and no snapshots."""
    known = load_settings()
    for name in ("images", "libvirt"):
        (known.cache / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(known.cache / name)
    return known.model_copy(update={"cache": tmp_path})


def until_no_machine_is_left() -> None:
    """Wait until there is none; one that was killed may take a moment to end."""
    eventually(
        lambda: machines_left() == [], within_s=GONE_S, what=lambda: f"no machine is left; there is: {machines_left()}"
    )


@pytest.fixture
def catalogue(settings: Settings, token: str) -> Iterator[Catalogue]:
    """The images; what a test has put there goes with it, and it leaves no guest."""
    made = Catalogue(settings.cache / "images", settings.mirror)
    yield made
    until_no_machine_is_left()
    for image in made.list():
        if image.manifest.base and image.manifest.layers == (token,):
            assert made.remove(image)


def soon() -> Deadline:
    return Deadline.after(280, "do this")


def putting_on(catalogue: Catalogue, settings: Settings, order: Order, deadline: Deadline | None = None) -> Work[Image]:
    configure = Configurer(order, LibvirtBackend(QEMU, settings).cold)
    return catalogue.ensure(order.image, deadline=deadline or soon(), configure=configure)


def said(shell: Shell, command: str) -> str:
    output, status = finish(shell.execute(command, deadline=soon()))
    assert status == 0, output
    return output.decode()


def read_on(work: Work[Image], text: bytes) -> Chunk:
    """What is said with this text in it."""
    return next(chunk for chunk in work if text in chunk.data)


def made_by(order: Order, catalogue: Catalogue) -> list[Image]:
    """The image of an order; nor is there half of one."""
    name = catalogue.name(order.image, order.guest.disk_mib)
    images = [image for image in catalogue.list() if image.folder.name == name]
    found = {path.name for path in catalogue.shelf.folder.glob(f"*{name}*") if path.suffix != ".lock"}
    assert found == {image.folder.name for image in images}
    return images


SCRIPT = """\
mkdir -p /srv
greet > /srv/said
cp /root/.ssh/authorized_keys /etc/machine-id /etc/hostname /srv/
echo "$FARM_IMAGE $FARM_ARCH $(id -un) $(pwd)" > /srv/where
echo left > /tmp/left
mkdir -p /work && echo left > /work/left
sleep 1000 &
"""


def test_what_a_script_leaves_is_in_every_guest_and_what_it_was_itself_is_not(
    layer: Callable[..., Order], settings: Settings, catalogue: Catalogue
) -> None:
    order = layer(SCRIPT, **{"usr/local/bin/greet": "#!/bin/sh\ncat /etc/greeting\n", "etc/greeting": "hello\n"})
    backend = LibvirtBackend(QEMU, settings)
    log, guest = finish(backend.create(order, soon()))
    try:
        assert log.count(b"running the script of the layer") == 1
        assert (guest.facts.layers, guest.facts.start) == ((order.image.layers[0].name,), Start.RESTORED)
        wait_for(guest.boot(soon()))
        shell = wait_for(guest.connect(soon()))
        assert said(shell, "cat /srv/said /srv/where") == "hello\ndebian-13 amd64 root /\n"
        assert said(shell, "ls -A /work") == ""
        assert "left" not in said(shell, "ls -A /tmp")
        assert "sleep" not in said(shell, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").replace("sleep 2147483", "")
        for own, then in (("/root/.ssh/authorized_keys", "authorized_keys"), ("/etc/machine-id", "machine-id")):
            assert said(shell, f"cmp -s {own} /srv/{then} || echo other") == "other\n"
        shell.close()
    finally:
        guest.destroy()
    (image,) = made_by(order, catalogue)
    check_disk(image)
    log, again = finish(putting_on(catalogue, settings, order))
    assert (log, again) == (b"", image)


def check_disk(image: Image) -> None:
    """It rests on nothing, is whole, and nobody has a key to it."""
    asked = subprocess.run(
        ["qemu-img", "info", "--output=json", str(image.disk)], capture_output=True, text=True, check=True
    )
    info = json.loads(asked.stdout)
    assert (info["format"], "backing-filename" in info) == (image.manifest.disk_format, False)
    assert info["virtual-size"] == image.manifest.disk_mib * 1024 * 1024
    raw = image.folder.parent / f".{image.folder.name}.raw"
    try:
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(image.disk), str(raw)], check=True)
        checked = subprocess.run(["e2fsck", "-fn", str(raw)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout
        listed = [debugfs(raw, f"ls -p {folder}") for folder in ("/root/.ssh", "/etc/dropbear", "/tmp", "/work")]
        assert "authorized_keys" not in listed[0]
        assert "host_key" not in listed[1]
        assert "left" not in listed[2] + listed[3]
        assert debugfs(raw, "cat /etc/machine-id") == ""
        assert debugfs(raw, "cat /etc/hostname") == "guest\n"
    finally:
        raw.unlink(missing_ok=True)


def debugfs(disk: Path, request: str) -> str:
    return subprocess.run(
        ["debugfs", "-R", request, str(disk)], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_a_script_that_fails_is_an_error_of_the_matrix_with_its_last_lines(
    layer: Callable[..., Order], settings: Settings, catalogue: Catalogue
) -> None:
    order = layer("seq 1 100\necho no such thing >&2\nfalse\necho never\n")
    with pytest.raises(ConfigError) as caught:
        wait_for(putting_on(catalogue, settings, order))
    first, *lines = caught.value.message.splitlines()
    assert first == f"cannot put the layer {order.image.layers[0].name!r} on debian-13/amd64: its script returned 1:"
    assert lines[-2:] == ["100", "no such thing"]
    assert "never" not in lines
    assert len(lines) < 30
    assert made_by(order, catalogue) == []


def test_a_script_that_never_ends_is_ended_and_said_to_be_so(
    layer: Callable[..., Order], settings: Settings, catalogue: Catalogue
) -> None:
    order = layer("echo waiting for ever\nsleep 100000\n")
    wait_for(catalogue.ensure(order.image.model_copy(update={"layers": ()}), deadline=soon()))
    with pytest.raises(ConfigError, match=r"its script did not end within 45 s:\nwaiting for ever$"):
        wait_for(putting_on(catalogue, settings, order, Deadline.after(45, "make the guest")))
    assert made_by(order, catalogue) == []


def test_a_cancel_while_a_script_runs_leaves_nothing(
    layer: Callable[..., Order], settings: Settings, catalogue: Catalogue
) -> None:
    order = layer("echo it runs\nsleep 100000\n")
    work = putting_on(catalogue, settings, order)
    read_on(work, b"it runs")
    assert len(machines_left()) == 1
    with pytest.raises(KeyboardInterrupt):
        work.throw(KeyboardInterrupt())
    assert made_by(order, catalogue) == []
    # `catalogue` looks for what else is left


def start(order: Order) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", CONFIGURER, order.model_dump_json()]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ})


def read_until(process: subprocess.Popen[bytes], text: bytes) -> None:
    assert process.stdout
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"it ended without saying {text!r}")


def test_two_processes_that_want_the_same_layer_run_its_script_once(
    layer: Callable[..., Order], catalogue: Catalogue
) -> None:
    order = layer("echo it runs\nsleep 3\ndate > /etc/when\n")
    first = start(order)
    read_until(first, b"it runs")
    second = start(order)
    one, two = first.communicate()[0], second.communicate()[0]
    assert b"waiting for another process" in two
    assert b"it runs" not in two
    assert one.splitlines()[-1] == two.splitlines()[-1]
    assert one.splitlines()[-1] == f"digest {made_by(order, catalogue)[0].digest}".encode()


def test_a_process_that_was_killed_leaves_no_image_and_does_not_hinder_the_next(
    layer: Callable[..., Order], settings: Settings, catalogue: Catalogue
) -> None:
    order = layer("echo it runs\nsleep 3\n")
    process = start(order)
    read_until(process, b"it runs")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert catalogue.name(order.image, order.guest.disk_mib) not in catalogue.shelf.names()
    until_no_machine_is_left()
    log, image = finish(putting_on(catalogue, settings, order))
    assert b"it runs" in log
    assert made_by(order, catalogue) == [image]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_script_runs_on_an_installed_image_beside_its_systemd(
    layer: Callable[..., Order], settings: Settings, catalogue: Catalogue
) -> None:
    order = layer("systemctl is-system-running --wait || :\ntouch /etc/done\n")
    spec = ImageSpec(name="debian-13-installed", arch="amd64", layers=order.image.layers)
    order = order.model_copy(update={"image": spec})
    _, image = finish(putting_on(catalogue, settings, order, Deadline.after(800, "make an image")))
    assert image.manifest.kind == "installed"
    assert "systemd" in image.manifest.packages
    check_disk(image)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_cloud_image_gets_its_files_and_scripts_in_a_guest(
    layer: Callable[..., Order], settings: Settings, catalogue: Catalogue
) -> None:
    disk = cloud_image()
    order = layer(
        "greet > /srv/said\ncp /etc/ssh/ssh_host_ed25519_key.pub /etc/machine-id /srv/\n",
        **{"usr/local/bin/greet": "#!/bin/sh\necho hello\n"},
    )
    spec = ImageSpec(
        name="mine",
        arch="amd64",
        layers=order.image.layers,
        cloud=CloudSpec(location=str(disk), sha256=sha256(disk)),
    )
    guest_spec = GuestSpec(memory=512, disk=2048)
    timeouts = Timeouts(boot=600, connect=120)
    order = order.model_copy(update={"image": spec, "guest": guest_spec, "timeouts": timeouts})
    patient = Deadline.after(1400, "do this")
    guest = wait_for(LibvirtBackend(QEMU, settings).create(order, patient))
    try:
        wait_for(guest.boot(patient))
        shell = wait_for(guest.connect(patient))
        assert said(shell, "cat /srv/said; stat -c %a /usr/local/bin/greet") == "hello\n755\n"
        for own, then in (("ssh/ssh_host_ed25519_key.pub", "ssh_host_ed25519_key.pub"), ("machine-id", "machine-id")):
            assert said(shell, f"cmp -s /etc/{own} /srv/{then} || echo other") == "other\n"
        assert said(shell, "wc -l < /root/.ssh/authorized_keys").strip() == "1"
        shell.close()
    finally:
        guest.destroy()
    (image,) = made_by(order, catalogue)
    assert image.manifest.kind == "cloud"
    assert "cloud-init" in image.manifest.packages
