"""The hosts of farm.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.errors import ConfigError
from farm.inventory import HostEntry, entry_of, labels_from
from farm.model import Host
from farm.serverconfig import load_config

FILE = """
[[hosts]]
name = "xen1"
uri = "xen+ssh://root@xen1.lan/system?keyfile=/etc/farm/key"
labels = {rack = "b2", disk = "nvme"}
vcpus = 12
memory = "48G"
bridge = "br0"

[[hosts]]
name = "local"
"""


@pytest.fixture
def listed(tmp_path: Path) -> tuple[HostEntry, ...]:
    (tmp_path / "farm.toml").write_text(FILE)
    return load_config(tmp_path / "farm.toml").hosts


def test_a_host_is_found_by_its_name(listed: tuple[HostEntry, ...]) -> None:
    entry = entry_of(listed, "xen1")
    assert (entry.vcpus, entry.memory) == (12, 48 * 1024)
    assert entry.environment() == {
        "FARM_HOST_URI": "xen+ssh://root@xen1.lan/system?keyfile=/etc/farm/key",
        "FARM_HOST_NAME": "xen1",
        "FARM_HOST_BRIDGE": "br0",
    }


def test_what_is_said_of_a_host_goes_before_what_was_found(listed: tuple[HostEntry, ...]) -> None:
    found = Host(name="machine", uri="xen:///system", vcpus=32, memory_mib=200_000, offers=())
    host = entry_of(listed, "xen1").limited(found)
    assert (host.name, host.vcpus, host.memory_mib, host.labels["rack"]) == ("xen1", 12, 49152, "b2")
    plain = entry_of(listed, "local").limited(found)
    assert (plain.name, plain.vcpus, plain.memory_mib) == ("local", 32, 200_000)


def test_a_name_that_is_not_there_is_told_with_the_nearest(listed: tuple[HostEntry, ...]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'xen1'"):
        entry_of(listed, "xen2")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('[[hosts]]\nname = "a b"', "hosts.0.name"),
        ('[[hosts]]\nname = "a"\n[[hosts]]\nname = "a"', "two of the name 'a'"),
        ('[[hosts]]\nname = "a"\nmemory = "much"', "'much' is not a size"),
        ('[[hosts]]\nname = "a"\nuri = 1', "hosts.0.uri"),
        ('[[hosts]]\nname = "a"\nlabels = {rack = "b 2"}', "hosts.0.labels.rack"),
        ('[[hosts]]\nname = "a"\ncpus = 2', "hosts.0.cpus: unknown key"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, cause: str) -> None:
    (tmp_path / "farm.toml").write_text(text)
    with pytest.raises(ConfigError, match="cannot use the settings") as told:
        load_config(tmp_path / "farm.toml")
    assert cause in told.value.message


def test_labels_are_pairs() -> None:
    assert labels_from(["rack=b2", "url=a=b"]) == {"rack": "b2", "url": "a=b"}
    with pytest.raises(ConfigError, match="'rack'"):
        labels_from(["rack"])
