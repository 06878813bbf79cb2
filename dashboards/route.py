"""What all routes of pages have in common: the headers that protect them, and errors as pages."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from api.problems import STATUS
from dashboards.visit import rendered
from farm.errors import FarmError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""No script and no style but the pages' own files, whatever a guest may have written."""

HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
)

_HTMX = "HX-Request"


class PageRoute(APIRoute):
    """A route that answers with a page, also where something goes wrong."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, wrapped."""
        handle = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                response = await handle(request)
            except (FarmError, HTTPException, RequestValidationError) as error:
                response = _failed(request, error)
            response.headers.update(HEADERS)
            return response

        return page


def router() -> APIRouter:
    """A router for pages; they are not part of the API's description."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


def _failed(request: Request, error: FarmError | HTTPException | RequestValidationError) -> Response:
    if isinstance(error, HTTPException):
        if error.status_code == HTTPStatus.UNAUTHORIZED:
            return _to_login(request)
        return _error_page(error.status_code, str(error.detail), "", error.headers)
    if isinstance(error, RequestValidationError):
        wrong = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()[:3])
        return _error_page(HTTPStatus.UNPROCESSABLE_ENTITY, f"cannot read the request: {wrong}")
    status = next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)
    return _error_page(status, error.message, error.hint)


def _error_page(status: int, detail: str, hint: str = "", headers: Any = None) -> HTMLResponse:
    response = rendered("error.html", status=status, title=HTTPStatus(status).phrase, detail=detail, hint=hint, me=None)
    response.headers.update(headers or {})
    return response


def _to_login(request: Request) -> Response:
    """Where to show a token. A browser that comes from another site has not sent its cookie yet: it asks once more."""
    if request.headers.get("Sec-Fetch-Site") == "cross-site" and request.method == "GET":
        response: Response = rendered("again.html", me=None)
        response.headers["Refresh"] = "0"
        return response
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    login = "/login" + ("" if here == "/" or request.method != "GET" else "?" + urlencode({"next": here}))
    if request.headers.get(_HTMX):
        return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": "/login"})
    return RedirectResponse(login, HTTPStatus.SEE_OTHER)
