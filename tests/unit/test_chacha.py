"""The cipher, by the example of draft-ietf-sshm-chacha20-poly1305, appendix A."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko import SSHException

from runners.chacha import KEY_BYTES, ChaChaPoly

KEY = bytes.fromhex(
    "8bbff6855fc102338c373e73aac0c914f076a905b2444a32eecaffeae22becc5"
    "e9b7a7a5825a8249346ec1c28301cf394543fc7569887d76e168f37562ac0740"
)
NUMBER = 7
PACKET = bytes.fromhex(
    "00000048065e00000000000000384c6f72656d20697073756d20646f6c6f7220"
    "73697420616d65742c20636f6e7365637465747572206164697069736963696e"
    "6720656c69744e43e804dc6c"
)
SENT = bytes.fromhex(
    "2c3ecce4a5bc05895bf07a7ba956b6c68829ac7c83b780b7000ecde745afc705"
    "bbc378ce03a280236b87b53bed5839662302b164b6286a48cd1e097138e3cb90"
    "9b8b2b829dd18d2a35ff82d995349e855bf02c298ef775f2d1a7e8b8"
)


def seal(cipher: ChaChaPoly, packet: bytes) -> bytes:
    """As paramiko goes about it: everything but the length, and then the place where packets are written."""
    return cipher.wrap(packet[:4] + cipher.encrypt(b"", packet[4:], packet[:4]))


def unseal(cipher: ChaChaPoly, sent: bytes) -> bytes:
    start = cipher.unwrap(sent[:8])
    return start[:4] + cipher.decrypt(b"", start[4:] + sent[8:], start[:4])


def at(number: int, key: bytes = KEY) -> ChaChaPoly:
    cipher = ChaChaPoly(key)
    cipher.number = number
    return cipher


def test_the_example() -> None:
    assert seal(at(NUMBER), PACKET) == SENT
    assert unseal(at(NUMBER), SENT) == PACKET


@given(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), st.lists(st.binary(min_size=8), max_size=4))
def test_packets_come_out_as_they_went_in(key: bytes, packets: list[bytes]) -> None:
    there, here = at(0, key), at(0, key)
    for packet in packets:
        assert unseal(here, seal(there, packet)) == packet


@pytest.mark.parametrize("place", [0, 4, 40, len(SENT) - 1])
def test_a_packet_that_was_changed_is_refused(place: int) -> None:
    changed = bytearray(SENT)
    changed[place] ^= 1
    with pytest.raises(SSHException, match="a packet was changed on its way"):
        unseal(at(NUMBER), bytes(changed))


def test_a_packet_that_was_sent_before_is_refused() -> None:
    with pytest.raises(SSHException, match="a packet was changed on its way"):
        unseal(at(NUMBER + 1), SENT)
