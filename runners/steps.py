"""The steps of an attempt: what each phase does. `runners.attempt` takes them, and says what they came to."""

from __future__ import annotations

import errno
import shlex
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING

from farm.errors import ConfigError, FullError, LostError
from farm.mask import masked, masked_bytes, without_secrets
from farm.model import (
    SCRIPTS,
    ArtifactFound,
    Builder,
    Ending,
    GuestCreated,
    GuestFacts,
    Order,
    Phase,
    Slowness,
    Stream,
    TestsFound,
)
from farm.results import Results
from farm.results import read as read_results
from farm.slowness import timeouts_text
from runners.calibration.guests import measured_before, measured_in
from runners.collect import WORK_FOLDER, fetch_files, list_files, matching, read_archive, receive
from runners.counters import traffic
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Guest, Shell, Work
from runners.hold import admit

if TYPE_CHECKING:
    from runners.attempt import Attempt

BUILT_BYTES = 1024 * 1024 * 1024
"""Of the tar that a guest which builds for another one may leave, the source included."""

_ANSWER_S = 3.0
_TESTS_PER_EVENT = 1000
_BYTES_PER_EVENT = 1024 * 1024

Step = Callable[["Attempt", Deadline], Work[int | None]]

VERBS = {
    Phase.PROVISION: "make the guest",
    Phase.BOOT: "boot the guest",
    Phase.CONNECT: "connect to the guest",
    Phase.UPLOAD: "upload the source",
    **{phase: phase.value for phase in SCRIPTS},
    Phase.COLLECT: "collect the results",
    Phase.TEARDOWN: "tear the guest down",
}


def steps_of(order: Order) -> tuple[tuple[Phase, Step], ...]:
    """The phases of an order up to its test, as they follow each other; of a reserved guest, until it is there.

    With a builder, `build` is the first of them, so that there are never two guests at a time.
    """
    start: tuple[tuple[Phase, Step], ...] = (
        (Phase.PROVISION, _provision),
        (Phase.BOOT, _boot),
        (Phase.CONNECT, _connect),
        (Phase.UPLOAD, _upload),
    )
    if order.reserved_s:
        return start[:3]
    if order.builder:
        rest = [phase for phase in SCRIPTS if phase is not Phase.BUILD]
        return ((Phase.BUILD, _build_elsewhere), *start, *((phase, _script) for phase in rest))
    return (*start, *((phase, _script) for phase in SCRIPTS))


def _provision(attempt: Attempt, deadline: Deadline) -> Work[None]:
    facts = yield from _create(attempt, attempt.order, deadline)
    attempt.found.append(GuestCreated(at=_now(), facts=facts))


def _create(attempt: Attempt, order: Order, deadline: Deadline) -> Work[GuestFacts]:
    backend = attempt.load(order.hypervisor)
    attempt.guest = guest = yield from backend.create(order, deadline)
    slowness = yield from measured_before(guest.facts, backend, order)
    attempt.facts = known = _known(attempt, slowness)
    yield _farm_says(timeouts_text(attempt.order.timeouts, known, attempt.order.scripts))
    return known


def _boot(attempt: Attempt, deadline: Deadline) -> Work[None]:
    yield from _guest(attempt).boot(deadline)


def _connect(attempt: Attempt, deadline: Deadline) -> Work[None]:
    guest = _guest(attempt)
    attempt.shell = yield from guest.connect(deadline)
    slowness = attempt.facts.slowness if attempt.facts else None
    if slowness is None and (slowness := (yield from measured_in(guest, attempt.shell, attempt.order))):
        facts = _known(attempt, slowness)
        yield _farm_says(timeouts_text(attempt.order.timeouts, facts, attempt.order.scripts))
    _say_what_has_changed(attempt, _known(attempt, slowness))
    if attempt.order.reserved_s:
        yield from admit(attempt.shell, attempt.order.ssh_key, deadline)


def _known(attempt: Attempt, slowness: Slowness | None) -> GuestFacts:
    """What the guest at hand is, as far as that is known by now."""
    builder = None if attempt.is_building_for_another else attempt.builder
    return _guest(attempt).facts.model_copy(update={"slowness": slowness, "builder": builder})


