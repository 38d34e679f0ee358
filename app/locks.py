"""The database's advisory locks that have a number: all of them, because two with one number wait for each other."""

from __future__ import annotations

from enum import IntEnum, unique
from typing import TYPE_CHECKING

from sqlalchemy import func, select

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session


@unique
class Lock(IntEnum):
    """Arbitrary numbers; who holds one of them waits for nobody who holds another."""

    UPGRADE = 7_133_701  # one upgrade at a time in one database
    SECOND_RUNS = 7_133_702  # those who ask for a second run at the same moment count each other
    REPORTS = 7_133_703  # those who make reports at the same moment see each other's
    BATCHES = 7_133_704  # who puts a batch together and who ends one wait for each other
    BUDGET = 7_133_705  # those who set aside at the same moment see each other's
    RELEASES = 7_133_710  # releases come one after the other, so that each knows what was before it
    PROPOSALS = 7_133_711  # those who count open proposals or call about a pattern come one after the other


def take(session: Session | Connection, lock: Lock) -> None:
    """The lock is ours until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(lock.value)))
