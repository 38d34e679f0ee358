"""The database of a command: attached to where one runs, else started for as long as the command takes."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from app.settings import Settings


@contextmanager
def opened(settings: Settings) -> Iterator[Engine]:
    """An engine on the configured database, or on the one that comes with the package, with this version's schema."""
    from app import db, embedded, log

    log.configure(level=logging.WARNING)  # what a command has to say it prints itself
    server = None
    if settings.database_url is None:
        server = embedded.start(settings)
        db.upgrade(server.url)
    url = settings.database_url or (server.url if server else "")
    engine = db.make_engine(url)
    try:
        db.check_version(engine)
        yield engine
    finally:
        engine.dispose()
        if server is not None:
            server.stop()
