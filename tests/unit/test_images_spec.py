import pytest

from farm.errors import ConfigError, FarmError
from farm.model import ImageSpec
from runners.images import key
from runners.images import spec as spec_module
from runners.machines import MACHINES, machine_for

SPEC = ImageSpec(name="debian-13", arch="riscv64", packages=("make", "gcc"))


def test_packages_are_kept_sorted_and_once() -> None:
    spec = ImageSpec(name="debian-13", arch="riscv64", packages=("make", "gcc", "make"))
    assert spec.packages == ("gcc", "make")
    assert spec == SPEC


@pytest.mark.parametrize(
    "other",
    [
        SPEC.model_copy(update={"name": "debian-12"}),
        SPEC.model_copy(update={"arch": "s390x"}),
        SPEC.model_copy(update={"packages": ("gcc",)}),
    ],
    ids=["name", "arch", "packages"],
)
def test_whatever_differs_in_a_spec_makes_another_key(other: ImageSpec) -> None:
    assert key(other, "") != key(SPEC, "")


def test_the_mirror_and_the_version_of_the_builder_make_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(SPEC, "")
    assert key(SPEC, "") == before
    assert key(SPEC, "http://mirror.example/debian") != before
    monkeypatch.setattr(spec_module, "BUILDER_VERSION", spec_module.BUILDER_VERSION + 1)
    assert key(SPEC, "") != before


def test_a_change_of_the_guests_own_programs_makes_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(SPEC, "")
    read = spec_module.guest_file
    monkeypatch.setattr(spec_module, "guest_file", lambda name: read(name) + ("#" if name == "shell" else ""))
    assert key(SPEC, "") != before


@pytest.mark.parametrize(
    ("name", "arch", "cause", "nearest"),
    [
        ("debian-14", "amd64", "'debian-14'", "debian-1"),
        ("debain-13", "amd64", "'debain-13'", "debian-13"),
        ("windows", "amd64", "'windows'", "known: debian-11, debian-12, debian-13, debian-sid"),
        ("debian-13", "riscv46", "'riscv46'", "riscv64"),
        ("debian-13", "vax", "'vax'", "known: amd64, riscv64, s390x"),
    ],
)
def test_an_unknown_word_is_named_and_the_nearest_known_ones_with_it(
    name: str, arch: str, cause: str, nearest: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        key(ImageSpec(name=name, arch=arch), "")
    assert cause in caught.value.message
    assert nearest in caught.value.hint


@pytest.mark.parametrize("arch", MACHINES)
def test_every_machine_has_the_modules_of_its_transport(arch: str) -> None:
    machine = machine_for(arch)
    assert machine.arch == arch
    assert f"virtio_{machine.transport}" in machine.modules


def test_an_unknown_architecture_is_an_error_of_the_farm() -> None:
    with pytest.raises(FarmError, match="not known"):
        machine_for("x86_64")
