"""The lab's hosts, each brought up once for all tests that want it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.lab import Lab, lab_host
from tests.lab.priming import prime

_HERE = Path(__file__).parent


_LONGEST_S = 3600
"""Of a test, with the making of the host that it is the first to want."""


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder runs in the lab, where everything takes longer."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)
            item.add_marker(pytest.mark.xdist_group(_wanted(item)))
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(_LONGEST_S))


def _wanted(item: pytest.Item) -> str:
    """The host that a test wants, for `-n 2 --dist loadgroup`: each of the two is brought up by one of them."""
    named = str(getattr(item, "callspec", None) and item.callspec.params.get("hypervisor"))  # type: ignore[attr-defined]
    return "xen" if "xen_host" in getattr(item, "fixturenames", ()) or named.startswith("xen") else "kvm"


@pytest.fixture(scope="session")
def kvm_host() -> Iterator[Lab]:
    """A host with KVM and LXC."""
    with lab_host("kvm") as lab:
        yield lab


@pytest.fixture(scope="session")
def xen_host() -> Iterator[Lab]:
    """A dom0 of Xen."""
    with lab_host("xen") as lab:
        yield lab


@pytest.fixture(scope="session")
def primed() -> Callable[[Lab], None]:
    """Puts the image of these tests into a host's pool, once."""
    done: list[int] = []

    def once(lab: Lab) -> None:
        if lab.port not in done:
            prime(lab)
            done.append(lab.port)

    return once
