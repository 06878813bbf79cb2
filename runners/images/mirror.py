"""The Debian mirror that this machine itself uses."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from farm.errors import ImageError

_FORMAT = "$(CODENAME)\t$(COMPONENT)\t$(REPO_URI)"
_HINT = "set FARM_MIRROR to the address of a Debian mirror"


class Target(NamedTuple):
    """An index that apt would fetch."""

    codename: str
    component: str
    address: str


def parse_targets(text: str) -> tuple[Target, ...]:
    """Apt's answer, a line for each target -> the targets."""
    return tuple(Target(*line.split("\t")) for line in text.splitlines() if line.count("\t") == 2)  # noqa: PLR2004


def choose_mirror(targets: tuple[Target, ...], codename: str) -> str:
    """The mirror that the release itself comes from, not its updates; empty: there is none."""
    for target in targets:
        if target.codename == codename and target.component == "main":
            return target.address.rstrip("/")
    return ""


def machine_codename(os_release: str) -> str:
    """The release of a machine, from the text of its `os-release`; empty where it is no Debian (os-release(5))."""
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    is_debian = fields.get("ID", "").strip('"') == "debian"
    return fields.get("VERSION_CODENAME", "").strip('"') if is_debian else ""


def machine_mirror(os_release: Path = Path("/etc/os-release")) -> str:
    """The mirror in this machine's own apt sources. Raises ImageError."""
    try:
        codename = machine_codename(os_release.read_text())
        answer = subprocess.run(
            ["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ImageError(f"cannot find a Debian mirror in apt's sources: {error}", hint=_HINT) from error
    mirror = choose_mirror(parse_targets(answer.stdout), codename)
    if not mirror:
        raise ImageError("cannot find a Debian mirror in apt's sources: none serves this machine's release", hint=_HINT)
    return mirror
