"""libvirt's QEMU driver inside this process (`qemu:///embed`), and the mapping of libvirt's errors.

The driver is opened once in a process, on a root folder of its own; the ledger lists the root, so
everything in it, running guests included, is destroyed when the process is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import libvirt

from farm.config import Settings
from farm.errors import FullError, HypervisorError
from runners.ledger import Entry, Ledger
from runners.machines import MACHINES
from runners.reaper import destroy_root, ensure_reaper

_CONFIG = """\
stdio_handler = "file"
"""
_CONFIG_AS_ROOT = """\
security_driver = "none"
user = "root"
group = "root"
remember_owner = 0
namespaces = []
"""
_CONTROLLERS = {False: (), True: ("cpu", "cpuacct")}
"""Those that libvirt may use, without and with `Settings.cgroups`. It reads CPU time from the second where it has the
first, and fails without."""

_FULL = ("No space left on device", "Cannot allocate memory")
"""What a hypervisor says whose host has no disk or no memory left, see strerror(3)."""

_NOTICED_S = 3.0
_VERSION_S = 10.0
_VERSION = re.compile(r"^QEMU emulator version (\d+(?:\.\d+)*)", re.MULTILINE)


class Embedded:
    """An open driver: `connection`, and `root`, under which all its files lie."""

    def __init__(self, runtime: Path, session: str, cache: Path, controllers: tuple[str, ...] = ()) -> None:
        """`cache` is where libvirt keeps what it finds out about QEMU; `controllers` those of cgroups it may use."""
        self.ledger = Ledger(runtime, session)
        self.root = runtime / secrets.token_hex(4)
        self._entry = Entry("libvirt-root", str(self.root))
        self.ledger.add(self._entry)
        ensure_reaper(runtime)
        self._furnish(cache, controllers)
        run_event_loop()
        with _on_one_cpu(), hypervisor_errors("open the embedded hypervisor"):
            self.connection = libvirt.open(f"qemu:///embed?root={self.root}")
        self.version = _emulator_version()

    def kill(self, domain: libvirt.virDomain) -> None:
        """End a domain at once; no harm if it has ended by itself.

        Its disk is thrown away, so its process is simply killed. libvirt's own `destroy` would wait until
        that has been reaped, a second or two; seeing it gone, it tidies up by itself.
        """
        with contextlib.suppress(libvirt.libvirtError, FileNotFoundError, ProcessLookupError):
            process = self.process(domain)
            if os.fsencode(self.root) in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
                return
        with contextlib.suppress(libvirt.libvirtError):
            domain.destroy()

    def process(self, domain: libvirt.virDomain) -> Path:
        """The folder in /proc of a domain's process. Raises FileNotFoundError where it has ended."""
        return Path("/proc") / (self.root / "run/qemu" / f"{domain.name()}.pid").read_text().strip()

    def close(self) -> None:
        """Destroy what is left of every guest, and the root."""
        with contextlib.suppress(libvirt.libvirtError):
            for domain in self.connection.listAllDomains():
                self.kill(domain)
            # It makes its folders again for a domain that it sees ending after they are gone.
            until = time.monotonic() + _NOTICED_S
            while self.connection.numOfDomains() and time.monotonic() < until:
                time.sleep(0.01)
            self.connection.close()
        destroy_root(str(self.root))
        self.ledger.drop(self._entry)
        self.ledger.close()

    def _furnish(self, shared_cache: Path, controllers: tuple[str, ...]) -> None:
        (self.root / "etc").mkdir(parents=True, mode=0o700)
        as_root = f"{_CONFIG_AS_ROOT}cgroup_controllers = {json.dumps(controllers)}\n"
        (self.root / "etc/qemu.conf").write_text(_CONFIG + (as_root if os.geteuid() == 0 else ""))
        # What libvirt finds out about each QEMU binary (4 s of work) is shared by all roots; it checks
        # itself whether an entry is still true, and replaces its files atomically.
        shared_cache.mkdir(parents=True, exist_ok=True)
        (self.root / "cache").symlink_to(shared_cache)


def embedded(settings: Settings) -> Embedded:
    """This process' driver, opened when it is first asked for and closed when the process ends."""
    cache = (settings.cache / "libvirt").resolve()
    return _opened(settings.runtime, settings.session, cache, _CONTROLLERS[settings.cgroups])


@functools.cache
def _opened(runtime: Path, session: str, cache: Path, controllers: tuple[str, ...]) -> Embedded:
    opened = Embedded(runtime, session, cache, controllers)
    atexit.register(opened.close)
    return opened


@contextlib.contextmanager
def hypervisor_errors(what: str) -> Iterator[None]:
    """Turn libvirt's errors into "cannot <what>: <libvirt's own words>"."""
    try:
        yield
    except libvirt.libvirtError as error:
        cause = str(error).removeprefix("internal error: ")
        hint = "run `farm doctor` to see what the hypervisor can do"
        raise refusal(cause)(f"cannot {what}: {cause}", hint=hint) from error


def refusal(cause: str) -> type[FullError | HypervisorError]:
    """What a hypervisor's refusal is, by its own words: that its host is full, or that it will not. Pure."""
    return FullError if any(words in cause for words in _FULL) else HypervisorError


@contextlib.contextmanager
def _on_one_cpu() -> Iterator[None]:
    """Keep this thread on the first CPU.

    libvirt asks the CPU that it happens to run on for its identity, topology leaf 0x1f included, and
    throws what it knows of QEMU away when that differs from the last time: 8 s, every other time.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@functools.cache
def run_event_loop() -> None:
    """Let libvirt's events be served, once in a process, by a thread of its own; for all connections alike."""
    # Must be registered before a driver is opened: the embedded one waits for events of its own QEMU.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_dispatch, name="libvirt-events", daemon=True).start()


def _dispatch() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _emulator_version() -> str:
    """QEMU's, by any of its programs: they are of one source. Empty: there is none.

    libvirt, when it is asked, looks at every QEMU on this host, also at those that the farm has no use for: 2 s each,
    where its cache is empty. Left alone, it looks at one when that is first used.
    """
    programs = (shutil.which(f"qemu-system-{machine.qemu_arch}") for machine in MACHINES.values())
    program = next(filter(None, programs), None)
    if program is None:
        return ""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=_VERSION_S)
    found = _VERSION.search(said.stdout)
    return found[1] if found else ""
