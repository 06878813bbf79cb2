"""The same guests without the farm: QEMU started by hand, with the arguments that libvirt gives it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runners.console import READY
from runners.guest import wait_for
from runners.images import guest_disk, overlay
from runners.libvirt.guest import LibvirtGuest
from runners.seed import SEED_BYTES, guest_seed, make_keys
from runners.ssh import connect, tcp
from tests.bench.guests import running, soon

_POLL_S = 0.01
_MIGRATION_POLL_S = 0.003
_WITHOUT_VALUE = ("-S", "-no-user-config", "-nodefaults", "-no-shutdown")
_CAPABILITIES = {"shared": "x-ignore-shared", "mapped": "mapped-ram"}


class Machine:
    """A guest of the farm's, by hand: the arguments of its QEMU, its image and its snapshot."""

    def __init__(self, guest: LibvirtGuest) -> None:
        """Start the guest, look at it and destroy it."""
        self._parts = guest._parts
        self._snapshot = guest._snapshot
        with running(guest):
            assert guest._domain
            said = (guest._driver.process(guest._domain) / "cmdline").read_bytes()
        self._argv = said.decode().split("\0")[:-1]

    def first_command_s(self) -> float:
        """Seconds from nothing to the end of the first command."""
        folder = Path(tempfile.mkdtemp(prefix="farm-bench-"))
        try:
            started = time.monotonic()
            with self._started(folder) as port:
                client, server = self._keys
                shell = wait_for(connect(tcp("127.0.0.1", port), client=client, server=server, deadline=soon()))
                assert wait_for(shell.execute(":", deadline=soon())) == 0
                took_s = time.monotonic() - started
                shell.close()
        finally:
            shutil.rmtree(folder)
        return took_s

    @contextmanager
    def _started(self, folder: Path) -> Iterator[int]:
        """The port of a machine whose system says that it is up."""
        self._keys = make_keys()
        port = _free_port()
        self._furnish(folder)
        with subprocess.Popen(self._arguments(folder, port), stdout=subprocess.DEVNULL) as process:
            try:
                if self._snapshot:
                    self._restore(folder)
                while READY not in (folder / "console.log").read_bytes():
                    assert process.poll() is None
                    time.sleep(_POLL_S)
                yield port
            finally:
                process.send_signal(signal.SIGKILL)

    def _furnish(self, folder: Path) -> None:
        disk, seed = folder / "disk.qcow2", folder / "seed"
        (folder / "console.log").touch()
        if self._snapshot:
            overlay(self._snapshot.disk, "qcow2", disk, self._parts.disk_mib)
            seed.write_bytes(bytes(SEED_BYTES))
        else:
            guest_disk(self._parts.image, disk, self._parts.disk_mib)
            seed.write_bytes(guest_seed(self._keys, self._parts.host_name))

    def _arguments(self, folder: Path, port: int) -> list[str]:
        """libvirt's, but for what it hands over as open files, and its own secret."""
        arguments = []
        words = iter(self._argv)
        for word in words:
            value = next(words) if word.startswith("-") and word not in _WITHOUT_VALUE else ""
            if word in ("-S", "-add-fd") or "masterKey0" in value:
                continue
            value = value.replace(str(self._parts.folder), str(folder)).replace("127.0.0.1:0-", f"127.0.0.1:{port}-")
            value = re.sub(r"(id=charmonitor),fd=\d+", rf"\1,path={folder}/monitor", value)
            value = re.sub(r"/dev/fdset/\d+", f"{folder}/console.log", value)
            arguments += [word, value] if value else [word]
        return arguments

    def _restore(self, folder: Path) -> None:
        assert self._snapshot
        with _monitor(folder / "monitor") as ask:
            mode = self._snapshot.manifest.mode
            wanted = [{"capability": name, "state": key == mode} for key, name in _CAPABILITIES.items()]
            ask("migrate-set-capabilities", capabilities=wanted)
            ask("migrate-incoming", uri=f"file:{self._snapshot.state}")
            while ask("query-migrate").get("status") != "completed":
                time.sleep(_MIGRATION_POLL_S)
            seed = guest_seed(self._keys, self._parts.host_name, now_s=time.time())
            with (folder / "seed").open("r+b") as file:
                file.write(seed)
            ask("cont")


@contextmanager
def _monitor(path: Path) -> Iterator[Any]:
    while not path.exists():
        time.sleep(_MIGRATION_POLL_S)
    with socket.socket(socket.AF_UNIX) as connection:
        while connection.connect_ex(str(path)):
            time.sleep(_MIGRATION_POLL_S)
        with connection.makefile("rw") as lines:

            def ask(command: str, **arguments: Any) -> Any:
                lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
                lines.flush()
                while True:
                    said = json.loads(lines.readline())
                    assert "error" not in said, said
                    if "return" in said:
                        return said["return"]

            lines.readline()
            ask("qmp_capabilities")
            yield ask


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
