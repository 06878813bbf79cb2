from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.model.sshkey import public_key

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKbM4CDBKWIPCAsg0ksEWhMfXtFnJ4AjUKfz5wGzFzXi"


@pytest.mark.parametrize("kind", [("ed25519",), ("rsa", "-b", "2048"), ("ecdsa", "-b", "256"), ("ecdsa", "-b", "521")])
def test_a_key_of_openssh_is_taken_without_its_comment(tmp_path: Path, kind: tuple[str, ...]) -> None:
    path = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", *kind, "-N", "", "-C", "me; rm -rf /", "-f", path], check=True)
    text = path.with_suffix(".pub").read_text()
    assert public_key(text) == " ".join(text.split()[:2])
    with pytest.raises(ValueError, match="this is a private key"):
        public_key(path.read_text())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        KEY.split()[1],
        f'command="true" {KEY}',
        f"no-pty {KEY}",
        f"{KEY}\n{KEY}",
        f"{KEY} a\rb",
        f"{KEY} a\x00b",
        f"\t{KEY}",
        KEY.replace("ssh-ed25519", "ssh-dss"),
        KEY.replace("ssh-ed25519", "ssh-rsa"),
        KEY[:60],
        KEY.replace("IK", "I!"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="SSH key"):
        public_key(text)


def test_a_key_is_taken_in_one_way_of_writing() -> None:
    assert public_key(f"{KEY}=   ") == public_key(f"  {KEY}\n") == KEY


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.text(max_size=30))
def test_what_is_taken_is_one_line_of_two_words(before: str, comment: str) -> None:
    for text in (before, f"{before}{KEY}", f"{KEY} {comment}", f"{KEY}{comment}"):
        try:
            taken = public_key(text)
        except ValueError:
            continue
        assert len(taken.split(" ")) == 2
        assert taken.isascii()
        assert taken.isprintable()
