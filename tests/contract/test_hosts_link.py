"""What a link must do, whether the machine is this one or is reached by SSH; and what it says when it cannot."""

from __future__ import annotations

import io
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from farm.errors import ConfigError, DeadlineError, FarmError, FullError, HostError
from farm.model import Stream
from runners.deadline import Deadline
from runners.guest import wait_for
from runners.hosts.command import CommandError
from runners.hosts.link import Link, LocalLink, link_to
from runners.hosts.ssh import SshLink
from runners.hosts.uri import parse_uri
from tests.sshd import Sshd, sshd
from tests.waiting import eventually


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module", params=["local", "ssh"])
def link(request: pytest.FixtureRequest) -> Iterator[Link]:
    if request.param == "local":
        yield LocalLink()
        return
    opened = SshLink(request.getfixturevalue("server").uri())
    yield opened
    opened.close()


def soon(seconds: float = 60.0) -> Deadline:
    return Deadline.after(seconds, "do it")


def refusal(uri_or_link: Link) -> FarmError:
    with pytest.raises(FarmError) as caught:
        uri_or_link.run("true", deadline=soon())
    return caught.value


def test_a_command_comes_to_its_output(link: Link) -> None:
    assert link.run("printf 'a\\0b'; echo \"it's\" $LC_ALL", deadline=soon()) == b"a\0bit's C\n"


def test_programs_of_the_administrator_are_found(link: Link) -> None:
    assert link.run("command -v nft ip", deadline=soon()).split() != []


def test_a_command_reads_what_it_is_given(link: Link) -> None:
    data = bytes(range(256)) * 20_000
    assert link.run("cat", stdin=io.BytesIO(data), deadline=soon()) == data


def test_one_that_does_not_read_it_is_not_waited_for(link: Link) -> None:
    assert link.run("echo enough", stdin=io.BytesIO(bytes(50_000_000)), deadline=soon()) == b"enough\n"


def test_what_it_says_beside_comes_as_it_does(link: Link) -> None:
    work = link.execute("echo first >&2; read -r word; echo $word", deadline=soon(), stdin=io.BytesIO(b"then\n"))
    said, result = [], b""
    while True:
        try:
            said.append(next(work))
        except StopIteration as end:
            result = end.value
            break
    assert (result, b"".join(chunk.data for chunk in said)) == (b"then\n", b"first\n")
    assert {chunk.stream for chunk in said if chunk.data} == {Stream.STDERR}


def test_one_that_fails_says_why(link: Link) -> None:
    with pytest.raises(CommandError) as caught:
        link.run("echo one; echo no such thing >&2; exit 7", deadline=soon())
    assert (caught.value.status, caught.value.said) == (7, "no such thing")
    assert caught.value.message == f"cannot run a command on {link.place}: it ended with 7: no such thing"


def test_a_full_disk_is_told_apart(link: Link) -> None:
    with pytest.raises(FullError, match="No space left on device") as caught:
        link.run("cat /dev/zero >/dev/full", deadline=soon())
    assert "make room" in caught.value.hint


def test_a_deadline_ends_it(link: Link, tmp_path: Path) -> None:
    with pytest.raises(DeadlineError, match="not done within 1 s"):
        link.run("sleep 600", deadline=soon(1))


def test_one_that_says_too_much_is_stopped(link: Link) -> None:
    with pytest.raises(HostError, match="it says more than 64 MiB"):
        link.run("cat /dev/zero", deadline=soon())


def test_a_connection_goes_out_from_there(link: Link) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dialled = link.dial("127.0.0.1", listener.getsockname()[1], deadline=soon())
        accepted, _ = listener.accept()
        dialled.send(b"ping")
        assert accepted.recv(4) == b"ping"
        accepted.sendall(b"pong")
        assert dialled.recv(4) == b"pong"
        dialled.close()
        accepted.close()


def test_who_does_not_answer_refuses_the_connection(link: Link) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        link.dial("127.0.0.1", port, deadline=soon())


def test_several_at_a_time(link: Link) -> None:
    results: dict[int, bytes] = {}

    def ask(number: int) -> None:
        results[number] = link.run(f"cat; echo {number}", stdin=io.BytesIO(b"x" * 100_000), deadline=soon())

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: b"x" * 100_000 + b"%d\n" % number for number in range(8)}


def test_a_lost_connection_is_opened_again(server: Sshd) -> None:
    link = SshLink(server.uri())
    assert link.run("echo one", deadline=soon()) == b"one\n"
    server.hang_up()
    assert link.run("echo two", deadline=soon()) == b"two\n"
    link.close()
    assert link.run("echo three", deadline=soon()) == b"three\n"
    link.close()


def test_what_runs_when_the_connection_goes_is_not_taken_for_done(server: Sshd) -> None:
    link = SshLink(server.uri())
    work = link.execute("echo started >&2; sleep 60", deadline=soon())
    while next(work).data != b"started\n":
        pass
    server.hang_up()
    with pytest.raises(HostError, match=r"cannot finish a command on .*: the connection went away"):
        wait_for(work)
    link.close()


