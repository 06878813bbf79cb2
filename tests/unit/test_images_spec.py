from dataclasses import replace

import pytest

from farm.errors import ConfigError, FarmError
from farm.model import ImageSpec
from runners.images import key
from runners.images import spec as spec_module
from runners.images.spec import KERNELS, RELEASES, boot_packages
from runners.machines import MACHINES, machine_for

SPEC = ImageSpec(name="debian-13", arch="riscv64", packages=("make", "gcc"))


def test_packages_are_kept_sorted_and_once() -> None:
    spec = ImageSpec(name="debian-13", arch="riscv64", packages=("make", "gcc", "make"))
    assert spec.packages == ("gcc", "make")
    assert spec == SPEC


@pytest.mark.parametrize(
    "other",
    [
        SPEC.model_copy(update={"name": "debian-sid"}),
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
        ("debian-13", "vax", "'vax'", f"known: {', '.join(MACHINES)}"),
        ("debian-12", "riscv64", "bookworm is not made for riscv64", "riscv64 is in debian-13, debian-sid"),
        ("debian-11", "s390x", "bullseye is not made for s390x", "is made for amd64, i386, arm64, armhf"),
        ("debian-13-installed", "loong64", "trixie is not made for loong64", "loong64 is in debian-sid"),
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
    assert f"virtio_{machine.transport.removesuffix('e')}" in machine.modules


@pytest.mark.parametrize("arch", MACHINES)
def test_every_architecture_is_in_some_release(arch: str) -> None:
    assert [release for release, kernels in KERNELS.items() if arch in kernels]


def test_every_release_has_kernels_of_known_architectures() -> None:
    assert set(KERNELS) == set(RELEASES.values())
    for kernels in KERNELS.values():
        assert kernels.keys() <= MACHINES.keys()
        assert {kernel.partition(":")[2] for kernel in kernels.values()} - {""} <= kernels.keys()


@pytest.mark.parametrize(
    ("name", "arch", "packages"),
    [
        ("debian-13", "riscv64", ("linux-image-riscv64",)),
        ("debian-12", "i386", ("linux-image-686-pae",)),
        ("debian-13-installed", "i386", ("linux-image-cloud-amd64:amd64",)),
        ("debian-sid", "loong64", ("linux-image-loong64", "qemu-efi-loongarch64")),
    ],
)
def test_what_a_guest_boots_with_depends_on_release_and_architecture(
    name: str, arch: str, packages: tuple[str, ...]
) -> None:
    assert boot_packages(ImageSpec(name=name, arch=arch)) == packages


def test_a_kernel_among_the_packages_takes_the_place_of_the_usual_one() -> None:
    asked = ImageSpec(name="debian-13", arch="amd64", packages=("linux-image-rt-amd64", "make"))
    assert boot_packages(asked) == ("linux-image-rt-amd64",)


def test_another_kernel_makes_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(SPEC, "")
    monkeypatch.setitem(KERNELS["trixie"], "riscv64", "linux-image-other")
    assert key(SPEC, "") != before


@pytest.mark.parametrize(("step_mib", "wanted_mib", "mib"), [(1, 384, 384), (256, 384, 512), (256, 512, 512)])
def test_memory_is_never_less_than_was_asked_for(step_mib: int, wanted_mib: int, mib: int) -> None:
    assert replace(machine_for("amd64"), memory_step_mib=step_mib).memory_mib(wanted_mib) == mib


@pytest.mark.parametrize(("most", "wanted", "vcpus"), [(None, 4, 4), (1, 4, 1), (2, 1, 1)])
def test_there_are_no_more_vcpus_than_a_machine_can_have(most: int | None, wanted: int, vcpus: int) -> None:
    assert replace(machine_for("amd64"), most_vcpus=most).vcpus(wanted) == vcpus


def test_an_unknown_architecture_is_an_error_of_the_farm() -> None:
    with pytest.raises(FarmError, match="not known"):
        machine_for("x86_64")
