"""Engine, transaction and autocommit (nothing else commits) and the state of the schema."""

from __future__ import annotations

import select
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.orm import Session

from app.errors import DatabaseNewer, DatabaseNotMigrated, DatabaseUnavailable
from app.locks import Lock, take

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
CONNECTIONS = 20  # of one engine at the most, and a worker's queue has a few more; each use takes milliseconds
RESTED = 1.0  # seconds in the pool after which a connection may have been lost unseen
_RETURNED = "returned"
CONNECT_TIMEOUT = 5  # seconds; a database that does not answer by then is down
# A process that dies in mid-transaction on another machine must not hold its locks for ever.
SESSION_OPTIONS = "-c timezone=UTC -c idle_in_transaction_session_timeout=60s"
DISK_FULL = "53100"
READ_ONLY = "25006"
GONE = ("08", "57P0", "53300")  # SQLSTATEs: connection lost, server shutting down or starting, no connection left


def make_engine(url: str) -> Engine:
    """Connects on first use. Statements' values stay out of error messages: they are tickets.

    What was used last is used again, so that few connections are open and each has its statements prepared. None is
    opened beyond the pool, only to be closed after its use: that was a quarter of what the database did.
    """
    address = make_url(url.replace("postgres://", "postgresql://", 1)).set(drivername="postgresql+psycopg")
    arguments: dict[str, object] = {"application_name": "ticketqc", "connect_timeout": CONNECT_TIMEOUT}
    if "options" not in address.query:
        arguments["options"] = SESSION_OPTIONS
    engine = create_engine(
        address,
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={name: value for name, value in arguments.items() if name not in address.query},
    )
    _ping_rested(engine)
    return engine


def _ping_rested(engine: Engine) -> None:
    """A connection that has rested, or on which the server has said something, is tried before it is used.

    `pool_pre_ping` tries each one every time: a round trip for each transaction.
    """

    def returned(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info[_RETURNED] = time.monotonic()

    def taken(connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
        since = record.info.get(_RETURNED)
        if since is None:  # it was made just now
            return
        try:
            if time.monotonic() - since >= RESTED or _spoken_to(connection):
                engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            if not engine.dialect.is_disconnect(error, connection, None):  # type: ignore[arg-type]  # it is the DB API's
                raise
            raise InvalidatePoolError("the database has closed this connection") from error

    event.listen(engine, "checkin", returned)
    event.listen(engine, "checkout", taken)


def _spoken_to(connection: Any) -> bool:  # noqa: ANN401  psycopg's, which SQLAlchemy's type does not say
    """Something waits to be read: a server that closes a connection says so on it."""
    ready = select.poll()
    ready.register(connection.fileno(), select.POLLIN)
    return bool(ready.poll(0))


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Committed when the block ends, rolled back when it raises. Gone or full: DatabaseUnavailable."""
    with _translated(), Session(engine, expire_on_commit=False) as session:
        yield session
        session.commit()


@contextmanager
def autocommit(engine: Engine) -> Iterator[Connection]:
    """Each statement is a transaction by itself: two round trips fewer. Gone or full: DatabaseUnavailable."""
    with _translated(), engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def upgrade(url: str) -> None:
    """The schema is this version's. Starters that come at once wait for the first; a newer database is left alone."""
    from alembic import command  # noqa: PLC0415  0.3 s that only an upgrade needs

    engine = make_engine(url)
    try:
        with _translated(), engine.begin() as connection:
            take(connection, Lock.UPGRADE)
            config = migration_config(connection)
            if _refuse_newer(connection, config) != _head(config):
                command.upgrade(config, "head")
    finally:
        engine.dispose()


def check_version(engine: Engine) -> None:
    """Raises unless the schema is exactly this version's."""
    with _translated(), engine.connect() as connection:
        config = migration_config(connection)
        if _refuse_newer(connection, config) != _head(config):
            raise DatabaseNotMigrated(
                "the database is not set up for this version of ticketqc; run: ticketqc db upgrade"
            )


def migration_config(connection: Connection) -> Config:
    """Alembic's configuration, working on this connection and in its transaction."""
    from alembic.config import Config  # noqa: PLC0415  0.3 s that only migrations need

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _head(config: Config) -> str | None:
    from alembic.script import ScriptDirectory  # noqa: PLC0415  0.3 s that only migrations need

    return ScriptDirectory.from_config(config).get_current_head()


def _refuse_newer(connection: Connection, config: Config) -> str | None:
    """The database's revision, None for a fresh one; DatabaseNewer where we have never heard of it."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415  0.3 s that only migrations need

    if not inspect(connection).has_table("alembic_version"):
        return None
    current = connection.scalar(text("select version_num from alembic_version"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise DatabaseNewer(
            f"this database was made by a newer ticketqc (revision {current}); nothing was changed. "
            "Install that version or a later one, or use another database."
        )
    return None if current is None else str(current)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if (message := _unavailable(error)) is None:
            raise
        raise DatabaseUnavailable(message) from error


def _unavailable(error: DBAPIError) -> str | None:
    """Why the database cannot do it now, in words; None where the statement itself was wrong."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state == DISK_FULL:
        return "the database's disk is full; what was stored is safe. Free some space, then try again."
    if state == READ_ONLY:
        return "the database accepts no writes now (it is read-only); point TICKETQC_DATABASE_URL at the primary"
    # psycopg gives no SQLSTATE to a connection that failed, and to nothing else of this class.
    lost = state is None and isinstance(error.orig, psycopg.OperationalError)
    if lost or error.connection_invalidated or (state or "").startswith(GONE):
        return f"the database cannot be reached: {_first_line(error)}. Nothing was lost; it is safe to try again."
    return None


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0].rstrip(".")
