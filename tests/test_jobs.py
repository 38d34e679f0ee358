"""What an error does to a job: later, or given up in sight of people, never lost and never a traceback unlogged."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any, NoReturn, cast

import psycopg
import pytest
import structlog
from procrastinate import JobContext
from procrastinate.jobs import Job
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app import log
from app.db import transaction
from app.deps import Deps
from app.errors import DatabaseUnavailable, NotFound, TicketqcError
from app.jobs import LONGEST_WAIT, TRANSIENT_TRIES, TRIES, Edge, Handler, Retry, TryAgain, transient, wait_after
from app.queue import Lost, enqueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from app.settings import Settings
    from app.vault import Vault


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What the process says; the configuration of the logs is as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    log.configure(stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def deps(engine: Engine, vault: Vault, settings: Settings) -> Deps:
    return Deps(engine, vault, settings, cast("Any", None))


def job(*, attempts: int = 0, number: int = 1, once: str | None = None) -> JobContext:
    known = Job(
        id=number, queue="default", lock=None, queueing_lock=once, task_name="review",
        task_kwargs={"revision_id": 7}, attempts=attempts,
    )  # fmt: skip
    return JobContext(app=cast("Any", None), job=known, start_timestamp=0, abort_reason=lambda: None)


def failing(error: Exception) -> Callable[..., None]:
    def run(_deps: Deps, **_arguments: int) -> NoReturn:
        raise error

    return run


def refused(sqlstate: str) -> OperationalError:
    """A database error as SQLAlchemy raises it."""
    cause = psycopg.errors.lookup(sqlstate)("no")
    return OperationalError("select 1", None, cause)


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), refused("40P01"), refused("57014"), refused("55P03")])
def test_a_database_that_is_away_or_busy_is_tried_again_for_a_long_time(error: Exception) -> None:
    assert transient(error)
    waits = [wait_after(error, attempts=attempts) for attempts in range(TRANSIENT_TRIES)]
    assert waits[:4] == [1, 2, 4, 8]
    assert max(wait for wait in waits if wait) == LONGEST_WAIT
    assert waits[-1] is None


@pytest.mark.parametrize("error", [ZeroDivisionError(), NotFound("x"), refused("22P02"), TicketqcError("x")])
def test_any_other_error_is_tried_again_only_twice(error: Exception) -> None:
    assert [wait_after(error, attempts=attempts) for attempts in range(TRIES)] == [5, 10, None]


def test_a_failed_job_is_tried_again_with_the_traceback_logged_once(deps: Deps, logged: io.StringIO) -> None:
    edge = Edge(deps, {"review": Handler(failing(ZeroDivisionError()))})
    with pytest.raises(TryAgain) as decision:
        edge.run(job(), revision_id=7)
    assert decision.value.seconds == 5
    (line,) = map(json.loads, logged.getvalue().splitlines())
    assert (line["event"], line["task"], line["job"], line["revision_id"]) == ("job.failed", "review", 1, 7)
    assert "ZeroDivisionError" in line["exception"]


def test_procrastinate_carries_the_decision_out() -> None:
    retry = Retry().get_retry_decision(exception=TryAgain(seconds=5), job=job().job)
    assert retry is not None
    assert retry.retry_at is not None
    assert Retry().get_retry_decision(exception=ZeroDivisionError(), job=job().job) is None


@pytest.mark.usefixtures("logged")
def test_a_job_given_up_says_so_where_people_look(deps: Deps) -> None:
    told: list[tuple[str, int]] = []
    handler = Handler(
        failing(ZeroDivisionError("a ticket's words")),
        lambda _deps, reason, *, revision_id: told.append((reason, revision_id)),
    )
    with pytest.raises(ZeroDivisionError):
        Edge(deps, {"review": handler}).run(job(attempts=TRIES - 1), revision_id=7)
    assert told == [("ZeroDivisionError; see the log of job 1", 7)]


@pytest.mark.usefixtures("logged")
def test_our_own_errors_speak_for_themselves(deps: Deps) -> None:
    told: list[str] = []
    handler = Handler(failing(NotFound("no context yet")), lambda _deps, reason, **_rest: told.append(reason))
    with pytest.raises(NotFound):
        Edge(deps, {"review": handler}).run(job(attempts=TRIES - 1), revision_id=7)
    assert told == ["no context yet"]


def test_where_giving_up_fails_too_the_job_is_kept(deps: Deps, logged: io.StringIO) -> None:
    handler = Handler(failing(ZeroDivisionError()), failing(DatabaseUnavailable("away")))
    with pytest.raises(TryAgain):
        Edge(deps, {"review": handler}).run(job(attempts=TRIES - 1), revision_id=7)
    assert [json.loads(line)["event"] for line in logged.getvalue().splitlines()] == [
        "job.given_up", "job.give_up_failed",
    ]  # fmt: skip


@pytest.mark.usefixtures("logged")
def test_a_job_that_kills_its_workers_is_buried_with_a_reason(deps: Deps) -> None:
    told: list[str] = []
    lost = Lost(1, "review", {"revision_id": 7}, 6)
    edge = Edge(
        deps, {"review": Handler(failing(ZeroDivisionError()), lambda _deps, reason, **_rest: told.append(reason))}
    )
    assert edge.bury(lost)
    assert told == ["the worker died 6 times while at it"]
    assert not Edge(deps, {"review": Handler(edge.run, failing(DatabaseUnavailable("away")))}).bury(lost)


@pytest.mark.usefixtures("logged")
def test_a_job_that_waits_again_does_not_collide_with_the_next_of_its_kind(deps: Deps) -> None:
    with transaction(deps.engine) as session:
        enqueue(session, "resume", once="resume")
        statement = "update procrastinate.procrastinate_jobs set status = 'doing' returning id"
        number = session.scalar(text(statement))
        enqueue(session, "resume", once="resume")
    assert number is not None
    with pytest.raises(TryAgain):
        Edge(deps, {"review": Handler(failing(ZeroDivisionError()))}).run(job(number=number, once="resume"))
    with transaction(deps.engine) as session:
        retry = text("select procrastinate.procrastinate_retry_job_v2(:job, now(), null, null, null)")
        session.execute(retry, {"job": number})


def test_nothing_of_one_job_stays_in_the_log_of_the_next(deps: Deps, logged: io.StringIO) -> None:
    def run(_deps: Deps, **_arguments: int) -> None:
        structlog.get_logger().info("working")

    edge = Edge(deps, {"review": Handler(run)})
    edge.run(job(), revision_id=7)
    structlog.get_logger().info("between")
    inside, outside = map(json.loads, logged.getvalue().splitlines())
    assert inside["revision_id"] == 7
    assert "revision_id" not in outside
    assert edge.running == set()
