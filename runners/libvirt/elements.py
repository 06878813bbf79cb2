"""What the domain of every guest is made of, whoever runs it. Pure; https://libvirt.org/formatdomain.html."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

FARM_NS = "urn:validation-farm:guest:1"

ET.register_namespace("farm", FARM_NS)


@dataclass(frozen=True)
class Disk:
    """A disk; the guest knows it by its serial number where it has one, else by its place."""

    serial: str
    path: Path
    format: str
    """`qcow2` or `raw`."""
    read_only: bool = False


@dataclass(frozen=True)
class Kernel:
    """What is booted directly."""

    kernel: Path
    initrd: Path
    cmdline: str
    firmware: Path | None = None
    """What starts it; None: the hypervisor does."""


@dataclass(frozen=True)
class Limits:
    """What a guest may take of its host; None: all it can get."""

    cpu_percent: int | None = None
    """Of one CPU, the emulator's own work included."""
    disk_bytes_per_s: int | None = None
    """Of each disk that it can write to."""
    network_bytes_per_s: int | None = None
    """In each direction."""


NO_LIMITS = Limits()


def begin(domain_type: str, name: str, uuid: str, owner: dict[str, str]) -> ET.Element:
    """A domain with its names; `owner` becomes attributes of its metadata."""
    domain = ET.Element("domain", type=domain_type)
    add(domain, "name", name)
    add(domain, "uuid", uuid)
    add(add(domain, "metadata"), f"{{{FARM_NS}}}guest", **owner)
    return domain


def add_endings(domain: ET.Element) -> None:
    """It ends, rather than restarts, whatever happens in it."""
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        add(domain, event, "destroy")


def add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    """A new last child."""
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def to_text(domain: ET.Element) -> str:
    """The XML of a domain, for libvirt and for people."""
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode")
