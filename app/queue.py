"""Jobs as rows: the only file that knows procrastinate's tables. A job is written inside its cause's transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from sqlalchemy import column, exists, literal_column, table, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

SCHEMA = "procrastinate"  # out of the way of our own tables

TaskName = Literal[
    "intake", "triage", "review", "resume", "retention", "patterns", "propose", "replay", "rescore", "shadow",
    "batch_submit", "batch_collect",
    "report", "report_again", "mail",
]  # fmt: skip


Lane = Literal["short", "model"]


class Task(NamedTuple):
    """The row ids a task is called with, and the lane its jobs wait in.

    What waits on a model may take minutes, and each lane has threads of its own: a thousand reviews, or one model that
    hangs, never delay a webhook.
    """

    arguments: frozenset[str]
    lane: Lane
    priority: int = 0  # higher runs earlier within the lane


TASKS: Mapping[TaskName, Task] = {
    "resume": Task(frozenset(), "short"),
    "retention": Task(frozenset(), "short"),
    "patterns": Task(frozenset(), "short"),
    "intake": Task(frozenset({"delivery_id"}), "short"),
    "triage": Task(frozenset({"revision_id"}), "model", priority=1),
    "review": Task(frozenset({"revision_id"}), "model"),
    "propose": Task(frozenset({"pattern_id"}), "model"),
    "report": Task(frozenset({"monday"}), "model", priority=2),  # a full lane must not delay it beyond Monday
    "report_again": Task(frozenset({"monday", "after", "user_id"}), "model", priority=2),
    "mail": Task(frozenset({"report_id"}), "short"),
    "replay": Task(frozenset({"replay_id"}), "model"),
    "rescore": Task(frozenset({"rescore_id"}), "model", priority=-1),  # nobody's ticket waits for it
    "shadow": Task(frozenset({"reuse_id"}), "model", priority=-1),
    "batch_submit": Task(frozenset(), "model", priority=2),  # before the thousand reviews that its tickets are not
    "batch_collect": Task(frozenset(), "model", priority=2),
}

# Not procrastinate's own `defer`: where a job waits already it raises from a unique violation, which would end the
# caller's transaction. On conflict we update rather than do nothing, so that the waiting job's row is locked until we
# commit: no worker can start it (fetching skips locked rows) and be done before what we wrote for it can be seen.
_ENQUEUE = text("""
    insert into procrastinate.procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args)
    values (:lane, :task, :priority, :lock, :once, cast(:args as jsonb))
    on conflict (queueing_lock) where status = 'todo' do update set queueing_lock = excluded.queueing_lock
""")


def enqueue(
    session: Session, task: TaskName, *, lock: str | None = None, once: str | None = None, **arguments: int
) -> None:
    """The job is there if and only if the caller's transaction commits.

    Jobs with the same `lock` never run at once; while one with the same `once` waits, another is not written.
    """
    known = TASKS.get(task)
    if known is None:
        raise LookupError(f"no task is called {task!r}; there are {', '.join(TASKS)}")
    if known.arguments != arguments.keys():
        raise TypeError(f"task {task!r} takes {sorted(known.arguments)}, not {sorted(arguments)}")
    row = {"task": task, "lane": known.lane, "priority": known.priority, "args": json.dumps(arguments)}
    session.execute(_ENQUEUE, {**row, "lock": lock, "once": once})


_JOBS = table("procrastinate_jobs", column("lock"), column("status"), schema=SCHEMA)
# Literals, as the index over them has them.
_LIVE: tuple[ColumnElement[str], ...] = (literal_column("'todo'"), literal_column("'doing'"))


def has_job(lock: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a job with this lock waits or runs."""
    return exists().where(_JOBS.c.lock == lock, _JOBS.c.status.in_(_LIVE))


class Lost(NamedTuple):
    """A job whose worker died under it, and how often it has been tried by now."""

    id: int
    task: str
    arguments: dict[str, Any]
    attempts: int


