"""Accounts: who may sign in, and as what. Nobody is ever deleted: what they decided keeps its author."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select

from app import attempts, audit, passwords, sign_ins
from app.errors import Conflict, NotFound, PersonRefused
from app.sign_ins import ROLES
from app.tables import Invitation, User

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from app.audit import Actor

LONGEST_NAME = 100  # characters


def by_email(session: Session, email: str) -> User:
    """Raises NotFound."""
    found = session.scalar(select(User).where(User.email == attempts.normal(email)))
    if found is None:
        raise NotFound(f"there is no account {email}; see them with: ticketqc user list")
    return found


def change_role(session: Session, user_id: int, *, role: str, actor: Actor) -> None:
    """The account has this role, and its owner signs in again. Raises PersonRefused, NotFound, Conflict."""
    if role not in ROLES:
        raise PersonRefused(f"{role or 'nothing'}: choose a role: {', '.join(ROLES)}")
    if role != "admin":
        _keep_an_admin(session, user_id)
    user = _held(session, user_id)
    if user.role == role:
        return
    _record(session, actor, "user.role_changed", user, before={"role": user.role}, after={"role": role})
    user.role = role
    sign_ins.end_all(session, user.id)


def close(session: Session, user_id: int, *, actor: Actor, now: datetime) -> None:
    """Nobody signs in with this account, nor is signed in, nor has a link that would. Raises NotFound, Conflict."""
    _void_links(session, user_id)  # before the account is held, as who uses one does
    _keep_an_admin(session, user_id)
    user = _held(session, user_id)
    if user.closed_at is not None:
        return
    _record(session, actor, "user.closed", user, before={"closed": False}, after={"closed": True})
    user.closed_at = now
    sign_ins.end_all(session, user.id)


def reopen(session: Session, user_id: int, *, actor: Actor) -> None:
    """The account's owner may sign in again, with the password it had."""
    user = _held(session, user_id)
    if user.closed_at is None:
        return
    _record(session, actor, "user.reopened", user, before={"closed": True}, after={"closed": False})
    user.closed_at = None


def rename(session: Session, user_id: int, *, name: str, actor: Actor) -> None:
    """People read this name. Raises PersonRefused."""
    if wrong := name_problem(name):
        raise PersonRefused(wrong)
    user = _held(session, user_id)
    if user.name != (kept := name.strip()):
        _record(session, actor, "user.renamed", user, before={"name": user.name}, after={"name": kept})
        user.name = kept


def change_password(session: Session, user_id: int, *, password: str, actor: Actor, note: str = "") -> None:
    """It counts from now on, and whoever was signed in with the old one is not any more. The caller has checked it."""
    user = _held(session, user_id)
    user.password_hash = passwords.hashed(password)
    _record(session, actor, "user.password_changed", user, note=note)
    sign_ins.end_all(session, user.id)
    attempts.forget(session, user.email)


def sign_out_everywhere(session: Session, user_id: int, *, actor: Actor) -> None:
    user = _held(session, user_id)
    _record(session, actor, "user.signed_out_everywhere", user)
    sign_ins.end_all(session, user.id)


def nobody_yet(session: Session) -> bool:
    return session.scalar(select(func.count()).select_from(User)) == 0


def name_problem(name: str) -> str | None:
    """What is wrong with a name, in words; None where it will do."""
    if not name.strip():
        return "Type the name that colleagues know you by."
    if len(name) > LONGEST_NAME:
        return f"At most {LONGEST_NAME} characters."
    return None if name.isprintable() else "A name has letters and spaces; this has characters that cannot be shown."


def _held(session: Session, user_id: int) -> User:
    """The account; who else would change it waits until we are done."""
    held = select(User).where(User.id == user_id).with_for_update().execution_options(populate_existing=True)
    found = session.scalar(held)
    if found is None:
        raise NotFound("There is no such account.")
    return found


def _void_links(session: Session, user_id: int) -> None:
    unused = delete(Invitation).where(Invitation.user_id == user_id, Invitation.used_at.is_(None))
    session.execute(unused)


def _keep_an_admin(session: Session, user_id: int) -> None:
    """Raises Conflict where this is the last admin. All are held first, so that two admins cannot demote each other."""
    admins = select(User.id, User.email).where(User.role == "admin", User.closed_at.is_(None))
    held = session.execute(admins.order_by(User.id).with_for_update()).all()
    if [row.id for row in held] == [user_id]:
        raise Conflict(f"the last admin is {held[0].email}; make another one first. Nothing was changed.")


def _record(  # noqa: PLR0913  an event has these parts
    session: Session,
    actor: Actor,
    action: str,
    user: User,
    *,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
    note: str = "",
) -> None:
    audit.record(session, actor, action=action, subject=f"user:{user.id}", before=before, after=after, note=note)
