"""The seed: what a guest of ours reads to know who it is. Pure; `runners/images/guest/identity` reads it."""

from __future__ import annotations

import io
import re
import secrets
import tarfile
import time
import uuid
from typing import NamedTuple

from runners.keys import KeyPair, make_key_pair

SEED_BYTES = 64 * 1024
"""Every seed is as large as this: a clone takes its disk for the template's."""
_ENTROPY_BYTES = 64
_HOST_NAME = 63


class Keys(NamedTuple):
    """The two key pairs of an attempt."""

    client: KeyPair
    server: KeyPair


def make_keys() -> Keys:
    """New ones."""
    return Keys(client=make_key_pair(), server=make_key_pair())


def host_name(*words: str) -> str:
    """A host name of words: `debian-13-riscv64`."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")[:_HOST_NAME]


def template_seed() -> bytes:
    """The seed of a guest that is going to be saved: it waits."""
    return _tar({"template": b""})


def guest_seed(keys: Keys, name: str, *, now_s: float | None = None) -> bytes:
    """The seed of a guest; `now_s` is the time (seconds since 1970) for one whose clock cannot know it."""
    members = {
        "authorized_keys": f"{keys.client.public}\n".encode(),
        "host_key": keys.server.dropbear,
        "hostname": f"{name}\n".encode(),
        "machine-id": f"{uuid.uuid4().hex}\n".encode(),
        "boot-id": f"{uuid.uuid4()}\n".encode(),
        "entropy": secrets.token_bytes(_ENTROPY_BYTES),
    }
    if now_s is not None:
        members["now"] = f"{now_s:.6f}".encode()
    return _tar(members)


def _tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as seed:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o600, int(time.time())
            seed.addfile(member, io.BytesIO(data))
    return buffer.getvalue().ljust(SEED_BYTES, b"\0")
