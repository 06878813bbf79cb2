"""Where cells that wait may go now, and what that makes of their runs' queues. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from farm.capacity import Size
from farm.lifecycle import CellState, failed_hosts
from farm.model import GuestSpec, Host, Matrix, Placement, Submission
from farm.planner import misfit
from farm.schedule import Line, Queue, Waiting

PATIENCE_S = 600.0
"""A run that could not start anything for so long is overdue: a host is kept free for it, if need be."""

_NOWHERE: frozenset[str] = frozenset()


class Places:
    """The hosts as they are now."""

    def __init__(self, hosts: Iterable[Host], shut: Collection[str] = ()) -> None:
        """`shut` are those that take no new work, beside those that are short of something."""
        self._hosts = tuple(sorted(hosts, key=lambda host: host.name))
        self._shut = frozenset(shut).union(host.name for host in self._hosts if host.shortage)
        self._known: dict[tuple[object, ...], tuple[str, ...]] = {}
        """What a cell needs -> the hosts where it fits."""
        self._met: dict[int, tuple[Placement, tuple[str, ...]]] = {}
        """The same for each placement that was asked about, by its identity."""
        self.sizes = {host.name: size_of(host) for host in self._hosts if host.name not in self._shut}
        """Those that take work, with all that they have for guests."""

    def of(self, placement: Placement, matrix: Matrix, failed: frozenset[str] = _NOWHERE) -> tuple[str, ...]:
        """Where a cell fits and may go: where it has failed only if there is nowhere else."""
        fits = self._fits(placement, matrix)
        return (tuple(host for host in fits if host not in failed) or fits) if failed else fits

    def avoid(self, going: Collection[str], failed: frozenset[str]) -> tuple[str, ...]:
        """The hosts that an attempt must not go to, where it may go to those."""
        return tuple(sorted(self._shut | (failed - set(going))))

    def _fits(self, placement: Placement, matrix: Matrix) -> tuple[str, ...]:
        # A run keeps its placements: one that was asked about is known by being the same, without a hash of models.
        met = self._met.get(id(placement))
        if met is None or met[0] is not placement:
            met = self._met[id(placement)] = (placement, self._fitting(placement, matrix))
        return met[1]

    def _fitting(self, placement: Placement, matrix: Matrix) -> tuple[str, ...]:
        needs = needs_of(placement, matrix)
        if needs not in self._known:
            self._known[needs] = tuple(
                host.name for host in self._hosts if host.name in self.sizes and not misfit(placement, matrix, host)
            )
        return self._known[needs]


def needs_of(placement: Placement, matrix: Matrix) -> tuple[object, ...]:
    """All by which hosts are fit for a cell or not: what is equal fits the same ones."""
    builder, cell = placement.builder, placement.cell
    return (
        placement.hypervisor,
        (cell.hypervisor, cell.arch, cell.cpu),
        (builder.hypervisor, builder.arch) if builder else None,
        matrix.guest,
        matrix.requires and matrix.requires.model_dump_json(),  # there are labels in it, which have no hash
    )


def size_of(thing: GuestSpec | Host) -> Size:
    """What a guest takes, or a host has."""
    return Size(thing.vcpus, thing.memory_mib)


def queue_of(
    run: str,
    submission: Submission,
    waiting: Sequence[CellState],
    places: Places,
    *,
    placements: Mapping[str, Placement],
    under_way: int,
    overdue: bool = False,
) -> Queue:
    """A run that waits, for `farm.schedule`: its cells dealt out by where they may go."""
    matrix = submission.plan.matrix
    lines: dict[tuple[str, ...], list[Waiting]] = {}
    for place, cell in enumerate(waiting):
        hosts = places.of(placements[cell.id], matrix, failed_hosts(cell) if cell.attempts else _NOWHERE)
        lines.setdefault(hosts, []).append(Waiting(place, cell.id))
    limits = [limit for limit in (matrix.max_parallel, submission.max_parallel) if limit]
    return Queue(
        run=run,
        owner=submission.owner,
        priority=submission.priority,
        size=size_of(matrix.guest),
        lines=tuple(Line(tuple(cells), hosts) for hosts, cells in lines.items()),
        under_way=under_way,
        limit=min(limits, default=None),
        overdue=overdue,
    )
