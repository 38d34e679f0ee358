"""The database of a command: attached to where one runs, else started for as long as the command takes."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
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
    with ExitStack() as ending:
        url = settings.database_url
        if url is None:
            server = embedded.start(settings)
            ending.callback(server.stop)
            db.upgrade(url := server.url)
        engine = db.make_engine(url)
        ending.callback(engine.dispose)
        db.check_version(engine)
        yield engine
