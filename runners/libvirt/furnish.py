"""What a guest has on its host before it starts: its folder, its disk, what tells it who it is."""

from __future__ import annotations

import io
import shlex
from dataclasses import dataclass
from pathlib import Path

from runners.deadline import Deadline
from runners.guest import Work
from runners.hosts.folders import Folders
from runners.hosts.link import Link
from runners.hosts.pool import Stored
from runners.hosts.scripts import script
from runners.libvirt.elements import Disk
from runners.libvirt.hypervisors import Hypervisor
from runners.libvirt.system_xml import FIRST_ID


@dataclass(frozen=True)
class Place:
    """Where a guest lies on its host."""

    link: Link
    folders: Folders
    name: str
    hypervisor: Hypervisor

    @property
    def disks(self) -> tuple[Disk, ...]:
        """What a machine finds its system and its seed on."""
        if self.hypervisor.container:
            return ()
        if self.hypervisor.block_devices:
            root, seed = Disk("farm-root", self._path("disk.device"), "raw"), self._path("seed.device")
        else:
            root, seed = Disk("farm-root", self._path("disk"), "qcow2"), self._path("seed")
        return root, Disk("farm-seed", seed, "raw", read_only=True)

    @property
    def root(self) -> Path | None:
        """What a container finds them in."""
        return self._path("root") if self.hypervisor.container else None

    def furnish(self, stored: Stored, disk_mib: int, owner: Path, deadline: Deadline) -> Work[None]:
        """Make the folder and the disk, on top of an image there; `owner` is a ledger. Raises HostError, FullError."""
        folder = self.folders.make(self.name, stored, owner, deadline)
        image = {"folder": folder, "image": stored.disk, "disk_mib": disk_mib}
        if self.hypervisor.container:
            command = script("container", **image, first=FIRST_ID)
        elif self.hypervisor.block_devices:
            copied = script("copy", **image, format=stored.disk_format)
            command = f"{copied}\n{script('device', folder=folder, file='disk')}"
        else:
            base = ("-b", stored.disk, "-F", stored.disk_format)
            disk = (str(self._path("disk")), f"{disk_mib}M")
            command = shlex.join(["qemu-img", "create", "-q", "-f", "qcow2", *base, *disk])
        yield from self.link.execute(command, deadline=deadline)

    def write_seed(self, seed: bytes, deadline: Deadline) -> Work[None]:
        """Put its seed where the guest reads it. Raises HostError, FullError."""
        if self.root:
            command = f"install -m 600 -o {FIRST_ID} -g {FIRST_ID} /dev/stdin {self.root}/etc/farm-seed"
            yield from self.link.execute(command, stdin=io.BytesIO(seed), deadline=deadline)
        else:
            yield from self.folders.put(self.name, "seed", io.BytesIO(seed), deadline)
            if self.hypervisor.block_devices:
                command = script("device", folder=self.folders.path(self.name), file="seed")
                yield from self.link.execute(command, deadline=deadline)

    def _path(self, name: str) -> Path:
        return Path(self.folders.path(self.name), name)
