"""Passwords that are tried: the right one says who it is, wrong ones are counted, and after a few nobody may try on.

Counted are an account and an address that tries, each by a hash. What is refused for too many is not tried at all, so
that it says nothing about the password; it is the same for an account that does not exist.
"""

from __future__ import annotations

import hashlib
import ipaddress
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import structlog
from sqlalchemy import delete, func, select

from app import passwords
from app.tables import FailedSignIn, User

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

log = structlog.get_logger()

WINDOW = timedelta(minutes=15)
PER_ACCOUNT = 5  # in the window: a person who mistypes needs three
PER_ADDRESS = 20  # several people may share one
NETWORK = 64  # bits of an IPv6 address that one customer of a provider gets


class Attempt(NamedTuple):
    """Whose password it was; else how long nobody may try, or neither where it was wrong."""

    user: User | None
    wait: timedelta | None = None


def attempt(session: Session, *, email: str, password: str, address: str, now: datetime) -> Attempt:
    """Never raises for what was typed: a failure has to be committed to count.

    1. Those who try the same account, or from the same address, wait for each other: else a hundred at once would all
       find that few have failed.
    2. Too many failures: nobody may try. The right password does not help; that would be an answer.
    3. An unknown account, a closed one and a wrong password take the same time and leave the same.
    """
    account, origin = _key("account", email), _key("address", _network(address))
    for key in (account, origin):  # in this order always: no two wait for each other
        session.execute(select(func.pg_advisory_xact_lock(int.from_bytes(key[:8], signed=True))))
    waits = [_wait(session, account, most=PER_ACCOUNT, now=now), _wait(session, origin, most=PER_ADDRESS, now=now)]
    if longest := max(filter(None, waits), default=None):
        log.warning("sign_in.limited")
        return Attempt(None, longest)
    user = session.scalar(select(User).where(User.email == normal(email), User.closed_at.is_(None)))
    if passwords.fits(password, user.password_hash if user else None):
        forget(session, email)
        return Attempt(user)
    log.warning("sign_in.failed")
    session.add_all([FailedSignIn(key=account, at=now), FailedSignIn(key=origin, at=now)])
    return Attempt(None)


def forget(session: Session, email: str) -> None:
    """The account's failures do not count any more; the address's do."""
    session.execute(delete(FailedSignIn).where(FailedSignIn.key == _key("account", email)))


def normal(email: str) -> str:
    """As accounts are known by; no stored text holds a NUL, and Postgres takes none."""
    return email.replace("\0", "").strip().lower().encode(errors="replace").decode()


def _wait(session: Session, key: bytes, *, most: int, now: datetime) -> timedelta | None:
    """Until the oldest of the last `most` failures is out of the window; None where there are fewer in it."""
    recent = select(FailedSignIn.at).where(FailedSignIn.key == key, FailedSignIn.at > now - WINDOW)
    oldest = session.scalar(recent.order_by(FailedSignIn.at.desc()).offset(most - 1).limit(1))
    return None if oldest is None else oldest + WINDOW - now


def _key(kind: str, value: str) -> bytes:
    return hashlib.sha256(f"{kind}:{normal(value)}".encode()).digest()


def _network(address: str) -> str:
    """Who has one IPv6 address has as many as he wants: they count as one."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if known.version == 4 else str(ipaddress.ip_network((known, NETWORK), strict=False))  # noqa: PLR2004
