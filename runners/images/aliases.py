"""Names for what Debian calls stable today: which release they mean is asked of the archive.

The answer comes through apt, so that it is signed by the archive, and by the way that packages take.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from farm.errors import ConfigError, DeadlineError, ImageError
from farm.model import Model
from runners.deadline import Deadline
from runners.guest import Work
from runners.images.mirror import machine_mirror
from runners.images.process import run
from runners.images.spec import OTHER_NAMES, RELEASES
from runners.scratch import scratch

_PREFIX = "debian/"
_INSTALLED = "-installed"
_SUITES = {f"{_PREFIX}{OTHER_NAMES[release]}": OTHER_NAMES[release] for release in RELEASES.values()}
_NAMES = {release: name for name, release in RELEASES.items()}
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_KEPT_S = 24 * 3600.0
_PATIENCE_S = 20.0
_CODENAME = re.compile(r"^Codename: *(\S+) *$", re.MULTILINE)


class Meaning(NamedTuple):
    """What an alias means."""

    name: str
    """The image's real name: `debian-13`."""
    doubt: str = ""
    """Why the archive could not be asked, and the farm's own table was; empty where the archive has said it."""


class _Answer(Model):
    """What the archive said; kept for a day."""

    codename: str
    at: float
    """Seconds since 1970."""


def aliases() -> tuple[str, ...]:
    """Every alias; each may have `-installed` at its end as well."""
    return tuple(_SUITES)


def is_alias(name: str) -> bool:
    """Whether the name of an image is, or was meant to be, an alias."""
    return name.startswith(_PREFIX)


def by_table(alias: str) -> str:
    """The real name of an alias when this farm was written. Raises ConfigError."""
    return _real(alias, _release(_suite(alias)))


def meaning(alias: str, *, mirror: str, cache: Path, runtime: Path) -> Work[Meaning]:
    """What an alias means today; `mirror` and `runtime` are the settings, `cache` keeps answers for a day.

    Raises ConfigError where there is no such alias, or it means a release that this farm does not know.
    """
    suite = _suite(alias)
    try:
        codename = yield from _codename(suite, mirror, cache, runtime)
    except (ImageError, DeadlineError, OSError) as error:
        return Meaning(by_table(alias), doubt=str(error))
    return Meaning(_real(alias, codename))


def _suite(alias: str) -> str:
    name = alias.removesuffix(_INSTALLED)
    if name not in _SUITES:
        near = get_close_matches(name, _SUITES, n=1)
        raise ConfigError(
            f"cannot make an image {alias!r}: there is no such alias",
            hint=f"{f'did you mean {near[0]}? ' if near else ''}known: {', '.join(_SUITES)}",
        )
    return _SUITES[name]


def _release(suite: str) -> str:
    return next(release for release, other in OTHER_NAMES.items() if other == suite)


def _real(alias: str, codename: str) -> str:
    if codename not in _NAMES:
        raise ConfigError(
            f"cannot use the image {alias}: it means Debian {codename} by now, which this farm does not know",
            hint=f"name one of {', '.join(RELEASES)}",
        )
    return _NAMES[codename] + (_INSTALLED if alias.endswith(_INSTALLED) else "")


def _codename(suite: str, mirror: str, cache: Path, runtime: Path) -> Work[str]:
    kept = cache / f"{suite}-{hashlib.sha256(mirror.encode()).hexdigest()[:16]}.json"
    if answer := _read(kept):
        return answer.codename
    with scratch(runtime) as folder:
        codename = yield from _ask(suite, mirror or machine_mirror(), folder)
    cache.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_suffix(f".{os.getpid()}")
    temporary.write_text(_Answer(codename=codename, at=time.time()).model_dump_json())
    temporary.rename(kept)
    return codename


def _read(kept: Path) -> _Answer | None:
    try:
        answer = _Answer.model_validate_json(kept.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return answer if 0 <= time.time() - answer.at < _KEPT_S else None


def _ask(suite: str, mirror: str, folder: Path) -> Work[str]:
    """The codename in the Release file of a suite, checked by apt. Raises ImageError, DeadlineError."""
    (folder / "lists").mkdir()
    signed_by = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    (folder / "sources.list").write_text(f"deb {signed_by}{mirror} {suite} main\n")
    (folder / "apt.conf").write_text(_configuration(folder))
    deadline = Deadline.after(_PATIENCE_S, f"ask {mirror} what {suite} is")
    asked = run(["apt-get", "update", "-q"], deadline=deadline, env={"APT_CONFIG": str(folder / "apt.conf")})
    ended = yield from asked
    found = [_CODENAME.search(path.read_text(errors="replace")) for path in folder.glob("lists/*Release")]
    if ended.status or not found or not found[0]:
        said = next((line for line in ended.lines if line.startswith("E:")), "")
        raise ImageError(f"cannot ask {mirror} what {suite} is: {said or 'its Release file has no codename'}")
    return found[0][1]


def _configuration(folder: Path) -> str:
    """Apt with this machine's ways to a mirror (proxies, credentials), and nothing else of the machine."""
    try:
        acquire = subprocess.run(
            ["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ImageError(f"cannot read apt's settings: {error}") from error
    own = {
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder,
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::Retries": 1,
        "Acquire::http::Timeout": 8,
        "Acquire::https::Timeout": 8,
    }
    nothing = [f"Acquire::IndexTargets::deb::{index}::DefaultEnabled" for index in _INDEXES]
    settings = {**own, **dict.fromkeys(nothing, "false")}
    return acquire + "".join(f'{name} "{value}";\n' for name, value in settings.items())


_INDEXES = ("Packages", "Translations", "Contents-deb", "Contents-udeb", "DEP-11", "DEP-11-icons", "Index")
"""What apt would fetch beside the Release file."""
