"""`[[hosts]]` of farm.toml: the hosts that a farm is to have, each a hypervisor and what is to be known of it.

The list starts nothing. `farm host start --name NAME` reads its own entry, so that one file serves all machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field

from farm.errors import ConfigError
from farm.matrix.near import did_you_mean
from farm.model import Host, Model, parse_size

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
"""What Ray takes as the value of a label: letters, digits, `.`, `_`, `-`, 63 of them."""


class HostEntry(Model):
    """A host."""

    name: Word
    """What it is called everywhere, and told from others by."""
    uri: str = "qemu:///embed"
    """Its hypervisor: `qemu:///system`, `xen+ssh://root@xen1/system?keyfile=/etc/farm/key`."""
    labels: dict[Word, Word] = Field(default_factory=dict)
    """For matrices that require them, and for people: `{rack = "b2"}`."""
    vcpus: Annotated[int, Field(ge=1)] | None = None
    """What guests may take together; unset: as many as the hypervisor's machine has."""
    memory: Annotated[int, BeforeValidator(parse_size), Field(ge=128)] | None = None
    """The same in MiB, or `48G`; unset: what the machine has but for 2 GiB."""
    bridge: str = ""
    """The host's own bridge for guests whose network is `bridge`; empty: it has none for them."""

    def environment(self) -> dict[str, str]:
        """What the processes on its node know it by."""
        bridge = {"FARM_HOST_BRIDGE": self.bridge} if self.bridge else {}
        return {"FARM_HOST_URI": self.uri, "FARM_HOST_NAME": self.name} | bridge

    def limited(self, host: Host) -> Host:
        """A host as it was probed, with what is said of it here."""
        told = {"vcpus": self.vcpus, "memory_mib": self.memory}
        limits = {key: value for key, value in told.items() if value is not None}
        return host.model_copy(update={"name": self.name, "labels": self.labels, **limits})


def entry_of(hosts: Iterable[HostEntry], name: str) -> HostEntry:
    """The entry of this name. Raises ConfigError."""
    known = {entry.name: entry for entry in hosts}
    if name not in known:
        near = did_you_mean(name, known) or f"; there are: {', '.join(known) or 'none'}"
        raise ConfigError(f"cannot find the host {name!r} in farm.toml{near}", hint="or say what it is with --uri")
    return known[name]


def labels_from(words: Sequence[str]) -> dict[str, str]:
    """`rack=b2` -> its key and value. Raises ConfigError."""
    pairs = [word.partition("=") for word in words]
    if wrong := [word for word, (key, sign, value) in zip(words, pairs, strict=True) if not (key and sign and value)]:
        raise ConfigError(f"cannot use the label {wrong[0]!r}: it is no pair", hint="write --label rack=b2")
    return {key: value for key, _, value in pairs}