def _say_what_has_changed(attempt: Attempt, facts: GuestFacts) -> None:
    """Since the guest was made: it may have been measured, or have booted where it was to be restored."""
    if facts == attempt.facts:
        return
    attempt.facts = facts
    if attempt.is_building_for_another:
        attempt.builder = facts
    else:
        attempt.found.append(GuestCreated(at=_now(), facts=facts))


def _farm_says(text: str) -> Chunk:
    return Chunk(Stream.FARM, f"[farm: {text}]\n".encode()) if text else TICK


def _upload(attempt: Attempt, deadline: Deadline) -> Work[None]:
    command = f"mkdir -p {WORK_FOLDER} && tar -xf - -C {WORK_FOLDER}"
    status = yield from _shell(attempt).execute(command, deadline=deadline, stdin=attempt.upload)
    if status:
        raise ConfigError(
            f"cannot unpack the source in the guest: tar returned {status}, see the log",
            hint="if the disk is too small, set guest.disk to more",
        )


def _script(attempt: Attempt, deadline: Deadline) -> Work[int]:
    """Send the phase's script and run it, in one round trip; its own standard input is empty."""
    phase, order = attempt.step, attempt.order
    attempt.tested = attempt.tested or phase is Phase.TEST
    path = f"/tmp/farm-{phase.value}.sh"  # noqa: S108 - in the guest
    variables = {**(order.build_env if phase is Phase.BUILD else {}), **order.env, **order.secrets}
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    script = f"export {exports} FARM_PHASE={phase.value}\n{order.scripts[phase]}\n"
    command = f"cat >{path} && cd {WORK_FOLDER} && exec /bin/sh -e {path} </dev/null"
    return (yield from _shell(attempt).execute(command, deadline=deadline, stdin=BytesIO(script.encode())))


def _build_elsewhere(attempt: Attempt, _deadline: Deadline) -> Work[int]:
    """Build in a guest of its own; its work folder is then what the guest that tests gets as its source.

    Each of its phases has the deadline of that phase, so that a guest which does not come up is not taken
    for a script which does not end. Where something goes wrong, it stays the guest at hand.
    """
    for phase, step in _BUILDER_STEPS:
        attempt.step = phase
        yield Chunk(Stream.FARM, f"[builder: {phase}]\n".encode())
        if status := (yield from step(attempt, attempt.deadline(phase))):
            return status
    attempt.step = Phase.TEARDOWN
    yield from _leave(attempt)  # that it took long is no reason not to test
    attempt.facts, attempt.usage = None, None  # they were the builder's
    return 0


def _provision_builder(attempt: Attempt, deadline: Deadline) -> Work[None]:
    builder = attempt.order.builder
    if builder is None:
        raise LostError("cannot make the guest that builds: the order names none")
    attempt.builder = facts = yield from _create(attempt, _order_of(builder, attempt.order), deadline)
    said = f"[builder: {facts.image} by {facts.hypervisor}, image {facts.image_digest[:12]}]\n"
    yield Chunk(Stream.FARM, said.encode())


def _order_of(builder: Builder, order: Order) -> Order:
    """An order as the backend of the builder has to see it."""
    return order.model_copy(update={"image": builder.image, "hypervisor": builder.hypervisor, "builder": None})


def _take_built(attempt: Attempt, deadline: Deadline) -> Work[None]:
    """Make the work folder the next upload. Only a guest opens that tar, and it is trusted no more than this one."""
    attempt.upload.close()
    attempt.upload = packed = tempfile.TemporaryFile()  # noqa: SIM115 - the attempt closes it
    command = f"cd {WORK_FOLDER} && tar --format=posix -cf - ."  # which keeps the fractions of a second, for make
    hint = "let `build` remove what the test does not need"
    try:
        yield from receive(_shell(attempt), command, packed.write, limit=BUILT_BYTES, deadline=deadline, hint=hint)
        packed.seek(0)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FullError(
                f"cannot keep what was built: {error.strerror}", hint=f"look at {tempfile.gettempdir()}"
            ) from error
        raise


