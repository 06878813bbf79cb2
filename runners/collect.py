"""Bringing files out of a guest: which of its files the globs mean, and reading the tar it sends.

The guest is hostile. It says which files it has; what is asked for is chosen here, and nothing is
accepted but regular files by exactly the names that were asked for, up to a bound.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator

from farm.errors import UntrustedError
from farm.model import Stream
from farm.text import safe_path
from runners.deadline import Deadline
from runners.guest import TICK, Shell, Work

WORK_FOLDER = "/work"
"""Where the source lies in a guest, and where scripts run."""
LISTING_BYTES = 16 * 1024 * 1024
ARCHIVE_BYTES = 256 * 1024 * 1024


def glob_pattern(glob: str) -> re.Pattern[str]:
    """A glob over relative paths: `*` and `?` stay within a folder, `**` crosses folders."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob.removeprefix("./"))
    meanings = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meanings.get(part) or re.escape(part) for part in parts), re.DOTALL)


def matching(names: Iterable[str], globs: Iterable[str]) -> tuple[str, ...]:
    """The names that any of the globs means, sorted."""
    patterns = [glob_pattern(glob) for glob in globs]
    return tuple(sorted({name for name in names if any(pattern.fullmatch(name) for pattern in patterns)}))


def list_files(shell: Shell, deadline: Deadline) -> Work[tuple[str, ...]]:
    """The regular files below the work folder, by relative path; names that are not safe are left out."""
    listing = yield from fetch(
        shell, f"cd {WORK_FOLDER} && find . -type f -print0", limit=LISTING_BYTES, deadline=deadline
    )
    return safe_names(listing)


def safe_names(listing: bytes) -> tuple[str, ...]:
    """The names in what `find -print0` says; those that are not safe are left out."""
    names = (raw.decode("utf-8", "replace").removeprefix("./") for raw in listing.split(b"\0") if raw)
    return tuple(name for name in names if _is_safe(name))


def fetch_files(shell: Shell, names: tuple[str, ...], deadline: Deadline) -> Work[bytes]:
    """A tar of these files, as the guest makes it."""
    wanted = "".join(f"./{name}\n" for name in names).encode()
    command = f"cd {WORK_FOLDER} && tar -cf - -T -"
    return (yield from fetch(shell, command, limit=ARCHIVE_BYTES, deadline=deadline, stdin=wanted))


def fetch(shell: Shell, command: str, *, limit: int, deadline: Deadline, stdin: bytes = b"") -> Work[bytes]:
    """The standard output of a command; its standard error goes to the log. Raises UntrustedError."""
    output = bytearray()
    hint = "collect fewer or smaller files"
    yield from receive(shell, command, output.extend, limit=limit, deadline=deadline, hint=hint, stdin=stdin)
    return bytes(output)


def receive(
    shell: Shell,
    command: str,
    take: Callable[[bytes], object],
    *,
    limit: int,
    deadline: Deadline,
    hint: str,
    stdin: bytes = b"",
) -> Work[None]:
    """Hand on the standard output of a command, piece by piece; its standard error goes to the log.

    Raises UntrustedError where more than `limit` bytes come (`hint` says what to do then), or no status 0.
    """
    size = 0
    work = shell.execute(command, deadline=deadline, stdin=io.BytesIO(stdin))
    while True:
        try:
            chunk = next(work)
        except StopIteration as end:
            status = end.value
            break
        if chunk.stream is not Stream.STDOUT:
            yield chunk
            continue
        size += len(chunk.data)
        if size > limit:
            work.close()
            raise UntrustedError(
                f"cannot collect from the guest: more than {limit // 1024 // 1024} MiB came", hint=hint
            )
        take(chunk.data)
        yield TICK
    if status != 0:
        said = command.rpartition(" && ")[2]
        raise UntrustedError(f"cannot collect from the guest: {said!r} returned {status} there")


def read_archive(archive: bytes, wanted: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The files of a tar that were asked for. Raises UntrustedError at anything else in it."""
    asked = set(wanted)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if name not in asked or not member.isfile():
                    raise UntrustedError(
                        f"cannot accept what the guest sends: {member.name!r} was not asked for, or is no regular file"
                    )
                asked.discard(name)
                file = tar.extractfile(member)
                yield name, file.read() if file else b""
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise UntrustedError(f"cannot read what the guest sends: its tar is broken ({error})") from error


def _is_safe(name: str) -> bool:
    try:
        safe_path(name)
    except UntrustedError:
        return False
    return "\n" not in name
