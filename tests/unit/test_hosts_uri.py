"""How hypervisors are named."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from farm.errors import ConfigError
from runners.hosts.uri import HostUri, parse_uri

REMOTE = "qemu+ssh://root@lab:2222/system?keyfile=/root/key&known_hosts=/root/known%20hosts"


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("qemu:///embed", HostUri("qemu", "embed")),
        ("qemu:///system", HostUri("qemu")),
        ("xen:///", HostUri("xen")),
        ("lxc:///system", HostUri("lxc")),
        ("xen+ssh://dom0/system", HostUri("xen", host="dom0")),
        ("lxc+ssh://me@[fe80::1]:22/system", HostUri("lxc", host="fe80::1", user="me")),
        (
            REMOTE,
            HostUri("qemu", "system", "lab", 2222, "root", Path("/root/key"), Path("/root/known hosts")),
        ),
    ],
)
def test_a_uri_is_read_and_written_alike(text: str, uri: HostUri) -> None:
    assert parse_uri(text) == uri
    assert parse_uri(uri.text) == uri


def test_what_it_says() -> None:
    uri = parse_uri(REMOTE)
    assert (uri.embedded, uri.remote, uri.place, uri.login) == (False, True, "root@lab:2222", "root")
    assert uri.text == REMOTE.replace("%20", "+")
    here = parse_uri("qemu:///embed")
    assert (here.embedded, here.remote, here.place) == (True, False, "this machine")
    assert parse_uri("xen+ssh://dom0/system").place == f"{getpass.getuser()}@dom0"
    assert parse_uri("xen+ssh://h/system?keyfile=~/k").keyfile == Path.home() / "k"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "nothing is none of qemu, xen, lxc"),
        ("vbox:///session", "vbox is none of qemu, xen, lxc"),
        ("qemu://host/system", "another machine is reached by SSH: qemu+ssh://host/system"),
        ("qemu+tcp://host/system", "the farm reaches other machines by SSH only, where both ends are checked"),
        ("qemu+ssh:///system", "it names no host"),
        ("qemu+ssh://-oProxyCommand=x/system", "'-oproxycommand=x' is no name of a host"),
        ("qemu+ssh://-l@host/system", "'-l' is no name of a user"),
        ("qemu+ssh://host/embed", "/embed is not on another machine; that has /system"),
        ("lxc:///embed", "/embed is no libvirtd of the whole machine, which is lxc:///system"),
        ("qemu:///system?keyfile=/k", "a hypervisor of this machine has no parameters"),
        ("qemu+ssh://host:99999/system", "Port out of range 0-65535"),
        ("qemu+ssh://me:secret@host/system", "there is a password in it"),
        ("qemu+ssh://host/system#x", "there is a # in it"),
        ("qemu+ssh://host/system?command=/bin/sh", "it has no parameter 'command'; known: keyfile, known_hosts"),
        ("qemu+ssh://host/system?keyfile=key", "keyfile is not an absolute path: 'key'"),
        (
            "qemu+ssh://host/system?no_verify=1",
            "the key of a host is always checked; put it into known_hosts, and leave no_verify out",
        ),
    ],
)
def test_what_is_no_uri_is_refused_in_words(text: str, cause: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_uri(text)
    assert caught.value.message == f"cannot use the hypervisor {text!r}: {cause}"
    assert "qemu:///system" in caught.value.hint