def collect(attempt: Attempt, deadline: Deadline) -> Work[None]:
    """Bring back what the globs of the matrix mean, and read the results in it."""
    wanted = attempt.order.collect
    if not (wanted.junit or wanted.artifacts):
        return
    names = yield from list_files(_shell(attempt), deadline)
    results, artifacts = matching(names, wanted.junit), matching(names, wanted.artifacts)
    for glob in wanted.artifacts:
        if not matching(names, (glob,)):
            yield Chunk(Stream.FARM, f"[farm: no file matches the artifact glob {glob!r}]\n".encode())
    chosen = tuple(sorted({*results, *artifacts}))
    if not chosen:
        return
    archive = yield from fetch_files(_shell(attempt), chosen, deadline)
    for name, data in read_archive(archive, chosen):
        if name in results:
            _take_results(attempt, name, data)
        if name in artifacts:
            yield from _take_artifact(attempt, name, data)
        yield TICK


def _take_artifact(attempt: Attempt, name: str, data: bytes) -> Work[None]:
    """Without secrets; one that is no text would be broken by a mask, and does not leave the worker."""
    hidden = masked_bytes(attempt.needles, data)
    if hidden != data and not _is_text(data):
        yield Chunk(
            Stream.FARM, f"[farm: the artifact {name!r} is not kept: a secret is in it, and it is no text]\n".encode()
        )
        return
    attempt.found += [
        ArtifactFound(at=_now(), path=name, data=hidden[start : start + _BYTES_PER_EVENT])
        for start in range(0, max(1, len(hidden)), _BYTES_PER_EVENT)
    ]


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def _take_results(attempt: Attempt, name: str, data: bytes) -> None:
    results = _read_results(attempt, name, data)
    tests = tuple(without_secrets(attempt.needles, test) for test in results.tests)
    attempt.junit_files += 1
    attempt.junit_problem = attempt.junit_problem or masked(attempt.needles, results.problem)
    attempt.count(tests)
    attempt.found += [
        TestsFound(at=_now(), tests=tests[start : start + _TESTS_PER_EVENT])
        for start in range(0, len(tests), _TESTS_PER_EVENT)
    ]


def _read_results(attempt: Attempt, name: str, data: bytes) -> Results:
    """Masked before it is read: reading cuts what is long, and of a secret at the cut a half would be left.

    A secret that is a word of the format itself (`test`) cannot be, without the file being none any more; it is
    masked in the texts alone then.
    """
    hidden = masked_bytes(attempt.needles, data)
    results = read_results(name, hidden)
    if not results.problem or hidden == data:
        return results
    whole = read_results(name, data)
    return results if whole.problem else whole


def teardown(attempt: Attempt, deadline: Deadline) -> Work[None]:
    """End the guest that tested."""
    yield from _leave(attempt)
    deadline.check()


def _leave(attempt: Attempt) -> Work[None]:
    """Ask the guest at hand what it has used, hear it out, and destroy it."""
    yield from _measure(attempt)
    while attempt.guest and (said := attempt.guest.heard()):
        yield Chunk(Stream.CONSOLE, said)
    attempt.destroy()


def _measure(attempt: Attempt) -> Work[None]:
    attempt.measure()
    lost = attempt.failure is not None and attempt.failure.ending is Ending.LOST
    if attempt.shell is None or attempt.usage is None or lost:
        return
    passed = yield from traffic(attempt.shell, Deadline.after(_ANSWER_S, "ask the guest for its traffic"))
    if passed:
        counted = {"network_received_bytes": passed.received, "network_sent_bytes": passed.sent}
        attempt.usage = attempt.usage.model_copy(update=counted)


def _guest(attempt: Attempt) -> Guest:
    if attempt.guest is None:
        raise LostError(f"cannot {VERBS[attempt.step]}: there is no guest")
    return attempt.guest


def _shell(attempt: Attempt) -> Shell:
    if attempt.shell is None:
        raise LostError(f"cannot {VERBS[attempt.step]}: there is no connection to the guest")
    return attempt.shell


def _now() -> datetime:
    return datetime.now(UTC)


_BUILDER_STEPS: tuple[tuple[Phase, Step], ...] = (
    (Phase.PROVISION, _provision_builder),
    (Phase.BOOT, _boot),
    (Phase.CONNECT, _connect),
    (Phase.UPLOAD, _upload),
    (Phase.BUILD, _script),
    (Phase.COLLECT, _take_built),
)
