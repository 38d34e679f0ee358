"""What `up` makes ready before anything else runs, also where an earlier start was cut short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.preparation import prepare
from app.sign_ins import hashed
from app.tables import Connection, Import, Invitation, Ticket
from tests.factories import make_connection, make_user

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


def test_until_there_is_an_account_each_start_makes_a_link_for_the_first(
    settings: Settings, database_url: str, session: Session
) -> None:
    first, second = (prepare(settings, url=database_url, samples=False).first_link for _ in range(2))
    assert first is not None
    assert second is not None
    assert [link.token_hash for link in session.scalars(select(Invitation))] == [hashed(second)]
    assert session.scalars(select(Invitation.role)).all() == ["admin"]
    make_user(session, role="viewer")
    session.commit()
    assert prepare(settings, url=database_url, samples=False).first_link is None


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
