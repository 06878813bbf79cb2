"""What is fetched, what of it is accepted, and the seed that goes with it."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pycdlib
import pytest

from farm.errors import ConfigError, FarmError, FullError, ImageError
from farm.model import CloudSpec, ImageSpec
from runners.deadline import Deadline
from runners.images import Catalogue, Image, fetch, key, nocloud
from runners.images.cloud import fetch_error, read_header, wanted
from runners.seed import make_keys
from tests.unit.test_images_process import finish

MIB = 1024 * 1024
DISK = bytes(510) + b"\x55\xaa" + bytes(4 * MIB - 512)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def cloud(location: str | Path, digest: str, **changes: object) -> ImageSpec:
    spec = ImageSpec(name="mine", arch="amd64", cloud=CloudSpec(location=str(location), sha256=digest))
    return spec.model_copy(update=changes)


def ensure(folder: Path, spec: ImageSpec) -> Image:
    work = Catalogue(folder).ensure(spec, deadline=Deadline.after(60, "fetch an image"))
    image: Image = finish(work)[1]
    return image


class Answers(BaseHTTPRequestHandler):
    """`/disk` is whole, `/cut` ends in the middle, `/broken` is trouble of the server; there is nothing else."""

    def do_GET(self) -> None:
        status = {"/disk": 200, "/cut": 200, "/broken": 503}.get(self.path, 404)
        body = DISK if status == 200 else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://user:secret@127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "a disk.raw").write_bytes(DISK)
    return tmp_path / "a disk.raw"


@pytest.mark.parametrize("form", ["path", "file", "http"])
def test_a_disk_is_kept_wherever_it_comes_from(tmp_path: Path, disk: Path, server: str, form: str) -> None:
    location = {"path": str(disk), "file": disk.as_uri(), "http": f"{server}/disk"}[form]
    image = ensure(tmp_path / "images", cloud(location, sha256(DISK)))
    assert image.disk.read_bytes() == DISK
    assert image.kernel is None
    assert (image.manifest.kind, image.manifest.disk_format, image.manifest.disk_mib) == ("cloud", "raw", 4)
    assert image.manifest.files == {"disk": sha256(DISK)}
    assert "secret" not in image.manifest.model_dump_json()


def test_a_disk_that_is_there_is_not_fetched_again_wherever_it_would_come_from(tmp_path: Path, disk: Path) -> None:
    first = ensure(tmp_path / "images", cloud(disk, sha256(DISK)))
    disk.unlink()
    assert ensure(tmp_path / "images", cloud("http://nobody.invalid/disk", sha256(DISK))) == first


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("/nothing", ConfigError, "the server answered 404 Not Found"),
        ("/broken", ImageError, "the server answered 503"),
        ("/cut", ImageError, "closed connection"),
    ],
)
def test_what_a_server_does_wrong(tmp_path: Path, server: str, path: str, kind: type[FarmError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        ensure(tmp_path / "images", cloud(server + path, sha256(DISK)))
    assert type(caught.value) is kind
    assert "secret" not in str(caught.value)
    assert Catalogue(tmp_path / "images").list() == ()


def test_a_wrong_checksum_shows_both(tmp_path: Path, disk: Path) -> None:
    with pytest.raises(ConfigError, match=f"{sha256(DISK)}, not {'0' * 64}"):
        ensure(tmp_path / "images", cloud(disk, "0" * 64))
    assert Catalogue(tmp_path / "images").list() == ()


@pytest.mark.parametrize("location", ["/nowhere/disk", "file:///nowhere/disk", "ftp://nobody.invalid/disk"])
def test_what_cannot_be_fetched_is_an_error_of_who_asked(tmp_path: Path, location: str) -> None:
    with pytest.raises(ConfigError, match="cannot fetch the image mine from"):
        ensure(tmp_path / "images", cloud(location, sha256(DISK)))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(fetch.FULL, FullError), (fetch.WRONG, ConfigError), (fetch.TROUBLE, ImageError), (-9, ImageError)],
)
def test_how_a_fetch_ended_says_whose_fault_it_is(status: int, kind: type[FarmError]) -> None:
    spec = cloud("/disk", "0" * 64)
    assert spec.cloud
    assert type(fetch_error(spec, spec.cloud, status, "")) is kind


def qcow2(path: Path, *options: str) -> bytes:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), "8M"], check=True)
    return path.read_bytes()


def test_a_qcow2_of_qemu_is_accepted(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    data = qcow2(disk)
    image = ensure(tmp_path / "images", cloud(disk, sha256(data)))
    assert (image.manifest.disk_format, image.manifest.disk_mib) == ("qcow2", 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-b", "/etc/hostname", "-F", "raw", "-u"), "on top of another file"),
        (("-o", "data_file={folder}/data,data_file_raw=on"), "data in another file"),
        (("--object", "secret,id=s,data=x", "-o", "encrypt.format=luks,encrypt.key-secret=s"), "encrypted"),
    ],
    ids=["backing", "data", "encrypted"],
)
def test_a_qcow2_that_is_not_the_whole_disk_is_refused(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    disk = tmp_path / "disk.qcow2"
    data = qcow2(disk, *(option.format(folder=tmp_path) for option in options))
    with pytest.raises(ConfigError, match=message):
        ensure(tmp_path / "images", cloud(disk, sha256(data)))
    assert Catalogue(tmp_path / "images").list() == ()


def test_a_qcow2_that_qemu_does_not_read_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    data = qcow2(disk)[:4] + struct.pack(">I", 3) + bytes(508)
    disk.write_bytes(data)
    with pytest.raises(ConfigError, match="qemu-img does not read it"):
        ensure(tmp_path / "images", cloud(disk, sha256(data)))


@pytest.mark.parametrize(
    ("first", "trouble"),
    [
        (b"\xfd7zXZ\0" + bytes(600), "it is compressed by xz"),
        (b"<!DOCTYPE html>", "it is a page of text"),
        (b"", "neither a qcow2 nor a disk with a boot sector"),
        (b"QFI\xfb" + struct.pack(">I", 7), "it is a qcow2 of version 7"),
        (b"QFI\xfb", "it is a qcow2 of version 0"),
    ],
)
def test_what_is_no_disk_is_told_by_what_it_is(first: bytes, trouble: str) -> None:
    assert trouble in read_header(first[:512]).trouble


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "s390x"}, "no firmware of s390x"),
        ({"packages": ("make",)}, "cannot put the packages make into the cloud image"),
    ],
)
def test_what_a_cloud_image_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        wanted(cloud("/disk", "0" * 64, **changes))
    assert caught.value.hint


def test_an_image_is_asked_for_by_its_content_not_by_where_it_is() -> None:
    here, there, other = cloud("/here", "0" * 64), cloud("/there", "0" * 64), cloud("/here", "1" * 64)
    assert key(here, "") == key(there, "") != key(other, "")


def read_cd(data: bytes) -> dict[str, str]:
    image = pycdlib.PyCdlib()
    image.open_fp(io.BytesIO(data))
    assert image.pvd.volume_identifier.strip() == b"cidata"
    files = {}
    for name in ("meta-data", "network-config", "user-data"):
        for way in ("rr_path", "joliet_path"):
            content = io.BytesIO()
            image.get_file_from_iso_fp(content, **{way: f"/{name}"})
            assert files.setdefault(name, content.getvalue().decode()) == content.getvalue().decode()
    image.close()
    return files


def test_the_seed_is_a_cd_that_says_who_the_guest_is() -> None:
    keys = make_keys()
    files = read_cd(nocloud.cd(keys, "mine-amd64", "i-1", "ttyS0", nocloud.user_network()))
    assert json.loads(files["meta-data"]) == {"instance-id": "i-1", "local-hostname": "mine-amd64"}
    first, _, config = files["user-data"].partition("\n")
    assert first == "#cloud-config"
    told = json.loads(config)
    assert told["ssh_keys"] == {"ed25519_private": keys.server.openssh, "ed25519_public": keys.server.public}
    assert told["ssh_authorized_keys"] == [keys.client.public]
    assert told["runcmd"] == ["echo 'farm-guest: ready' > /dev/ttyS0"]
    assert keys.client.openssh not in files["user-data"]
