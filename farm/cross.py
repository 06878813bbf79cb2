"""Cross builds: which of Debian's packages the guest that builds needs, and what its script is told. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from farm.model import ImageSpec

BUILDERS = ("amd64", "arm64", "ppc64el", "s390x")
"""The architectures for which Debian has cross compilers; of two that a host runs equally well, the first builds."""

TARGET = ":target"
"""At the end of a package's name: of the architecture that is built for."""

GNU_TYPES = {
    "amd64": "x86_64-linux-gnu",
    "arm64": "aarch64-linux-gnu",
    "armel": "arm-linux-gnueabi",
    "armhf": "arm-linux-gnueabihf",
    "i386": "i686-linux-gnu",
    "loong64": "loongarch64-linux-gnu",
    "mips64el": "mips64el-linux-gnuabi64",
    "ppc64el": "powerpc64le-linux-gnu",
    "riscv64": "riscv64-linux-gnu",
    "s390x": "s390x-linux-gnu",
}
"""What `dpkg-architecture` calls DEB_HOST_GNU_TYPE, by Debian's name."""

_INSTALLED = "-installed"

_MULTIARCH = {"i386": "i386-linux-gnu"}
"""The folder of an architecture's libraries, where it is not called by the GNU type."""

_TOOLS = {
    "CC": "gcc",
    "CXX": "g++",
    "LD": "ld",
    "AR": "ar",
    "NM": "nm",
    "OBJCOPY": "objcopy",
    "OBJDUMP": "objdump",
    "RANLIB": "ranlib",
    "STRIP": "strip",
}
"""The variables that make, configure and CMake read, as dpkg's `buildtools.mk` sets them."""


def builder_image(image: ImageSpec, arch: str, wanted: Iterable[str]) -> ImageSpec:
    """What a guest of architecture `arch` boots to build for guests of an image: the same release, unpacked.

    Whatever is on top of the image is for testing, and is left out.
    """
    name = image.name.removesuffix(_INSTALLED)
    return ImageSpec(name=name, arch=arch, packages=packages(wanted, build=arch, host=image.arch))


def packages(wanted: Iterable[str], *, build: str, host: str) -> tuple[str, ...]:
    """What a guest of the architecture `build` has to hold to build for `host`: compilers, make, and what is wanted.

    These are Debian's words: `host` is where the program is to run, and one of `GNU_TYPES`.
    """
    triplet = GNU_TYPES[host].replace("_", "-")
    tools = ("g++", "libc6-dev") if build == host else (f"g++-{triplet}", f"libc6-dev-{host}-cross")
    return (*tools, "make", *(of_target(name, build=build, host=host) for name in wanted))


def of_target(name: str, *, build: str, host: str) -> str:
    """A package's name as apt takes it: `libfoo-dev:target` -> `libfoo-dev:riscv64`, natively `libfoo-dev`."""
    if not name.endswith(TARGET):
        return name
    return name.removesuffix(TARGET) + ("" if build == host else f":{host}")


def environment(*, build: str, host: str) -> dict[str, str]:
    """The variables with which one script builds on `build` for `host`, be they the same or not."""
    triplet, multiarch = GNU_TYPES[host], _MULTIARCH.get(host, GNU_TYPES[host])
    return {
        **_dpkg("BUILD", build),
        **_dpkg("HOST", host),
        "CROSS_COMPILE": f"{triplet}-",
        **{variable: f"{triplet}-{tool}" for variable, tool in _TOOLS.items()},
        "PKG_CONFIG_LIBDIR": f"/usr/lib/{multiarch}/pkgconfig:/usr/share/pkgconfig",
    }


def _dpkg(which: str, arch: str) -> dict[str, str]:
    """An architecture under the names that `dpkg-architecture` gives it."""
    triplet = GNU_TYPES[arch]
    return {
        f"DEB_{which}_ARCH": arch,
        f"DEB_{which}_GNU_CPU": triplet.partition("-")[0],
        f"DEB_{which}_GNU_TYPE": triplet,
        f"DEB_{which}_MULTIARCH": _MULTIARCH.get(arch, triplet),
    }
