"""The database's advisory locks: no two share a number, and none has its number anywhere else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.db import transaction
from app.locks import Lock, take
from tests.cast import REPOSITORY

if TYPE_CHECKING:
    from sqlalchemy import Engine

# Their keys are hashes of what is locked, over 64 bits: nobody meets a small number by chance.
HASHED = {"attempts.py", "intake/receiving.py", "patterns.py"}


def test_no_two_locks_have_one_number() -> None:
    assert len({lock.value for lock in Lock}) == len(Lock.__members__)


def test_every_lock_is_taken_by_its_name() -> None:
    app = REPOSITORY / "app"
    calls = re.compile(r"pg_(?:try_)?advisory_\w*lock")
    found = {str(file.relative_to(app)) for file in app.rglob("*.py") if calls.search(file.read_text("utf-8"))}
    assert found == {"locks.py", *HASHED}


def test_a_lock_keeps_out_its_own_and_no_other(engine: Engine) -> None:
    free = {lock: select(func.pg_try_advisory_xact_lock(lock.value)) for lock in Lock}
    with transaction(engine) as one, transaction(engine) as other:
        take(one, Lock.BUDGET)
        assert [lock for lock in Lock if not other.scalar(free[lock])] == [Lock.BUDGET]
    with transaction(engine) as again:
        assert again.scalar(free[Lock.BUDGET])
