"""The worker as a process of its own: many jobs at once, and none lost when it is stopped, killed or cut off."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from app import worker
from app.db import transaction
from app.queue import enqueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine

JOBS = "select status, attempts, worker_id from procrastinate.procrastinate_jobs order by id"


@pytest.fixture
def start(database_url: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a worker process; those still there at the end are killed."""
    with ExitStack() as stack:

        def started(*, concurrency: int = 4) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "tests.worker_process", database_url, str(tmp_path), str(concurrency)]
            process = stack.enter_context(subprocess.Popen(command))  # noqa: S603  our own
            stack.callback(process.kill)
            return process

        yield started


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """While this file is there, reviews do not end."""
    path = tmp_path / "hold"
    path.touch()
    return path


def put(engine: Engine, *, revision: int = 1, task: str = "review") -> None:
    with transaction(engine) as session:
        enqueue(session, task, revision_id=revision)  # type: ignore[arg-type]  # a word in a test


def said(engine: Engine) -> list[str]:
    with transaction(engine) as session:
        return list(session.scalars(text("select key from ticks order by at")))


def rows(engine: Engine, statement: str = JOBS) -> list[tuple[object, ...]]:
    with transaction(engine) as session:
        return [tuple(row) for row in session.execute(text(statement))]


def wait_until(true: Callable[[], bool], *, seconds: float = 20) -> float:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "did not happen in time"
        time.sleep(0.05)
    return time.monotonic() - began


def began(engine: Engine, *, revision: int = 1) -> bool:
    return any(word.startswith(f"began:{revision}:") for word in said(engine))


def done(engine: Engine, *, revision: int = 1) -> bool:
    return any(word.startswith(f"done:{revision}:") for word in said(engine))


def test_thirty_two_jobs_run_at_once(engine: Engine, start: Callable[..., subprocess.Popen[bytes]]) -> None:
    for revision in range(32):
        put(engine, revision=revision, task="triage")  # none ends before all have begun
    start(concurrency=32)
    wait_until(lambda: sum(word.startswith("done:") for word in said(engine)) == 32)


@pytest.mark.usefixtures("hold")
def test_jobs_that_wait_on_a_model_do_not_hold_up_the_short_ones(
    engine: Engine, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    start(concurrency=1)
    put(engine, revision=1)
    put(engine, revision=2)
    wait_until(lambda: began(engine))
    with transaction(engine) as session:
        enqueue(session, "intake", delivery_id=3)
    wait_until(lambda: done(engine, revision=3))
    assert not began(engine, revision=2)


def test_a_worker_that_others_took_for_dead_begins_anew(
    engine: Engine, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    start()
    known = "select id from procrastinate.procrastinate_workers order by id"
    wait_until(lambda: len(rows(engine, known)) == 2)
    before = rows(engine, "delete from procrastinate.procrastinate_workers returning id")
    wait_until(lambda: len(rows(engine, known)) == 2)
    assert set(before).isdisjoint(rows(engine, known))
    put(engine)
    wait_until(lambda: done(engine))


def test_the_job_of_a_killed_worker_is_taken_up_by_another(
    engine: Engine, start: Callable[..., subprocess.Popen[bytes]], hold: Path
) -> None:
    put(engine)
    first = start()
    wait_until(lambda: began(engine))
    first.kill()
    hold.unlink()
    second = start()
    wait_until(lambda: done(engine))
    assert f"done:1:{second.pid}" in said(engine)
    wait_until(lambda: rows(engine)[0][:2] == ("succeeded", 2))


def test_with_the_real_pace_a_killed_workers_job_waits_again_well_within_a_minute() -> None:
    assert worker.SILENCE.total_seconds() + worker.SWEEP_EVERY + worker.POLL < 40
    assert worker.SILENCE.total_seconds() > 3 * worker.HEARTBEAT  # a late heartbeat is no death


def test_the_models_are_looked_up_in_the_background(
    engine: Engine, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    start()
    wait_until(lambda: "refreshed" in said(engine))


def test_an_idle_worker_stops_at_once(engine: Engine, start: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = start()
    put(engine)
    wait_until(lambda: done(engine))
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 0
    assert time.monotonic() - asked < 2
    assert rows(engine, "select 1 from procrastinate.procrastinate_workers") == []


def test_a_job_that_ends_in_time_is_finished_before_the_worker_stops(
    engine: Engine, start: Callable[..., subprocess.Popen[bytes]], hold: Path
) -> None:
    put(engine)
    process = start()
    wait_until(lambda: began(engine))
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    hold.unlink()
    assert process.wait(5) == 0
    assert rows(engine)[0][0] == "succeeded"


@pytest.mark.usefixtures("hold")
def test_a_job_that_does_not_end_waits_for_another_worker_untried(
    engine: Engine, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    put(engine)
    process = start()
    wait_until(lambda: began(engine))
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(6) == 0
    assert time.monotonic() - asked < 4
    assert rows(engine) == [("todo", 0, None)]


def test_a_database_that_cuts_all_connections_is_waited_for(
    engine: Engine, start: Callable[..., subprocess.Popen[bytes]], hold: Path
) -> None:
    put(engine)
    start()
    wait_until(lambda: began(engine))
    cut = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname is not null"
    rows(engine, cut)
    hold.unlink()
    wait_until(lambda: done(engine))
    put(engine, revision=2)
    wait_until(lambda: done(engine, revision=2))


def test_a_job_whose_end_could_not_be_written_is_run_again(
    engine: Engine, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    start()
    wait_until(lambda: rows(engine, "select 1 from procrastinate.procrastinate_workers") != [])
    put(engine)
    rows(
        engine,
        "update procrastinate.procrastinate_jobs set status = 'doing', "
        "worker_id = (select max(id) from procrastinate.procrastinate_workers) returning id",
    )
    if done(engine):
        pytest.skip("the worker was quicker than the test")
    wait_until(lambda: done(engine))


def test_a_database_that_is_not_there_yet_is_waited_for_and_a_stop_is_heard_meanwhile(tmp_path: Path) -> None:
    nowhere = f"postgresql://ticketqc@/ticketqc?host={tmp_path}"
    command = [sys.executable, "-m", "tests.worker_process", nowhere, str(tmp_path), "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:  # noqa: S603  our own
        assert process.stderr is not None
        while b"worker.database_away" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
