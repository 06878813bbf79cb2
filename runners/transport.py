"""paramiko's Transport with a cheap cipher, an end to late messages and to false packets, and no waiting for itself.

paramiko answers by itself when the server closes a channel, while another thread may be about to write to it. What that
writes comes too late then, and SSH servers take it for a broken protocol and hang up; so it is left out.

paramiko makes room for whatever length a packet says it has, up to 4 GiB, and a guest's server may say what it likes.

While keys are exchanged nobody may speak of channels (RFC 4253, 7.1). paramiko's thread waits for the end of that too
when a channel is closed just then, although it is the one that brings it about; so what it has to say is kept.
"""

from __future__ import annotations

import struct
import threading
from typing import Any, ClassVar

import paramiko
from paramiko.common import MSG_CHANNEL_CLOSE, MSG_CHANNEL_OPEN_SUCCESS, MSG_CHANNEL_REQUEST, MSG_CHANNEL_WINDOW_ADJUST
from paramiko.packet import Packetizer
from paramiko.ssh_exception import SSHException

from runners import chacha
from runners.chacha import ChaChaPoly

_TO_CHANNEL = range(MSG_CHANNEL_WINDOW_ADJUST, MSG_CHANNEL_REQUEST + 1)
"""Messages that begin with the number of the server's channel (RFC 4254, 9)."""

_LONGEST_PACKET = 256 * 1024
"""OpenSSH's own limit. The protocol asks for 35000 bytes (RFC 4253, 6.1)."""


class Transport(paramiko.Transport):
    """A connection on a socket."""

    _cipher_info: ClassVar[dict[str, Any]] = {
        **paramiko.Transport._cipher_info,  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other way in
        chacha.NAME: {
            "class": ChaChaPoly,
            "is_aead": True,
            "block-size": 8,
            "iv-size": 12,
            "key-size": chacha.KEY_BYTES,
        },
    }

    def __init__(self, sock: Any) -> None:
        super().__init__(sock, packetizer_class=Packets)
        self._kept: list[paramiko.Message] = []

    def _send_user_message(self, data: paramiko.Message) -> None:
        """Send a message about a channel when that is allowed; only other threads wait for it."""
        if threading.current_thread() is self and not self.clear_to_send.is_set():
            self._kept.append(data)
        else:
            super()._send_user_message(data)  # type: ignore[misc]

    def _parse_newkeys(self, m: paramiko.Message) -> None:
        """Begin with new keys, and say what was kept until now."""
        super()._parse_newkeys(m)  # type: ignore[misc]
        kept, self._kept = self._kept, []
        for message in kept:
            self._send_user_message(message)


class Packets(Packetizer):
    """Packets in and out; counts them, for their numbers are part of the cipher."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self._order = threading.RLock()
        self._closed: set[int] = set()
        self._sent = self._received = 0
        self._out: ChaChaPoly | None = None
        self._in: ChaChaPoly | None = None

    def send_message(self, data: paramiko.Message) -> None:
        """Send a message, if it is not too late for it."""
        message = data.asbytes()
        with self._order:
            if message[0] in _TO_CHANNEL:
                (channel,) = struct.unpack_from(">I", message, 1)
                if channel in self._closed:
                    return
                if message[0] == MSG_CHANNEL_CLOSE:
                    self._closed.add(channel)
            super().send_message(data)

    def read_message(self) -> tuple[int, paramiko.Message]:
        """The next message. Raises SSHException where there is none in the packet."""
        try:
            kind, message = super().read_message()
            self._received += 1
            if kind == MSG_CHANNEL_OPEN_SUCCESS:
                _ours, theirs = struct.unpack_from(">II", message.asbytes())
                with self._order:
                    self._closed.discard(theirs)
        except (IndexError, struct.error) as error:
            raise SSHException("a packet has no message in it") from error
        return kind, message

    def write_all(self, out: Any) -> None:
        """Write a packet."""
        super().write_all(self._out.wrap(out) if self._out else out)

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Read this many bytes: the start of a packet, where there is a rekeying to look for, or the rest of it.

        Raises SSHException where no packet is as long.
        """
        if n > _LONGEST_PACKET:
            raise SSHException(f"a packet is said to have {n} bytes")
        data = super().read_all(n, check_rekey)
        return self._in.unwrap(data) if self._in and check_rekey else data

    def set_outbound_cipher(self, block_engine: Any, *args: Any, **kwargs: Any) -> None:
        """Use a cipher from the next packet on."""
        super().set_outbound_cipher(block_engine, *args, **kwargs)
        self._out = block_engine if isinstance(block_engine, ChaChaPoly) else None
        if self._out:
            self._out.number = self._sent

    def set_inbound_cipher(self, block_engine: Any, *args: Any, **kwargs: Any) -> None:
        """Expect a cipher from the next packet on."""
        super().set_inbound_cipher(block_engine, *args, **kwargs)
        self._in = block_engine if isinstance(block_engine, ChaChaPoly) else None
        if self._in:
            self._in.number = self._received

    def reset_seqno_out(self) -> None:
        """Count from 0, which paramiko asks for just before it sets a cipher."""
        super().reset_seqno_out()
        self._sent = 0

    def reset_seqno_in(self) -> None:
        """Count from 0, which paramiko asks for just after it has set a cipher."""
        super().reset_seqno_in()
        self._received = 0
        if self._in:
            self._in.number = 0

    def _build_packet(self, payload: bytes) -> bytes:
        self._sent += 1
        packet: bytes = super()._build_packet(payload)  # type: ignore[misc]
        return packet
