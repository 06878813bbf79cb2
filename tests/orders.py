"""Orders and sources for tests."""

from __future__ import annotations

import io
import tarfile
from typing import Any

from farm.model import AttemptKey, Collect, GuestSpec, ImageSpec, Order, Phase, Timeouts


def make_order(test: str, *, hypervisor: str = "fake", arch: str = "amd64", **changes: Any) -> Order:
    """An order whose test phase is a script."""
    values: dict[str, Any] = {
        "key": AttemptKey(run="r-1", cell=f"debian-13/{arch}/{hypervisor}", number=1),
        "image": ImageSpec(name="debian-13", arch=arch, packages=("gcc", "libc6-dev", "make")),
        "hypervisor": hypervisor,
        "guest": GuestSpec(memory=384),
        "env": {"GREETING": "it's here"},
        "scripts": {Phase.TEST: test},
        "collect": Collect(),
        "timeouts": Timeouts(),
        "source_digest": "0" * 64,
    }
    return Order.model_validate(values | changes)


def make_source(files: dict[str, bytes] | None = None) -> bytes:
    """A tar of files by name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in (files or {"hello.txt": b"hello\n"}).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
