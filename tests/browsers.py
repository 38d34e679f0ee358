"""The application as a browser asks it, in nobody's name or in somebody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.testclient import TestClient

from app import clock, sign_ins
from app.web.auth import CSRF_HEADER

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from starlette.types import ASGIApp

    from app.tables import User

COOKIE = "ticketqc"
HERE = "http://127.0.0.1:8000"


def browser(app: ASGIApp) -> TestClient:
    """A browser on this machine whose user has not signed in."""
    return TestClient(app, base_url=HERE, headers={"Accept": "text/html"}, follow_redirects=False)


def new_cookie(session: Session, user: User) -> str:
    """The cookie's value of a browser that this user has just signed in with."""
    token = sign_ins.begin(session, user.id, now=clock.now())
    session.commit()
    return token


def signed_in(app: ASGIApp, session: Session, user: User) -> TestClient:
    """A browser that this user has signed in with. Whatever it posts carries the token that forms carry."""
    token = new_cookie(session, user)
    client = browser(app)
    client.cookies.set(COOKIE, token, domain="127.0.0.1")
    client.headers[CSRF_HEADER] = sign_ins.csrf(token)
    return client
