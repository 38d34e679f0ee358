"""The web application: the hooks that tickets come in by, the pages that people read, and one answer to each error."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from app import clock
from app.db import transaction
from app.errors import NotSignedIn, TicketqcError
from app.web import hooks
from app.web.auth import sign_in_address
from app.web.guard import SAFE_METHODS
from app.web.pages import (
    account,
    agents,
    audit,
    banner,
    context,
    costs,
    dashboard,
    deciding,
    evals,
    health,
    operations,
    patterns,
    proposals,
    queue,
    reports,
    rescores,
    settings,
    sign_in,
    ticket,
)
from app.web.requests import Requests, headers_of
from app.web.view import Templates, banners
from app.web.words import sentence

if TYPE_CHECKING:
    from fastapi import Request, Response
    from sqlalchemy import Engine

    from app.settings import Settings
    from app.vault import Vault

log = structlog.get_logger()

STATIC = Path(__file__).parent / "static"
PAGES = (
    health,
    sign_in,
    account,
    banner,
    queue,
    ticket,
    deciding,
    audit,
    dashboard,
    reports,
    operations,
    context,
    costs,
    agents,
    evals,
    patterns,
    proposals,
    rescores,
    settings,
)


def create_app(*, engine: Engine, vault: Vault, settings: Settings) -> FastAPI:
    """Everything a request needs is on `app.state`; nothing is connected to before the first request."""
    app = FastAPI(title="ticketqc", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.engine = engine
    app.state.vault = vault
    app.state.settings = settings
    app.state.templates = Templates(settings)
    app.add_middleware(Requests)
    app.add_exception_handler(NotSignedIn, _stranger)
    app.add_exception_handler(TicketqcError, _ours)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)
    app.include_router(hooks.router)
    for page in PAGES:
        app.include_router(page.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def _stranger(request: Request, error: Exception) -> Response:
    """A browser that wants to see a page goes to sign in first; anything else is told that it has to."""
    if request.headers.get("hx-request") == "true":
        answer = _answer(request, HTTPStatus.UNAUTHORIZED, str(error))
        answer.headers["HX-Redirect"] = sign_in_address(request)
        return answer
    if request.method in SAFE_METHODS and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(sign_in_address(request), HTTPStatus.SEE_OTHER)
    return _answer(request, HTTPStatus.UNAUTHORIZED, str(error))


def _ours(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, TicketqcError) else HTTPStatus.INTERNAL_SERVER_ERROR
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request.failed", endpoint=_endpoint(request), error=type(error).__name__, message=str(error))
    return _answer(request, status, str(error))


def _http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
    return _answer(request, status, _EXPLAINED.get(status, HTTPStatus(status).phrase))


def _invalid(request: Request, error: Exception) -> Response:  # noqa: ARG001  what was wrong is the address as a whole
    return _answer(request, HTTPStatus.NOT_FOUND, _EXPLAINED[HTTPStatus.NOT_FOUND])


def _unexpected(request: Request, error: Exception) -> Response:
    """The edge of a request. Starlette makes this answer outside our middleware, so its headers are set here."""
    log.error("request.crashed", endpoint=_endpoint(request), exc_info=error)
    answer = _answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, _CRASHED)
    answer.headers.update(headers_of(request.scope))
    return answer


def _endpoint(request: Request) -> str:
    """Which of our functions served it; never the address, because a hook's may hold its token."""
    return getattr(request.scope.get("endpoint"), "__name__", "none")


def _answer(request: Request, status: int, message: str) -> Response:
    """A calm page for a browser, JSON for anything else."""
    number = request.scope["state"]["request_id"]
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": message, "request_id": number}, status)
    templates: Templates = request.app.state.templates
    said = {"title": _TITLES.get(status, _TITLE), "message": sentence(message), "request_id": number}
    state = request.scope["state"]
    frame = {"user": state.get("user"), "csrf_token": state.get("csrf", ""), "path": request.url.path}
    return templates.html("error.html", {**said, **frame, **_banners(request, status)}, status=status)


def _banners(request: Request, status: int) -> dict[str, object]:
    """What is said of the models to whoever has signed in; nothing where the database may be what went wrong."""
    app = request.app
    if request.scope["state"].get("user") is None or status == HTTPStatus.SERVICE_UNAVAILABLE:
        return {"models": None}
    try:
        with transaction(app.state.engine) as session:
            return banners(session, app.state.settings, clock.now())
    except (TicketqcError, SQLAlchemyError):
        return {"models": None}


_TITLE = "Something went wrong"
_TITLES = {
    400: "That address cannot be read",
    401: "Not signed in",
    403: "Not done",
    404: "Nothing here",
    405: "Nothing here",
    409: "Not done",
    413: "Not done",
    422: "Not done",
    503: "Not available now",
}
_EXPLAINED = {
    404: "There is no page at this address.",
    405: "This address takes no request of this kind.",
}
_CRASHED = (
    "This page failed. Nothing was lost: tickets and verdicts are stored before they are shown. "
    "Load the page again; if it fails again, look for the request's number in the log."
)
