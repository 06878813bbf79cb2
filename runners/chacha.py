"""The cipher chacha20-poly1305@openssh.com, as draft-ietf-sshm-chacha20-poly1305 has it. Pure.

An emulated guest needs three fifths of the time for it that it needs for AES and a MAC, and every SSH server has it.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.poly1305 import Poly1305
from paramiko import SSHException

NAME = "chacha20-poly1305@openssh.com"
KEY_BYTES = 64
_HALF = KEY_BYTES // 2
_BLOCK = bytes(64)
_FIRST_BLOCK = bytes(8)
_TAG_BYTES = 16
_LENGTH_BYTES = 4


class ChaChaPoly:
    """One direction of a connection.

    `encrypt` and `decrypt` are called as those of AES-GCM are, which paramiko knows: with the packet but for its
    length, and its length in clear. But this cipher has the length encrypted too; so `wrap` and `unwrap` are for the
    place where packets are written and read.
    """

    def __init__(self, key: bytes) -> None:
        self._key, self._length_key = key[:_HALF], key[_HALF:]
        self.number = 0
        """Of the packet at hand; it is the nonce."""
        self._length = b""
        """Of the packet at hand, encrypted."""

    def encrypt(self, _iv: bytes, packet: bytes, length: bytes) -> bytes:
        """A packet without its length, encrypted, and its tag."""
        self._length = self._cipher(self._length_key).update(length)
        tag_key, cipher = self._packet_cipher()
        data = cipher.update(packet)
        return data + Poly1305.generate_tag(tag_key, self._length + data)

    def wrap(self, packet: bytes) -> bytes:
        """The packet that was encrypted last, with its length in clear: now that is encrypted too."""
        self.number += 1
        return self._length + packet[_LENGTH_BYTES:]

    def unwrap(self, start: bytes) -> bytes:
        """The start of the next packet, its length in clear now."""
        self._length = start[:_LENGTH_BYTES]
        return self._cipher(self._length_key).update(self._length) + start[_LENGTH_BYTES:]

    def decrypt(self, _iv: bytes, packet: bytes, _length: bytes) -> bytes:
        """The packet that was unwrapped last, without its length. Raises SSHException if it is not as it was sent."""
        data, tag = packet[:-_TAG_BYTES], packet[-_TAG_BYTES:]
        tag_key, cipher = self._packet_cipher()
        try:
            Poly1305.verify_tag(tag_key, self._length + data, tag)
        except InvalidSignature as error:
            raise SSHException("a packet was changed on its way") from error
        self.number += 1
        return cipher.update(data)

    def _packet_cipher(self) -> tuple[bytes, CipherContext]:
        """The key of a packet's tag, which is the start of its key stream, and the cipher from there on."""
        cipher = self._cipher(self._key)
        return cipher.update(_BLOCK)[:_HALF], cipher

    def _cipher(self, key: bytes) -> CipherContext:
        return Cipher(ChaCha20(key, _FIRST_BLOCK + struct.pack(">Q", self.number)), None).encryptor()
