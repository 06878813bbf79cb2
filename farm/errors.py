"""Every error the farm raises on purpose.

    FarmError
    ├── MatrixError         the matrix file is wrong: one `Problem` for each mistake, with its position
    ├── SourceError         the source cannot be had, or is not what was promised
    ├── PlanError           nothing can be run: no cell is left, no host fits
    ├── ConfigError         a setting, option or argument is wrong
    ├── NotFoundError       no such run, cell, image or log
    ├── ForbiddenError      who asks may not do that
    ├── ConflictError       it does not go together with what is there
    │   └── BusyError       the same is being done right now; ask again in a moment
    ├── ServerError         the server that was asked cannot be reached, or gives no answer that can be understood
    ├── AttemptError        an attempt ended without its evidence
    │   ├── AttemptCancelledError   it was cancelled
    │   ├── AttemptLostError        its worker or its node died
    │   └── FencedError             as far as the store is concerned it has ended already
    ├── HostError           the host cannot do its part (blame: infra)
    │   ├── ImageError      an image cannot be built or found
    │   │   └── PackageError    a package asked for does not exist (blame: config)
    │   ├── HypervisorError the hypervisor refused
    │   └── FullError       the host has no disk or memory left
    └── GuestError          the guest did not do what it should
        ├── DeadlineError   a deadline passed
        ├── ConnectError    no SSH session could be had
        ├── LostError       the connection, or the guest under it, went away
        └── UntrustedError  the guest sent something that is not accepted

A message reads "cannot <verb> <thing>: <cause>" and `hint` says what to do next. Which of them is
whose fault is decided in one place, `farm.verdict`.
"""

from __future__ import annotations

from dataclasses import dataclass


class FarmError(Exception):
    """The root: a sentence for the user, and `hint`, what to do next."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders in Ray; the default forgets keyword arguments.
        return (_rebuild, (type(self), self.__dict__))


def _rebuild(cls: type[FarmError], state: dict[str, object]) -> FarmError:
    error = cls.__new__(cls)
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error


@dataclass(frozen=True)
class Problem:
    """One mistake in a file: `line` and `column` count from 1."""

    file: str
    line: int
    column: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.what}"


class MatrixError(FarmError):
    """The matrix file is wrong."""

    def __init__(self, problems: tuple[Problem, ...], *, hint: str = "") -> None:
        super().__init__("\n".join(str(problem) for problem in problems), hint=hint)
        self.problems = problems


class SourceError(FarmError):
    """The source cannot be had, or is not what was promised."""


class PlanError(FarmError):
    """Nothing can be run."""


class ConfigError(FarmError):
    """A setting, option or argument is wrong."""


class NotFoundError(FarmError):
    """There is no such run, cell, image or log."""


class ForbiddenError(FarmError):
    """Who asks may not do that."""


class ConflictError(FarmError):
    """What is asked for does not go together with what is there."""


class BusyError(ConflictError):
    """The same is being done right now."""


class ServerError(FarmError):
    """The server that was asked cannot be reached, or gives no answer that can be understood."""


class AttemptError(FarmError):
    """An attempt ended without its evidence."""


class AttemptCancelledError(AttemptError):
    """It was cancelled."""


class AttemptLostError(AttemptError):
    """Its worker or its node died."""


class FencedError(AttemptError):
    """The store takes nothing of it any more: it has ended."""


class HostError(FarmError):
    """The host cannot do its part."""


class ImageError(HostError):
    """An image cannot be built or found."""


class PackageError(ImageError):
    """A package that was asked for does not exist."""


class HypervisorError(HostError):
    """The hypervisor refused."""


class FullError(HostError):
    """The host has no disk or memory left."""


class GuestError(FarmError):
    """The guest did not do what it should."""


class DeadlineError(GuestError):
    """A deadline passed."""


class ConnectError(GuestError):
    """No SSH session could be had."""


class LostError(GuestError):
    """The connection, or the guest under it, went away."""


class UntrustedError(GuestError):
    """The guest sent something that is not accepted."""
