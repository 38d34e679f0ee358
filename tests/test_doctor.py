"""`ticketqc doctor` on real folders, a real database and the double: what it finds, and that it changes nothing."""

from __future__ import annotations

import errno
import socket
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from sqlalchemy import text

from app import cli, doctor
from app.doctor import examine
from app.releases import release
from app.settings import Settings
from app.tables import Tick
from app.vault import KEY_FILE, Vault
from tests.cast import MODEL, shipped_context
from tests.factories import make_connection, make_context, make_delivery, make_model_state
from tests.serving import serving

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.diagnosis import Line
    from tests.double import Double

JOB = "insert into procrastinate.procrastinate_jobs (queue_name, task_name, args, status)"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory that does not exist yet; no model, no pages on the port, no .env."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    configure(monkeypatch, data_dir=str(tmp_path / "data"), worker_model="none", strong_model="none", port=str(port))
    return tmp_path / "data"


@pytest.fixture
def keyed(data: Path, double: Double, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The double is the model of both roles."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", double.key)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", double.base_url)
    configure(monkeypatch, worker_model="", strong_model="")
    return data


@pytest.fixture
def house(data: Path, database_url: str, session: Session, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A database in which everything is well."""
    data.mkdir()
    configure(monkeypatch, database_url=database_url)
    make_context(session)
    session.execute(text("insert into procrastinate.procrastinate_workers default values"))
    session.add(Tick(key="resume:now"))
    session.commit()
    return session


def configure(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"TICKETQC_{name.upper()}", value)


def told() -> dict[str, Line]:
    """By subject; of several lines of one subject the worst."""
    lines: dict[str, Line] = {}
    order = ("ok", "warning", "problem")
    for line in examine(now=NOW):
        known = lines.get(line.subject, line)
        lines[line.subject] = max(known, line, key=lambda one: order.index(one.mark))
    return lines


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["ticketqc", "doctor"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert err == ""
    return int(ended.value.code or 0), out


def test_before_the_first_start_nothing_is_wrong_and_nothing_is_made(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = run(monkeypatch, capsys)
    assert code == 0
    assert not data.exists()
    assert f"ok       data directory  {data} is made at the first start" in out.splitlines()
    assert "warning  database        the embedded one is not running; start it with: ticketqc up" in out.splitlines()
    assert out.splitlines()[-1] == "2 warnings"


def test_a_problem_ends_with_1(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    data.write_text("a file")
    code, out = run(monkeypatch, capsys)
    assert code == 1
    assert out.splitlines()[-1].startswith("1 problem")


def test_wrong_settings_are_all_told_and_nothing_else_is_looked_at(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not data.exists()
    configure(monkeypatch, port="many", secret_key="too-short-secret", workr_model="x")
    (line,) = examine(now=NOW)
    assert (line.mark, line.subject) == ("problem", "settings")
    for about in ("TICKETQC_PORT: 'many'", "TICKETQC_SECRET_KEY", "did you mean TICKETQC_WORKER_MODEL?"):
        assert about in line.text
    assert "too-short-secret" not in line.text


def test_settings_are_named_and_never_shown(keyed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not keyed.exists()
    configure(monkeypatch, secret_key="k" * 43, database_url="postgresql://qc:hunter2@127.0.0.1:9/qc")
    lines = list(examine(now=NOW))
    assert "TICKETQC_SECRET_KEY" in lines[0].text
    for secret in ("k" * 43, "hunter2", "double-key"):
        assert [line for line in lines if secret in line.text] == []


@pytest.mark.parametrize(
    ("place", "about"),
    [("here", "cannot write in"), ("here/deeper", "cannot be made in"), ("closed/data", "cannot look at")],
)
def test_a_data_directory_that_cannot_be_used_is_a_problem(unprivileged: Path, place: str, about: str) -> None:
    (unprivileged / "here").mkdir(mode=0o500)
    (unprivileged / "closed").mkdir(mode=0o000)
    (line,) = doctor._looked("data directory", lambda: [doctor._data_directory(unprivileged / place)])  # noqa: SLF001
    assert line.mark == "problem"
    assert about in line.text


def test_a_full_disk_asks_for_space_and_not_for_rights(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_options: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    data.mkdir()
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert "(No space left on device); free some space, or set TICKETQC_DATA_DIR" in told()["data directory"].text


def test_a_data_directory_that_is_a_file_is_a_problem(data: Path) -> None:
    data.write_text("")
    assert told()["data directory"].mark == "problem"


def test_free_space_is_told(data: Path) -> None:
    data.mkdir()
    assert "GB are free" in told()["data directory"].text
    assert list(data.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "mode", "mark", "about"),
    [
        ("k" * 43, 0o600, "ok", KEY_FILE),
        ("k" * 43, 0o644, "warning", "chmod 600"),
        ("short", 0o600, "problem", "damaged"),
    ],
)
def test_the_secret_key_is_there_sound_and_private(data: Path, key: str, mode: int, mark: str, about: str) -> None:
    data.mkdir()
    (data / KEY_FILE).write_text(key)
    (data / KEY_FILE).chmod(mode)
    line = told()["secret key"]
    assert line.mark == mark
    assert about in line.text
    assert key not in line.text


def test_broken_context_files_are_a_problem_with_file_and_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not data.exists()
    for name, words in shipped_context().files.items():
        (tmp_path / name).write_text(words.replace("pass_mark: 80", "pass_mark: 200"))
    configure(monkeypatch, context_dir=str(tmp_path))
    assert told()["context files"].mark == "problem"
    assert "qc_rubric.md:2: error: pass_mark" in told()["context files"].text
    configure(monkeypatch, context_dir=str(tmp_path / "nowhere"))
    assert "there is no such folder" in told()["context files"].text


def test_models_that_answer_are_well_and_cost_nothing_to_look_up(keyed: Path, double: Double) -> None:
    assert not keyed.exists()
    lines = told()
    assert lines["API key"].text == "ANTHROPIC_API_KEY is set"
    assert (lines["worker model"].mark, lines["worker model"].text) == ("ok", "claude-haiku-5-5 answers")
    assert (lines["strong model"].mark, lines["strong model"].text) == ("ok", "claude-sonnet-5-5 answers")
    assert double.account.calls == []


@pytest.mark.parametrize(
    ("given", "mark", "about"),
    [
        ("ANTHROPIC_API_KEY=sk-wrong-key", "problem", "Set a valid ANTHROPIC_API_KEY"),
        ("ANTHROPIC_BASE_URL=http://127.0.0.1:9", "problem", "Connection refused"),
        ("TICKETQC_WORKER_MODEL=claude-nonesuch-9", "problem", "is not known. Set TICKETQC_WORKER_MODEL"),
        ("TICKETQC_WORKER_MODEL=claude-sonnet-4-20250514", "problem", "retired"),
        ("TICKETQC_WORKER_MODEL=claude-sonnet-4-5", "warning", "price book"),
        ("TICKETQC_WORKER_MODEL=none", "warning", "goes to people"),
    ],
)
def test_a_model_that_is_not_well_says_what_to_do(
    keyed: Path, monkeypatch: pytest.MonkeyPatch, given: str, mark: str, about: str
) -> None:
    assert not keyed.exists()
    monkeypatch.setenv(*given.split("="))
    lines = [line for line in examine(now=NOW) if line.subject == "worker model"]
    assert mark in {line.mark for line in lines}
    assert about in " ".join(line.text for line in lines)
    assert "sk-wrong-key" not in " ".join(line.text for line in lines)


def test_a_model_that_retires_within_weeks_is_a_warning(keyed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not keyed.exists()
    configure(monkeypatch, worker_model="claude-sonnet-4-5")
    lines = [line.text for line in examine(now=NOW) if line.subject == "worker model"]
    assert "retires on 2026-11-30; name another by TICKETQC_WORKER_MODEL" in lines[0]


def test_a_named_model_without_a_key_is_a_problem(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not data.exists()
    configure(monkeypatch, worker_model="claude-haiku-5-5")
    assert told()["worker model"].mark == "problem"
    assert "needs an API key" in told()["worker model"].text


def test_a_server_that_never_answers_does_not_keep_the_doctor(keyed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not keyed.exists()
    monkeypatch.setattr(doctor, "LOOK_UP_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        configure(monkeypatch, strong_model="none")
        started = time.monotonic()
        line = told()["worker model"]
    assert time.monotonic() - started < 5
    assert line.mark == "problem"
    assert "no answer within 0.3 s" in line.text


def test_the_local_models_file_is_looked_for(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, worker_model="local")
    assert f"is downloaded to {data / 'local-model'}" in told()["worker model"].text
    configure(monkeypatch, local_model_path=str(tmp_path / "mine.gguf"))
    assert told()["worker model"].mark == "problem"
    assert f"there is no file {tmp_path / 'mine.gguf'}" in told()["worker model"].text
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    assert told()["worker model"].mark == "warning"
    assert "its file is in" in told()["worker model"].text


def test_a_house_in_which_all_is_well(house: Session) -> None:
    assert house.is_active
    lines = told()
    whole = ("database", "context", "worker", "clock", "queue", "deliveries")
    assert {lines[subject].mark for subject in whole} == {"ok"}
    assert lines["database"].text.startswith("PostgreSQL 1")
    assert shipped_context().version[:12] in lines["context"].text


@pytest.mark.parametrize(
    ("state", "named", "told_of"),
    [
        ({"state": "none", "model": ""}, "none", None),
        ({"state": "none", "model": ""}, "local", "works with none, this command was given local"),
        ({"state": "ready", "model": "qwen", "demonstration": True}, "local", None),
        ({"state": "ready", "model": MODEL}, "none", f"works with {MODEL}, this command was given none"),
    ],
)
def test_a_service_that_was_started_with_another_model_is_told(
    house: Session, monkeypatch: pytest.MonkeyPatch, state: dict[str, Any], named: str, told_of: str | None
) -> None:
    make_model_state(house, **state)
    house.commit()
    configure(monkeypatch, worker_model=named)
    line = told().get("model at work")
    assert line is None if told_of is None else line is not None and line.mark == "warning" and told_of in line.text


def test_a_database_that_does_not_answer_is_a_problem(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not data.exists()
    configure(monkeypatch, database_url="postgresql://qc:hunter2@127.0.0.1:9/qc")
    line = told()["database"]
    assert line.mark == "problem"
    assert "cannot be reached" in line.text
    assert "hunter2" not in line.text
    assert "worker" not in told()


def test_a_database_without_our_schema_names_the_command(
    data: Path, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not data.exists()
    configure(monkeypatch, database_url=empty_database)
    assert told()["database"].mark == "problem"
    assert "ticketqc db upgrade" in told()["database"].text


def test_a_database_of_a_newer_version_is_left_alone(house: Session) -> None:
    house.execute(text("update alembic_version set version_num = 'fromthefuture'"))
    house.commit()
    try:
        assert "newer ticketqc" in told()["database"].text
    finally:
        house.execute(text("update alembic_version set version_num = :head"), {"head": _head()})
        house.commit()


def _head() -> str | None:
    from alembic.script import ScriptDirectory  # noqa: PLC0415  0.3 s that only this test needs

    return ScriptDirectory(str(Path(doctor.__file__).parent.parent / "migrations")).get_current_head()


def test_a_disk_that_differs_from_what_is_in_force_names_the_command(house: Session) -> None:
    release(house, {**shipped_context().files, "qc.md": "# Other\n\nJudge.\n"}, note="another")
    house.commit()
    assert told()["context"].mark == "warning"
    assert "(qc.md)" in told()["context"].text
    assert "ticketqc context release" in told()["context"].text


def test_nothing_in_force_yet_is_a_warning(house: Session) -> None:
    house.execute(text("delete from releases"))
    house.commit()
    assert told()["context"].mark == "warning"


@pytest.mark.parametrize(
    ("statement", "subject", "mark"),
    [
        ("delete from procrastinate.procrastinate_workers", "worker", "problem"),
        ("update procrastinate.procrastinate_workers set last_heartbeat = now() - interval '1 h'", "worker", "problem"),
        ("update ticks set at = now() - interval '5 min'", "clock", "problem"),
        ("delete from ticks", "clock", "problem"),
        (f"{JOB} values ('model', 'review', '{{}}', 'failed')", "queue", "warning"),
    ],
)
def test_what_stands_still_is_told(house: Session, statement: str, subject: str, mark: str) -> None:
    house.execute(text(statement))
    house.commit()
    assert told()[subject].mark == mark


def test_a_job_that_waits_for_long_is_told(house: Session) -> None:
    waiting = (
        "insert into procrastinate.procrastinate_jobs (queue_name, task_name, args) values ('model', 'review', '{}')"
    )
    house.execute(text(waiting))
    house.commit()
    assert told()["queue"].mark == "ok"
    house.execute(text("update procrastinate.procrastinate_events set at = now() - interval '1 h'"))
    house.commit()
    assert told()["queue"].mark == "warning"
    assert "the oldest has waited 60 min" in told()["queue"].text


def test_parked_deliveries_are_told(house: Session) -> None:
    for _ in range(3):
        make_delivery(house, state="parked", reason="status: unknown", body=None)
    house.commit()
    assert told()["deliveries"].mark == "warning"
    assert told()["deliveries"].text.startswith("3 parked")


def test_data_sealed_with_another_key_is_a_problem(house: Session, data: Path) -> None:
    settings = Settings(_env_file=None, data_dir=data)
    make_connection(house, secret=Vault.load(settings).seal(b"shared secret"))
    house.commit()
    assert told()["sealed data"].mark == "ok"
    (data / KEY_FILE).write_text("another key, long enough to be taken for one of ours")
    assert told()["sealed data"].mark == "problem"
    (data / KEY_FILE).unlink()
    assert "is gone" in told()["sealed data"].text
    assert not (data / KEY_FILE).exists()


async def _other_program(_scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  ASGI
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def _ours(_scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  ASGI
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'{"alive":true}'})


@pytest.mark.parametrize(("program", "mark"), [(_ours, "ok"), (_other_program, "problem"), (None, "warning")])
def test_the_pages_are_asked_for(house: Session, monkeypatch: pytest.MonkeyPatch, program: Any, mark: str) -> None:  # noqa: ANN401
    assert house.is_active
    if program is None:
        assert told()["pages"].mark == mark
        return
    with serving(program) as address:
        configure(monkeypatch, port=address.rpartition(":")[2])
        assert told()["pages"].mark == mark
