from pathlib import Path

import pytest

from farm.errors import ImageError
from runners.images.mirror import Target, choose_mirror, machine_codename, machine_mirror, parse_targets

TARGETS = (
    Target("bookworm-security", "main", "http://mirror.example/debian-security/"),
    Target("bookworm", "contrib", "http://mirror.example/other/"),
    Target("bookworm", "main", "http://mirror.example/debian/"),
    Target("bookworm-backports", "main", "http://mirror.example/debian/"),
)


def test_apts_answer_is_read_line_by_line() -> None:
    text = "bookworm\tmain\thttp://mirror.example/debian/\nrubbish\nsid\tmain\thttp://mirror.example/sid/\n"
    assert parse_targets(text) == (
        Target("bookworm", "main", "http://mirror.example/debian/"),
        Target("sid", "main", "http://mirror.example/sid/"),
    )


@pytest.mark.parametrize(
    ("codename", "mirror"), [("bookworm", "http://mirror.example/debian"), ("trixie", ""), ("", "")]
)
def test_the_mirror_is_the_one_of_the_release_itself(codename: str, mirror: str) -> None:
    assert choose_mirror(TARGETS, codename) == mirror


@pytest.mark.parametrize(
    ("text", "codename"),
    [
        ('PRETTY_NAME="Debian GNU/Linux 12"\nVERSION_CODENAME=bookworm\nID=debian\n', "bookworm"),
        ('VERSION_CODENAME="trixie"\nID="debian"', "trixie"),
        ("ID=ubuntu\nVERSION_CODENAME=noble\n", ""),
        ("ID=debian\n", ""),
        ("", ""),
    ],
)
def test_only_a_debian_has_a_codename_of_debian(text: str, codename: str) -> None:
    assert machine_codename(text) == codename


def test_a_machine_that_is_no_debian_is_told_to_name_a_mirror(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text("ID=ubuntu\nVERSION_CODENAME=noble\n")
    with pytest.raises(ImageError) as caught:
        machine_mirror(tmp_path / "os-release")
    assert "FARM_MIRROR" in caught.value.hint
