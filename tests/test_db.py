from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from app import db
from app.errors import DatabaseNewer, DatabaseNotMigrated, DatabaseUnavailable
from app.tables import Tick

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.orm import Session

TICKS = text("select count(*) from ticks")


def test_a_transaction_is_there_for_others_when_it_ends(engine: Engine) -> None:
    with db.transaction(engine) as session:
        tick = Tick(key="a")
        session.add(tick)
        with engine.connect() as other:
            assert other.scalar(TICKS) == 0
    with engine.connect() as other:
        assert other.scalar(TICKS) == 1
    assert tick.key == "a"


def test_a_transaction_that_raises_leaves_nothing(engine: Engine) -> None:
    def broken(session: Session) -> None:
        session.execute(text("insert into ticks (key) values ('a')"))
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"), db.transaction(engine) as session:
        broken(session)
    with engine.connect() as other:
        assert other.scalar(TICKS) == 0


def test_a_commit_that_fails_raises(engine: Engine) -> None:
    late = text("create temp table late (a int unique deferrable initially deferred); insert into late values (1), (1)")
    with pytest.raises(IntegrityError), db.transaction(engine) as session:
        session.execute(late)


def test_values_stay_out_of_errors(engine: Engine) -> None:
    with pytest.raises(ProgrammingError) as caught, db.transaction(engine) as session:
        session.execute(text("select nonsense from ticks where key = :key"), {"key": "a customer's words"})
    assert "customer" not in str(caught.value)


def test_the_session_speaks_utc_and_says_who_it_is(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.scalar(text("show timezone")) == "UTC"
        assert connection.scalar(text("show application_name")) == "ticketqc"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_name_of_the_scheme_means_psycopg(database_url: str, scheme: str) -> None:
    engine = db.make_engine(re.sub("^postgresql", scheme, database_url))
    with engine.connect() as connection:
        assert connection.scalar(text("select 1")) == 1
    engine.dispose()


def test_no_server_is_told_as_unavailable(tmp_path: Path) -> None:
    engine = db.make_engine(f"postgresql://qc:hunter2@/qc?host={tmp_path}")
    with pytest.raises(DatabaseUnavailable, match="cannot be reached") as caught, db.transaction(engine) as session:
        session.execute(text("select 1"))
    assert "hunter2" not in str(caught.value)
    assert caught.value.status == 503
    with pytest.raises(DatabaseUnavailable):
        db.check_version(engine)
    with pytest.raises(DatabaseUnavailable):
        db.upgrade(f"postgresql://qc@/qc?host={tmp_path}")


def test_a_connection_lost_half_way_is_unavailable_and_the_next_one_works(engine: Engine) -> None:
    def lose(session: Session) -> None:
        session.execute(text("insert into ticks (key) values ('a')"))
        pid = session.scalar(text("select pg_backend_pid()"))
        with engine.connect() as other:
            other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        session.execute(text("select 1"))

    with pytest.raises(DatabaseUnavailable), db.transaction(engine) as session:
        lose(session)
    with db.transaction(engine) as session:
        assert session.scalar(TICKS) == 0


@pytest.fixture
def pooled(database_url: str) -> Iterator[Engine]:
    """Another program's connections."""
    engine = db.make_engine(database_url)
    yield engine
    engine.dispose()


def backend(engine: Engine) -> int:
    with db.transaction(engine) as session:
        return int(session.scalars(text("select pg_backend_pid()")).one())


@pytest.mark.parametrize("said_so", [True, False], ids=["and the server said so", "unseen, but it has rested"])
def test_a_connection_that_was_cut_in_the_pool_is_replaced(
    engine: Engine, pooled: Engine, monkeypatch: pytest.MonkeyPatch, *, said_so: bool
) -> None:
    if said_so:
        monkeypatch.setattr(db, "RESTED", 3600.0)
    else:
        monkeypatch.setattr(db, "RESTED", 0.0)
        monkeypatch.setattr(db, "_spoken_to", lambda _: False)
    before = backend(pooled)
    with db.transaction(engine) as session:
        session.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": before})
    assert backend(pooled) != before


@pytest.mark.parametrize(("rested", "pings"), [(3600.0, 0), (0.0, 2)])
def test_a_healthy_connection_is_kept_and_tried_only_where_it_has_rested(
    pooled: Engine, monkeypatch: pytest.MonkeyPatch, rested: float, pings: int
) -> None:
    tried: list[object] = []
    ping = pooled.dialect.do_ping

    def counted(connection: DBAPIConnection) -> bool:
        tried.append(connection)
        return ping(connection)

    monkeypatch.setattr(pooled.dialect, "do_ping", counted)
    monkeypatch.setattr(db, "RESTED", rested)
    assert len({backend(pooled) for _ in range(3)}) == 1
    assert len(tried) == pings


@pytest.mark.parametrize(("state", "words"), [("53100", "disk is full"), ("25006", "read-only")])
def test_a_database_that_takes_no_writes_says_so(engine: Engine, state: str, words: str) -> None:
    raising = text(f"do $$ begin raise exception using errcode = '{state}'; end $$")
    with pytest.raises(DatabaseUnavailable, match=words), db.transaction(engine) as session:
        session.execute(raising)


def test_a_database_of_this_version_is_accepted(engine: Engine) -> None:
    db.check_version(engine)


def test_a_fresh_database_names_the_command(empty_database: str) -> None:
    engine = db.make_engine(empty_database)
    with pytest.raises(DatabaseNotMigrated, match="ticketqc db upgrade"):
        db.check_version(engine)
    engine.dispose()


def test_a_newer_database_is_left_alone(empty_database: str) -> None:
    db.upgrade(empty_database)
    engine = db.make_engine(empty_database)
    with engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = 'ffffffffffff'"))
    with pytest.raises(DatabaseNewer, match=r"newer ticketqc \(revision ffffffffffff\); nothing was changed"):
        db.check_version(engine)
    with pytest.raises(DatabaseNewer, match="Install that version or a later one"):
        db.upgrade(empty_database)
    with engine.connect() as connection:
        assert connection.scalar(text("select version_num from alembic_version")) == "ffffffffffff"
    engine.dispose()
