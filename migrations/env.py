"""Runs migrations on the connection that app.db hands over, else (Alembic's command line) on the settings' database."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from app.db import make_engine
from app.settings import load_settings
from app.tables import Base

FOREIGN_SCHEMAS = {"procrastinate"}  # made by a migration, but not described by app/tables.py


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "schema" or name not in FOREIGN_SCHEMAS


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_schemas=True,
        include_name=include_name,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    given = context.config.attributes.get("connection")
    if isinstance(given, Connection):
        migrate(given)
        return
    url = load_settings().database_url
    if url is None:
        raise SystemExit("set TICKETQC_DATABASE_URL to the database that Alembic should work on")
    engine = make_engine(url)
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()


main()
