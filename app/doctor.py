"""`ticketqc doctor`: looks at everything that the product needs, changes nothing, and says what to mend.

1. The settings; where they are wrong nothing else can be looked at.
2. The machine: data directory, secret key, context files.
3. The models: each role's choice, looked up where it is served. No call takes longer than LOOK_UP_SECONDS.
4. The house, where its database answers: schema, key, context in force, pages, worker, clock, queue, what is parked.
"""

from __future__ import annotations

import http.client
import os
import shutil
import stat
import tempfile
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from agents.context import ContextError, read_folder
from agents.context_lint import lint
from agents.gateway import CallFailed, Gateway
from agents.prices import price_of
from app import budget, data_dir, db, diagnosis, embedded, local_model, releases
from app.diagnosis import Line
from app.errors import SettingsError, TicketqcError
from app.listening import called, of_running
from app.models import LOCAL, NONE, ROLES, Choice, choose, endpoint, explain
from app.queries import costs, operations
from app.queries.tickets import MOST_COUNTED
from app.settings import load_settings, variable
from app.tables import Connection, Delivery, ModelState
from app.vault import KEY_FILE, Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.orm import Session

    from app.settings import Settings

LOOK_UP_SECONDS = 8.0
PAGES_SECONDS = 3.0
STATEMENT_SECONDS = 5


def examine(*, now: datetime) -> Iterator[Line]:
    """Everything, in the order in which it is best mended."""
    try:
        settings = load_settings()
    except SettingsError as error:
        yield Line("problem", "settings", "; ".join(str(error).splitlines()))
        return
    yield diagnosis.settings_given(sorted(map(variable, settings.model_fields_set)))
    yield from _looked("data directory", lambda: [_data_directory(settings.data_dir)])
    yield from _looked("secret key", lambda: [_secret_key(settings)])
    yield from _looked("context files", lambda: [_context_files(settings)])
    yield from _looked("models", lambda: _models(settings, now=now))
    yield from _looked("database", lambda: _house(settings))


def _looked(subject: str, look: Callable[[], Iterable[Line]]) -> Iterator[Line]:
    """What was seen; where this account may not even look, that is the problem."""
    try:
        yield from look()
    except OSError as error:
        hint = "run this as the account that runs ticketqc, or make it readable"
        yield Line("problem", subject, f"cannot look at {error.filename} ({error.strerror}); {hint}")


def _data_directory(folder: Path) -> Line:
    subject = "data directory"
    if not folder.exists():
        above = next(parent for parent in folder.parents if parent.exists())
        if os.access(above, os.W_OK | os.X_OK, effective_ids=True):
            return Line("ok", subject, f"{folder} is made at the first start")
        return Line("problem", subject, f"{folder} cannot be made in {above}; set TICKETQC_DATA_DIR to another folder")
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(65_536))
            probe.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        remedy = "free some space" if error.errno in data_dir.FULL else "make it writable for this account"
        why = f"cannot write in {folder} ({error.strerror}); {remedy}, or set TICKETQC_DATA_DIR"
        return Line("problem", subject, why)
    return diagnosis.free_space(folder, free)


def _secret_key(settings: Settings) -> Line:
    """There and sound; whether it is the one that sealed what is stored, the database tells."""
    subject, path = "secret key", settings.data_dir / KEY_FILE
    if settings.secret_key is None and not path.exists():
        return Line("ok", subject, f"{path} is made at the first start")
    try:
        Vault.load(settings)
        mode = 0 if settings.secret_key else stat.S_IMODE(path.stat().st_mode)
    except TicketqcError as error:
        return Line("problem", subject, str(error))
    if mode & 0o077:
        return Line("warning", subject, f"others on this machine can read {path}; run: chmod 600 {path}")
    return Line("ok", subject, "from TICKETQC_SECRET_KEY" if settings.secret_key else str(path))


def _context_files(settings: Settings) -> Line:
    try:
        problems = lint(read_folder(settings.context_dir))
    except ContextError as error:
        problems = error.problems
    return diagnosis.context_files(settings.context_dir, problems)


def _models(settings: Settings, *, now: datetime) -> Iterator[Line]:
    given = "is set" if settings.anthropic_api_key else "is not set"
    yield Line("ok", "API key", f"ANTHROPIC_API_KEY {given}")
    for role in ROLES:
        choice = choose(settings, role)
        subject = f"{role} model"
        if choice.local:
            yield _local_model(settings, subject)
        elif choice.judged_by_model:
            yield from _api_model(settings, choice, subject, now=now)
        elif role == "worker":
            yield Line(
                "warning", subject, "none: checks run, and what needs judgement goes to people; set ANTHROPIC_API_KEY"
            )
        else:
            yield Line("ok", subject, "none")


def _local_model(settings: Settings, subject: str) -> Line:
    weights = local_model.weights_file(settings)
    if settings.local_model_path is not None and not weights.is_file():
        return Line("problem", subject, f"TICKETQC_LOCAL_MODEL_PATH: there is no file {weights}")
    state = local_model.read_state(settings.data_dir)
    return diagnosis.local_model(subject, state, weights=weights, there=weights.is_file())


