"""The clock process: time becomes jobs. A tick only enqueues, once per period however many clocks run."""

from __future__ import annotations

import signal
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from app.clock import now
from app.db import transaction
from app.errors import DatabaseUnavailable
from app.periods import WEEK, key_of
from app.queue import TaskName, enqueue
from app.tables import Tick

if TYPE_CHECKING:
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

    from sqlalchemy import Engine

log = structlog.get_logger()

STOP = (signal.SIGTERM, signal.SIGINT)
RETENTION_HOUR = 3  # in TICKETQC_TIMEZONE: when few people work
REPORT_HOUR = 7  # on Mondays, there too


def _no_arguments(local: datetime) -> dict[str, int]:  # noqa: ARG001  a task that is the same in every period
    return {}


class Rhythm(NamedTuple):
    """A task, the name of the latest of its periods that has begun at a local time, and what it is called with then."""

    task: TaskName
    period: Callable[[datetime], str]
    arguments: Callable[[datetime], dict[str, int]] = _no_arguments


def _minute(local: datetime) -> str:
    return local.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")


def _hour(local: datetime) -> str:
    return local.astimezone(UTC).strftime("%Y-%m-%dT%H")


def _day(local: datetime) -> str:
    return (local - timedelta(hours=RETENTION_HOUR)).date().isoformat()


def _reported(local: datetime) -> date:
    """The Monday of the week that is to be reported on: a report comes when the next week's first people do."""
    begun = (local - timedelta(hours=REPORT_HOUR)).date()
    return begun - timedelta(days=begun.weekday()) - WEEK


RHYTHMS = (
    Rhythm("resume", _minute),
    Rhythm("retention", _day),
    Rhythm("patterns", _hour),
    Rhythm("batch_collect", _minute),
    Rhythm("report", lambda local: key_of(_reported(local)), lambda local: {"monday": _reported(local).toordinal()}),
)


def tick(engine: Engine, *, moment: datetime, zone: ZoneInfo) -> list[str]:
    """Each task's latest period is enqueued unless it ever was; returns the keys that were new.

    So a second clock, a restart, and a period missed while everything was down all end in exactly one job.
    """
    local = moment.astimezone(zone)
    keys = [(f"{rhythm.task}:{rhythm.period(local)}", rhythm) for rhythm in RHYTHMS]
    return [key for key, rhythm in keys if _claim(engine, rhythm, key=key, local=local)]


def _claim(engine: Engine, rhythm: Rhythm, *, key: str, local: datetime) -> bool:
    """True where this clock was the first to write the key; the job is in the same transaction."""
    with transaction(engine) as session:
        new = session.scalar(insert(Tick).values(key=key).on_conflict_do_nothing().returning(Tick.key))
        if new is not None:
            arguments = rhythm.arguments(local)
            once = ":".join((rhythm.task, *map(str, arguments.values())))
            enqueue(session, rhythm.task, lock=None, once=once, **arguments)
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
