"""A job is there exactly when its cause is, once where it should be, and never stuck with a worker that is gone."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from app import queue
from app.db import transaction
from app.queue import TASKS, enqueue
from app.tables import Tick

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.queue import TaskName


def jobs(engine: Engine) -> list[Any]:
    with transaction(engine) as session:
        return list(session.execute(text("select * from procrastinate.procrastinate_jobs order by id")))


def worker(session: Session, *, silent_for: str = "0 s") -> int:
    statement = """
        insert into procrastinate.procrastinate_workers (last_heartbeat)
        values (now() - cast(:silent as interval)) returning id
    """
    found = session.scalar(text(statement), {"silent": silent_for})
    assert isinstance(found, int)
    return found


def started(session: Session, by: int) -> int:
    """The id of the job that procrastinate's own statement hands to this worker."""
    fetch = text("select id from procrastinate.procrastinate_fetch_job_v2(null, :worker)")
    found = session.scalar(fetch, {"worker": by})
    assert isinstance(found, int)
    return found


def test_the_job_commits_with_its_cause(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(Tick(key="cause"))
        enqueue(session, "review", revision_id=7)
    (job,) = jobs(engine)
    assert (job.task_name, job.args, job.status) == ("review", {"revision_id": 7}, "todo")


def test_a_rollback_leaves_no_job(engine: Engine) -> None:
    def fails() -> None:
        with transaction(engine) as session:
            enqueue(session, "review", revision_id=7)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert jobs(engine) == []


def test_a_second_job_with_the_same_key_is_no_job_and_no_error(engine: Engine) -> None:
    with transaction(engine) as session:
        enqueue(session, "resume", once="resume")
    with transaction(engine) as session:
        enqueue(session, "resume", once="resume")
        session.add(Tick(key="other work"))
        enqueue(session, "review", revision_id=1)
    with transaction(engine) as session:
        assert session.get(Tick, "other work") is not None
    assert [job.task_name for job in jobs(engine)] == ["resume", "review"]


def test_a_running_job_does_not_stand_for_a_waiting_one(engine: Engine) -> None:
    with transaction(engine) as session:
        enqueue(session, "resume", once="resume")
        started(session, worker(session))
        enqueue(session, "resume", once="resume")
    assert sorted(job.status for job in jobs(engine)) == ["doing", "todo"]


def test_a_waiting_job_cannot_start_before_what_a_second_cause_wrote_is_visible(engine: Engine) -> None:
    with transaction(engine) as session:
        enqueue(session, "resume", once="resume")
        busy = worker(session)
    with transaction(engine) as second_cause:
        enqueue(second_cause, "resume", once="resume")
        with transaction(engine) as other:
            fetch = text("select id from procrastinate.procrastinate_fetch_job_v2(null, :worker)")
            assert other.scalar(fetch, {"worker": busy}) is None


def test_causes_at_the_same_moment_make_one_job(engine: Engine) -> None:
    together = threading.Barrier(4)

    def cause() -> None:
        with transaction(engine) as session:
            together.wait()
            enqueue(session, "resume", once="resume")

    threads = [threading.Thread(target=cause) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(jobs(engine)) == 1


def test_what_waits_on_nobody_has_a_lane_of_its_own_and_triage_goes_before_review(engine: Engine) -> None:
    with transaction(engine) as session:
        enqueue(session, "review", revision_id=1)
        enqueue(session, "triage", revision_id=1)
        enqueue(session, "intake", delivery_id=1)
        busy = worker(session)
        order = [started(session, busy) for _ in range(2)]
    found = {job.id: (job.queue_name, job.task_name) for job in jobs(engine)}
    assert set(found.values()) == {("model", "review"), ("model", "triage"), ("short", "intake")}
    assert [found[number] for number in order] == [("model", "triage"), ("model", "review")]


def test_a_worker_that_was_forgotten_hears_of_it(engine: Engine) -> None:
    with transaction(engine) as session:
        mine, other = worker(session, silent_for="1 h"), worker(session)
        assert queue.beat(session, workers=[mine, other])
        enqueue(session, "review", revision_id=1)
        started(session, mine)
        assert queue.take_back_from_dead(session, silence=timedelta(seconds=20)) == []
        session.execute(text("delete from procrastinate.procrastinate_workers where id = :id"), {"id": mine})
        assert not queue.beat(session, workers=[mine, other])


def test_jobs_with_the_same_lock_do_not_run_at_once(engine: Engine) -> None:
    with transaction(engine) as session:
        enqueue(session, "review", lock="ticket:1", revision_id=1)
        enqueue(session, "review", lock="ticket:1", revision_id=2)
        enqueue(session, "review", lock="ticket:2", revision_id=3)
        busy = worker(session)
        started(session, busy)
        started(session, busy)
    assert {job.args["revision_id"] for job in jobs(engine) if job.status == "doing"} == {1, 3}


@pytest.mark.parametrize(
    ("task", "arguments"),
    [("revue", {"revision_id": 1}), ("review", {}), ("review", {"revision": 1}), ("resume", {"revision_id": 1})],
)
def test_an_unknown_task_or_argument_is_an_error_where_it_is_written(
    engine: Engine, task: TaskName, arguments: dict[str, int]
) -> None:
    with transaction(engine) as session, pytest.raises((LookupError, TypeError)):
        enqueue(session, task, lock=None, once=None, **arguments)
    assert jobs(engine) == []


def test_every_task_has_somebody_who_does_it() -> None:
    from app.handlers import HANDLERS  # noqa: PLC0415  imports every room

    assert HANDLERS.keys() == TASKS.keys()


def test_the_jobs_of_a_silent_worker_wait_again(engine: Engine) -> None:
    with transaction(engine) as session:
        for revision in (1, 2):
            enqueue(session, "review", once=f"review:{revision}", revision_id=revision)
        taken = started(session, worker(session, silent_for="21 s"))
        kept = started(session, worker(session, silent_for="5 s"))
        enqueue(session, "review", once="review:1", revision_id=1)  # waits under the same key by now
    with transaction(engine) as session:
        lost = queue.take_back_from_dead(session, silence=timedelta(seconds=20))
    assert [(job.id, job.task, job.arguments, job.attempts) for job in lost] == [
        (taken, "review", {"revision_id": 1}, 1)
    ]
    assert {job.id: job.status for job in jobs(engine) if job.id in (taken, kept)} == {taken: "todo", kept: "doing"}


def test_the_jobs_of_a_worker_that_is_not_even_known_wait_again(engine: Engine) -> None:
    with transaction(engine) as session:
        enqueue(session, "review", revision_id=1)
        gone = worker(session)
        started(session, gone)
        session.execute(text("delete from procrastinate.procrastinate_workers"))
    with transaction(engine) as session:
        assert len(queue.take_back_from_dead(session, silence=timedelta(seconds=20))) == 1


def test_a_released_job_has_not_been_tried(engine: Engine) -> None:
    with transaction(engine) as session:
        enqueue(session, "review", revision_id=1)
        enqueue(session, "review", revision_id=2)
        mine = worker(session)
        first, second = started(session, mine), started(session, mine)
        assert queue.held(session, workers=[mine]) == {first, second}
        queue.release(session, workers=[mine], jobs=frozenset({first}))
        assert queue.held(session, workers=[mine]) == {second}
        queue.release(session, workers=[mine])
    assert [(job.status, job.attempts, job.worker_id) for job in jobs(engine)] == [("todo", 0, None)] * 2


def test_finished_jobs_go_at_their_age_and_no_others(engine: Engine) -> None:
    with transaction(engine) as session:
        busy = worker(session)
        for revision in (1, 2, 3):
            enqueue(session, "review", revision_id=revision)
        old, recent, running = (started(session, busy) for _ in range(3))
        finish = text("select procrastinate.procrastinate_finish_job_v1(:job, :status, false)")
        session.execute(finish, {"job": old, "status": "succeeded"})
        session.execute(finish, {"job": recent, "status": "failed"})
        age = text("update procrastinate.procrastinate_events set at = now() - interval '8 days' where job_id <> :job")
        session.execute(age, {"job": recent})
    with transaction(engine) as session:
        assert queue.delete_finished(session, older_than=timedelta(days=7), most=10) == 1
    assert [job.id for job in jobs(engine)] == [recent, running]
