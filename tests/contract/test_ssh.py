"""What a shell through SSH must do, whoever is at the other end: paramiko's server here, dropbear in a guest."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import paramiko
import pytest

from farm.errors import ConnectError, DeadlineError, LostError
from farm.model import GuestSpec, Stream
from runners import chacha
from runners.deadline import Deadline
from runners.guest import wait_for
from runners.keys import KeyPair, make_key_pair
from runners.libvirt.backend import qemu
from runners.seed import Keys
from runners.ssh import SshShell, connect, tcp
from runners.transport import Transport
from tests.orders import make_order
from tests.ssh_server import Server, serving
from tests.waiting import eventually

PEERS = ("aes-gcm", "chacha", pytest.param("dropbear", marks=pytest.mark.guest))


class AesGcm(Transport):
    """The farm's Transport with nothing but paramiko's own ciphers."""

    _cipher_info = paramiko.Transport._cipher_info


class ChaCha(Transport):
    """The farm's Transport with the farm's own cipher alone, as paramiko's servers do not offer it by themselves."""

    _preferred_ciphers = (chacha.NAME,)


SERVERS = {"aes-gcm": AesGcm, "chacha": ChaCha}


class Peer(NamedTuple):
    port: int
    keys: Keys
    cipher: str
    """The cheapest that it has."""


@pytest.fixture(scope="module", params=PEERS)
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    keys = Keys(client=make_key_pair(), server=make_key_pair())
    if request.param in SERVERS:
        with serving(keys.server, keys.client, SERVERS[request.param]) as server:
            yield Peer(server.port, keys, chacha.NAME if request.param == "chacha" else "aes128-gcm@openssh.com")
    else:
        with guest() as there:
            yield there


@contextmanager
def guest() -> Iterator[Peer]:
    order = make_order("true", hypervisor="qemu", guest=GuestSpec(memory=256))
    made = wait_for(qemu().create(order, soon(240)))
    try:
        wait_for(made.boot(soon(120)))
        wait_for(made.connect(soon())).close()
        yield Peer(made._port, made._keys, chacha.NAME)
    finally:
        made.destroy()


@pytest.fixture
def shell(peer: Peer) -> Iterator[SshShell]:
    opened = shell_of(peer)
    yield opened
    opened.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(HOST, CLIENT, paramiko.Transport) as server:
        yield server


HOST, CLIENT = make_key_pair(), make_key_pair()


def soon(seconds: float = 60) -> Deadline:
    return Deadline.after(seconds, "do this")


def shell_of(peer: Peer) -> SshShell:
    client, server = peer.keys
    return wait_for(connect(tcp("127.0.0.1", peer.port), client=client, server=server, deadline=soon()))


def connected(server: Server, *, client: KeyPair = CLIENT, host: KeyPair = HOST, seconds: float = 60) -> SshShell:
    return wait_for(connect(tcp("127.0.0.1", server.port), client=client, server=host, deadline=soon(seconds)))


def run(
    shell: SshShell, command: str, stdin: bytes | None = None, *, seconds: float = 60
) -> tuple[int, dict[Stream, bytes]]:
    """The status of a command, and what it said."""
    source = None if stdin is None else io.BytesIO(stdin)
    work = shell.execute(command, deadline=soon(seconds), stdin=source)
    said = {Stream.STDOUT: b"", Stream.STDERR: b""}
    while True:
        try:
            chunk = next(work)
        except StopIteration as end:
            return end.value, said
        if chunk.data:
            said[chunk.stream] += chunk.data


def test_the_connection_is_the_cheapest_that_both_ends_have(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "paramiko"), contextlib.closing(shell_of(peer)) as shell:
        transport: Any = shell._transport
    agreed = {text for text in caplog.messages if text.startswith("Kex: ")}  # it is kept nowhere else
    assert agreed == {"Kex: curve25519-sha256@libssh.org"}
    assert transport.host_key_type == "ssh-ed25519"
    assert (transport.local_cipher, transport.remote_cipher) == (peer.cipher, peer.cipher)
    assert (transport.local_mac, transport.remote_mac) == ("hmac-sha2-256", "hmac-sha2-256")
    assert (transport.local_compression, transport.remote_compression) == ("none", "none")


