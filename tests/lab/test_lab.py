"""The lab is what the other tests take it for: each hypervisor answers from afar, and really runs a guest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from farm.errors import HostError
from runners.hosts.libvirtd import libvirtd
from runners.hosts.uri import parse_uri
from tests.lab.lab import Lab, lab_host
from tests.waiting import eventually

_GUEST = """\
set -e
rm -rf /var/tmp/tiny; mkdir -p /var/tmp/tiny/bin; cd /var/tmp/tiny
cp /usr/bin/busybox bin/
cat > init <<'INIT'
#!/bin/busybox sh
echo "tiny: init runs"
/bin/busybox poweroff -f
INIT
chmod +x init
find . | busybox cpio -o -H newc 2>/dev/null > /var/tmp/tiny.cpio
"""
_KVM = """\
timeout 200 qemu-system-x86_64 -accel kvm -cpu host -m 256 -nodefaults -display none -serial stdio -no-reboot \
  -kernel /boot/vmlinuz-* -initrd /var/tmp/tiny.cpio -append console=ttyS0
"""
_XEN = """\
cat > /var/tmp/tiny.cfg <<CFG
name = "tiny"
type = "{type}"
memory = 256
kernel = "$(echo /boot/vmlinuz-*)"
ramdisk = "/var/tmp/tiny.cpio"
extra = "console=hvc0"
tsc_mode = "native"
CFG
timeout 200 xl create -c /var/tmp/tiny.cfg < /dev/null
"""


@pytest.mark.parametrize(("driver", "calls_itself"), [("qemu", "QEMU"), ("lxc", "LXC")])
def test_the_drivers_of_the_kvm_host_answer_from_afar(kvm_host: Lab, driver: str, calls_itself: str) -> None:
    assert libvirtd(parse_uri(kvm_host.uri(driver))).connection.getType() == calls_itself


def test_the_xen_driver_answers_from_afar(xen_host: Lab) -> None:
    asked = libvirtd(parse_uri(xen_host.uri("xen")))
    assert (asked.connection.getType(), asked.version[:4]) == ("Xen", "4.20")


def test_a_guest_runs_on_kvm(kvm_host: Lab) -> None:
    kvm_host.ssh(_GUEST)
    said = kvm_host.ssh(_KVM, seconds=240)
    assert "Hypervisor detected: KVM" in said
    assert "tiny: init runs" in said


@pytest.mark.parametrize(("kind", "calls_itself"), [("pv", "Xen version: 4.20"), ("pvh", "Hypervisor detected: Xen")])
def test_a_guest_runs_on_xen(xen_host: Lab, kind: str, calls_itself: str) -> None:
    xen_host.ssh(_GUEST)
    said = xen_host.ssh(_XEN.format(type=kind), seconds=240)
    assert calls_itself in said
    assert "tiny: init runs" in said


def test_each_host_goes_on_by_itself_and_knows_the_time(kvm_host: Lab) -> None:
    kvm_host.ssh("touch /root/mine")
    with lab_host("kvm") as other:
        assert other.port != kvm_host.port
        assert other.ssh("ls /root") == ""
        there = float(other.ssh("date +%s.%N"))
        here = float(subprocess.run(["date", "+%s.%N"], capture_output=True, text=True, check=True).stdout)
        assert abs(here - there) < 60  # it would be the age of what was saved


def test_a_host_that_was_killed_does_not_answer() -> None:
    with lab_host("kvm") as lab:
        lab.freeze()
        with pytest.raises(HostError, match="no answer within"):
            lab.ssh("true", seconds=3)
        lab.thaw()
        lab.ssh("true")
        lab.kill()
        with pytest.raises(HostError, match="status 255"):
            lab.ssh("true")


def test_nothing_stays_of_a_host_whose_owner_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.lab", "kvm"], stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as owner:
        assert owner.stdout is not None
        way_in = owner.stdout.readline().split()
        known_hosts = Path(next(word for word in way_in if "UserKnownHostsFile" in word).partition("=")[2])
        folder = known_hosts.parent
        assert _machines_of(folder)
        owner.send_signal(signal.SIGKILL)
    eventually(lambda: not folder.exists(), within_s=3000, what=f"{folder} is gone")
    assert not _machines_of(folder)


def _machines_of(folder: Path) -> list[str]:
    found = subprocess.run(["pgrep", "-f", f"qemu-system.*{folder}/"], capture_output=True, text=True, check=False)
    return found.stdout.split()
