"""Takes webhooks in: what is theirs to ask for is noted at once, and worked on by a few threads.

A webhook that was taken is in the store before it is answered; where the server ends before there is a run of it, the
next one goes on with it. A forge that cannot be reached, or a host that cannot, is tried again for some hours.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import structlog

from farm.errors import ConflictError, FarmError, HostError, NotFoundError, SourceError
from farm.intake import Intake
from farm.matrix.near import did_you_mean
from farm.model import Model, Push, Triggered
from farm.store import Store
from farm.store.access import Access
from farm.store.hooks import FAILED, Hooks
from farm.triggers.providers import PROVIDERS, Provider, delivery_of
from farm.triggers.requests import clone_url, run_request
from farm.triggers.retries import next_try
from farm.triggers.settings import Delivery, Trigger
from farm.triggers.signatures import Received
from farm.triggers.waiting import Waiting

_THREADS = 2
"""Most of the time they wait for a forge to hand out a commit."""

log = structlog.get_logger(__name__)


class Receipt(Model):
    """What is said to who has sent a webhook."""

    outcome: Literal["accepted", "ignored", "pong"]
    detail: str
    """For a person who looks at the forge's list of deliveries."""


class _Job(NamedTuple):
    """A webhook that is to become a run."""

    hook: Triggered
    tries: int = 0
    """How often that has failed since the server began."""


class Reception:
    """Where webhooks come in."""

    def __init__(
        self,
        triggers: Sequence[Trigger],
        *,
        delivery: Delivery,
        store: Store,
        intake: Intake,
        access: Access,
        wake: Callable[[], None],
    ) -> None:
        """`delivery` says how stubbornly a commit is fetched. Raises ConfigError where a secret cannot be had."""
        for trigger in triggers:
            trigger.secret()
            _warn_without_matrix(trigger, intake.matrices())
        self._triggers = {trigger.name: trigger for trigger in triggers}
        self._delivery, self._intake, self._access, self._wake = delivery, intake, access, wake
        self._hooks = Hooks(store.engine)
        self._work: Waiting[_Job] = Waiting()

    def start(self) -> None:
        """Begin to work, with what was left by those before."""
        for hook in self._hooks.waiting() if self._triggers else ():
            self._work.put(_Job(hook))
        for number in range(_THREADS if self._triggers else 0):
            # Daemons, since git may wait long for a forge, and what is lost by it is only the waiting.
            threading.Thread(target=self._serve, name=f"trigger-{number}", daemon=True).start()

    def take(self, name: str, received: Received) -> Receipt:
        """Take a webhook, or say why there is nothing to do.

        Raises NotFoundError for the trigger, SignatureError, UntrustedError for what cannot be read, ConflictError
        for what came before or is too old, ForbiddenError for a source that is not allowed.
        """
        trigger = self._trigger(name)
        provider = PROVIDERS[trigger.provider]
        provider.check(received, trigger.secret())
        event = received.headers.get(provider.event, "")
        if event in provider.pings:
            return Receipt(outcome="pong", detail=f"this is the trigger {name}")
        if event not in provider.pushes:
            return Receipt(outcome="ignored", detail=f"a {event[:60]!r} starts nothing; pushes and tags do")
        push = provider.pushes[event](received.body, received.now)
        if push is None:
            return Receipt(outcome="ignored", detail="a branch or tag was deleted")
        if not trigger.wants(push.repository, push.ref):
            return Receipt(outcome="ignored", detail=f"the trigger is not for {push.ref} of {push.repository}")
        return self._accept(trigger, provider, push, received)

    def _trigger(self, name: str) -> Trigger:
        if name not in self._triggers:
            near = did_you_mean(name, tuple(self._triggers))
            raise NotFoundError(f"cannot find the trigger {name!r}: farm.toml has none of this name{near}")
        return self._triggers[name]

    def _accept(self, trigger: Trigger, provider: Provider, push: Push, received: Received) -> Receipt:
        clone_url(trigger, push)
        also = (_digest(received.body),) if provider.only_body_is_signed else ()
        hook = Triggered(trigger=trigger.name, delivery=delivery_of(provider, received), also=also, push=push)
        if not self._hooks.take(hook, now=received.now):
            raise ConflictError(
                f"cannot take the webhook {hook.delivery}: it came before",
                hint="to run the same commit again, use `farm rerun` or push again",
            )
        detail = {"repository": push.repository, "ref": push.ref, "commit": push.commit, "delivery": hook.delivery}
        self._access.note(trigger.owner, "hook.take", trigger.name, detail, now=received.now)
        self._work.put(_Job(hook))
        return Receipt(outcome="accepted", detail=f"{push.ref} at {push.commit[:12]} is going to be run")

    # --- afterwards ---------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            hook, tries = job = self._work.get()
            try:
                self._submit(hook)
            except (SourceError, HostError) as error:
                self._put_off(job._replace(tries=tries + 1), error)
            except FarmError as error:
                self._give_up(hook, error.message, error.hint)
            except Exception as error:
                log.exception("a defect: cannot submit the run of a webhook", trigger=hook.trigger)
                self._give_up(hook, f"a defect of the farm: {error!r}", "")

    def _submit(self, hook: Triggered) -> None:
        trigger = self._trigger(hook.trigger)
        run = self._intake.submit(run_request(trigger, hook.push), owner=trigger.owner, key=hook.delivery)
        self._hooks.submitted(hook, run.id)
        log.info("a webhook has become a run", trigger=trigger.name, run=run.id, commit=hook.push.commit)
        self._wake()

    def _put_off(self, job: _Job, error: FarmError) -> None:
        """The forge does not deliver it again by itself: what may pass is waited for."""
        now = _now()
        due = next_try(job.tries, self._delivery, now=now)
        if due is None:
            self._give_up(job.hook, error.message, error.hint)
            return
        wait_s = (due - now).total_seconds()
        words = {"trigger": job.hook.trigger, "commit": job.hook.push.commit, "delivery": job.hook.delivery}
        log.warning(
            "the run of a webhook is tried again",
            **words,
            problem=error.message,
            wait_s=round(wait_s, 1),
            tries=job.tries,
        )
        self._work.put(job, after_s=wait_s)

    def _give_up(self, hook: Triggered, problem: str, hint: str) -> None:
        """The forge may deliver it again, when what was wrong is mended."""
        words = {"repository": hook.push.repository, "commit": hook.push.commit, "delivery": hook.delivery}
        log.error("cannot submit the run of a webhook", trigger=hook.trigger, problem=problem, hint=hint, **words)
        try:
            self._hooks.release(hook)
            self._access.note(f"trigger {hook.trigger}", FAILED, hook.trigger, words | {"problem": problem}, now=_now())
        except FarmError:
            log.exception("cannot note that a webhook came to nothing")


def _warn_without_matrix(trigger: Trigger, names: Sequence[str]) -> None:
    """It may come later; until then, webhooks come to nothing."""
    if trigger.matrix and not trigger.matrix.is_file():
        log.warning("a trigger has no matrix: there is no such file", trigger=trigger.name, matrix=str(trigger.matrix))
    if trigger.matrix_name and trigger.matrix_name not in names:
        log.warning("a trigger has no matrix of this name", trigger=trigger.name, matrix=trigger.matrix_name)


def _digest(body: bytes) -> str:
    return "body " + hashlib.sha256(body).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC)
