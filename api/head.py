"""HEAD, wherever there is GET: the same answer without its body (RFC 9110, section 9.3.2)."""

from __future__ import annotations

from anyio import CancelScope
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Head:
    """Has HEAD answered by the route of GET, up to where the body would begin; a stream would never end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}
        with CancelScope() as rest:

            async def begin(message: Message) -> None:
                if message["type"] != "http.response.start" or rest.cancel_called:
                    return
                if "route" in asked:  # for whoever counts requests by it
                    scope["route"] = asked["route"]
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                rest.cancel()

            await self._app(asked, receive, begin)
