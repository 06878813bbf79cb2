"""The farm as a service: the controller in a thread of its own, beside whoever asks (the API, the pages).

They speak with each other through the store alone; a word in each direction only says that there is something new.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import structlog

from farm.aside import Aside
from farm.attempts import Executor
from farm.compat import compat_of
from farm.config import Settings
from farm.controller import Controller
from farm.errors import ConflictError
from farm.explainer import Explainer
from farm.feed import Feed
from farm.images import Images
from farm.intake import Fleet, Intake
from farm.meter import Meter
from farm.model import (
    AttemptEnded,
    AttemptKey,
    Ending,
    Event,
    GuestCreated,
    Outcome,
    PhaseEnded,
    PhaseStarted,
    Plan,
)
from farm.overviews import Overviews
from farm.pulse import Pulse
from farm.references import References
from farm.reservations import Reservations
from farm.serverconfig import ServerConfig
from farm.store import Store
from farm.store.access import Access
from farm.store.baselines import Baselines
from farm.store.details import Details
from farm.store.history import History
from farm.store.keys import Keys
from farm.store.waivers import Waivers
from farm.tenure import in_turns
from farm.triggers.reception import Reception
from farm.triggers.sender import Sender

_TURN_S = 0.0005
"""How long a thread keeps the interpreter while others wait for it; Python's own 5 ms add up, for an answer needs it
a dozen times."""

log = structlog.get_logger(__name__)


class _Log:
    """A Watcher that writes down what cells come to."""

    def event(self, key: AttemptKey, event: Event) -> None:
        """An attempt said something, which the store has; its steps are told, its words are not."""
        match event:
            case PhaseStarted(phase=phase):
                log.debug("a phase begins", attempt=key, phase=phase.value)
            case GuestCreated(facts=facts):
                log.info("a guest is there", attempt=key, host=facts.host, hypervisor=facts.hypervisor)
            case PhaseEnded(phase=phase, ending=ending) if ending is not Ending.OK:
                log.info("a phase did not end well", attempt=key, phase=phase.value, ending=ending.value)
            case AttemptEnded():
                log.info("an attempt has ended", attempt=key)
            case _:
                pass

    def concluded(self, cell: str, outcome: Outcome) -> None:
        """A cell has its verdict."""
        log.info("a cell has its verdict", cell=cell, verdict=outcome.verdict.value, rule=outcome.rule)


class Server:
    """All that the API and the pages need, and the controller behind them."""

    def __init__(
        self,
        *,
        settings: Settings,
        config: ServerConfig,
        store: Store,
        executor: Executor,
        fleet: Fleet,
        settle: Callable[[Plan], Plan],
        images: Images,
        orphans: Callable[[], int],
    ) -> None:
        """`orphans` counts what is left on this machine by those who are dead; `farm.cli` knows who can tell."""
        self.settings = settings
        self.config = config
        self.store = store
        self.fleet = fleet
        self.access = Access(store.engine)
        self.intake = Intake(settings, store, fleet, settle, config.hold_limit, config.source_hosts)
        self.reservations = Reservations(store)
        self.feed = Feed(store)
        self.meter = Meter()
        self.orphans = orphans
        self.reception = Reception(
            config.trigger,
            delivery=config.delivery,
            store=store,
            intake=self.intake,
            access=self.access,
            wake=self.wake,
        )
        self.sender = Sender(store, self.feed, config)
        self.details = Details(store.engine)
        self.overviews = Overviews(store)
        self.images = images
        self.history = History(store.engine)
        self.baselines = Baselines(store.engine)
        self.waivers = Waivers(store.engine)
        self.references = References(store)
        self._limits = config.limits
        self.explainer = Explainer(store, fleet, self._limits, self._nobody)
        self.compat = Aside(partial(compat_of, settings.database, settings.state, images))
        self.reports = Aside(partial(Store.open, settings.database, settings.state))
        self._executor = executor
        self._controller = Controller(store, executor, _Log(), self._limits)
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun = threading.Event()
        """Set when there is a loop, or there will be none."""
        self._thread = threading.Thread(target=self._carry_out, name="controller")
        store.listen(self.feed.tell)

    def start(self) -> None:
        """Begin to carry out runs, and to work on webhooks. Raises HostError."""
        sys.setswitchinterval(_TURN_S)
        self._thread.start()
        self.reception.start()

    def stop(self) -> None:
        """End all guests; returns when they are gone. The runs go on when somebody serves again."""
        if self._thread.ident is None:
            return  # it was never started
        self._begun.wait()
        self._say(self._stop.set)
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether runs are carried out."""
        return self._thread.is_alive()

    def _nobody(self) -> str:
        return "" if self.alive else "the server carries out no runs now; its log says why"

    def wake(self) -> None:
        """There is a new run, or the wish that one ends."""
        self._say(self._controller.wake)

    @property
    def pulse(self) -> Pulse:
        """How the controller's loop goes."""
        return self._controller.pulse

    def _say(self, word: Callable[[], None]) -> None:
        """Call a function in the controller's loop; where that is not yet there or has ended, nobody needs it."""
        if self._loop:
            with suppress(RuntimeError):  # it may be closed between any two lines of this
                self._loop.call_soon_threadsafe(word)

    def _carry_out(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:  # without it the thread would end with a word to nobody; /readyz tells that it did
            log.exception("cannot carry out runs any more")
        finally:
            self._begun.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun.set()
        await in_turns(self.store, self._stop, self._carry_out_runs)

    async def _carry_out_runs(self, stop: asyncio.Event) -> None:
        Keys(self.store.engine).release_dead()  # of a server that was killed: who asks again is not to wait for it
        self._controller = Controller(self.store, self._executor, _Log(), self._limits)
        await self._controller.serve(stop)


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """For as long as this lasts, nobody else serves this store, if it is a file. Raises ConflictError.

    On PostgreSQL several may serve, of this machine or others: `farm.tenure` decides which carries out the runs.
    """
    if not settings.database.startswith("sqlite"):
        yield
        return
    state = settings.state
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(state / "serve.lock", os.O_RDWR | os.O_CREAT, 0o600), "w") as file:  # noqa: PTH123
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError(
                f"cannot serve {state}: another `farm serve` does", hint="end that one, or set FARM_STATE"
            ) from error
        yield
