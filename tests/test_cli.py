"""The command line: help at once, one clear line for what is expected, a traceback for what is not."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app import cli
from app.errors import CannotStart, NotFound, SettingsError, TicketqcError

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parent.parent
HEAVY = {"sqlalchemy", "pydantic", "fastapi", "anthropic", "procrastinate", "apscheduler", "psycopg", "uvicorn", "rich"}


def ticketqc(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)  # noqa: S603  our own


def test_help_names_every_command_people_use_and_hides_the_rest() -> None:
    said = ticketqc("--help").stdout
    for name in ("up", "serve", "work", "clock", "import", "review", "context", "connection", "db"):
        assert f" {name} " in said
    assert "prepare" not in said
    assert "local-model" not in said


def test_nothing_heavy_is_imported_before_a_command_runs() -> None:
    program = "import sys, app.cli; print(*sorted(name for name in sys.modules if '.' not in name))"
    said = subprocess.run(  # noqa: S603  our own
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout
    assert HEAVY & set(said.split()) == set()


def test_help_comes_at_once() -> None:
    def seconds() -> float:
        began = time.monotonic()
        ticketqc("--help")
        return time.monotonic() - began

    assert min(seconds() for _ in range(3)) < 1.5  # 0.3 s where nothing else runs


def test_version() -> None:
    assert ticketqc("--version").stdout == f"ticketqc {version('ticketqc')}\n"


def test_an_unknown_command_or_option_is_usage() -> None:
    assert ticketqc("upp").returncode == 2
    assert ticketqc("work", "--concurrency", "0").returncode == 2


def test_without_a_command_it_says_what_there_is() -> None:
    found = ticketqc()
    assert "Commands" in found.stdout + found.stderr


def raising(error: Exception) -> Callable[..., None]:
    def root(**_ignored: object) -> None:
        raise error

    return root


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (NotFound("no such thing; do this"), 1, "ticketqc: no such thing; do this\n"),
        (SettingsError("A: wrong\nB: wrong"), 2, "ticketqc: A: wrong\nticketqc: B: wrong\n"),
        (CannotStart("the port is taken"), 2, "ticketqc: the port is taken\n"),
    ],
)
def test_an_expected_error_is_a_clear_line_and_an_exit_code(
    error: TicketqcError, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "root", raising(error))
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == code
    assert capsys.readouterr().err == said


def test_a_defect_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "root", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_a_reader_that_goes_away_is_no_defect() -> None:
    command = f"{sys.executable} -m app.cli --help | true"
    found = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, cwd=REPOSITORY)  # noqa: S603
    assert "Traceback" not in found.stderr


def test_the_parts_of_the_house_say_where_a_database_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKETQC_DATA_DIR", str(tmp_path))
    for name in ("work", "clock"):
        found = ticketqc(name)
        assert found.returncode == 1
        assert "start everything with `ticketqc up`, or set TICKETQC_DATABASE_URL" in found.stderr


def test_the_schema_is_brought_up_to_date(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETQC_DATABASE_URL", empty_database)
    old = ticketqc("clock")
    assert (old.returncode, "ticketqc db upgrade" in old.stderr) == (1, True)
    assert ticketqc("db", "upgrade").stdout == "the database has this version's schema\n"
