"""Who is signed in: browsers by the hash of their cookie, for as long as somebody is there."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, get_args

from sqlalchemy import delete, select, update

from app.tables import SignIn, User

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

IDLE = timedelta(hours=12)  # a working day: who comes back tomorrow signs in again
LONGEST = timedelta(days=14)  # then also who was there all the time
NOTED_EVERY = timedelta(minutes=1)  # how exactly we know when somebody was last there; a write each page is too many
TOKEN_BYTES = 32

Role = Literal["viewer", "lead", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may


@dataclass(frozen=True)
class Person:
    """Somebody with an open account."""

    id: int
    email: str
    name: str
    role: Role

    @property
    def is_lead(self) -> bool:
        return self.may("lead")

    @property
    def is_admin(self) -> bool:
        return self.may("admin")

    def may(self, least: Role) -> bool:
        """True where this role or a lesser one is enough."""
        return ROLES.index(self.role) >= ROLES.index(least)


def begin(session: Session, user_id: int, *, now: datetime) -> str:
    """The cookie's value of a browser that is signed in from here on; only its hash is stored."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    session.add(SignIn(token_hash=hashed(token), user_id=user_id, created_at=now, seen_at=now))
    session.flush()
    return token


def find(session: Session, token: str, *, now: datetime, at_work: bool) -> Person | None:
    """Whose cookie this is. `at_work`: somebody asked for it, so the idle time begins again."""
    current = (
        select(SignIn.seen_at, User.id, User.email, User.name, User.role)
        .join(User, User.id == SignIn.user_id)
        .where(SignIn.token_hash == hashed(token), User.closed_at.is_(None))
        .where(SignIn.seen_at > now - IDLE, SignIn.created_at > now - LONGEST)
    )
    found = session.execute(current).one_or_none()
    if found is None:
        return None
    if at_work and found.seen_at < now - NOTED_EVERY:
        session.execute(update(SignIn).where(SignIn.token_hash == hashed(token)).values(seen_at=now))
    return Person(found.id, found.email, found.name, role_of(found.role))


def role_of(name: str) -> Role:
    """The role of this name. Raises StopIteration for none, which the database does not hold."""
    return next(role for role in ROLES if role == name)


def end(session: Session, token: str) -> None:
    """Nobody is signed in with this cookie any more."""
    session.execute(delete(SignIn).where(SignIn.token_hash == hashed(token)))


def end_all(session: Session, user_id: int) -> None:
    """This account is signed in nowhere."""
    session.execute(delete(SignIn).where(SignIn.user_id == user_id))


def hashed(token: str) -> bytes:
    """What the database keeps of a token. It has 256 random bits, so a plain hash tells nothing of it."""
    return hashlib.sha256(token.encode(errors="replace")).digest()


def csrf(token: str) -> str:
    """What forms of this browser carry: another site cannot know it, and it says nothing of the cookie."""
    return hmac.new(token.encode(errors="replace"), b"ticketqc forms", hashlib.sha256).hexdigest()
