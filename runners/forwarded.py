"""What a person types to get into a guest whose SSH is forwarded to a port of this machine."""

from __future__ import annotations

from pathlib import Path

from runners.seed import Keys


def access(folder: Path, keys: Keys, port: int) -> str:
    """The ssh command for a person on this host; the files that it names are written to the guest's folder."""
    key, known = folder / "id_ed25519", folder / "known_hosts"
    key.touch(mode=0o600)
    key.write_text(keys.client.openssh)
    known.write_text(f"[127.0.0.1]:{port} {keys.server.public}\n")
    return f"ssh -i {key} -o IdentitiesOnly=yes -o UserKnownHostsFile={known} -p {port} root@127.0.0.1"


def invitation(keys: Keys, port: int) -> str:
    """The same for a person whose key it knows; the host key is in the command (OpenSSH 8.5 and later)."""
    known = f"-o UserKnownHostsFile=/dev/null -o KnownHostsCommand='/bin/echo %H {keys.server.public}'"
    return f"ssh {known} -p {port} root@127.0.0.1"