def _api_model(settings: Settings, choice: Choice, subject: str, *, now: datetime) -> Iterator[Line]:
    try:
        quick = replace(endpoint(settings, choice), timeout_seconds=LOOK_UP_SECONDS)
        with closing(Gateway(quick)) as gateway:
            facts = gateway.look_up(choice.model)
    except CallFailed as failure:
        yield Line("problem", subject, explain(failure, choice))
        return
    priced = price_of(choice.model, on=now.date()) is not None
    named = variable(f"{choice.role}_model")
    yield from diagnosis.api_model(subject, facts, priced=priced, today=now.date(), variable=named)


def _house(settings: Settings) -> Iterator[Line]:
    """What only the database knows; one line where it is not running, because nothing else can be asked then."""
    try:
        url = settings.database_url or embedded.running_url(settings)
        lines = [] if url is None else _asked(settings, url)
    except (TicketqcError, DBAPIError) as error:
        lines = [Line("problem", "database", " ".join(str(error).split()))]
        url = None
    if url is None:
        yield from lines or [Line("warning", "database", f"the embedded one is not running; {diagnosis.START}")]
        return
    yield from lines
    yield _pages(of_running(settings))


def _asked(settings: Settings, url: str) -> list[Line]:
    engine = db.make_engine(url)
    try:
        db.check_version(engine)
        with db.transaction(engine) as session:
            session.execute(text(f"set local statement_timeout = '{STATEMENT_SECONDS}s'"))
            return list(_rooms(session, settings))
    finally:
        engine.dispose()


def _rooms(session: Session, settings: Settings) -> Iterator[Line]:
    """Ages are by the database's clock, which wrote the moments too."""
    now = session.scalars(select(func.now())).one()
    versions = operations.versions(session)
    whose = "of TICKETQC_DATABASE_URL" if settings.database_url else "embedded"
    yield Line("ok", "database", f"PostgreSQL {versions.postgres}, {whose}, schema {versions.schema}")
    yield from _sealed(session, settings)
    yield _in_force(session, settings)
    ticks = [tick.at for tick in operations.ticks(session)]
    alive = diagnosis.workers(operations.heartbeats(session), now=now)
    yield alive
    if alive.mark == "ok":
        yield from _started_with(session, choose(settings).model)
    yield diagnosis.clock(max(ticks, default=None), now=now)
    yield diagnosis.queue(operations.jobs(session), now=now)
    yield from map(diagnosis.cache, costs.cache(session, since=now - timedelta(days=1)))
    zone = ZoneInfo(settings.timezone)
    yield diagnosis.spending(budget.standing(session, limit=settings.daily_budget_usd, now=now, zone=zone))
    stuck = operations.reviews(session).parked
    yield from diagnosis.parked(operations.parked_count(session), stuck, most=MOST_COUNTED)


def _started_with(session: Session, given: str) -> Iterator[Line]:
    """Where the service that runs was given another worker model than this command."""
    row = session.get(ModelState, "worker")
    if row is None:
        return
    theirs = NONE if row.state == "none" else LOCAL if row.demonstration else row.model
    if theirs != given:
        remedy = "give both the same settings, in .env for instance"
        yield Line(
            "warning", "model at work", f"the service works with {theirs}, this command was given {given}; {remedy}"
        )


def _sealed(session: Session, settings: Settings) -> Iterator[Line]:
    """Whether the key at hand is the one that sealed what is stored."""
    of_connections = select(Connection.secret).where(Connection.secret.is_not(None)).limit(1)
    sealed = session.scalar(of_connections) or session.scalar(
        select(Delivery.body).where(Delivery.body.is_not(None)).order_by(Delivery.id.desc()).limit(1)
    )
    if sealed is None:
        return
    if settings.secret_key is None and not (settings.data_dir / KEY_FILE).exists():
        lost = "the key that sealed secrets and deliveries is gone; put it back, or set TICKETQC_SECRET_KEY"
        yield Line("problem", "sealed data", lost)
        return
    try:
        Vault.load(settings).open(sealed)
    except TicketqcError as error:
        yield Line("problem", "sealed data", str(error))
        return
    yield Line("ok", "sealed data", "opens with this key")


def _in_force(session: Session, settings: Settings) -> Line:
    in_use = releases.newest(session)
    if in_use is None:
        return Line("warning", "context", f"no version is in force yet; {diagnosis.START}")
    if differs := releases.difference(session, in_use, settings.context_dir):
        return Line("warning", "context", differs)
    return Line("ok", "context", f"version {in_use.version[:12]} is in force, the same as on disk")


def _pages(settings: Settings) -> Line:
    """Asked on this machine, whatever the address is that people use."""
    host, port = called(settings.host), settings.port
    where = f"on {host}, port {port}"
    connection = http.client.HTTPConnection(host, port, timeout=PAGES_SECONDS)
    with suppress(OSError, http.client.HTTPException), closing(connection):
        connection.request("GET", "/healthz")
        if b'"alive"' in connection.getresponse().read(1_000):
            return Line("ok", "pages", f"answer {where}")
        return Line("problem", "pages", f"another program answers {where}; stop it, or set TICKETQC_PORT")
    return Line("warning", "pages", f"nothing answers {where}; {diagnosis.START}, or with: ticketqc serve")