# A job taken back loses its `once` key: another with the same key may wait by now, and the index allows one.
_TAKE_BACK = """
    update procrastinate.procrastinate_jobs job
    set status = 'todo', worker_id = null, scheduled_at = null, queueing_lock = null, attempts = attempts + :tried
    where job.status = 'doing' and {which}
    returning job.id, job.task_name, job.args, job.attempts
"""
_TAKE_BACK_DEAD = text(
    _TAKE_BACK.format(
        which="""not exists (
            select from procrastinate.procrastinate_workers worker
            where worker.id = job.worker_id and worker.last_heartbeat > now() - cast(:silence as interval))"""
    )
)
_TAKE_BACK_OWN = text(_TAKE_BACK.format(which="job.worker_id = any(:workers)"))
_TAKE_BACK_THESE = text(_TAKE_BACK.format(which="job.worker_id = any(:workers) and job.id = any(:ids)"))


def take_back_from_dead(session: Session, *, silence: timedelta) -> list[Lost]:
    """Running jobs of workers without a heartbeat for `silence` wait again, tried once more."""
    return [Lost(*row) for row in session.execute(_TAKE_BACK_DEAD, {"tried": 1, "silence": silence})]


def release(session: Session, *, workers: Sequence[int], jobs: frozenset[int] | None = None) -> None:
    """Running jobs of these live workers (all, or these) wait again, not counted as a try."""
    if jobs is None:
        session.execute(_TAKE_BACK_OWN, {"tried": 0, "workers": list(workers)})
    else:
        session.execute(_TAKE_BACK_THESE, {"tried": 0, "workers": list(workers), "ids": list(jobs)})


def held(session: Session, *, workers: Sequence[int]) -> frozenset[int]:
    """The jobs that are marked as running in these workers."""
    statement = "select id from procrastinate.procrastinate_jobs where status = 'doing' and worker_id = any(:workers)"
    return frozenset(session.scalars(text(statement), {"workers": list(workers)}))


def beat(session: Session, *, workers: Sequence[int]) -> bool:
    """These workers are alive; False where the database does not know one of them any more."""
    statement = """
        update procrastinate.procrastinate_workers set last_heartbeat = now() where id = any(:workers) returning id
    """
    return len(session.execute(text(statement), {"workers": list(workers)}).all()) == len(workers)


def alive(session: Session, *, silence: timedelta) -> int:
    """How many processes work: each has a worker for every lane."""
    statement = """
        select count(*) from procrastinate.procrastinate_workers
        where last_heartbeat > now() - cast(:silence as interval)
    """
    workers: int = session.scalar(text(statement), {"silence": silence}) or 0
    return -(-workers // len(get_args(Lane)))


def drop_once(session: Session, *, job: int) -> None:
    """This job will wait again although another with its `once` key may wait."""
    statement = "update procrastinate.procrastinate_jobs set queueing_lock = null where id = :job"
    session.execute(text(statement), {"job": job})


def fail(session: Session, *, job: int) -> None:
    """This waiting job ends without success and is kept for people to see."""
    statement = "update procrastinate.procrastinate_jobs set status = 'failed' where id = :job and status = 'todo'"
    session.execute(text(statement), {"job": job})


def delete_finished(session: Session, *, older_than: timedelta, most: int) -> int:
    """At most so many of the jobs that ended that long ago are gone, with their events; returns how many."""
    statement = """
        delete from procrastinate.procrastinate_jobs where id in (
            select id from procrastinate.procrastinate_jobs job
            where status in ('succeeded', 'failed', 'cancelled', 'aborted') and not exists (
                select from procrastinate.procrastinate_events event
                where event.job_id = job.id and event.at > now() - cast(:age as interval))
            limit :most)
        returning id
    """
    return len(session.execute(text(statement), {"age": older_than, "most": most}).all())
