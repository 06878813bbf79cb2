"""Who the farm is to a host, and how it knows that a host is the one that is meant: keys and known_hosts."""

from __future__ import annotations

from pathlib import Path

import paramiko

from farm.errors import ConfigError, HostError
from runners.hosts.uri import HostUri

_SSH_PORT = 22
_USUAL = ("id_ed25519", "id_ecdsa", "id_rsa")
_KEY_ERRORS = (OSError, ValueError, paramiko.SSHException)


def known_hosts_of(uri: HostUri) -> Path:
    """The file in which the key of a host is looked up."""
    return uri.known_hosts or Path("~/.ssh/known_hosts").expanduser()


def usual_keyfiles() -> tuple[Path, ...]:
    """The private keys that are tried where a URI names none."""
    folder = Path("~/.ssh").expanduser()
    return tuple(folder / name for name in _USUAL if (folder / name).exists())


def known_keys(uri: HostUri) -> dict[str, paramiko.PKey]:
    """The keys that a host is known by, by their kind; at least one. Raises HostError, ConfigError."""
    file, name = known_hosts_of(uri), host_name(uri)
    try:
        found = paramiko.HostKeys(str(file)).lookup(name) if file.exists() else None
    except (OSError, paramiko.SSHException) as error:
        raise ConfigError(f"cannot read the keys of hosts in {file}: {error}") from error
    if not found:
        raise HostError(
            f"cannot trust {uri.place}: its host key is not in {file}",
            hint=f"fetch it by `ssh-keyscan -p {uri.port} {uri.host} >> {file}` and compare its fingerprint"
            " (`ssh-keygen -lf`) with what the host itself says of /etc/ssh/ssh_host_ed25519_key.pub",
        )
    return {kind: found[kind] for kind in found}


def host_name(uri: HostUri) -> str:
    """What a host is called in known_hosts, see sshd(8)."""
    return uri.host if uri.port == _SSH_PORT else f"[{uri.host}]:{uri.port}"


def private_keys(uri: HostUri) -> dict[str, paramiko.PKey]:
    """The keys to try, by what they are called in errors. Raises ConfigError where the one that is named is no use."""
    if uri.keyfile:
        return {str(uri.keyfile): _read(uri.keyfile)}
    agent = {f"the agent's {key.fingerprint}": key for key in paramiko.Agent().get_keys()}
    files: dict[str, paramiko.PKey] = {}
    for file in usual_keyfiles():
        try:
            files[str(file)] = _read(file)
        except ConfigError:  # as ssh does: one with a passphrase is the agent's affair
            continue
    return {**agent, **files}


def strange_key(uri: HostUri, shown: str) -> HostError:
    """The error of a host that shows another key than the one that it is known by."""
    file = known_hosts_of(uri)
    return HostError(
        f"cannot trust {uri.place}: it shows another host key ({shown}) than the one in {file}",
        hint="either it was set up anew, or another machine answers in its place. Find out which; only if the key is"
        f" its own: ssh-keygen -f {file} -R '{host_name(uri)}', and fetch the new one",
    )


def refused(uri: HostUri, tried: tuple[str, ...]) -> HostError:
    """The error of a host that lets none of our keys in."""
    cause = f"it does not accept {', '.join(tried)}" if tried else "there is no key in ~/.ssh, and no agent has any"
    return HostError(
        f"cannot log in to {uri.place}: {cause}",
        hint=f"put the public key into ~{uri.login}/.ssh/authorized_keys there, or name another: ?keyfile=PATH",
    )


def _read(file: Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(file)
    except (paramiko.PasswordRequiredException, TypeError) as error:  # paramiko lets the second one through
        raise ConfigError(
            f"cannot use the key {file}: it has a passphrase",
            hint="use a key without one for the farm, or an SSH agent and no keyfile",
        ) from error
    except _KEY_ERRORS as error:
        cause = (isinstance(error, OSError) and error.strerror) or str(error) or "it is no private key"
        raise ConfigError(f"cannot use the key {file}: {cause}") from error
