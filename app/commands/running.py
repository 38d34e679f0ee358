"""What runs the house: `ticketqc up`, and its parts one by one."""

from __future__ import annotations

import json
import socket
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.settings import Settings

KEEP_ALIVE = 2  # seconds that requests have to end in after a request to stop

Child = Annotated[bool, typer.Option("--child", hidden=True, help="Started by `up`, and ends with it.")]


def up(
    *,
    samples: Annotated[
        bool, typer.Option("--samples/--no-samples", help="Load the sample tickets into a fresh database.")
    ] = True,
) -> None:
    """Run everything on this machine: database, pages, worker and clock. Ctrl-C stops it all."""
    from app import up as house
    from app.settings import load_settings

    house.run(load_settings(), samples=samples, say=typer.echo)


def prepare(*, samples: Annotated[bool, typer.Option("--samples/--no-samples")] = True) -> None:
    """Bring the database up to date for `up`, and tell it as JSON what it has to know."""
    from app import preparation
    from app.settings import load_settings

    settings = load_settings()
    url = _database(settings, child=True)
    json.dump(preparation.prepare(settings, url=url, samples=samples)._asdict(), sys.stdout)


def serve(
    *,
    child: Child = False,
    inherited: Annotated[int | None, typer.Option("--socket", hidden=True, help="A socket that listens.")] = None,
) -> None:
    """Serve the pages and take in webhooks."""
    import uvicorn

    from app import db, log
    from app.listening import address, listen
    from app.settings import load_settings
    from app.vault import Vault
    from app.web.app import create_app

    settings = load_settings()
    log.configure()
    listener = listen(settings) if inherited is None else socket.socket(fileno=inherited)
    url = _database(settings, child=child)
    app = create_app(engine=db.make_engine(url), vault=Vault.load(settings), settings=settings)
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=KEEP_ALIVE)
    typer.echo(f"serving {address(settings)}", err=True)
    uvicorn.Server(config).run(sockets=[listener])


def work(
    *,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Jobs at the same time.")] = 16,
    child: Child = False,
) -> None:
    """Work: read what came in, judge tickets, tidy up. Any number of workers may run, on any number of machines."""
    from app import db, log, worker
    from app.deps import Deps
    from app.handlers import HANDLERS
    from app.model_watch import Models
    from app.settings import load_settings
    from app.vault import Vault

    settings = load_settings()
    log.configure()
    url = _database(settings, child=child)
    engine = db.make_engine(url)
    deps = Deps(engine, Vault.load(settings), settings, Models(engine, settings))
    worker.run(deps, url=url, handlers=HANDLERS, concurrency=concurrency)


def clock(*, child: Child = False) -> None:
    """Put what is due into the queue. A second clock does no harm."""
    from zoneinfo import ZoneInfo

    from app import db, log, ticks
    from app.settings import load_settings

    settings = load_settings()
    log.configure()
    url = _database(settings, child=child)
    ticks.run(db.make_engine(url), zone=ZoneInfo(settings.timezone))


def upgrade() -> None:
    """Bring the database to this version's schema."""
    from app import db, embedded
    from app.settings import load_settings

    settings = load_settings()
    if settings.database_url is not None:
        db.upgrade(settings.database_url)
    else:
        server = embedded.start(settings)
        try:
            db.upgrade(server.url)
        finally:
            server.stop()
    typer.echo("the database has this version's schema")


def _database(settings: Settings, *, child: bool) -> str:
    """The address of the database that runs. As a child of `up`: once it is ready, and tied to `up` from then on."""
    from app import db, embedded, lifeline
    from app.errors import DatabaseUnavailable

    if child:
        lifeline.wait_for_go()
        lifeline.end_with_parent()
    url = settings.database_url or embedded.running_url(settings)
    if url is None:
        raise DatabaseUnavailable(
            f"no database runs in {settings.data_dir}: start everything with `ticketqc up`, "
            "or set TICKETQC_DATABASE_URL to a PostgreSQL server"
        )
    if not child:
        engine = db.make_engine(url)
        db.check_version(engine)
        engine.dispose()
    return url
