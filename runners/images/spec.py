"""What an image is: what its name means, and what is there once it is built (an image and its manifest)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from datetime import datetime
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from farm.errors import ConfigError
from farm.model import ImageSpec, LayerSpec, Model
from runners.machines import machine_for

BUILDER_VERSION = 4
"""Goes up with every change of the builder that changes what it builds."""

RELEASES = {
    "debian-11": "bullseye",
    "debian-12": "bookworm",
    "debian-13": "trixie",
    "debian-sid": "sid",
}
"""The name of an image -> the suite it is built from."""

OTHER_NAMES = {"bullseye": "oldoldstable", "bookworm": "oldstable", "trixie": "stable", "sid": "unstable"}
"""The archive holds each suite under a second name, which a mirror brings up to date by itself. It may
have moved on to another release by now: what it gives has to be checked."""

KERNELS = {
    "bullseye": {
        "amd64": "linux-image-cloud-amd64",
        "i386": "linux-image-686-pae",
        "arm64": "linux-image-cloud-arm64",
        "armhf": "linux-image-armmp-lpae",
    },
    "bookworm": {
        "amd64": "linux-image-cloud-amd64",
        "i386": "linux-image-686-pae",
        "arm64": "linux-image-cloud-arm64",
        "armhf": "linux-image-armmp-lpae",
        "armel": "linux-image-armmp-lpae:armhf",
        "ppc64el": "linux-image-powerpc64le",
        "s390x": "linux-image-s390x",
        "mips64el": "linux-image-5kc-malta",
    },
    "trixie": {
        "amd64": "linux-image-cloud-amd64",
        "i386": "linux-image-cloud-amd64:amd64",
        "arm64": "linux-image-cloud-arm64",
        "armhf": "linux-image-armmp-lpae",
        "armel": "linux-image-armmp-lpae:armhf",
        "riscv64": "linux-image-riscv64",
        "ppc64el": "linux-image-powerpc64le",
        "s390x": "linux-image-s390x",
    },
    "sid": {
        "amd64": "linux-image-cloud-amd64",
        "i386": "linux-image-cloud-amd64:amd64",
        "arm64": "linux-image-cloud-arm64",
        "armhf": "linux-image-armmp-lpae",
        "riscv64": "linux-image-riscv64",
        "ppc64el": "linux-image-powerpc64le",
        "s390x": "linux-image-s390x",
        "loong64": "linux-image-loong64",
    },
}
"""A suite -> the architectures that it is made for -> the package of the kernel.

With `:ARCH` behind it, it is another architecture's: there is none of its own that runs in the machine.
"""

GUEST_FILES = (
    "init",
    "identity",
    "initramfs-init",
    "shell",
    "setup",
    "dhcp",
    "farm-setup.service",
    "farm-guest.service",
)
"""The farm's own programs in the guest."""


def guest_file(name: str) -> str:
    """The text of one of the farm's own programs in the guest."""
    return files("runners.images").joinpath("guest", name).read_text()


Kind = Literal["unpacked", "installed", "cloud"]

_INSTALLED = "-installed"
"""The name of an image with this at its end is the same release, installed."""


class Recipe(NamedTuple):
    """What the name of an image means."""

    kind: Kind
    release: str
    """The suite it is built from; empty for a cloud image."""


def recipe(spec: ImageSpec) -> Recipe:
    """How an image is made. Raises ConfigError where the name is not known."""
    if spec.cloud:
        return Recipe("cloud", "")
    name = spec.name.removesuffix(_INSTALLED)
    if name not in RELEASES:
        near = get_close_matches(name, RELEASES, n=2)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(
            f"cannot make an image {spec.name!r}: the name is not known", hint=f"{meant}known: {', '.join(RELEASES)}"
        )
    release = RELEASES[name]
    arch = machine_for(spec.arch).arch
    if arch not in KERNELS[release]:
        others = ", ".join(other for other, suite in RELEASES.items() if arch in KERNELS[suite])
        raise ConfigError(
            f"cannot make an image {spec.name}/{arch}: Debian {release} is not made for {arch}",
            hint=f"{arch} is in {others}; {name} is made for {', '.join(KERNELS[release])}",
        )
    return Recipe("installed" if spec.name.endswith(_INSTALLED) else "unpacked", release)


def boot_packages(spec: ImageSpec) -> tuple[str, ...]:
    """The packages of what the guest boots with; none for a cloud image, which brings it. Raises ConfigError.

    A kernel among the packages that are asked for is the only one.
    """
    release = recipe(spec).release
    if not release:
        return ()
    asked = (name for name in all_packages(spec) if name.startswith("linux-image-"))
    kernel, firmware = next(asked, KERNELS[release][spec.arch]), machine_for(spec.arch).firmware
    return (kernel, firmware.package) if firmware else (kernel,)


