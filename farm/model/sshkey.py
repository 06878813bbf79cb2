"""Public SSH keys that people send, strictly."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from pydantic import AfterValidator, Field

_KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_KEY = re.compile(rf"({'|'.join(map(re.escape, _KEY_TYPES))}) +([A-Za-z0-9+/]+={{0,2}})(?: [^\x00-\x1f\x7f]*)?")
_LONGEST_KEY = 8192


def public_key(text: str) -> str:
    """A line of `id_*.pub` as its type and its key: no comment, and no options, which are orders to the server.

    Raises ValueError.
    """
    line = text.strip(" \n")
    if "PRIVATE KEY" in line:
        raise ValueError("this is a private key, which nobody else may see; the public one is in the file with .pub")
    found = _KEY.fullmatch(line)
    if not found:
        raise ValueError(f"not one line of a public SSH key; known types: {', '.join(_KEY_TYPES)}")
    kind, body = found.groups()
    try:
        data = base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise ValueError("a public SSH key that is damaged: it is no base64") from error
    name = kind.encode()
    # RFC 4253, 6.6: the key begins with its own type, as a string with its length before it.
    if not data.startswith(len(name).to_bytes(4) + name) or len(data) < len(name) + 4 + 32:
        raise ValueError("a public SSH key that is damaged: it does not hold what it says it is")
    return f"{kind} {base64.b64encode(data).decode()}"


SshKey = Annotated[str, Field(max_length=_LONGEST_KEY), AfterValidator(public_key)]
"""A public key, as in `~/.ssh/id_ed25519.pub`; its comment is dropped."""
