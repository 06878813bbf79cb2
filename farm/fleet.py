"""The hosts at a glance: what each can run, what runs there now, and whether it gets anything new, or why not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from farm.errors import NotFoundError
from farm.model import GuestLine, Host, HostLook
from farm.store import Store
from farm.store.details import Details, GuestRow


def looks(store: Store, hosts: Iterable[Host]) -> tuple[HostLook, ...]:
    """These hosts, and those that are drained, by their names."""
    return tuple(_looks(store, {host.name: host for host in hosts}))


def look_at(store: Store, hosts: Iterable[Host], name: str) -> HostLook:
    """One of them. Raises NotFoundError."""
    found = {look.name: look for look in looks(store, hosts)}
    if name not in found:
        raise NotFoundError(f"cannot find the host {name!r}", hint=f"there are: {', '.join(found) or 'none'}")
    return found[name]


def drain(store: Store, hosts: Iterable[Host], name: str, reason: str) -> HostLook:
    """A host gets nothing new from now on; what runs there goes on to its end. Raises NotFoundError."""
    look_at(store, hosts := tuple(hosts), name)
    store.hosts.drain(name, reason, now=datetime.now(UTC))
    return look_at(store, hosts, name)


def resume(store: Store, hosts: Iterable[Host], name: str) -> HostLook:
    """A host gets work again; nothing happens where it was not drained. Raises NotFoundError."""
    before = look_at(store, hosts, name)
    store.hosts.enable(name)
    return before.model_copy(update={"drained": False, "reason": "", "mark": None, "due": None})


def _looks(store: Store, there: dict[str, Host]) -> Iterator[HostLook]:
    drained, guests = store.hosts.why(), Details(store.engine).guests()
    marks = {mark.name: mark for mark in store.hosts.all()}
    for name in sorted({*there, *drained}):
        yield HostLook(
            name=name,
            host=there.get(name),
            drained=name in drained,
            reason=drained.get(name, ""),
            mark=marks[name].mark if name in marks else None,
            due=marks[name].due if name in marks else None,
            guests=tuple(_guest(row) for row in guests if row.host == name),
        )


def _guest(row: GuestRow) -> GuestLine:
    return GuestLine(**row.key.model_dump(), since=row.since)