def test_a_command_ends_there_when_nobody_waits_any_more(server: Sshd, tmp_path: Path) -> None:
    link, mark = SshLink(server.uri()), tmp_path / "mark"
    link.run("true", deadline=soon())
    work = link.execute(f"trap 'echo ended >{mark}; exit 1' TERM; sleep 600 & wait", deadline=soon(5))
    with pytest.raises(DeadlineError):
        wait_for(work)
    said = ""

    def ended() -> bool:
        nonlocal said
        said = mark.read_text() if mark.exists() else ""  # the shell makes the file, and only then writes to it
        return said == "ended\n"

    eventually(ended, within_s=30, what=lambda: f"the command has ended; it said: {said!r}")
    link.close()


def test_a_host_key_that_is_not_known_is_not_trusted(server: Sshd, tmp_path: Path) -> None:
    link = SshLink(server.uri(known_hosts=str(tmp_path / "none")))
    error = refusal(link)
    assert error.message == f"cannot trust {link.place}: its host key is not in {tmp_path / 'none'}"
    assert f"ssh-keyscan -p {server.port} 127.0.0.1" in error.hint


def test_a_host_key_that_has_changed_is_not_trusted(tmp_path: Path) -> None:
    with sshd(tmp_path / "sshd") as server:
        link = SshLink(server.uri())
        assert link.run("echo well", deadline=soon()) == b"well\n"
        server.stop()
        server.change_host_key()
        server.start()
        error = refusal(link)
    assert error.message.startswith(f"cannot trust {link.place}: it shows another host key (SHA256:")
    assert f"ssh-keygen -f {server.known_hosts} -R '[127.0.0.1]:{server.port}'" in error.hint


def test_a_host_that_has_only_keys_of_another_kind_is_not_trusted(server: Sshd, tmp_path: Path) -> None:
    other = tmp_path / "known_hosts"
    key = paramiko.ECDSAKey.generate()
    other.write_text(f"[127.0.0.1]:{server.port} {key.get_name()} {key.get_base64()}\n")
    error = refusal(SshLink(server.uri(known_hosts=str(other))))
    assert "it shows another host key (none of the kinds that are known (ecdsa-sha2-nistp256))" in error.message


def test_a_host_that_does_not_know_our_key(server: Sshd, tmp_path: Path) -> None:
    with sshd(tmp_path / "other") as other:
        link = SshLink(server.uri(keyfile=str(other.key)))
    error = refusal(link)
    assert error.message == f"cannot log in to {link.place}: it does not accept {other.key}"
    assert "authorized_keys" in error.hint


@pytest.mark.parametrize(
    ("text", "cause"),
    [(None, "No such file or directory"), ("not a key\n", "cannot use the key")],
)
def test_a_key_of_no_use(server: Sshd, tmp_path: Path, text: str | None, cause: str) -> None:
    file = tmp_path / "key"
    if text:
        file.write_text(text)
    with pytest.raises(ConfigError, match=cause):
        SshLink(server.uri(keyfile=str(file))).run("true", deadline=soon())


def test_a_key_with_a_passphrase_is_refused_in_words(server: Sshd, tmp_path: Path) -> None:
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(file)], check=True)
    with pytest.raises(ConfigError, match="it has a passphrase") as caught:
        SshLink(server.uri(keyfile=str(file))).run("true", deadline=soon())
    assert "agent" in caught.value.hint


def test_a_host_that_refuses_ssh(server: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    uri = parse_uri(server.uri().text.replace(f":{server.port}/", f":{port}/"))
    error = refusal(SshLink(uri))
    assert error.message == f"cannot reach {uri.place} by SSH: connection refused"
    assert f"ssh -v -p {port}" in error.hint


def test_a_host_whose_name_is_not_known(server: Sshd) -> None:
    uri = parse_uri("qemu+ssh://root@no-such-host.invalid/system")
    assert refusal(SshLink(uri)).message == f"cannot reach {uri.place} by SSH: its name is not known"


def test_something_that_is_no_ssh_server(server: Sshd, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            accepted, _ = listener.accept()
            accepted.sendall(b"220 mail.example.org\r\n" * 200)
            accepted.close()

        thread = threading.Thread(target=answer)
        thread.start()
        known = tmp_path / "known_hosts"
        known.write_text(server.known_hosts.read_text().replace(f":{server.port} ", f":{port} "))
        uri = parse_uri(server.uri(known_hosts=str(known)).text.replace(f":{server.port}/", f":{port}/"))
        error = refusal(SshLink(uri))
        thread.join()
    assert error.message.startswith(f"cannot reach {uri.place} by SSH: ")
    assert "220 mail.example.org" in error.message


def test_a_host_that_forwards_nothing(tmp_path: Path) -> None:
    with sshd(tmp_path / "sshd", "AllowTcpForwarding no") as server:
        link = SshLink(server.uri())
        with pytest.raises(HostError, match="forwards no connections") as caught:
            link.dial("127.0.0.1", server.port, deadline=soon())
        link.close()
    assert "AllowTcpForwarding" in caught.value.hint


def test_a_machine_has_one_link() -> None:
    uri = parse_uri("qemu+ssh://root@lab/system")
    assert link_to(uri) is link_to(parse_uri("qemu+ssh://root@lab/system"))
    assert isinstance(link_to(parse_uri("xen:///system")), LocalLink)
