"""What has to be so before anything else runs: schema, secret key, a context version in force, samples to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from agents.context import ContextError
from app import clock, db, links, models
from app.errors import NotPrepared
from app.importing import SAMPLE_SOURCE, import_samples
from app.releases import ensure_released
from app.tables import Connection, Import
from app.up import Prepared
from app.vault import Vault

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.settings import Settings


def prepare(settings: Settings, *, url: str, samples: bool) -> Prepared:
    """The database is ready to be worked with; does nothing where it already was."""
    db.upgrade(url)
    Vault.load(settings)
    engine = db.make_engine(url)
    try:
        notes = [note for note in (_release(engine, settings), samples and _load_samples(engine)) if note]
        with db.transaction(engine) as session:
            first_link = links.first(session, now=clock.now())
    finally:
        engine.dispose()
    return Prepared(models.describe(settings), models.choose(settings).local, notes, first_link)


def _release(engine: Engine, settings: Settings) -> str | None:
    try:
        return ensure_released(engine, settings)
    except ContextError as error:
        raise NotPrepared(f"the context files in {settings.context_dir} cannot be released:\n{error}") from None


def _load_samples(engine: Engine) -> str | None:
    """Into a database that no ticket of anybody's can have come to yet; a load that was cut short goes on."""
    with db.transaction(engine) as session:
        foreign = session.scalar(select(Connection.id).where(Connection.name != SAMPLE_SOURCE).limit(1))
        done = session.scalar(select(Import.id).where(Import.finished).limit(1))
    if foreign is not None or done is not None:
        return None
    return f"loaded {import_samples(engine, now=clock.now).new} sample tickets of an office IT desk"
