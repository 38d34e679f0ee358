"""The database's advisory locks that have a number: all of them, because two with one number wait for each other.

And how a row is locked that runs point at.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

# For `with_for_update`: nobody else changes the row, but rows that point at it are written all the same. A run that had
# to wait for it would hold the sum that it is booked in, and so everybody who books. (A change of a unique column, such
# as a batch's id at the vendor, still takes the whole row.)
ROW_ONLY: dict[str, Any] = {"key_share": True}


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
