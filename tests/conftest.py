"""A real Postgres for the session, built by our own migrations; each test finds its database empty."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy.orm import Session

from agents.gateway import Gateway
from app import db, embedded
from app.settings import Settings, variable
from app.vault import Vault
from app.web.app import create_app
from tests.browsers import browser, signed_in
from tests.desk import desk_at
from tests.double import running
from tests.factories import make_user
from tests.proposing import started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine
    from starlette.testclient import TestClient

    from agents.gateway import Endpoint
    from app.deps import Deps
    from app.tables import User
    from tests.desk import Desk
    from tests.double import Double

SESSION = "ticketqc-session-"
ROOM = 2 * 1024**3  # bytes; several clusters at once
# A tenth of the time of TRUNCATE. Foreign keys and triggers rest meanwhile; ids go on, so no test can count on them.
EMPTY = """
DO $$
DECLARE named record;
BEGIN
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    SET LOCAL session_replication_role = replica;
    FOR named IN SELECT schemaname, tablename FROM pg_tables
        WHERE schemaname IN ('public', 'procrastinate') AND tablename <> 'alembic_version' LOOP
        EXECUTE format('DELETE FROM %I.%I', named.schemaname, named.tablename);
    END LOOP;
END $$
"""


def pytest_configure() -> None:
    """Ctrl-C can be tried: a shell that runs the tests in the background has it ignored, in all that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's key or database never reaches a test."""
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)


@pytest.fixture(autouse=True)
def _nothing_in_the_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids go on from test to test: which reuse would be asked again is chance. Who tries that says so."""
    monkeypatch.setattr("app.runs.SHADOW_EVERY", 2**40)


@pytest.fixture(autouse=True)
def _connections_given_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A gateway may live as long as its process; one of a test ends with it, and not as a warning in another's."""
    opened: list[Gateway] = []
    make = Gateway.__init__

    def remembered(self: Gateway, endpoint: Endpoint) -> None:
        make(self, endpoint)
        opened.append(self)

    monkeypatch.setattr(Gateway, "__init__", remembered)
    yield
    for gateway in opened:
        gateway.close()


def _place() -> Path:
    """In memory where there is room: a busy disk makes a start take ten times as long."""
    memory = Path("/dev/shm")  # noqa: S108  mkdtemp makes what is in it ours
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > ROOM and not os.statvfs(memory).f_flag & os.ST_NOEXEC
    return memory if roomy else Path(tempfile.gettempdir())


