"""Cross builds as far as they are planned: the matrix, the hosts, the order."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from farm import cross
from farm.errors import MatrixError
from farm.matrix import expansion, loads
from farm.matrix.schema import schema
from farm.model import (
    AttemptKey,
    Build,
    Builder,
    CloudSpec,
    Host,
    ImageSpec,
    Matrix,
    Offer,
    Order,
    Phase,
    Placement,
    Plan,
    ResolvedSource,
    Submission,
)
from farm.orders import order_for
from farm.planner import plan
from runners.images.rootfs import register_packages
from runners.images.spec import RELEASES, recipe
from runners.images.unpacked import architectures
from runners.machines import MACHINES

MINIMAL = "name: demo\naxes: {image: [debian-13], arch: [amd64]}\ntest: make check\n"
KEY = AttemptKey(run="x-1", cell="c", number=1)
SOURCE = ResolvedSource(kind="folder", description=".", digest="d" * 64, archive="tree.tar", files=1, bytes=1)

QEMU = tuple(Offer(hypervisor="qemu", arch=arch, emulated=True) for arch in ("s390x", "riscv64", "arm64", "amd64"))
KVM = Offer(hypervisor="kvm", arch="amd64", emulated=False)
KVM_ARM = Offer(hypervisor="kvm", arch="arm64", emulated=False)
DEAD = KVM.model_copy(update={"problem": "a guest did not start"})
FAKE = tuple(Offer(hypervisor="fake", arch=arch, emulated=True, scripted=True) for arch in ("amd64", "riscv64"))


def host(name: str, *offers: Offer) -> Host:
    return Host(name=name, uri="test:///", vcpus=4, memory_mib=8192, offers=offers)


def matrix_of(arch: str = "riscv64", **more: Any) -> Matrix:
    values = {"axes": {"image": ["debian-13"], "arch": [arch]}, "build": {"on": "cross", "script": "make"}}
    return Matrix.model_validate({"name": "x", "test": "x"} | values | more)


def planned(matrix: Matrix, *hosts: Host) -> Plan:
    return plan(matrix, expansion(matrix), hosts)


def placed(matrix: Matrix, *hosts: Host) -> Placement:
    (placement,) = planned(matrix, *hosts).placements
    return placement


def ordered(matrix: Matrix, *hosts: Host, **placement: Any) -> Order:
    made = planned(matrix, *hosts)
    return order_for(Submission(plan=made, source=SOURCE), made.placements[0].model_copy(update=placement), KEY)


# --- the matrix -------------------------------------------------------------------------------------


def test_a_script_and_a_mapping_say_the_same() -> None:
    bare = loads(MINIMAL + "build: make\n", file="m.yaml").matrix
    mapping = loads(MINIMAL + "build: {script: make}\n", file="m.yaml").matrix
    assert bare.building == mapping.building == Build(on="guest", script="make")


@pytest.mark.parametrize("text", ["", "build: ''\n", "build: ' '\n"])
def test_where_there_is_no_script_nothing_is_built(text: str) -> None:
    assert loads(MINIMAL + text, file="m.yaml").matrix.building is None


def test_a_matrix_with_a_cross_build_survives_the_store() -> None:
    matrix = matrix_of(build={"on": "cross", "script": "make", "packages": ["libfoo-dev:target"]})
    assert Matrix.model_validate_json(matrix.model_dump_json()) == matrix


NO_PACKAGE = "the name of a Debian package: small letters, digits, '+', '.' or '-'"

WRONG = {
    "no script": ("build: {on: cross}\n", ["4:8: missing key 'script' in build"]),
    "a blank script": (
        "build:\n  on: cross\n  script: ' '\n",
        ["6:11: build.script: ' ' is not a script: there is nothing in it"],
    ),
    "a script of another type": ("build: {script: 3}\n", ["4:17: build.script: expected text; found 3"]),
    "an unknown place": (
        "build: {on: corss, script: x}\n",
        ["4:13: build.on: expected 'guest' or 'cross'; found 'corss'; did you mean 'cross'?"],
    ),
    "an unknown key": (
        "build: {script: x, pakages: [y]}\n",
        ["4:20: unknown key 'pakages'; did you mean 'packages'?"],
    ),
    "a bad package": (
        "build: {script: x, packages: [gcc, A B]}\n",
        [f"4:36: build.packages[1]: 'A B' is not {NO_PACKAGE}"],
    ),
    "neither text nor mapping": ("build: [make]\n", ["4:8: build: expected text; found a list"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_where_it_stands(case: str) -> None:
    text, expected = WRONG[case]
    with pytest.raises(MatrixError) as caught:
        loads(MINIMAL + text, file="m.yaml")
    assert [str(problem).removeprefix("m.yaml:") for problem in caught.value.problems] == expected


SHAPES: dict[str, tuple[object, bool]] = {
    "a script": ("make", True),
    "a mapping": ({"on": "cross", "script": "make", "packages": ["libfoo-dev:target"]}, True),
    "no script": ({"on": "cross"}, False),
    "a blank script": ({"script": " "}, False),
    "an unknown place": ({"on": "host", "script": "make"}, False),
    "a list": (["make"], False),
}


@pytest.mark.parametrize("case", SHAPES)
def test_the_schema_knows_both_shapes(case: str) -> None:
    build, good = SHAPES[case]
    document = {"name": "x", "axes": {"image": ["a"], "arch": ["b"]}, "test": "x", "build": build}
    assert Draft202012Validator(schema()).is_valid(document) is good
    if good:
        loads(json.dumps(document), file="m.yaml")


# --- where it is built ------------------------------------------------------------------------------

BUILDS: dict[str, tuple[str, tuple[Host, ...], tuple[str, str] | None, tuple[str, ...]]] = {
    "on the CPU that a host has": ("riscv64", (host("a", *QEMU, KVM),), ("kvm", "amd64"), ("a",)),
    "on arm64 where that is the host's": ("riscv64", (host("a", *QEMU, KVM_ARM),), ("kvm", "arm64"), ("a",)),
    "on amd64 where every machine is emulated": ("s390x", (host("a", *QEMU),), ("qemu", "amd64"), ("a",)),
    "not by what cannot be used": ("s390x", (host("a", DEAD, *QEMU),), ("qemu", "amd64"), ("a",)),
    "in its own guest where that is native": ("amd64", (host("a", *QEMU, KVM),), None, ("a",)),
    "in its own guest where its own is the one to build on": ("amd64", (host("a", *QEMU),), None, ("a",)),
    "in its own guest where two are native": ("arm64", (host("a", KVM, KVM_ARM),), None, ("a",)),
    "only on the hosts that can do both": (
        "s390x",
        (host("a", *QEMU), host("b", *QEMU, KVM)),
        ("kvm", "amd64"),
        ("b",),
    ),
}


@pytest.mark.parametrize("case", BUILDS)
def test_a_cell_is_built(case: str) -> None:
    arch, hosts, builder, names = BUILDS[case]
    placement = placed(matrix_of(arch), *hosts)
    found = placement.builder and (placement.builder.hypervisor, placement.builder.arch)
    assert (found, placement.hosts, placement.problem) == (builder, names, "")


def test_a_scripted_cell_is_built_in_a_scripted_guest() -> None:
    axes = {"image": ["debian-13"], "arch": ["riscv64"], "hypervisor": ["fake"]}
    placement = placed(matrix_of(axes=axes), host("a", KVM, *QEMU, *FAKE))
    assert placement.builder == FAKE[0]


def test_a_real_cell_is_not_built_in_a_scripted_guest() -> None:
    placement = placed(matrix_of("s390x"), host("a", QEMU[1], QEMU[0], *FAKE))
    assert placement.builder is None, "s390x itself is the only real machine here that has cross compilers"


@pytest.mark.parametrize("build", ["make", {"on": "guest", "script": "make"}, ""])
def test_without_cross_nothing_is_built_elsewhere(build: object) -> None:
    placement = placed(matrix_of(build=build), host("a", *QEMU, KVM))
    assert placement.builder is None
    order = ordered(matrix_of(build=build), host("a", *QEMU, KVM))
    assert (order.builder, order.build_env, order.image.packages) == (None, {}, ())


PROBLEMS: dict[str, tuple[str, tuple[Offer, ...], str]] = {
    "an architecture without compilers": (
        "m68k",
        (Offer(hypervisor="qemu", arch="m68k", emulated=True), KVM),
        "it cannot be cross built: no cross compiler for m68k is known",
    ),
    "a host without a machine to build on": (
        "riscv64",
        (QEMU[1],),
        "it cannot be cross built: a can run none of amd64, arm64, ppc64el, s390x to build on",
    ),
    "no host at all": ("riscv64", (KVM,), "no host knows the architecture 'riscv64'; known: amd64"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_cell_that_cannot_be_built_fits_nowhere(case: str) -> None:
    arch, offers, problem = PROBLEMS[case]
    placement = placed(matrix_of(arch), host("a", *offers))
    assert (placement.hosts, placement.problem) == ((), problem)


# --- the order --------------------------------------------------------------------------------------

WANTED = {
    "on": "cross",
    "script": "make",
    "packages": ["python3", "libpython3-dev:target"],
}


def test_the_order_of_a_cross_build_has_a_guest_that_builds() -> None:
    order = ordered(matrix_of(build=WANTED, guest={"packages": ["python3"]}), host("a", *QEMU, KVM))
    assert order.image == ImageSpec(name="debian-13", arch="riscv64", packages=("python3",))
    packages = ("g++-riscv64-linux-gnu", "libc6-dev-riscv64-cross", "make", "python3", "libpython3-dev:riscv64")
    image = ImageSpec(name="debian-13", arch="amd64", packages=packages)
    assert order.builder == Builder(image=image, hypervisor="kvm")
    assert order.scripts == {Phase.BUILD: "make", Phase.TEST: "x"}
    assert order.build_env["CC"] == "riscv64-linux-gnu-gcc"
    assert "CC" not in order.env


def test_a_native_cell_of_a_cross_build_builds_by_itself_what_the_others_have_built_for_them() -> None:
    order = ordered(matrix_of("amd64", build=WANTED, guest={"packages": ["less"]}), host("a", *QEMU, KVM))
    assert order.builder is None
    packages = ("less", "g++", "libc6-dev", "make", "python3", "libpython3-dev")
    assert order.image == ImageSpec(name="debian-13", arch="amd64", packages=packages)
    assert (order.build_env["CC"], order.build_env["DEB_BUILD_ARCH"]) == ("x86_64-linux-gnu-gcc", "amd64")


def test_packages_of_a_build_in_the_guest_go_into_its_image() -> None:
    order = ordered(matrix_of(build=WANTED | {"on": "guest"}), host("a", *QEMU, KVM))
    assert (order.builder, order.build_env) == (None, {})
    assert order.image.packages == ("libpython3-dev", "python3")


def test_the_guest_that_builds_is_of_the_same_release_and_of_nothing_on_top() -> None:
    pinned = ImageSpec(name="debian-sid-installed", arch="riscv64", packages=("less",), digest="d" * 64)
    order = ordered(matrix_of(), host("a", *QEMU, KVM), pinned=pinned)
    assert order.image == pinned
    assert order.builder
    assert (order.builder.image.name, order.builder.image.digest) == ("debian-sid", "")
    assert recipe(order.builder.image).release == recipe(pinned).release


def test_an_image_of_others_is_none_to_build_with(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = ImageSpec(name="own", arch="riscv64", cloud=CloudSpec(location="own.qcow2", sha256="0" * 64))
    monkeypatch.setattr("farm.planner.image_for", lambda *_: cloud)
    assert "is no image of Debian's" in placed(matrix_of(), host("a", *QEMU, KVM)).problem


# --- Debian's names ---------------------------------------------------------------------------------


def test_the_environment_is_dpkgs() -> None:
    assert cross.environment(build="amd64", host="riscv64") == {
        "DEB_BUILD_ARCH": "amd64",
        "DEB_BUILD_GNU_CPU": "x86_64",
        "DEB_BUILD_GNU_TYPE": "x86_64-linux-gnu",
        "DEB_BUILD_MULTIARCH": "x86_64-linux-gnu",
        "DEB_HOST_ARCH": "riscv64",
        "DEB_HOST_GNU_CPU": "riscv64",
        "DEB_HOST_GNU_TYPE": "riscv64-linux-gnu",
        "DEB_HOST_MULTIARCH": "riscv64-linux-gnu",
        "CROSS_COMPILE": "riscv64-linux-gnu-",
        "CC": "riscv64-linux-gnu-gcc",
        "CXX": "riscv64-linux-gnu-g++",
        "LD": "riscv64-linux-gnu-ld",
        "AR": "riscv64-linux-gnu-ar",
        "NM": "riscv64-linux-gnu-nm",
        "OBJCOPY": "riscv64-linux-gnu-objcopy",
        "OBJDUMP": "riscv64-linux-gnu-objdump",
        "RANLIB": "riscv64-linux-gnu-ranlib",
        "STRIP": "riscv64-linux-gnu-strip",
        "PKG_CONFIG_LIBDIR": "/usr/lib/riscv64-linux-gnu/pkgconfig:/usr/share/pkgconfig",
    }


def test_a_native_build_has_the_same_variables() -> None:
    assert cross.environment(build="i386", host="i386").keys() == cross.environment(build="amd64", host="i386").keys()


def test_the_libraries_of_i386_are_not_called_by_its_gnu_type() -> None:
    environment = cross.environment(build="amd64", host="i386")
    assert (environment["DEB_HOST_GNU_TYPE"], environment["DEB_HOST_MULTIARCH"]) == ("i686-linux-gnu", "i386-linux-gnu")
    assert environment["PKG_CONFIG_LIBDIR"].startswith("/usr/lib/i386-linux-gnu/")


def test_packages_are_called_as_in_debian() -> None:
    assert cross.packages((), build="arm64", host="amd64")[:2] == ("g++-x86-64-linux-gnu", "libc6-dev-amd64-cross")


def test_every_architecture_of_guests_has_its_compilers() -> None:
    assert MACHINES.keys() <= cross.GNU_TYPES.keys()


def test_the_release_of_an_installed_image_is_found() -> None:
    for name in RELEASES:
        installed = ImageSpec(name=f"{name}-installed", arch="riscv64")
        assert recipe(cross.builder_image(installed, "amd64", ())) == recipe(ImageSpec(name=name, arch="amd64"))


def test_packages_of_another_architecture_make_an_image_of_both() -> None:
    packages = ("gcc", "libfoo-dev:riscv64", "libbar-dev:riscv64", "python3:any", "libc6:amd64")
    assert architectures(ImageSpec(name="debian-13", arch="amd64", packages=packages)) == ("amd64", "riscv64")


def test_a_package_of_another_architecture_is_told_from_the_images_own(tmp_path: Path) -> None:
    archives, dpkg = tmp_path / "var/cache/apt/archives", tmp_path / "var/lib/dpkg"
    dpkg.mkdir(parents=True)
    (dpkg / "arch").write_text("amd64\nriscv64\n")
    for name, arch, version in (("libx", "amd64", "1"), ("libx", "riscv64", "2"), ("x", "all", "3")):
        control = archives / f"{name}_{arch}" / "DEBIAN/control"
        control.parent.mkdir(parents=True)
        control.write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\n"
            "Maintainer: x <x@example.org>\nDescription: x\n"
        )
        subprocess.run(["dpkg-deb", "--build", str(control.parents[1])], capture_output=True, check=True)
    assert register_packages(tmp_path) == {"libx": "1", "libx:riscv64": "2", "x": "3"}
    assert (dpkg / "status").read_text().count("Package: libx\n") == 2
