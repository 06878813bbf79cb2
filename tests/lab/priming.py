"""What is put into place before a test, since it takes minutes in the lab and is shown elsewhere.

An image in a lab host's pool goes past SSH, whose ciphers cost an emulated CPU more than all the rest; and how slow the
guests of a host are need not be measured by a guest of each kind.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

from farm.config import load_settings
from farm.model import ImageSpec, Slowness
from runners import processor
from runners.calibration.cache import Kind
from runners.calibration.measure import Calibration, Rates
from runners.deadline import Deadline
from runners.guest import backend_names, load_backend, wait_for
from runners.hosts.packing import listing
from runners.hosts.pool import ROOT
from runners.hosts.uri import parse_uri
from runners.images import Catalogue, Image
from tests.lab.lab import Lab

_HOST = "10.0.2.2"
"""This machine, as QEMU's user network shows it to the lab."""
IMAGE = ImageSpec(name="debian-13", arch="amd64")
"""The smallest there is."""
_SECONDS = 1800.0


def prime(lab: Lab, spec: ImageSpec = IMAGE) -> None:
    """Put an image, that which orders of tests ask for, into the pool, as `runners.hosts.pool` would have it there."""
    settings = load_settings()
    deadline = Deadline.after(_SECONDS, "build the image of the tests")
    image = wait_for(Catalogue(settings.cache / "images", settings.mirror).ensure(spec, deadline=deadline))
    place = f"{ROOT}/pool/{image.digest}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        sending = threading.Thread(target=_send, args=(server, image))
        sending.start()
        port = server.getsockname()[1]
        lab.ssh(
            f"set -e; mkdir -p -m 711 {ROOT} {ROOT}/pool; rm -rf {place}; mkdir {place}; cd {place};"
            f" nc -d {_HOST} {port} | zstd -dcq | tar -xSf -; chmod 0644 *; cat > files",
            stdin=listing(image).encode(),
            seconds=_SECONDS,
        )
        sending.join()


def know_slowness(name: str, uri: str, cache: Path) -> None:
    """Let native guests of a host with this name be known in a cache to be as fast as the host."""
    settings = load_settings(dict(os.environ) | {"FARM_HOST_URI": uri})
    even = Rates(1.0, 1.0, 1.0)
    known = Calibration(
        slowness=Slowness(cpu=1.0, fork=1.0, disk=1.0), host=even, guest=even, measured_at=datetime.now(UTC)
    )
    cpu = processor.name_of(parse_uri(uri))
    (cache / "hosts").mkdir(parents=True, exist_ok=True)
    for offer in (offer for backend in backend_names() for offer in load_backend(backend, settings).look()):
        if not (offer.emulated or offer.scripted):
            kind = Kind(name, cpu, offer.arch, offer.hypervisor, offer.version, offer.cpu)
            (cache / "hosts" / kind.file).write_text(known.model_dump_json())


def _send(server: socket.socket, image: Image) -> None:
    connection, _ = server.accept()
    with connection:
        names = sorted(image.manifest.files)
        argv = ["tar", "-C", str(image.folder), "--use-compress-program=zstd -6 -T2", "-cSf", "-", *names]
        subprocess.run(argv, stdout=connection.fileno(), check=True, timeout=_SECONDS)
