"""From a matrix to work: cells, hosts, and which cell goes where."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, Field

from farm.model.attempt import LONGEST_HOLD_S, Slowness
from farm.model.axes import NO_LAYER, layer_names
from farm.model.base import Model, Scalar
from farm.model.image import ImageSpec
from farm.model.matrix import Matrix
from farm.model.source import ResolvedSource


class Cell(Model):
    """One combination of axis values."""

    id: str
    """Readable and unique in its run: `debian-13/riscv64/qemu/bug=on`."""
    values: dict[str, Scalar]
    """Every axis value and every value an include added."""
    may_fail: bool = False
    """`continue-on-error`: its failure does not fail the run."""

    @property
    def image(self) -> str:
        """The image asked for: `debian-13`."""
        return str(self.values["image"])

    @property
    def arch(self) -> str:
        """The architecture, by Debian's name: `amd64`, `riscv64`, `s390x`."""
        return str(self.values["arch"])

    @property
    def hypervisor(self) -> str:
        """The hypervisor asked for; `auto` is the fastest true one."""
        return str(self.values.get("hypervisor", "auto"))

    @property
    def cpu(self) -> str:
        """The CPU model asked for; empty (`auto`): the one that the hypervisor gives a guest by itself."""
        asked = str(self.values.get("cpu", "auto"))
        return "" if asked == "auto" else asked

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers on its image, in their order."""
        return layer_names(str(self.values.get("with", NO_LAYER)))


class Excluded(Model):
    """A combination that was left out, and the line of the matrix that did it."""

    id: str
    reason: str


class Expansion(Model):
    """What a matrix expands to."""

    cells: tuple[Cell, ...]
    excluded: tuple[Excluded, ...] = ()
    warnings: tuple[str, ...] = ()


class Offer(Model):
    """One way in which a host can run a guest of one architecture."""

    hypervisor: str
    arch: str
    emulated: bool
    version: str = ""
    """Of the hypervisor, where it is known."""
    problem: str = ""
    """Why it cannot be used; empty where it can."""
    tried: bool = True
    """False: the problem says nothing of the hypervisor (an image could not be had), and is looked into again."""
    scripted: bool = False
    """There is no machine at all (`fake`): only for cells that ask for it by name."""
    container: bool = False
    """Its guests share the kernel of their host: only for cells that ask for it by name."""
    cpu: str = ""
    """The CPU model that a guest has that asks for none."""
    cpus: tuple[str, ...] = ()
    """The CPU models that can be asked for; empty: only its own."""
    networks: tuple[str, ...] = ("isolated", "open")
    """Those that a guest can be put into, in a matrix's words."""
    limits: tuple[str, ...] = ("cpu", "disk-bandwidth")
    """What of a guest can be limited, in a matrix's words."""
    slowness: Slowness | None = None
    """None: it has not been measured yet."""


class Processor(Model):
    """The CPUs of a host, as its kernel lists them."""

    processors: int
    """Threads included."""
    cores: int
    """Of all sockets together."""
    family: int = 0
    model: int = 0
    stepping: int = 0
    model_name: str = ""
    vendor_name: str = ""
    flags: tuple[str, ...] = ()


class Room(Model):
    """What a host has left in truth, whoever uses the rest."""

    memory_mib: int
    disk_mib: int
    """Where the disks of guests are."""
    shortage: str = ""
    """Why the host takes nothing new by itself; empty: it does."""


class Host(Model):
    """A machine with a hypervisor."""

    name: str
    uri: str
    vcpus: int
    memory_mib: int
    """What guests may take together."""
    offers: tuple[Offer, ...]
    probed: bool = True
    """False: found by looking only; nothing has been run on it yet."""
    cpu_limit_problem: str = "it has not been tried"
    """Why the CPU of a guest cannot be limited there; empty where it can."""
    processor: Processor | None = None
    """None: it is not known."""
    labels: dict[str, str] = Field(default_factory=dict)
    """What its owner says of it: `rack=b2`."""
    room: Room | None = None
    """None: nobody has looked."""

    @property
    def shortage(self) -> str:
        """Why it takes nothing new by itself; empty where it does, or nobody has looked."""
        return self.room.shortage if self.room else ""


@lru_cache(maxsize=256)
def _once(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """The same object for the same hosts: nearly all cells of a run have them, and there may be a thousand."""
    return hosts


class Placement(Model):
    """A cell with the host and the hypervisor it would get."""

    cell: Cell
    pinned: ImageSpec | None = None
    """What an alias was resolved to when the run was submitted; None: the cell names its image itself."""
    hypervisor: str = ""
    emulated: bool = False
    builder: Offer | None = None
    """How the guest runs that builds for this one (`build: {on: cross}`); None: it is built in the guest itself."""
    hosts: Annotated[tuple[str, ...], AfterValidator(_once)] = ()
    """Where it fits; empty where nothing fits, and `problem` says why."""
    problem: str = ""
    expected_s: float | None = None
    """How long it will take, by what it or cells like it took before; None: nothing is known."""


class Plan(Model):
    """What a run would do, found out without touching a host."""

    matrix: Matrix
    placements: tuple[Placement, ...]
    """In the order in which they are started."""
    excluded: tuple[Excluded, ...] = ()
    warnings: tuple[str, ...] = ()


class Submission(Model):
    """All that a run is made of."""

    plan: Plan
    source: ResolvedSource
    matrix_file: str = ""
    """As the user named it, for the commands that are printed."""
    max_parallel: int | None = None
    hold_on_failure_s: float = 0.0
    reserved_s: float = 0.0
    """It tests nothing: its one guest is for a person, for this long. 0: it is an ordinary run."""
    ssh_key: str = ""
    """The public key of whom guests are kept for; empty: only who has the farm's own gets in."""
    hold_limit_s: float = LONGEST_HOLD_S
    """Longer than this no guest of it is kept."""
    version: str = ""
    """What is tested, as people call it: a release, a tag, a branch. Empty: nobody said."""
    labels: dict[str, str] = Field(default_factory=dict)
    """For people and triggers to find the run by; `release` marks one that a release is decided by."""
    priority: int = 50
    """0 to 100; runs of a higher one come first."""
    owner: str = ""
    """Who submitted it: the name of a token; empty: whoever may start programs on this machine."""
    served: bool = False
    """It is carried out by `farm serve`, not by the process that submitted it."""
    rerun_of: str | None = None
    """The run of which this repeats some cells."""