def test_nothing_waits_to_be_sent(peer: Peer, shell: SshShell) -> None:
    transport: Any = shell._transport
    assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_output_errors_and_status(shell: SshShell) -> None:
    status, said = run(shell, "echo to-out; echo to-err >&2; exit 3")
    assert (status, said) == (3, {Stream.STDOUT: b"to-out\n", Stream.STDERR: b"to-err\n"})


def test_each_command_has_a_shell_of_its_own(shell: SshShell) -> None:
    run(shell, "cd /proc; left=behind; trap 'echo late' EXIT")
    status, said = run(shell, 'pwd; echo "${left-nothing} ${c-}"')
    assert status == 0
    assert not said[Stream.STDOUT].startswith(b"/proc\n")
    assert b"behind" not in said[Stream.STDOUT]
    assert b"nothing" in said[Stream.STDOUT]


def test_a_command_of_many_lines(shell: SshShell) -> None:
    status, said = run(shell, "printf '%s|' 'it'\"'\"'s' 'a\\n'\n\nif true\nthen exit 4\nfi\n")
    assert (status, said[Stream.STDOUT]) == (4, b"it's|a\\n|")


def test_a_command_that_is_none(shell: SshShell) -> None:
    assert run(shell, "if")[0] == 2
    assert run(shell, "")[0] == 0


def test_a_command_reads_what_it_is_given_and_then_the_end(shell: SshShell) -> None:
    given = b"first\nsecond\0\r\n no newline"
    assert run(shell, "cat", given)[1][Stream.STDOUT] == given
    assert run(shell, "cat")[1][Stream.STDOUT] == b""


def test_much_in_and_much_out(shell: SshShell) -> None:
    given = os.urandom(5_000_003)
    status, said = run(shell, "tee /dev/stderr", given)
    assert status == 0
    for stream in (Stream.STDOUT, Stream.STDERR):
        assert hashlib.sha256(said[stream]).hexdigest() == hashlib.sha256(given).hexdigest()


def test_new_keys_in_the_middle(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paramiko.packet.Packetizer, "REKEY_BYTES", 1_000_000)
    given = os.urandom(3_500_000)
    shell = shell_of(peer)
    assert run(shell, "cat", given)[1][Stream.STDOUT] == given
    assert run(shell, "echo after")[1][Stream.STDOUT] == b"after\n"
    shell.close()


