"""What a guest behind a libvirtd reads to know who it is. Pure."""

from __future__ import annotations

import uuid

from runners.images import nocloud
from runners.images.spec import Kind
from runners.libvirt.system_xml import SystemSpec
from runners.seed import Keys, guest_seed


def seed_for(kind: Kind, name: str, spec: SystemSpec, keys: Keys) -> bytes:
    """The seed of a guest of an image of this kind, which gets its address by DHCP."""
    if kind == "cloud":
        console = spec.hypervisor.console or spec.machine.console
        return nocloud.cd(keys, name, str(uuid.uuid4()), console, network=nocloud.by_dhcp(spec.mac))
    return guest_seed(keys, name)
