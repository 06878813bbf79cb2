"""The closed vocabularies. One word for each thing, everywhere (docs/glossary.md)."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """A step of an attempt, in this order."""

    PROVISION = "provision"
    BOOT = "boot"
    CONNECT = "connect"
    UPLOAD = "upload"
    PREPARE = "prepare"
    BUILD = "build"
    TEST = "test"
    COLLECT = "collect"
    TEARDOWN = "teardown"


SCRIPTS = (Phase.PREPARE, Phase.BUILD, Phase.TEST)
"""The phases that run a script of the matrix, in their order; each is a key of it."""


class Verdict(StrEnum):
    """What a cell came to."""

    PASSED = "passed"
    FAILED = "failed"
    """The program under test is not right here."""
    ERROR = "error"
    """It could not be found out whether it is right."""
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class Blame(StrEnum):
    """Whose fault a verdict other than passed is."""

    TEST = "test"
    """The program under test, or its scripts."""
    GUEST = "guest"
    """The guest's own system crashed."""
    INFRA = "infra"
    """A host, a hypervisor, a network."""
    CONFIG = "config"
    """What the matrix asks for cannot be had."""
    FARM = "farm"
    """A defect of the farm itself."""


class State(StrEnum):
    """Where a run, a cell or an attempt is in its life. Says nothing of its verdict."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"


class Ending(StrEnum):
    """How a phase ended."""

    OK = "ok"
    FAILED = "failed"
    """A script returned another status than 0, or a step could not be done."""
    TIMEOUT = "timeout"
    LOST = "lost"
    """The connection or the guest went away."""
    CANCELLED = "cancelled"


class TestStatus(StrEnum):
    """The result of one test."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"


class Start(StrEnum):
    """How a guest came to life."""

    COLD = "cold"
    """It booted."""
    RESTORED = "restored"
    """From a snapshot of one that had booted."""


class Mark(StrEnum):
    """Why a host takes no new work."""

    DRAINED = "drained"
    """Somebody has said so, and has to say when it does again."""
    FAILED = "failed"
    """Infrastructure failed there several times in a row; a test of it brings it back."""
    FULL = "full"
    """It is short of disk or memory; a test of it brings it back."""


class Scope(StrEnum):
    """What a token is good for; each includes those before it."""

    READ = "read"
    """Look at everything but tokens and the audit log."""
    SUBMIT = "submit"
    """Submit runs, and cancel, repeat and reserve one's own."""
    OPERATE = "operate"
    """Anybody's runs; hosts, waivers, baselines."""
    ADMIN = "admin"
    """Tokens, and the audit log."""

    def includes(self, other: Scope) -> bool:
        """Whether a token of this scope may do what asks for another."""
        order = tuple(Scope)
        return order.index(self) >= order.index(other)


class Stream(StrEnum):
    """Where a piece of a log comes from."""

    STDOUT = "stdout"
    STDERR = "stderr"
    CONSOLE = "console"
    FARM = "farm"
    """Said by the farm itself."""
