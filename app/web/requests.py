"""What is true of every request: it has a number in the log, and its answer carries the security headers."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Everything comes from here and nothing is inline: ticket text that slips through as markup can neither run nor call.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # not no-referrer: forms would then post with `Origin: null`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
NOT_KEPT = "no-store"  # tickets do not stay in a browser's cache
FOREVER = "public, max-age=31536000, immutable"  # static files are addressed by their content
REQUEST_ID = "X-Request-ID"
MAX_FORM = 1024 * 1024  # bytes; all context files together stay far below
LONGEST_LENGTH = 15  # digits of a declared length that are worth reading as a number
_TOO_LARGE = PlainTextResponse(
    "This is larger than any form of these pages; nothing was changed.\n", 413, {"Connection": "close"}
)


class Requests:
    """ASGI middleware. Plain `def`: it hands on the inner application's awaitable and waits for nothing itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        if _too_large(scope):
            return _TOO_LARGE(scope, receive, send)
        # Each request is a task with a context of its own, which ends with it; what its maker left in it goes first.
        structlog.contextvars.clear_contextvars()
        number = secrets.token_hex(8)
        structlog.contextvars.bind_contextvars(request_id=number)
        scope.setdefault("state", {})["request_id"] = number

        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in headers_of(scope).items():
                    headers.setdefault(name, value)
            return send(message)

        return self._app(scope, receive, send_with_headers)


def _too_large(scope: Scope) -> bool:
    """True for a form that no page of ours sends, before it is read into memory. The hooks count for themselves."""
    headers = Headers(scope=scope)
    length = headers.get("content-length", "0")
    unbounded = "transfer-encoding" in headers
    much = unbounded or not length.isdecimal() or len(length) > LONGEST_LENGTH or int(length) > MAX_FORM
    return much and not scope["path"].startswith("/hooks/")


def headers_of(scope: Scope) -> Mapping[str, str]:
    """The headers of every answer to this request."""
    immutable = scope["path"].startswith("/static/") and scope["query_string"]
    cached = {"Cache-Control": FOREVER if immutable else NOT_KEPT}
    return {**SECURITY, **cached, REQUEST_ID: scope["state"]["request_id"]}
