"""What the lab's hosts are made of: one image for all of them, by the farm's own builder."""

from __future__ import annotations

from pathlib import Path

from farm.model import ImageSpec, LayerSpec

_HOST = Path(__file__).with_name("host")
_PACKAGES = (
    "linux-image-amd64",  # the farm's usual one, for clouds, can be no dom0
    *("openssh-server", "netcat-openbsd", "nftables", "zstd"),
    *("libvirt-daemon-system", "libvirt-clients", "dnsmasq-base"),
    *("libvirt-daemon-driver-qemu", "libvirt-daemon-driver-lxc", "libvirt-daemon-driver-xen"),
    *("qemu-system-x86", "qemu-utils", "seabios"),
    *("xen-hypervisor-4.20-amd64", "xen-utils-4.20", "qemu-system-xen"),
)


def image_spec() -> ImageSpec:
    """The image; the folder `host` is laid over its file system."""
    files = {f"/{path.relative_to(_HOST)}": path.read_text() for path in sorted(_HOST.rglob("*")) if path.is_file()}
    layer = LayerSpec(name="lab", packages=_PACKAGES, files=files)
    return ImageSpec(name="debian-13-installed", arch="amd64", layers=(layer,))
