"""The address that ticketing systems send to: a size cap, then one transaction, then the answer.

The only `async def` of ours: the body is read as it comes, everything else happens in a thread.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog
from fastapi import APIRouter
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from app import clock
from app.errors import TicketqcError
from app.intake.receiving import Receipt, receive
from app.intake.signatures import Incoming

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

log = structlog.get_logger()

MAX_BODY = 2 * 1024 * 1024  # bytes; whole tickets with their history stay far below
MAX_DRAIN = 16 * 1024 * 1024  # bytes read and dropped: who is hung up on while sending never sees why
LONGEST_LENGTH = 15  # digits of a declared length that are worth reading as a number
BODY_SECONDS = 20  # for the body to arrive
STORE_SECONDS = 2.5  # then we ask to be called again: the most impatient senders that matter wait 3 s
RETRY_AFTER = {"Retry-After": "30"}  # seconds; above a minute some senders give up
THREADS = 8  # of the hooks' own, so that slow pages cannot keep a delivery waiting

router = APIRouter()


class _TooLarge(Exception):  # noqa: N818  a signal between two functions of this file
    pass


async def hook(request: Request) -> Response:
    """Answers 200 only after the delivery is committed; 429 where it could not be, which every sender retries."""
    name = request.path_params["connection"]
    try:
        with anyio.fail_after(BODY_SECONDS):
            body = await _body(request)
    except _TooLarge:
        detail = f"the body is larger than {MAX_BODY:,} bytes; nothing was stored"
        return _answer(413, "too_large", detail, Connection="close")
    except TimeoutError:
        return _answer(408, "too_slow", "the body did not arrive in time; nothing was stored")
    except ClientDisconnect:
        return _answer(400, "incomplete", "the body was cut off; nothing was stored")
    try:
        # A thread left behind by the time limit may still commit: the sender's retry then finds a duplicate.
        with anyio.fail_after(STORE_SECONDS):
            receipt = await anyio.to_thread.run_sync(
                functools.partial(_receive, request, name, body), abandon_on_cancel=True, limiter=_limiter(request)
            )
    except (TicketqcError, SQLAlchemyError, TimeoutError) as error:
        log.error("hook.not_stored", connection=name, error=type(error).__name__)  # noqa: TRY400  its text may quote
        return _answer(429, "try_again", "the delivery could not be stored now; send it again", **RETRY_AFTER)
    if receipt == "rejected":
        log.warning("hook.rejected", connection=name)
    return _answer(*_ANSWERS[receipt])


def _receive(request: Request, name: str, body: bytes) -> Receipt:
    state = request.app.state
    token = request.path_params.get("token") or request.query_params.get("token", "")
    headers = {key.decode("latin-1").lower(): value for key, value in reversed(request.headers.raw)}
    incoming = Incoming(headers=headers, body=body, token=token.encode())
    return receive(state.engine, state.vault, name=name, incoming=incoming, now=clock.now())


async def _body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    if len(declared) > LONGEST_LENGTH or (declared.isdecimal() and int(declared) > MAX_DRAIN):
        raise _TooLarge
    body, length = bytearray(), 0
    async for chunk in request.stream():
        length += len(chunk)
        if length <= MAX_BODY:
            body += chunk
        elif length > MAX_DRAIN:
            break
    if length > MAX_BODY:
        raise _TooLarge
    return bytes(body)


def _limiter(request: Request) -> anyio.CapacityLimiter:
    """One per application: a limiter belongs to the event loop that made it."""
    state = request.app.state
    if not hasattr(state, "hook_limiter"):
        state.hook_limiter = anyio.CapacityLimiter(THREADS)
    limiter: anyio.CapacityLimiter = state.hook_limiter
    return limiter


def _answer(code: int, status: str, detail: str = "", **headers: str) -> JSONResponse:
    return JSONResponse({"status": status, **({"detail": detail} if detail else {})}, code, headers=headers)


_ANSWERS: dict[Receipt, tuple[int, str, str]] = {
    "accepted": (200, "accepted", ""),
    "duplicate": (200, "duplicate", ""),
    "rejected": (401, "rejected", "the signature, its time or the secret is wrong; nothing was stored"),
    "unknown": (404, "unknown", "there is no such connection; nothing was stored"),
}

router.add_route("/hooks/{connection}", hook, methods=["POST"], include_in_schema=False)
router.add_route("/hooks/{connection}/{token}", hook, methods=["POST"], include_in_schema=False)
