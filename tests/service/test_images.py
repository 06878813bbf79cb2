"""The images of the server's machine over REST."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.caching import DIGESTS, NEW
from tests.service.serving import Serving

pytestmark = pytest.mark.timeout(400)

URL = "/api/v1/images"
OLD_ONE, NEW_ONE = (f"{name}/s390x" for name in DIGESTS)


def got(server: Serving, path: str, **parameters: Any) -> Any:
    answer = server.client("read").get(f"{URL}{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_images_are_listed_by_name(server: Serving) -> None:
    played = DIGESTS.values()  # the server has built one, too, to try its hypervisors
    found = [one for one in got(server, "")["images"] if one["digest"] in played]
    assert [(one["name"], one["arch"], one["release"], one["digest"]) for one in found] == [
        ("debian-12", "s390x", "bookworm", DIGESTS["debian-12"]),
        ("debian-13", "s390x", "trixie", DIGESTS["debian-13"]),
    ]
    assert [(one["package_count"], one["in_use"], one["requested"]) for one in found] == [
        (3, False, ["gcc", "make"])
    ] * 2


def test_an_image_is_shown_with_its_packages_and_no_password(server: Serving) -> None:
    found = got(server, f"/{NEW_ONE}")
    assert (found["packages"], found["tools"], found["disk_mib"]) == (NEW, {"mke2fs": "1.47"}, 64)
    assert (found["image"]["built_at"], found["mirror"]) == ("2026-01-02T03:04:05Z", "http://mirror.example/debian")
    assert got(server, f"/{NEW_ONE}", digest=DIGESTS["debian-13"][:8]) == found


def test_two_images_are_compared_package_by_package(server: Serving) -> None:
    found = got(server, "/diff", a=OLD_ONE, b=DIGESTS["debian-13"][:12])
    assert (found["before"]["name"], found["after"]["name"]) == ("debian-12", "debian-13")
    assert found["packages"] == {
        "gcc": ["4:12.2", "4:14.2"],
        "make": ["4.3-4.1", "4.4.1-2"],
        "sed": ["4.9-1", ""],
        "tar": ["", "1.35"],
    }
    assert found["facts"]["release"] == ["bookworm", "trixie"]
    same = got(server, "/diff", a=NEW_ONE, b=NEW_ONE)
    assert (same["packages"], same["facts"]) == ({}, {})


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/debian-13/riscv64", 404),
        (f"/{NEW_ONE}?digest=abcd", 404),
        (f"/{NEW_ONE}?digest=..", 422),
        (f"/diff?a={NEW_ONE}&b=none", 404),
        (f"/diff?a={NEW_ONE}", 422),
    ],
)
def test_what_is_no_image_is_told(server: Serving, path: str, status: int) -> None:
    answer = server.client("read").get(f"{URL}{path}")
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"].startswith("cannot ")


def test_images_are_for_those_who_may_read(server: Serving) -> None:
    for path in ("", f"/{NEW_ONE}", f"/diff?a={NEW_ONE}&b={OLD_ONE}"):
        assert server.client("").get(f"{URL}{path}").status_code == 401
