"""The cookie of a browser that is signed in, the token of its forms, and where to go after signing in."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from app import sign_ins
from app.errors import Forbidden, NotSignedIn
from app.web.guard import SAFE_METHODS

if TYPE_CHECKING:
    from datetime import datetime

    from fastapi import Request, Response
    from sqlalchemy.orm import Session
    from starlette.datastructures import FormData

    from app.settings import Settings
    from app.sign_ins import Person, Role

CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"
SIGN_IN = "/sign-in"
LONGEST_NEXT = 2_000  # characters of an address


def secure(settings: Settings) -> bool:
    """True where people come by https only."""
    return bool(settings.base_url and settings.base_url.startswith("https:"))


def cookie_name(settings: Settings) -> str:
    """With https no other host of the domain can plant one: browsers see to it by this prefix."""
    return "__Host-ticketqc" if secure(settings) else "ticketqc"


def token_of(request: Request) -> str:
    """The cookie's value, empty where there is none."""
    return request.cookies.get(cookie_name(request.app.state.settings), "")


def set_cookie(answer: Response, token: str, *, settings: Settings) -> None:
    """The browser is signed in once it has this answer."""
    answer.set_cookie(
        cookie_name(settings),
        token,
        max_age=int(sign_ins.LONGEST.total_seconds()),
        secure=secure(settings),
        httponly=True,
        samesite="lax",
    )


def forget_cookie(answer: Response, *, settings: Settings) -> None:
    answer.delete_cookie(cookie_name(settings), secure=secure(settings), httponly=True, samesite="lax")


def who(request: Request, session: Session, *, now: datetime, form: FormData, least: Role) -> Person:
    """The person whose browser asks. Raises NotSignedIn, or Forbidden where the role or the form's token is not enough.

    A page that looks for news by itself is nobody at work: it does not keep a forgotten browser signed in.
    """
    token = token_of(request)
    at_work = request.method not in SAFE_METHODS or request.headers.get("hx-request") != "true"
    person = sign_ins.find(session, token, now=now, at_work=at_work) if token else None
    if person is None:
        raise NotSignedIn("You are not signed in, or you were away for long. Sign in, then do it again.")
    # Kept for the answer to an error, which has no session to ask.
    request.state.user, request.state.csrf = person, sign_ins.csrf(token)
    if request.method not in SAFE_METHODS and not _is_ours(request, form, token):
        raise Forbidden(
            "this form is from another sign-in, or was sent by another site; nothing was changed. "
            "Load the page again, then repeat it."
        )
    if not person.may(least):
        raise Forbidden(f"this needs the role {least}, and yours is {person.role}; nothing was changed")
    return person


def _is_ours(request: Request, form: FormData, token: str) -> bool:
    given = request.headers.get(CSRF_HEADER) or form.get(CSRF_FIELD)
    expected = sign_ins.csrf(token).encode()
    return isinstance(given, str) and hmac.compare_digest(given.encode(errors="replace"), expected)


def sign_in_address(request: Request) -> str:
    """Where a browser goes to sign in, and from there back to what it wanted to see."""
    seen = request.headers.get("hx-current-url") if request.headers.get("hx-request") else str(request.url)
    parts = urlsplit(seen or "/")
    wanted = local(f"{parts.path}?{parts.query}" if parts.query else parts.path)
    return SIGN_IN if wanted == "/" else f"{SIGN_IN}?next={quote(wanted, safe='/')}"


def local(address: str) -> str:
    """The address where it is a path of ours, else the start page: `//evil.example` is another host's to a browser."""
    plain = address.isprintable() and address.isascii() and len(address) <= LONGEST_NEXT
    ours = address.startswith("/") and not address.startswith("//") and "\\" not in address
    return address if plain and ours and not address.startswith(SIGN_IN) else "/"
