"""From a matrix to work: cells, hosts, and which cell goes where."""

from __future__ import annotations

from farm.model.attempt import Slowness
from farm.model.base import Model, Scalar
from farm.model.image import ImageSpec
from farm.model.matrix import NO_LAYER, Matrix, layer_names
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
    scripted: bool = False
    """There is no machine at all (`fake`): only for cells that ask for it by name."""
    slowness: Slowness | None = None
    """None: it has not been measured yet."""


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


class Placement(Model):
    """A cell with the host and the hypervisor it would get."""

    cell: Cell
    pinned: ImageSpec | None = None
    """What an alias was resolved to when the run was submitted; None: the cell names its image itself."""
    hypervisor: str = ""
    emulated: bool = False
    builder: Offer | None = None
    """How the guest runs that builds for this one (`build: {on: cross}`); None: it is built in the guest itself."""
    hosts: tuple[str, ...] = ()
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
