"""Keys, checked with the other end's own tools."""

from __future__ import annotations

import struct

import paramiko

from runners.keys import make_key_pair


def test_the_three_forms_are_one_key() -> None:
    pair = make_key_pair()
    key = pair.paramiko()
    assert isinstance(key, paramiko.Ed25519Key)
    assert pair.public.split() == ["ssh-ed25519", key.get_base64()]
    (length,) = struct.unpack_from(">I", pair.dropbear)
    assert pair.dropbear[4 : 4 + length] == b"ssh-ed25519"
    assert pair.dropbear.endswith(key.asbytes()[-32:])
    assert len(pair.dropbear) == 4 + 11 + 4 + 64


def test_no_key_comes_twice() -> None:
    assert make_key_pair().public != make_key_pair().public