def _reachable_folder(prefix: str) -> Path:
    """pytest's own folders are closed to other accounts; run as root, the database's must come through."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_place()))
    folder.chmod(0o711)
    return folder


def _end_what_killed_sessions_left() -> None:
    """A server whose session was killed is taken over and stopped; one whose session lives cannot be taken over."""
    for folder in _place().glob(f"{SESSION}*"):
        if not os.access(folder, os.W_OK):
            continue
        settings = Settings(_env_file=None, data_dir=folder)
        if embedded.running_url(settings) and (left := embedded.start(settings)).owned:
            left.stop()
            shutil.rmtree(folder)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder, gone after the test, that the account of an embedded database can reach."""
    folder = _reachable_folder("ticketqc-test-")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server() -> Iterator[embedded.Server]:
    """TICKETQC_PG_BIN chooses another Postgres to test with."""
    _end_what_killed_sessions_left()
    folder = _reachable_folder(SESSION)
    running = embedded.start(Settings(_env_file=None, database_url=None, data_dir=folder))
    with psycopg.connect(running.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # nobody needs a test's rows after a power cut
        connection.execute("SELECT pg_reload_conf()")
    yield running
    running.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def _migrated(server: embedded.Server) -> str:
    db.upgrade(server.url)
    return server.url


@pytest.fixture
def database_url(_migrated: str) -> str:
    """The address of our tables, empty; whoever was still connected is not any more."""
    with psycopg.connect(_migrated, autocommit=True) as connection:
        connection.execute(EMPTY)
    return _migrated


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """On our tables, empty."""
    made = db.make_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """For arranging and looking; `commit` shows its rows to others, the end of the test rolls back the rest."""
    with Session(engine, expire_on_commit=False) as opened:
        yield opened


@pytest.fixture
def empty_database(server: embedded.Server) -> Iterator[str]:
    """The address of a database without any table."""
    name = sql.Identifier(f"t{uuid4().hex}")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        yield server.url.replace("/ticketqc?", f"/{name.as_string()[1:-1]}?")
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The defaults, with a data directory of the test's own."""
    return Settings(_env_file=None, data_dir=tmp_path / "data")


@pytest.fixture
def vault(settings: Settings) -> Vault:
    return Vault.load(settings)


@pytest.fixture
def double() -> Iterator[Double]:
    """The model API, as a strict server of its own; files whose model says something special override this."""
    with running() as server:
        yield server


@pytest.fixture
def keyed(settings: Settings, double: Double) -> Settings:
    """Settings by which the double's models are asked."""
    return settings.model_copy(
        update={"anthropic_api_key": SecretStr(double.key), "anthropic_base_url": double.base_url}
    )


@pytest.fixture
def another(engine: Engine, keyed: Settings, vault: Vault) -> Callable[..., Deps]:
    """Another worker process, with settings of its own where they are named."""
    return partial(started, engine, keyed, vault)


@pytest.fixture
def deps(another: Callable[..., Deps]) -> Deps:
    """A worker process whose models are the double's."""
    return another()


@pytest.fixture
def desk(
    tmp_path: Path, double: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Desk]:
    """A folder in which `ticketqc review FILE` is run."""
    with desk_at(tmp_path, double, monkeypatch, capsys) as made:
        yield made


@pytest.fixture
def command_line(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that a test invokes find its database, and a terminal that cuts no line."""
    monkeypatch.setenv("TICKETQC_DATABASE_URL", database_url)
    monkeypatch.setenv("TICKETQC_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lead(session: Session) -> User:
    return _committed(session, make_user(session, role="lead", email="lee@example.com", name="Lee Novak"))


@pytest.fixture
def other_lead(session: Session) -> User:
    return _committed(session, make_user(session, role="lead", email="olu@example.com", name="Olu Adeyemi"))


@pytest.fixture
def viewer(session: Session) -> User:
    return _committed(session, make_user(session, role="viewer", email="vera@example.com", name="Vera Lind"))


@pytest.fixture
def admin(session: Session) -> User:
    return _committed(session, make_user(session, role="admin", email="ada@example.com", name="Ada Sato"))


def _committed(session: Session, user: User) -> User:
    session.commit()
    return user


@pytest.fixture
def stranger_pages(engine: Engine, vault: Vault, settings: Settings) -> TestClient:
    """The application as a browser on this machine asks it, whose user has not signed in."""
    return browser(create_app(engine=engine, vault=vault, settings=settings))


@pytest.fixture
def pages(stranger_pages: TestClient, session: Session, lead: User) -> TestClient:
    """The same where a lead has signed in."""
    return signed_in(stranger_pages.app, session, lead)


@pytest.fixture
def other_lead_pages(stranger_pages: TestClient, session: Session, other_lead: User) -> TestClient:
    return signed_in(stranger_pages.app, session, other_lead)


@pytest.fixture
def viewer_pages(stranger_pages: TestClient, session: Session, viewer: User) -> TestClient:
    return signed_in(stranger_pages.app, session, viewer)


@pytest.fixture
def admin_pages(stranger_pages: TestClient, session: Session, admin: User) -> TestClient:
    return signed_in(stranger_pages.app, session, admin)


@pytest.fixture
def unprivileged(home: Path) -> Iterator[Path]:
    """A folder of an account that permissions bind, and that account is us: root's are lent away for the test."""
    folder = home / "unprivileged"
    folder.mkdir(mode=0o700)
    if as_root := os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        os.setegid(nobody.pw_gid)
        os.seteuid(nobody.pw_uid)
    yield folder
    if as_root:
        os.seteuid(0)
        os.setegid(0)
    for closed in (folder, *folder.iterdir()):  # else nobody but root could remove them
        closed.chmod(0o700)