def all_packages(spec: ImageSpec) -> tuple[str, ...]:
    """What is asked for, the layers' own included; sorted."""
    return tuple(sorted({*spec.packages, *(name for layer in spec.layers for name in layer.packages)}))


def all_files(spec: ImageSpec) -> dict[str, str]:
    """The files of all the layers, by their paths in the guest; of two for one path, the later layer's."""
    return {path: content for layer in spec.layers for path, content in layer.files.items()}


def needs_guest(spec: ImageSpec) -> bool:
    """Whether a guest has to boot to make it: for a script, or to put anything into a cloud image."""
    return any(layer.script or (spec.cloud and layer.files) for layer in spec.layers)


def base(spec: ImageSpec) -> ImageSpec:
    """What is there before a guest has to boot: all packages and files, but of a cloud image nothing on top."""
    plain = () if spec.cloud else spec.layers
    return spec.model_copy(
        update={
            "packages": all_packages(spec),
            "layers": tuple(LayerSpec(name=layer.name, files=layer.files) for layer in plain),
        }
    )


def key(spec: ImageSpec, mirror: str) -> str:
    """A SHA-256 over everything that determines what is made; `mirror` is the setting. Raises ConfigError.

    Names of layers do not count, only what they come to: packages, files, and scripts in their order; nor does where
    a cloud image comes from, only its SHA-256; nor the digest that is asked for.
    """
    content = spec.model_copy(
        update={
            "digest": "",
            "packages": all_packages(spec),
            "layers": (
                LayerSpec(name="", files=dict(sorted(all_files(spec).items()))),
                *(LayerSpec(name="", script=layer.script) for layer in spec.layers if layer.script),
            ),
            "cloud": spec.cloud and spec.cloud.model_copy(update={"location": ""}),
        }
    )
    parts = [
        content.model_dump_json(),
        repr(recipe(spec)),
        repr(boot_packages(spec)),
        mirror,
        str(BUILDER_VERSION),
        repr(sorted(asdict(machine_for(spec.arch)).items())),
        *map(guest_file, GUEST_FILES),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Manifest(Model):
    """What an image holds and how it was made; kept beside it as `manifest.json`."""

    name: str
    arch: str
    kind: Kind = "unpacked"
    release: str
    digest: str
    """Names the content: the same packages and files have the same on every host, see `digest`."""
    files: dict[str, str] = Field(default_factory=dict)
    """The files of the image's folder -> their SHA-256."""
    layers: tuple[str, ...] = ()
    """The names of what is on top, as the first who asked for it called it."""
    base: str = ""
    """The digest of the image in a guest of which the layers' scripts ran; empty: none did."""
    disk_mib: int
    """The size of its disk: the least that a guest's may have."""
    disk_format: Literal["raw", "qcow2"] = "raw"
    requested: tuple[str, ...]
    packages: dict[str, str]
    """Every package in it -> its version; empty: nobody has looked, see `cloud`."""
    mirror: str
    tools: dict[str, str]
    """The programs it was made with -> their versions."""
    builder_version: int
    built_at: datetime
    cmdline: str

    @property
    def package_count(self) -> int | None:
        """How many packages are in it; None where that is not known."""
        return len(self.packages) or None


class Image(Model):
    """An image on this host."""

    folder: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        """Names its content."""
        return self.manifest.digest

    @property
    def kernel(self) -> Path | None:
        """For the hypervisor to boot directly; None: the firmware finds what to boot on the disk."""
        return None if self.manifest.kind == "cloud" else self.folder / "kernel"

    @property
    def packed_kernel(self) -> Path | None:
        """The kernel as Debian packs it, for what starts no other; a PC's only."""
        return self.folder / "packed-kernel" if "packed-kernel" in self.manifest.files else None

    @property
    def initrd(self) -> Path:
        """Goes with the kernel."""
        return self.folder / "initrd"

    @property
    def firmware(self) -> Path | None:
        """What starts the kernel; None: the hypervisor does."""
        return self.folder / "firmware" if "firmware" in self.manifest.files else None

    @property
    def disk(self) -> Path:
        """Never to be written again. Without partitions, but for a cloud image's."""
        return self.folder / "disk"

    @property
    def cmdline(self) -> str:
        """The kernel's command line."""
        return self.manifest.cmdline
