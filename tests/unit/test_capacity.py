"""What hosts have left: what is counted, against what there is."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from farm.capacity import Capacity, Size, UnderWay

SMALL = Size(1, 512)
LARGE = Size(4, 4096)
SIZES = st.sampled_from([SMALL, Size(2, 1024), Size(1, 3000), LARGE])
HOSTS = st.dictionaries(st.sampled_from("abc"), st.builds(Size, st.integers(1, 8), st.integers(512, 8192)), max_size=3)
OWNERS = st.sampled_from(["", "ann", "bob", "cid"])
GUESTS = st.lists(st.builds(UnderWay, OWNERS, SIZES, st.sampled_from(["a", "b", "c", ""])), max_size=6)


@given(HOSTS, HOSTS, GUESTS, GUESTS, st.data())
def test_what_is_counted_as_guests_come_and_go_is_what_there_is(
    before: dict[str, Size], hosts: dict[str, Size], old: list[UnderWay], new: list[UnderWay], data: st.DataObject
) -> None:
    capacity, there = Capacity(before, old), [*old]
    steps = [*(("ends", one) for one in old), *(("comes", one) for one in new), ("hosts", None)]
    for step in data.draw(st.permutations(steps)):
        match step:
            case ("ends", guest):
                capacity.remove(guest)
                there.remove(guest)
            case ("comes", guest):
                capacity.add(guest)
                there.append(guest)
            case _:
                capacity.resize(hosts)
                before = hosts
        left = dict(before)
        for guest in there:
            if guest.host in left:
                left[guest.host] = left[guest.host].less(guest.size)
        assert capacity.left == left
        assert capacity.open == {host for host, size in left.items() if min(size) > 0}
        assert capacity.guests == Counter((guest.owner, guest.size) for guest in there)
        assert capacity.of_run == Counter(guest.run for guest in there)
