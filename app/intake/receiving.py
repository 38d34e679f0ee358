"""A webhook call becomes a stored delivery and its job, or nothing at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, cast

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app import queue
from app.db import transaction
from app.intake.connections import NAME
from app.intake.signatures import Incoming, Options, Scheme, delivery_id, verify
from app.tables import Connection, Delivery, table_of

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.vault import Vault

SAME_BODY = timedelta(minutes=10)  # within it, a body that came without a delivery id is a repetition
LONGEST_ID = 200  # characters of a sender's delivery id that are kept as they are

Receipt = Literal["accepted", "duplicate", "rejected", "unknown"]


@dataclass(frozen=True)
class _Key:
    """What names a delivery: `value` is unique per connection, `others` are keys that the same delivery may have."""

    value: str
    others: tuple[str, ...] = ()


def receive(engine: Engine, vault: Vault, *, name: str, incoming: Incoming, now: datetime) -> Receipt:
    """One transaction; when this returns, its outcome is committed.

    1. The connection, by the name in the address. Unknown, for files, or without a secret: unknown.
    2. Verify by the connection's own scheme. Wrong: counted, nothing stored, rejected.
    3. Store the sealed body with its job, unless this delivery is here already: accepted or duplicate.
    """
    if not NAME.fullmatch(name):
        return "unknown"
    with transaction(engine) as session:
        connection = session.execute(_CONNECTION, {"called": name}).first()
        if connection is None or connection.secret is None or connection.scheme == "file":
            return "unknown"
        scheme, options = cast("Scheme", connection.scheme), Options.model_validate(connection.options)
        if not verify(scheme, secret=vault.open(connection.secret), options=options, incoming=incoming, now=now):
            session.execute(_REJECT, {"connection": connection.id})
            return "rejected"
        key = _key(delivery_id(scheme, options=options, incoming=incoming), body=incoming.body, now=now)
        return _store(session, connection_id=connection.id, key=key, sealed=vault.seal(incoming.body), now=now)


def _key(given: bytes, *, body: bytes, now: datetime) -> _Key:
    """The sender's delivery id, else the body's hash and the ten minutes of the clock in which it came."""
    if given:
        text = given.decode("latin-1")
        return _Key(f"id:{text}" if len(text) <= LONGEST_ID else f"id-hash:{hashlib.sha256(given).hexdigest()}")
    digest = hashlib.sha256(body).hexdigest()
    window = int(now.timestamp() // SAME_BODY.total_seconds())
    others = tuple(f"body:{digest}:{near}" for near in (window - 1, window + 1))
    return _Key(f"body:{digest}:{window}", others)


def _store(
    session: Session, *, connection_id: int, key: _Key, sealed: bytes, now: datetime
) -> Literal["accepted", "duplicate"]:
    if key.others and _repeats(session, connection_id=connection_id, key=key, now=now):
        return "duplicate"
    row = {"connection_id": connection_id, "key": key.value, "body": sealed, "received_at": now}
    new = session.scalar(_STORE, row)
    if new is None:
        return "duplicate"
    queue.enqueue(session, "intake", once=f"intake:{new}", delivery_id=new)
    return "accepted"


# Built once: they are a part of every delivery.
_CONNECTIONS, _DELIVERIES = table_of(Connection), table_of(Delivery)
_CONNECTION = select(*(_CONNECTIONS.c[name] for name in ("id", "secret", "scheme", "options"))).where(
    _CONNECTIONS.c.name == bindparam("called")
)
_REJECT = (
    update(_CONNECTIONS)
    .where(_CONNECTIONS.c.id == bindparam("connection"))
    .values(rejected=_CONNECTIONS.c.rejected + 1)
)
_STORE = insert(_DELIVERIES).on_conflict_do_nothing(index_elements=["connection_id", "key"]).returning(_DELIVERIES.c.id)


def _repeats(session: Session, *, connection_id: int, key: _Key, now: datetime) -> bool:
    """Two calls around a window's edge have different keys; a lock on the body makes the second see the first."""
    body = key.value.rpartition(":")[0]
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{connection_id}:{body}", 0))))
    near = select(Delivery.id).where(
        Delivery.connection_id == connection_id,
        Delivery.key.in_(key.others),
        Delivery.received_at > now - SAME_BODY,
        Delivery.received_at < now + SAME_BODY,  # who waited for the lock may be the older one
    )
    return session.scalar(near.limit(1)) is not None
