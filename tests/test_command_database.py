"""The database of a command: there while it works, and nothing of it left behind however it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from app import embedded
from app.commands import database
from app.db import transaction
from app.errors import DatabaseNewer
from app.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(_env_file=None, data_dir=home / "data")


def test_a_command_takes_its_database_with_it(settings: Settings) -> None:
    with database.opened(settings) as engine, transaction(engine) as session:
        assert session.scalar(text("select count(*) from connections")) == 0
        assert embedded.running_url(settings)
    assert embedded.running_url(settings) is None


def test_a_database_of_a_newer_version_is_not_left_running(settings: Settings) -> None:
    with database.opened(settings) as engine, transaction(engine) as session:
        session.execute(text("update alembic_version set version_num = 'ffffffffffff'"))
    with pytest.raises(DatabaseNewer), database.opened(settings):
        pass
    assert embedded.running_url(settings) is None
