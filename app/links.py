"""Links that work once: they make an account, or give one a new password. Only a hash of each is stored."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from app import audit, passwords, people, sign_ins
from app.attempts import normal
from app.audit import COMMAND_LINE, Actor
from app.errors import Conflict, NotFound, PersonRefused
from app.sign_ins import ROLES, TOKEN_BYTES, hashed
from app.tables import Invitation, User

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

INVITED = timedelta(days=7)
FIRST = timedelta(hours=24)  # it makes an admin, and stands in a terminal
LONGEST_EMAIL = 254  # characters, by the standard
# Enough to catch what is no address; whether it is somebody's only a mail would show. Plain letters: no look-alikes.
EMAIL = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True)
class Given:
    """What the form of a link sends. A link for somebody knows the e-mail already, one for a password the name too."""

    email: str
    name: str
    password: str
    again: str

    def problems(self, link: Invitation) -> dict[str, str]:
        """What is wrong, by the field that it is wrong with."""
        found = {
            "email": None if link.email else email_problem(self.email),
            "name": None if link.user_id else people.name_problem(self.name),
            "password": passwords.problem(self.password, again=self.again, email=link.email or self.email),
        }
        return {field: problem for field, problem in found.items() if problem}


def first(session: Session, *, now: datetime) -> str | None:
    """The token of a link that makes the admin, as long as there is no account; earlier ones are void."""
    if not people.nobody_yet(session):
        return None
    session.execute(delete(Invitation).where(Invitation.email == "", Invitation.used_at.is_(None)))
    return _made(session, email="", name="", role="admin", actor=COMMAND_LINE, expires_at=now + FIRST)


def invite(  # noqa: PLR0913  an invitation has these parts
    session: Session, *, email: str, role: str, actor: Actor, now: datetime, name: str = ""
) -> str:
    """The token of a link that makes an account of this role. Raises PersonRefused, or Conflict where there is one."""
    if wrong := invitation_problem(email=email, role=role, name=name):
        raise PersonRefused(wrong)
    known = normal(email)
    if session.scalar(select(User.id).where(User.email == known)) is not None:
        raise Conflict(f"there is an account {known} already; change its role, or make a link for a new password")
    withdraw(session, email=known)
    token = _made(session, email=known, name=name.strip(), role=role, actor=actor, expires_at=now + INVITED)
    audit.record(session, actor, action="user.invited", subject=f"invitation:{known}", after={"role": role})
    return token


class Reset(NamedTuple):
    email: str
    token: str


def reset(session: Session, user_id: int, *, actor: Actor, now: datetime) -> Reset:
    """A link that gives the account a new password; until it is used the old one counts."""
    user = session.get(User, user_id)
    if user is None:
        raise NotFound("There is no such account.")
    if user.closed_at is not None:
        raise Conflict(f"the account {user.email} is closed; reopen it first")
    withdraw(session, email=user.email)
    ends = now + INVITED
    token = _made(
        session, email=user.email, name=user.name, role=user.role, user_id=user.id, actor=actor, expires_at=ends
    )
    audit.record(session, actor, action="user.reset_link_made", subject=f"user:{user.id}")
    return Reset(user.email, token)


def withdraw(session: Session, *, email: str, actor: Actor | None = None) -> None:
    """Links of this address that nobody has used are void; an event where somebody wanted just that."""
    unused = delete(Invitation).where(Invitation.email == normal(email), Invitation.used_at.is_(None))
    gone = session.scalars(unused.returning(Invitation.role)).all()
    if actor is not None and gone:
        before = {"role": gone[0]}
        audit.record(session, actor, action="user.link_withdrawn", subject=f"invitation:{normal(email)}", before=before)


def find(session: Session, token: str, *, now: datetime) -> Invitation:
    """The link that this token opens; it is held, so that it cannot be used twice. Raises NotFound where it is void."""
    current = select(Invitation).where(Invitation.token_hash == hashed(token), Invitation.used_at.is_(None))
    link = session.scalar(current.where(Invitation.expires_at > now).with_for_update())
    if link is None or (not link.email and not people.nobody_yet(session)):
        raise NotFound(
            "This link does not work any more: it was used, replaced by a newer one, or is too old. "
            "Ask an admin for a new one, or make one with: ticketqc user add, or ticketqc user reset."
        )
    return link


def accept(session: Session, link: Invitation, given: Given, *, now: datetime) -> str:
    """The account or its new password is there, the link is used up, and its user is signed in: the cookie's token.

    The caller has held the link and found no problems. Raises Conflict where an account was made meanwhile.
    """
    link.used_at = now
    if link.user_id is not None:
        owner = Actor(link.email, link.user_id)
        people.change_password(session, link.user_id, password=given.password, actor=owner, note="by a link")
        return sign_ins.begin(session, link.user_id, now=now)
    email = link.email or normal(given.email)
    row = {"email": email, "name": given.name.strip(), "role": link.role}
    made = insert(User).values(**row, password_hash=passwords.hashed(given.password), created_at=now)
    user_id = session.scalar(made.on_conflict_do_nothing(index_elements=["email"]).returning(User.id))
    if user_id is None:
        raise Conflict(f"there is an account {email} already; sign in with it")
    note = f"invited by {link.actor}" if link.email else "by the link of the first start"
    maker = Actor(email, user_id)
    audit.record(session, maker, action="user.made", subject=f"user:{user_id}", after=row, note=note)
    return sign_ins.begin(session, user_id, now=now)


def email_problem(email: str) -> str | None:
    """What is wrong with an e-mail address, in words; None where it will do."""
    known = normal(email)
    if len(known) <= LONGEST_EMAIL and EMAIL.fullmatch(known):
        return None
    return "Type an e-mail address, such as name@example.com." if known else "Type an e-mail address."


def invitation_problem(*, email: str, role: str, name: str = "") -> str | None:
    """What is wrong with an invitation, in words; None where it will do. The name may be left to who is invited."""
    if wrong := email_problem(email) or (people.name_problem(name) if name else None):
        return wrong
    return None if role in ROLES else f"Choose a role: {', '.join(ROLES)}."


def _made(  # noqa: PLR0913  the columns
    session: Session,
    *,
    email: str,
    name: str,
    role: str,
    actor: Actor,
    expires_at: datetime,
    user_id: int | None = None,
) -> str:
    token = secrets.token_urlsafe(TOKEN_BYTES)
    row = {"email": email, "name": name, "role": role, "user_id": user_id, "actor": actor.name}
    session.add(Invitation(token_hash=hashed(token), expires_at=expires_at, **row))
    session.flush()
    return token
