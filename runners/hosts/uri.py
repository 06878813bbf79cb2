"""How a hypervisor is named: libvirt's URIs, as far as the farm uses them. Pure.

`qemu:///embed` is libvirt's driver inside the worker; `qemu:///system`, `xen:///system` and `lxc:///system` a libvirtd
on this machine; `qemu+ssh://user@host:port/system?keyfile=F&known_hosts=F` one on another. There is no transport but
SSH: it is the only one in which both ends are checked, and through which guests are reached as well.
"""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from farm.errors import ConfigError

DRIVERS = ("qemu", "xen", "lxc")
EMBEDDED = "qemu:///embed"
_EXAMPLE = "write for example qemu:///system or xen+ssh://root@host/system?keyfile=/root/.ssh/farm"
_SSH_PORT = 22
_PARAMETERS = ("keyfile", "known_hosts")
_NAME = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")
"""Of a host or a user: nothing that ssh could take for an option, or a shell for more than a word."""


@dataclass(frozen=True)
class HostUri:
    """A hypervisor, and how its machine is reached."""

    driver: str
    """One of DRIVERS."""
    path: str = "system"
    """`embed` or `system`."""
    host: str = ""
    """Empty: this machine."""
    port: int = _SSH_PORT
    user: str = ""
    """Empty: who runs this program."""
    keyfile: Path | None = None
    """The private key; None: the agent's keys, and those in ~/.ssh."""
    known_hosts: Path | None = None
    """None: ~/.ssh/known_hosts."""

    @property
    def embedded(self) -> bool:
        """Whether the driver is a part of this program, and has no libvirtd."""
        return self.path == "embed"

    @property
    def remote(self) -> bool:
        """Whether it is on another machine."""
        return bool(self.host)

    @property
    def login(self) -> str:
        """The user on the other machine."""
        return self.user or getpass.getuser()

    @property
    def place(self) -> str:
        """How errors call its machine: `this machine`, `root@lab:2222`."""
        if not self.host:
            return "this machine"
        return f"{self.login}@{self._address()}"

    @property
    def text(self) -> str:
        """The URI again, with the same meaning, always written the same."""
        if not self.host:
            return f"{self.driver}:///{self.path}"
        given = {"keyfile": self.keyfile, "known_hosts": self.known_hosts}
        query = urlencode({name: str(path) for name, path in given.items() if path}, safe="/")
        user = f"{self.user}@" if self.user else ""
        return f"{self.driver}+ssh://{user}{self._address()}/{self.path}{'?' if query else ''}{query}"

    def __str__(self) -> str:
        return self.text

    def _address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _SSH_PORT else f"{host}:{self.port}"


def parse_uri(text: str) -> HostUri:
    """The hypervisor that a URI names. Raises ConfigError."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise _wrong(text, str(error)) from error
    driver, _, transport = parts.scheme.partition("+")
    if driver not in DRIVERS:
        raise _wrong(text, f"{driver or 'nothing'} is none of {', '.join(DRIVERS)}")
    if parts.fragment or parts.password:
        raise _wrong(text, "there is a password in it" if parts.password else "there is a # in it")
    path = parts.path.strip("/") or "system"
    if transport:
        return _remote(text, driver, path, parts, port or _SSH_PORT)
    if parts.netloc:
        raise _wrong(text, f"another machine is reached by SSH: {driver}+ssh://{parts.netloc}/{path}")
    if parts.query:
        raise _wrong(text, "a hypervisor of this machine has no parameters")
    if path not in ({"system", "embed"} if driver == "qemu" else {"system"}):
        raise _wrong(text, f"/{path} is no libvirtd of the whole machine, which is {driver}:///system")
    return HostUri(driver, path)


def _remote(text: str, driver: str, path: str, parts: SplitResult, port: int) -> HostUri:
    if not parts.scheme.endswith("+ssh"):
        raise _wrong(text, "the farm reaches other machines by SSH only, where both ends are checked")
    for what, name in (("host", parts.hostname or ""), ("user", parts.username or "_")):
        if not _NAME.fullmatch(name):
            raise _wrong(text, f"{name!r} is no name of a {what}" if name else "it names no host")
    if path != "system":
        raise _wrong(text, f"/{path} is not on another machine; that has /system")
    return HostUri(driver, path, parts.hostname or "", port, parts.username or "", **_files(text, parts.query))


def _files(text: str, query: str) -> dict[str, Path]:
    given = parse_qsl(query, keep_blank_values=True)
    for name, value in given:
        if name == "no_verify":
            raise _wrong(text, "the key of a host is always checked; put it into known_hosts, and leave no_verify out")
        if name not in _PARAMETERS:
            raise _wrong(text, f"it has no parameter {name!r}; known: {', '.join(_PARAMETERS)}")
        if not value.startswith(("/", "~/")):
            raise _wrong(text, f"{name} is not an absolute path: {value!r}")
    return {name: Path(value).expanduser() for name, value in given}


def _wrong(text: str, cause: str) -> ConfigError:
    return ConfigError(f"cannot use the hypervisor {text!r}: {cause}", hint=_EXAMPLE)
