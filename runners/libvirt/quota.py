"""Whether the CPU of a guest can be limited on this host: found out by doing it.

libvirt needs control groups for that, and reads whether it may use any when a process opens it, once for all its
guests (`Settings.cgroups`). So this is a program too, `python -m runners.libvirt.quota`, which says what is wrong.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import libvirt

from farm.config import Settings, load_settings
from farm.errors import FarmError, HypervisorError
from runners.libvirt.connection import Embedded, embedded, hypervisor_errors
from runners.libvirt.elements import Limits
from runners.libvirt.hypervisors import QEMU
from runners.libvirt.xml import DomainSpec, domain_xml
from runners.machines import MACHINES, Machine

NOT_ROOT = "only root may make the control groups for it"
_PERCENT = 50
_MEMORY_MIB = 128
_TRIAL_S = 60.0


def problem(settings: Settings) -> str:
    """Why the CPU of a guest cannot be limited here; empty where it can."""
    if os.geteuid() != 0:
        return NOT_ROOT
    folders = {f"FARM_{name}": str(getattr(settings, name.lower())) for name in ("CACHE", "STATE", "RUNTIME")}
    command = [sys.executable, "-m", "runners.libvirt.quota"]
    try:
        trial = subprocess.run(
            command,
            env={**os.environ, **folders, "FARM_CGROUPS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=_TRIAL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"trying it took more than {_TRIAL_S:g} s"
    return trial.stdout.strip() or ("" if trial.returncode == 0 else f"trying it ended with {trial.returncode}")


def _try() -> None:
    """Start a machine with a limit, and see that the kernel has it. Raises HypervisorError."""
    machine = next((one for one in MACHINES.values() if shutil.which(f"qemu-system-{one.qemu_arch}")), None)
    if machine is None:
        raise HypervisorError("there is no emulator to try it with")
    driver = embedded(load_settings())
    limited = _limited(driver, machine)
    with hypervisor_errors("limit the CPU of a guest"):
        domain = driver.connection.createXML(domain_xml(limited), libvirt.VIR_DOMAIN_START_PAUSED)
        try:
            kept = domain.schedulerParameters()
        finally:
            driver.kill(domain)
    if kept["global_quota"] * 100 != kept["global_period"] * _PERCENT:
        raise HypervisorError(f"libvirt says that the limit is {kept['global_quota']} of {kept['global_period']} us")


def _limited(driver: Embedded, machine: Machine) -> DomainSpec:
    return DomainSpec(
        name="farm-limited",
        uuid=str(uuid.uuid4()),
        owner=f"{os.uname().nodename}:{driver.ledger.path.stem}:probe",
        hypervisor=QEMU,
        machine=machine,
        vcpus=1,
        memory_mib=_MEMORY_MIB,
        console=Path(os.devnull),
        limits=Limits(cpu_percent=_PERCENT),
    )


if __name__ == "__main__":
    try:
        _try()
    except FarmError as error:
        sys.stdout.write(error.message.removeprefix("cannot limit the CPU of a guest: "))
        sys.exit(1)
