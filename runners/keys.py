"""Ed25519 keys, fresh for each attempt, in the formats that the two ends of a connection read."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import paramiko
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True)
class KeyPair:
    """One key: `openssh` the private key file, `public` the line for authorized_keys."""

    openssh: str
    public: str
    dropbear: bytes
    """The host key file of dropbear."""

    def paramiko(self) -> paramiko.PKey:
        """The private key as paramiko wants it."""
        return paramiko.Ed25519Key.from_private_key(io.StringIO(self.openssh))


def make_key_pair() -> KeyPair:
    """A new key."""
    key = Ed25519PrivateKey.generate()
    openssh = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.OpenSSH, s.NoEncryption()).decode()
    public = key.public_key().public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH).decode()
    seed = key.private_bytes(s.Encoding.Raw, s.PrivateFormat.Raw, s.NoEncryption())
    point = key.public_key().public_bytes(s.Encoding.Raw, s.PublicFormat.Raw)
    return KeyPair(openssh, public, _string(b"ssh-ed25519") + _string(seed + point))


def _string(data: bytes) -> bytes:
    # Dropbear's buf_put_ed25519_priv_key (src/ed25519.c): the name, then seed and public point as one
    # string, each with its length before it (RFC 4251, "string").
    return struct.pack(">I", len(data)) + data
