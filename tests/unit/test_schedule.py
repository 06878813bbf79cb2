"""Which cells start next: whose turn it is, and what holds for whatever waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from farm import schedule
from farm.capacity import Capacity, Size, UnderWay
from farm.schedule import NO_LIMITS, Limits, Line, Pick, Queue, Waiting
from tests.unit.test_capacity import GUESTS, HOSTS, LARGE, OWNERS, SIZES, SMALL

HOST = {"a": Size(4, 4096)}


def queue(run: str, cells: int, *, owner: str = "ann", hosts: Sequence[str] = ("a",), **more: object) -> Queue:
    lines = (Line(tuple(Waiting(place, f"{run}{place}") for place in range(cells)), tuple(hosts)),)
    made = Queue(run, owner, priority=50, size=SMALL, lines=lines)
    return replace(made, **more)  # type: ignore[arg-type]


def choose(
    queues: Iterable[Queue], hosts: Mapping[str, Size], guests: Iterable[UnderWay] = (), limits: Limits = NO_LIMITS
) -> tuple[Pick, ...]:
    return schedule.choose(queues, Capacity(hosts, guests), limits)


def cells(picks: Sequence[Pick]) -> list[str]:
    return [pick.cell for pick in picks]


# --- whose turn it is -------------------------------------------------------------------------------


def test_cells_of_a_run_start_in_its_order_up_to_the_room() -> None:
    assert cells(choose([queue("r", 6)], HOST)) == ["r0", "r1", "r2", "r3"]


def test_the_lines_of_a_run_keep_its_order() -> None:
    lines = (Line((Waiting(0, "x"), Waiting(3, "w")), ("a",)), Line((Waiting(1, "y"), Waiting(2, "z")), ("a", "b")))
    assert cells(choose([queue("r", 0, lines=lines)], HOST)) == ["x", "y", "z", "w"]


def test_a_higher_priority_comes_first_whoever_has_it() -> None:
    waiting = [queue("old", 4), queue("urgent", 3, priority=60)]
    assert cells(choose(waiting, HOST)) == ["urgent0", "urgent1", "urgent2", "old0"]


def test_users_of_one_priority_take_turns() -> None:
    waiting = [queue("a", 9), queue("b", 9, owner="bob")]
    assert cells(choose(waiting, HOST)) == ["a0", "b0", "a1", "b1"]


def test_who_has_less_under_way_comes_first() -> None:
    there = [UnderWay("ann", SMALL, "a"), UnderWay("ann", SMALL, "a")]
    waiting = [queue("a", 9), queue("b", 9, owner="bob")]
    assert cells(choose(waiting, HOST, there)) == ["b0", "b1"]


def test_a_large_guest_counts_for_as_much_as_it_takes() -> None:
    waiting = [queue("large", 2, size=Size(2, 512)), queue("small", 9, owner="bob")]
    assert cells(choose(waiting, HOST)) == ["large0", "small0", "small1"]


def test_of_one_user_the_oldest_run_comes_first() -> None:
    assert cells(choose([queue("old", 3), queue("new", 3)], HOST)) == ["old0", "old1", "old2", "new0"]


def test_a_run_at_its_own_limit_lets_the_next_one_start() -> None:
    waiting = [queue("old", 3, limit=2, under_way=1), queue("new", 3)]
    assert cells(choose(waiting, HOST)) == ["old0", "new0", "new1", "new2"]


def test_a_user_at_the_limit_lets_others_start() -> None:
    waiting = [queue("a", 9, priority=90), queue("b", 9, owner="bob")]
    found = choose(waiting, HOST, limits=Limits(each=3, of={"ann": 1}))
    assert cells(found) == ["a0", "b0", "b1", "b2"]


def test_who_may_start_programs_on_the_server_has_no_limit() -> None:
    assert len(choose([queue("r", 9, owner="")], HOST, limits=Limits(each=1))) == 4


def test_a_cell_that_fits_elsewhere_leaves_the_host_that_another_needs() -> None:
    both = {"a": Size(1, 4096), "b": Size(1, 4096)}
    waiting = [queue("any", 1, hosts=("a", "b")), queue("only", 1, owner="bob", hosts=("a",))]
    assert {pick.cell: pick.host for pick in choose(waiting, both)} == {"any0": "b", "only0": "a"}


def test_guests_are_spread_over_the_hosts() -> None:
    found = choose([queue("r", 4, hosts=("a", "b"))], {"a": Size(4, 9999), "b": Size(4, 9999)})
    assert Counter(pick.host for pick in found) == {"a": 2, "b": 2}


def test_memory_is_room_too() -> None:
    assert len(choose([queue("r", 9, size=Size(1, 2048))], HOST)) == 2


def test_what_may_go_nowhere_waits() -> None:
    assert choose([queue("r", 1, hosts=())], HOST) == ()
    assert choose([queue("r", 1, hosts=("gone",))], HOST) == ()
    assert choose([queue("r", 1)], {}) == ()


def test_room_is_kept_for_a_large_guest_that_has_waited_for_too_long() -> None:
    there = [UnderWay("bob", SMALL, "a")]
    large, small = queue("large", 1, size=LARGE), queue("small", 9, owner="bob")
    assert len(choose([large, small], HOST, there)) == 3
    assert choose([replace(large, overdue=True), small], HOST, there) == ()
    assert cells(choose([replace(large, overdue=True), small], HOST)) == ["large0"]


def test_room_is_kept_on_one_host_only_the_one_that_has_it_first() -> None:
    farm = {"a": Size(4, 4096), "b": Size(4, 4096)}
    there = [UnderWay("bob", SMALL, "a"), UnderWay("bob", Size(2, 512), "b")]
    waiting = [queue("large", 1, size=LARGE, hosts=("a", "b"), overdue=True), queue("s", 9, hosts=("a", "b"))]
    assert {pick.host for pick in choose(waiting, farm, there)} == {"b"}


# --- what always holds ------------------------------------------------------------------------------

LIMITS = st.builds(
    Limits, st.none() | st.integers(0, 4), st.dictionaries(st.sampled_from(["ann", "bob"]), st.integers(0, 4))
)


@st.composite
def queues(draw: st.DrawFn, *, overdue: bool = True) -> list[Queue]:
    """Some runs, the cells of each dealt out to lines with different hosts."""
    made = []
    for number in range(draw(st.integers(0, 5))):
        owner, size = draw(OWNERS), draw(SIZES)
        wheres = draw(st.lists(st.sets(st.sampled_from("abcd")).map(sorted).map(tuple), max_size=3, unique=True))
        dealt: list[list[Waiting]] = [[] for _ in wheres]
        for place in range(draw(st.integers(0, 8)) if wheres else 0):
            dealt[draw(st.integers(0, len(wheres) - 1))].append(Waiting(place, f"{number}-{place}"))
        made.append(
            Queue(
                f"run-{number}",
                owner,
                draw(st.sampled_from([10, 50, 90])),
                size,
                tuple(Line(tuple(line), where) for line, where in zip(dealt, wheres, strict=True)),
                under_way=draw(st.integers(0, 3)),
                limit=draw(st.none() | st.integers(1, 5)),
                overdue=overdue and draw(st.booleans()),
            )
        )
    return made


@given(queues(), HOSTS, GUESTS, LIMITS)
def test_no_limit_is_exceeded_and_nothing_starts_where_it_may_not(
    waiting: list[Queue], hosts: dict[str, Size], guests: list[UnderWay], limits: Limits
) -> None:
    picks = choose(waiting, hosts, guests, limits)
    by_run = {one.run: one for one in waiting}
    assert len({pick.cell for pick in picks}) == len(picks)
    left, had = Capacity(hosts, guests).left, Counter(guest.owner for guest in guests)
    for pick in picks:
        one = by_run[pick.run]
        (line,) = [line for line in one.lines if pick.cell in {cell.cell for cell in line.cells}]
        assert pick.host in line.hosts
        left[pick.host] = left[pick.host].less(one.size)
        had[one.owner] += 1
        limit = limits.limit(one.owner)
        assert limit is None or had[one.owner] <= limit
    started = Counter(pick.run for pick in picks)
    assert all(
        one.limit is None or not started[one.run] or one.under_way + started[one.run] <= one.limit for one in waiting
    )
    chosen = {pick.host for pick in picks}
    assert all(min(left[host]) >= 0 for host in chosen)


@given(queues(overdue=False), HOSTS, GUESTS, LIMITS)
def test_no_room_is_left_that_a_cell_could_have(
    waiting: list[Queue], hosts: dict[str, Size], guests: list[UnderWay], limits: Limits
) -> None:
    picks = choose(waiting, hosts, guests, limits)
    by_run = {one.run: one for one in waiting}
    there = [*guests, *(UnderWay(by_run[one.run].owner, by_run[one.run].size, one.host) for one in picks)]
    left, had = Capacity(hosts, there).left, Counter(guest.owner for guest in there)
    started, taken = Counter(pick.run for pick in picks), {pick.cell for pick in picks}
    for one in waiting:
        limit = limits.limit(one.owner)
        if limit is not None and had[one.owner] >= limit:
            continue
        if one.limit is not None and one.under_way + started[one.run] >= one.limit:
            continue
        for line in one.lines:
            if {cell.cell for cell in line.cells} - taken:
                assert not [host for host in line.hosts if host in left and left[host].holds(one.size)]


@given(queues(), HOSTS, GUESTS, LIMITS)
def test_the_same_farm_gets_the_same_answer(
    waiting: list[Queue], hosts: dict[str, Size], guests: list[UnderWay], limits: Limits
) -> None:
    again = dict(reversed(hosts.items()))
    assert choose(waiting, hosts, guests, limits) == choose(list(waiting), again, list(reversed(guests)), limits)


def test_what_a_lower_priority_wants_does_not_cost_a_higher_one_its_place() -> None:
    both = {"a": Size(2, 1024), "b": Size(1, 512)}
    lines = (Line((Waiting(0, "any"),), ("a", "b")), Line((Waiting(1, "large"),), ("a",)))
    small, large = queue("s", 0, size=Size(1, 512), lines=lines[:1]), queue("l", 0, size=Size(2, 512), lines=lines[1:])
    low = [queue(f"low{n}", 1, priority=10, hosts=where) for n, where in enumerate((("b",), ("b", "a"), ("b", "c")))]
    assert cells(choose([small, large], both)) == cells(choose([small, large, *low], both))[:2] == ["any", "large"]


@given(queues(overdue=False), HOSTS)
def test_what_has_a_lower_priority_changes_nothing(waiting: list[Queue], hosts: dict[str, Size]) -> None:
    highest = max((one.priority for one in waiting), default=0)
    alone = [one for one in waiting if one.priority == highest]
    assert [pick.cell for pick in choose(waiting, hosts)][: len(choose(alone, hosts))] == cells(choose(alone, hosts))


@given(st.integers(2, 5), st.integers(1, 8))
def test_no_user_is_more_than_one_guest_ahead_of_another_who_waits(users: int, slots: int) -> None:
    waiting = [queue(f"run-{number}-", 50, owner=f"user-{number}") for number in range(users)]
    had = Counter(pick.run for pick in choose(waiting, {"a": Size(slots, 10**6)}))
    counts = [had[one.run] for one in waiting]
    assert max(counts) - min(counts) <= 1


LONGEST = 6
PATIENCE = 3


@settings(max_examples=60)
@given(st.data(), st.integers(1, 3))
def test_nobody_starves_within_a_priority(data: st.DataObject, rivals: int) -> None:
    """However long guests take, and although the others always have more to run: each cell gets its turn."""
    size = data.draw(SIZES)
    mine = queue("mine", 3, owner="ann", size=size)
    ends: list[tuple[int, UnderWay]] = []
    waited = clock = 0
    while mine.lines[0].cells:
        others = [queue(f"rival-{number}", 20, owner=f"rival-{number}") for number in range(rivals)]
        there = [guest for _, guest in ends]
        picks = choose([*others, replace(mine, overdue=waited >= PATIENCE)], HOST, there)
        for pick in picks:
            guest = UnderWay("ann", size, "a") if pick.run == "mine" else UnderWay(pick.run, SMALL, "a")
            ends.append((clock + data.draw(st.integers(1, LONGEST)), guest))
        ours = sum(pick.run == "mine" for pick in picks)
        mine = replace(mine, lines=(replace(mine.lines[0], cells=mine.lines[0].cells[ours:]),))
        waited = 0 if ours else waited + 1
        assert waited <= PATIENCE + 2 * LONGEST  # first her own guests end, then those on the host that is kept
        clock += 1
        ends = [(end, guest) for end, guest in ends if end > clock]
