"""Matrices and sources that are wrong: a sentence with a place in the file, exit status 2, nothing started."""

from __future__ import annotations

import socket

import pytest

from tests.e2e.cli.conftest import Ended, Farm, fake

HEAD = "name: bad\ntest: 'true'\n"
AXES = "axes: {image: [debian-13], arch: [amd64], hypervisor: [fake]}\n"
MANY = "".join(f"  a{axis}: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n" for axis in range(4))

MATRICES = {
    "a tab": (HEAD + "axes:\n\timage: [debian-13]\n", "m.yaml:4:1: "),
    "an unknown key": (HEAD + AXES + "tset: 'true'\n", "m.yaml:4:1: unknown key 'tset'; did you mean 'test'"),
    "a wrong type": (HEAD + AXES + "guest: {vcpus: many}\n", "m.yaml:4:16: guest.vcpus: expected a whole number"),
    "an empty axis": (HEAD + "axes: {image: [debian-13], arch: []}\n", "m.yaml:3:34: axes.arch: empty"),
    "10 000 cells": (HEAD + "axes:\n  image: [debian-13]\n  arch: [amd64]\n" + MANY, "m.yaml:3:1: "),
    "two cells with one id": (
        HEAD + AXES + "include:\n" + "  - {image: debian-12, arch: amd64, hypervisor: fake}\n" * 2,
        "m.yaml:6:5: two cells would have the id 'debian-12/amd64/fake'",
    ),
}


def refused(ended: Ended, *words: str) -> None:
    assert ended.status == 2, ended
    assert ended.err.startswith("error: ")
    assert all(word in ended.err for word in words), ended.err


@pytest.mark.parametrize(("text", "place"), MATRICES.values(), ids=MATRICES)
def test_a_wrong_matrix_is_refused_with_the_place_of_the_mistake(farm: Farm, text: str, place: str) -> None:
    (farm.folder / "m.yaml").write_text(text)
    refused(farm("run", "m.yaml"), place)
    assert farm.ledgers() == []


def test_a_matrix_that_is_not_there_is_named(farm: Farm) -> None:
    refused(farm("run", "none.yaml"), "cannot read the matrix none.yaml")


def test_a_source_folder_that_is_not_there_is_named(farm: Farm) -> None:
    refused(farm("run", farm.matrix(axes=fake(), source={"folder": "nowhere"})), "nowhere")
    assert "bad-1" not in farm("runs").out


def test_a_tarball_with_another_digest_is_refused(farm: Farm) -> None:
    (farm.folder / "x.tar").write_bytes(b"not what was promised")
    matrix = farm.matrix(axes=fake(), source={"tarball": "x.tar", "sha256": "0" * 64})
    refused(farm("run", matrix), "x.tar", "0" * 64)


def test_a_socket_in_the_source_is_refused(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = farm.matrix(axes=fake())
    monkeypatch.chdir(farm.folder / "source")  # the address of a socket has 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("control.sock")
        refused(farm("run", matrix), "control.sock")


def test_a_link_out_of_the_source_is_refused(farm: Farm) -> None:
    matrix = farm.matrix(axes=fake())
    (farm.folder / "source/passwd").symlink_to("/etc/passwd")
    refused(farm("run", matrix), "passwd")
