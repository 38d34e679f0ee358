"""The operations page: what waits, what is stuck, where tickets come from, what is in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import DateTime, Text, and_, column, func, literal_column, select, table, text
from sqlalchemy.dialects.postgresql import distinct_on

from app.queries.tickets import MOST_COUNTED, STATES
from app.queue import SCHEMA
from app.tables import Connection, Delivery, Tick, Ticket

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select, Subquery
    from sqlalchemy.orm import Session

MOST_PARKED = 50  # the oldest; "replay all" takes the rest too

# procrastinate owns these; only what is read here is named.
_JOBS = table("procrastinate_jobs", column("id"), column("task_name"), column("status"), schema=SCHEMA)
_EVENTS = table(
    "procrastinate_events", column("job_id"), column("type"), column("at", DateTime(timezone=True)), schema=SCHEMA
)
_WORKERS = table("procrastinate_workers", column("last_heartbeat", DateTime(timezone=True)), schema=SCHEMA)
# Bare literals take the type of the column, an enum; a bound text would not.
_TODO, _DOING, _FAILED = (literal_column(f"'{status}'", Text) for status in ("todo", "doing", "failed"))


@dataclass(frozen=True)
class JobsRow:
    task: str
    waiting: int
    running: int
    failed: int


@dataclass(frozen=True)
class QueueRow:
    """Jobs by task, and since when the one that has waited longest has been there."""

    tasks: tuple[JobsRow, ...]
    oldest_waiting: datetime | None

    @property
    def waiting(self) -> int:
        return sum(row.waiting for row in self.tasks)

    @property
    def running(self) -> int:
        return sum(row.running for row in self.tasks)

    @property
    def failed(self) -> int:
        return sum(row.failed for row in self.tasks)


@dataclass(frozen=True)
class ReviewsRow:
    """Tickets by where their review is; each counted up to one more than MOST_COUNTED."""

    waiting: int
    running: int
    parked: int


@dataclass(frozen=True)
class ParkedRow:
    id: int
    connection: str
    reason: str
    received_at: datetime
    replayable: bool  # False once retention has taken the body


@dataclass(frozen=True)
class ConnectionRow:
    """`rejected` counts bad signatures and secrets since the connection was made."""

    name: str
    scheme: str
    today: int
    parked: int
    rejected: int


@dataclass(frozen=True)
class VersionsRow:
    postgres: str
    schema: str


@dataclass(frozen=True)
class TickRow:
    task: str
    key: str
    at: datetime


def jobs(session: Session) -> QueueRow:
    """The queue now; jobs that ended well are not in it."""
    waiting, running, failed = (func.count().filter(_JOBS.c.status == status) for status in (_TODO, _DOING, _FAILED))
    rows = session.execute(
        select(_JOBS.c.task_name, waiting, running, failed)
        .where(_JOBS.c.status.in_([_TODO, _DOING, _FAILED]))
        .group_by(_JOBS.c.task_name)
        .order_by(_JOBS.c.task_name)
    )
    oldest = select(func.min(_JOBS.c.id)).where(_JOBS.c.status == _TODO).scalar_subquery()
    since = select(func.min(_EVENTS.c.at)).where(_EVENTS.c.job_id == oldest)
    return QueueRow(tuple(JobsRow(*row) for row in rows), session.scalar(since))


def heartbeats(session: Session) -> tuple[datetime, ...]:
    """The last sign of life of each worker that is known, dead ones too, newest first."""
    return tuple(session.scalars(select(_WORKERS.c.last_heartbeat).order_by(_WORKERS.c.last_heartbeat.desc())))


def reviews(session: Session) -> ReviewsRow:
    """How many tickets wait for their review, are in it, or are stuck."""
    waiting = Ticket.review_state == "waiting_model"
    running = Ticket.review_state == "running"
    parked = and_(Ticket.urgency == STATES["parked"], Ticket.review_state == "parked")
    return ReviewsRow(*(_capped(session, select(Ticket.id).where(state)) for state in (waiting, running, parked)))


def parked(session: Session) -> tuple[ParkedRow, ...]:
    """The deliveries that could not be read, oldest first."""
    rows = session.execute(
        select(Delivery.id, Connection.name, Delivery.reason, Delivery.received_at, Delivery.body.is_not(None))
        .join(Connection, Connection.id == Delivery.connection_id)
        .where(_PARKED)
        .order_by(Delivery.received_at, Delivery.id)
        .limit(MOST_PARKED)
    )
    return tuple(ParkedRow(*row) for row in rows)


def parked_count(session: Session) -> int:
    """How many deliveries are parked, counted up to one more than MOST_COUNTED."""
    return _capped(session, select(Delivery.id).where(_PARKED))


def connections(session: Session, *, since: datetime) -> tuple[ConnectionRow, ...]:
    """Every connection, with its deliveries since a moment."""
    today = _by_connection(Delivery.received_at >= since)
    stuck = _by_connection(_PARKED)
    rows = session.execute(
        select(
            Connection.name,
            Connection.scheme,
            func.coalesce(today.c.number, 0),
            func.coalesce(stuck.c.number, 0),
            Connection.rejected,
        )
        .outerjoin(today, today.c.connection_id == Connection.id)
        .outerjoin(stuck, stuck.c.connection_id == Connection.id)
        .order_by(Connection.name)
    )
    return tuple(ConnectionRow(*row) for row in rows)


def versions(session: Session) -> VersionsRow:
    """Of the database server, and of the schema in it."""
    server = session.scalar(text("show server_version"))
    return VersionsRow(
        str(server).partition(" ")[0], str(session.scalar(text("select version_num from alembic_version")))
    )


def ticks(session: Session) -> tuple[TickRow, ...]:
    """The clock's latest tick of each task."""
    task = func.split_part(Tick.key, ":", 1)
    latest = select(task, Tick.key, Tick.at).ext(distinct_on(task)).order_by(task, Tick.at.desc())
    rows = session.execute(latest)
    return tuple(TickRow(*row) for row in rows)


_PARKED = Delivery.state == "parked"


def _by_connection(condition: ColumnElement[bool]) -> Subquery:
    counted = select(Delivery.connection_id, func.count().label("number")).where(condition)
    return counted.group_by(Delivery.connection_id).subquery()


def _capped(session: Session, query: Select[int]) -> int:
    return session.scalar(select(func.count()).select_from(query.limit(MOST_COUNTED + 1).subquery())) or 0