class Held:
    """A socket that keeps what it is to send for as long as it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._kept: list[bytes] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def hold(self) -> None:
        self._kept = []

    def let_go(self) -> None:
        kept, self._kept = self._kept or [], None
        self._sock.sendall(b"".join(kept))

    def send(self, data: bytes) -> int:
        if self._kept is None:
            return self._sock.send(data)
        self._kept.append(bytes(data))
        return len(data)


def test_a_channel_that_is_closed_while_keys_are_exchanged(server: Server, tmp_path: Path) -> None:
    """Its end was under way when the client asked for new keys, which the server has not heard yet."""
    sockets: list[Held] = []

    def dial(deadline: Deadline) -> Held:
        sockets.append(Held(tcp("127.0.0.1", server.port)(deadline)))
        return sockets[-1]

    shell = wait_for(connect(dial, client=CLIENT, server=HOST, deadline=soon()))
    os.mkfifo(tmp_path / "end")
    channel = shell._transport.open_session()
    channel.exec_command(f"cat {tmp_path}/end")
    with (tmp_path / "end").open("w"):
        sockets[0].hold()
        shell._transport._send_kex_init()
    eventually(lambda: channel.closed, what="the channel is closed")
    sockets[0].let_go()
    assert run(shell, "echo after")[1][Stream.STDOUT] == b"after\n"
    shell.close()


def test_many_commands_one_after_the_other(shell: SshShell) -> None:
    for number in range(60):
        assert run(shell, f"echo {number}")[1][Stream.STDOUT] == f"{number}\n".encode()


def test_a_command_that_does_not_read_its_input_harms_nobody(shell: SshShell) -> None:
    given = bytes(3_000_000)
    for number in range(10):
        status, said = run(shell, f"echo {number}; exit 7", given)
        assert (status, said[Stream.STDOUT]) == (7, f"{number}\n".encode())


def test_a_deadline_ends_the_waiting_and_not_the_connection(shell: SshShell) -> None:
    with pytest.raises(DeadlineError, match="cannot do this: not done within"):
        run(shell, "sleep 60", seconds=1)
    assert run(shell, "echo still here")[1][Stream.STDOUT] == b"still here\n"


def test_a_command_that_was_ended_is_told(shell: SshShell) -> None:
    assert run(shell, "kill -9 $$")[0] == 137
    assert run(shell, "echo still here")[1][Stream.STDOUT] == b"still here\n"


def test_another_host_key_is_refused(peer: Peer) -> None:
    with pytest.raises(ConnectError, match="another host key"):
        shell_of(peer._replace(keys=peer.keys._replace(server=make_key_pair())))


def test_another_client_is_refused(peer: Peer) -> None:
    with pytest.raises(ConnectError, match="does not accept its own client's key"):
        shell_of(peer._replace(keys=peer.keys._replace(client=make_key_pair())))


@pytest.mark.guest
def test_in_a_guest_the_shell_that_waits_may_be_ended_and_the_connection_too() -> None:
    with guest() as peer:
        waiting, other = shell_of(peer), shell_of(peer)
        find = "cd /tmp; grep -l 'IFS= [r]ead' /proc/[0-9]*/cmdline >shells; cut -d/ -f3 shells | grep -vx $$ >others"
        assert run(other, f"{find}; wc -l <others; kill -9 $(cat others)")[1][Stream.STDOUT] == b"1\n"
        assert run(waiting, "echo still here")[1][Stream.STDOUT] == b"still here\n"
        with pytest.raises(LostError, match=r"the connection (to the guest went away|is gone)"):
            run(waiting, "kill -9 $PPID; sleep 60")
        other.close()


def test_a_shell_that_ends_when_it_is_told_what_to_do_has_done_nothing(server: Server, tmp_path: Path) -> None:
    ends_once = f"[ -e {tmp_path}/ended ] || {{ touch {tmp_path}/ended; printf '\\006'; read -r told; exit 0; }}; "
    shell = connected(server)
    server.login = ends_once
    assert run(shell, "true")[0] == 0  # the shell that waits now is the one that ends
    assert run(shell, "echo once")[1][Stream.STDOUT] == b"once\n"
    assert (tmp_path / "ended").exists()
    shell.close()


def test_a_connection_that_breaks_is_told(server: Server) -> None:
    shell = connected(server)
    work = shell.execute("echo on; sleep 60", deadline=soon())
    while next(work).data != b"on\n":
        pass
    server.drop()
    with pytest.raises(LostError, match="cannot finish the command: the connection to the guest went away"):
        list(work)
    with pytest.raises(LostError, match="cannot run a command in the guest: the connection is gone"):
        run(shell, "echo")


def test_what_the_login_says_is_not_what_the_command_says(server: Server) -> None:
    server.login = "echo Welcome, stranger; "
    shell = connected(server)
    assert run(shell, "echo hello")[1][Stream.STDOUT] == b"hello\n"
    shell.close()


def test_a_connection_that_breaks_while_a_channel_is_closed_changes_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """paramiko says so with an EOFError, which is no defect of the farm: the command is done, or lost."""
    shell = connected(server)

    def close(channel: paramiko.Channel) -> None:
        channel.get_transport().close()
        raise EOFError

    monkeypatch.setattr(paramiko.Channel, "close", close)
    status, _ = run(shell, "exit 3")
    assert status == 3
    with pytest.raises(LostError):
        run(shell, "true")
    shell.close()


def test_a_command_sees_what_the_one_before_did_to_the_login(server: Server, tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    profile.touch()
    server.login = f". {profile}; "
    shell = connected(server)
    run(shell, f"echo change=seen >{profile}")
    assert run(shell, "echo $change")[1][Stream.STDOUT] == b"seen\n"
    shell.close()


def test_a_guest_without_a_shell_is_no_guest(server: Server) -> None:
    server.login = "echo This account is not available; exit 1; "
    with pytest.raises(ConnectError, match=r"the guest's shell does not start \(tried for 1 s\)"):
        connected(server, seconds=1)


def test_a_guest_that_does_not_answer_is_asked_until_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectError, match=r"tried for 1 s"):
        wait_for(connect(tcp("127.0.0.1", port), client=CLIENT, server=HOST, deadline=soon(1)))
