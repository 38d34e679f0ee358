"""The circuit breaker of a key: one process was told that no call can succeed with it, and no process makes one.

After a while one process probes: it makes the smallest call that is billed. Where that succeeds the breaker closes for
everybody; else the next probe is twice as far away. It is in the database, under a hash of key and server: another key
in another process' settings has a breaker of its own.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Interval, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.db import transaction
from app.tables import Breaker as Row

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from agents.gateway import CallFailed
    from app.settings import Settings

OF_THE_KEY = frozenset({"authentication", "billing"})  # codes that hold for whatever is asked with it
OF_A_MODEL = frozenset({"unknown_model", "permission"})  # codes of a server that took the key
FIRST_PROBE, LONGEST_PROBE = 30, 900  # seconds; the wait doubles with each failure
_DOUBLED = func.least(FIRST_PROBE * func.power(2, func.least(Row.failures, 10)), LONGEST_PROBE)


class Open(NamedTuple):
    """Why nothing is asked, and whether it is time to probe."""

    code: str
    detail: str
    due: bool


def scope_of(settings: Settings) -> str:
    """A hash that tells nothing of the key."""
    key = settings.anthropic_api_key.get_secret_value() if settings.anthropic_api_key else ""
    return hashlib.sha256(f"breaker\n{settings.anthropic_base_url}\n{key}".encode()).hexdigest()[:32]


class Breaker:
    """The breaker of the key in one process' settings."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._scope = scope_of(settings)

    def look(self, session: Session) -> Open | None:
        """None while it is closed."""
        due = Row.probe_at <= func.now()
        row = session.execute(select(Row.code, Row.detail, due).where(Row.scope == self._scope)).one_or_none()
        return None if row is None else Open(*row)

    def open(self, failure: CallFailed, *, detail: str) -> None:
        """From now on nobody asks. Many calls may say so at once: the first counts."""
        probe_at = func.now() + cast(f"{FIRST_PROBE} seconds", Interval)
        row = {"scope": self._scope, "code": failure.code, "detail": detail, "probe_at": probe_at}
        with transaction(self._engine) as session:
            session.execute(insert(Row).values(**row).on_conflict_do_nothing())

    def claim(self) -> bool:
        """True for the one process that is to probe now; should it die at it, another may later."""
        probe_at = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, _DOUBLED)
        claimed = (
            update(Row)
            .where(Row.scope == self._scope, Row.probe_at <= func.now())
            .values(probe_at=probe_at, failures=Row.failures + 1)
            .returning(Row.scope)
        )
        with transaction(self._engine) as session:
            return session.scalar(claimed) is not None

    def close(self, session: Session) -> None:
        """Everybody may ask again."""
        session.execute(delete(Row).where(Row.scope == self._scope))
