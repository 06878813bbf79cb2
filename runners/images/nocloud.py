"""The seed of a cloud image's guest: a CD of cloud-init's data source NoCloud. Pure.

https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html: a file system with the label `cidata`
that holds `meta-data`, `user-data` and `network-config`. They are YAML, of which JSON is a part.
"""

from __future__ import annotations

import io
import json

import pycdlib

from runners.console import READY
from runners.seed import Keys

_LABEL = "cidata"
_CARD = "52:54:00:12:34:56"
"""The address that QEMU gives to the first network card of a machine."""


def cd(keys: Keys, name: str, instance: str, console: str, network: str) -> bytes:
    """The CD for a guest with this host name; `instance` is another for each, `console` a serial device in it.

    `network` is what `user_network` or `by_dhcp` gives.
    """
    files = {
        "meta-data": meta_data(name, instance),
        "network-config": network,
        "user-data": user_data(keys, console),
    }
    image, written = pycdlib.PyCdlib(), io.BytesIO()
    image.new(interchange_level=3, vol_ident=_LABEL, joliet=3, rock_ridge="1.09")
    for number, (title, text) in enumerate(files.items()):
        data = text.encode()
        image.add_fp(io.BytesIO(data), len(data), f"/FILE{number}.;1", rr_name=title, joliet_path=f"/{title}")
    image.write_fp(written)
    image.close()
    return written.getvalue()


def meta_data(name: str, instance: str) -> str:
    """Who the guest is."""
    return json.dumps({"instance-id": instance, "local-hostname": name})


def user_network() -> str:
    """The addresses of QEMU's user network. DHCP would give the same, but a client may wait for IPv6 as well."""
    subnet: dict[str, object] = {
        "type": "static",
        "address": "10.0.2.15/24",
        "gateway": "10.0.2.2",
        "dns_nameservers": ["10.0.2.3"],
    }
    return _card(_CARD, subnet)


def by_dhcp(mac: str) -> str:
    """An address from the network, for the card that has this one."""
    return _card(mac, {"type": "dhcp4"})


def _card(mac: str, subnet: dict[str, object]) -> str:
    card = {"type": "physical", "name": "eth0", "mac_address": mac, "subnets": [subnet]}
    return json.dumps({"version": 1, "config": [card]})


def user_data(keys: Keys, console: str) -> str:
    """What is to be done in it. The last command runs after everything else, the SSH server included."""
    config = {
        "disable_root": False,
        "ssh_pwauth": False,
        "ssh_authorized_keys": [keys.client.public],
        "ssh_keys": {"ed25519_private": keys.server.openssh, "ed25519_public": keys.server.public},
        "preserve_hostname": False,
        "manage_etc_hosts": "localhost",
        "growpart": {"mode": "auto", "devices": ["/"]},
        "resize_rootfs": True,
        "package_update": False,
        "package_upgrade": False,
        "runcmd": [f"echo '{READY.decode()}' > /dev/{console}"],
    }
    return f"#cloud-config\n{json.dumps(config, indent=1)}\n"
