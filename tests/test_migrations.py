from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.config import Config
from procrastinate.schema import SchemaManager
from sqlalchemy import Engine, text

from app import db

if TYPE_CHECKING:
    from pathlib import Path

TABLES = text("select count(*) from pg_tables where schemaname in ('public', 'procrastinate')")
DEFER = text(
    "select procrastinate.procrastinate_defer_jobs_v1(array[row('default', 'triage', 0, null, null, "
    "'{}'::jsonb, null)::procrastinate.procrastinate_job_to_defer_v1])"
)


def _run(engine: Engine, what: str) -> int:
    """Tables afterwards."""
    with engine.begin() as connection:
        config = db.migration_config(connection)
        if what == "check":
            command.check(config)
        else:
            command.downgrade(config, what)
        return int(connection.scalar(TABLES) or 0)


def test_up_down_and_up_again(empty_database: str) -> None:
    db.upgrade(empty_database)
    engine = db.make_engine(empty_database)
    made = _run(engine, "check")
    assert _run(engine, "base") == 1  # alembic's own
    with engine.connect() as connection:
        assert connection.scalar(text("select count(*) from pg_namespace where nspname = 'procrastinate'")) == 0
    db.upgrade(empty_database)
    assert _run(engine, "check") == made > 10
    engine.dispose()


def test_two_upgraders_at_once(empty_database: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        for upgrading in [pool.submit(db.upgrade, empty_database) for _ in range(2)]:
            upgrading.result()
    engine = db.make_engine(empty_database)
    db.check_version(engine)
    engine.dispose()


def test_an_upgrade_that_fails_leaves_nothing(empty_database: str) -> None:
    engine = db.make_engine(empty_database)
    with engine.begin() as connection:
        connection.execute(text("create schema procrastinate"))  # in the way, half way through
    with pytest.raises(Exception, match="already exists"):
        db.upgrade(empty_database)
    with engine.connect() as connection:
        assert connection.scalar(TABLES) == 0
    engine.dispose()


def test_a_job_is_written_in_our_own_transaction(engine: Engine) -> None:
    """With the plain search_path: the functions find their tables by themselves."""
    jobs = text("select count(*) from procrastinate.procrastinate_jobs")
    with engine.connect() as connection:
        connection.execute(DEFER)
        assert connection.scalar(jobs) == 1
        connection.rollback()
        assert connection.scalar(jobs) == 0


@pytest.mark.parametrize("path", sorted((db.MIGRATIONS / "versions").glob("*.py")), ids=lambda path: path.stem)
def test_no_migration_waits_long_for_a_lock(path: Path) -> None:
    upgrade, downgrade = path.read_text().split("def downgrade")
    assert "SET LOCAL lock_timeout" in upgrade
    assert "SET LOCAL lock_timeout" in downgrade


def test_the_jobs_schema_is_the_one_that_the_first_migration_knew() -> None:
    """Another version of procrastinate needs a migration: its sql/migrations since 3.4.0, then PIN_FUNCTIONS again;
    and the first migration must then make what 3.4.0 made."""
    digest = hashlib.sha256(SchemaManager.get_schema().encode()).hexdigest()
    assert digest == "c70ec4b400a60ad9592787653aae5ae77ae41bf801d56b5bd2712751a07f2009"


def test_alembic_by_hand_asks_for_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config()
    config.set_main_option("script_location", str(db.MIGRATIONS))
    with pytest.raises(SystemExit, match="set TICKETQC_DATABASE_URL"):
        command.current(config)


def test_alembic_by_hand_works_on_the_settings_database(
    empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TICKETQC_DATABASE_URL", empty_database)
    config = Config()
    config.set_main_option("script_location", str(db.MIGRATIONS))
    command.upgrade(config, "head")
    engine = db.make_engine(empty_database)
    db.check_version(engine)
    engine.dispose()
