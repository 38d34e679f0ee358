"""What `up` makes ready before anything else runs, also where an earlier start was cut short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.preparation import prepare
from app.tables import Connection, Import, Ticket
from tests.factories import make_connection

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.settings import Settings


def tickets(session: Session) -> int:
    session.expire_all()
    return session.scalar(select(func.count()).select_from(Ticket)) or 0


def test_samples_are_loaded_once(settings: Settings, database_url: str, session: Session) -> None:
    first = prepare(settings, url=database_url, samples=True)
    loaded = tickets(session)
    assert first.notes == [f"loaded {loaded} sample tickets of an office IT desk"]
    assert loaded >= 12
    assert prepare(settings, url=database_url, samples=True).notes == []
    assert tickets(session) == loaded


def test_a_load_that_was_cut_short_is_finished(settings: Settings, database_url: str, session: Session) -> None:
    make_connection(session, name="sample", scheme="file")
    session.commit()
    prepare(settings, url=database_url, samples=True)
    assert tickets(session) >= 12
    assert session.scalars(select(Import.finished)).all() == [True]


def test_samples_stay_away_from_a_database_in_use(settings: Settings, database_url: str, session: Session) -> None:
    make_connection(session, name="helpdesk")
    session.commit()
    prepare(settings, url=database_url, samples=True)
    assert tickets(session) == 0
    assert session.scalars(select(Connection.name)).all() == ["helpdesk"]
