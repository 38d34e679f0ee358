"""The clock process: time becomes jobs. A tick only enqueues, once per period however many clocks run."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from app.clock import now
from app.db import transaction
from app.errors import DatabaseUnavailable
from app.queue import TaskName, enqueue
from app.tables import Tick

if TYPE_CHECKING:
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

    from sqlalchemy import Engine

log = structlog.get_logger()

STOP = (signal.SIGTERM, signal.SIGINT)
RETENTION_HOUR = 3  # in TICKETQC_TIMEZONE: when few people work


class Rhythm(NamedTuple):
    """A task, and the name of the latest of its periods that has begun at a local time."""

    task: TaskName
    period: Callable[[datetime], str]


def _minute(local: datetime) -> str:
    return local.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")


def _day(local: datetime) -> str:
    return (local - timedelta(hours=RETENTION_HOUR)).date().isoformat()


RHYTHMS = (Rhythm("resume", _minute), Rhythm("retention", _day))


def tick(engine: Engine, *, moment: datetime, zone: ZoneInfo) -> list[str]:
    """Each task's latest period is enqueued unless it ever was; returns the keys that were new.

    So a second clock, a restart, and a period missed while everything was down all end in exactly one job.
    """
    local = moment.astimezone(zone)
    keys = {rhythm.task: f"{rhythm.task}:{rhythm.period(local)}" for rhythm in RHYTHMS}
    return [key for task, key in keys.items() if _claim(engine, task=task, key=key)]


def _claim(engine: Engine, *, task: TaskName, key: str) -> bool:
    """True where this clock was the first to write the key; the job is in the same transaction."""
    with transaction(engine) as session:
        new = session.scalar(insert(Tick).values(key=key).on_conflict_do_nothing().returning(Tick.key))
        if new is not None:
            enqueue(session, task, once=task)
        return new is not None


def run(engine: Engine, *, zone: ZoneInfo) -> None:
    """Ticks at once, for what was missed, and then at each full minute, until SIGTERM or SIGINT."""

    def every_minute() -> None:
        try:
            for key in tick(engine, moment=now(), zone=zone):
                log.debug("clock.tick", key=key)
        except (DatabaseUnavailable, DBAPIError) as error:  # the next minute catches up
            log.warning("clock.database_unavailable", reason=type(error).__name__)

    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)  # before there are threads, which inherit it: they are for sigwait
    scheduler = BackgroundScheduler(timezone=UTC, job_defaults={"coalesce": True, "misfire_grace_time": None})
    scheduler.add_job(every_minute, "cron", second=0)
    scheduler.start()
    every_minute()
    signal.sigwait(STOP)
    scheduler.shutdown(wait=False)
