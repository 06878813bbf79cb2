"""`farm serve`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer

from farm import logs
from farm.cli.arguments import RayAddress
from farm.cli.here import executor_of, settled
from farm.cli.screen import out
from farm.cli.shelf import ShelfImages
from farm.cli.signals import leave_on_termination, raise_on_termination
from farm.config import Settings, load_settings
from farm.serverconfig import ServerConfig, load_config
from farm.store import Store

if TYPE_CHECKING:
    from farm.executor import RayExecutor
    from farm.serve import Server

log = structlog.get_logger(__name__)


def serve(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The server's settings: farm.toml.", envvar="FARM_CONFIG")
    ] = None,
    ray_address: RayAddress = None,
) -> None:
    """Serve the REST API and the pages, and carry out the runs that are submitted; ends with Ctrl-C."""
    from farm.serve import alone  # noqa: PLC0415 - a second, which other commands need not wait

    settings = load_settings()
    logs.configure(settings.log)
    # What can be wrong is found out before what takes long begins.
    told = load_config(config)
    raise_on_termination()
    with alone(settings), executor_of(settings, ray_address, _undisturbed) as executor:
        _serve(settings, told, executor)


def _serve(settings: Settings, config: ServerConfig, executor: RayExecutor) -> None:
    """Serve the API and carry out runs until a signal comes; then destroy the guests and return."""
    from farm.serve import Server  # noqa: PLC0415

    store = Store.open(settings.database, settings.state)
    server = Server(
        settings=settings,
        config=config,
        store=store,
        executor=executor,
        fleet=executor,
        settle=lambda planned: settled(settings, planned),
        images=ShelfImages(settings),
        orphans=lambda: _orphans(settings),
    )
    executor.when_gone(lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        server.start()
        with suppress(KeyboardInterrupt):  # to be told to end is how it ends
            _listen(server)
        leave_on_termination()
        log.info("ending: the guests are being destroyed; their runs go on when somebody serves again")
    finally:
        server.stop()
        store.close()
    executor.check()


def _undisturbed(start: Callable[[], None]) -> None:
    """Start something that must not be interrupted half-way; who is told to end meanwhile ends afterwards.

    An exception that a signal raises may be lost: in the middle of Ray's start Python runs code whose exceptions it
    ignores. Ray puts its own handler of SIGTERM only into the main thread, so it is started in another one. That one
    stays until the program ends: Linux kills the processes of Ray when the thread ends that has started them
    (PR_SET_PDEATHSIG, prctl(2)).
    """
    told, started = threading.Event(), Future[None]()

    def stay() -> None:
        try:
            start()
            started.set_result(None)
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for it
            started.set_exception(error)
        threading.Event().wait()

    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        threading.Thread(target=stay, name="starts Ray", daemon=True).start()
        started.result()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if told.is_set():
        raise KeyboardInterrupt


def _orphans(settings: Settings) -> int:
    from runners.reaper import orphans  # noqa: PLC0415

    return len(orphans(settings.runtime))


def _listen(server: Server) -> None:
    import uvicorn  # noqa: PLC0415

    from api.app import create_app  # noqa: PLC0415

    config = server.config

    class Told(uvicorn.Server):
        """Says where it listens, once it does, and lets those go who listen for news, before it waits for answers."""

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                port = self.servers[0].sockets[0].getsockname()[1]
                out.print(f"serving on http://{config.host}:{port}  (Ctrl-C ends it)", soft_wrap=True)

        async def shutdown(self, sockets: Any = None) -> None:
            server.feed.close()
            await super().shutdown(sockets)

    Told(
        uvicorn.Config(
            create_app(server),
            host=config.host,
            port=config.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            timeout_keep_alive=30,  # longer than clients keep a connection, so that none is closed under a request
        )
    ).run()
