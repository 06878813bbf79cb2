"""What a command on a host comes to, however it is run there."""

from __future__ import annotations

from farm.errors import FullError, HostError
from farm.model import Stream
from runners.guest import TICK, Chunk

_SAID_BYTES = 16 * 1024
_OUTPUT_BYTES = 64 * 1024 * 1024
_ENVIRONMENT = 'export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"\n'
_FULL = ("No space left on device", "Disk quota exceeded")


class CommandError(HostError):
    """A command on a host ended with another status than 0."""

    def __init__(self, message: str, *, status: int, said: str, hint: str = "") -> None:
        """`said`: its last words."""
        super().__init__(message, hint=hint)
        self.status = status
        self.said = said


class Ended:
    """What a command has said so far, and how it ended."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._output = bytearray()
        self._said = bytearray()

    def take(self, chunk: Chunk) -> Chunk:
        """Keep a piece; gives what of it is for the log. Raises HostError where it is too much."""
        if chunk.stream is Stream.STDOUT:
            self._output += chunk.data
            if len(self._output) > _OUTPUT_BYTES:
                raise HostError(f"cannot run a command on {self._place}: it says more than {_OUTPUT_BYTES >> 20} MiB")
            return TICK
        self._said = (self._said + chunk.data)[-_SAID_BYTES:]
        return chunk

    def result(self, status: int) -> bytes:
        """Its output. Raises CommandError, FullError."""
        if status == 0:
            return bytes(self._output)
        said = self._said.decode(errors="replace").strip()
        message = f"cannot run a command on {self._place}: it ended with {status}: {said or 'and said nothing'}"
        if any(word in said for word in _FULL):
            raise FullError(message, hint="make room there; the farm's own things are in /var/lib/farm")
        raise CommandError(message, status=status, said=said)


def with_environment(command: str) -> str:
    """A command with the environment that it gets on every machine."""
    return _ENVIRONMENT + command
