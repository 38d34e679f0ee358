"""Whether the service itself was well: jobs, deliveries, attempts that a model did not answer, failures of agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import DateTime, Text, column, func, literal_column, select, table

from app.patterns import stands
from app.queries.figures.tickets import within
from app.queue import SCHEMA
from app.runs import DUPLICATE, PROBE, for_its_own_sake, not_evaluating
from app.tables import Delivery, Observation, Run

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.periods import Period

# procrastinate owns these; only what is read here is named.
_JOBS = table("procrastinate_jobs", column("id"), column("task_name"), column("status"), schema=SCHEMA)
_EVENTS = table(
    "procrastinate_events", column("job_id"), column("type"), column("at", DateTime(timezone=True)), schema=SCHEMA
)
_FAILED = literal_column("'failed'", Text)  # a bare literal takes the type of the column, an enum


@dataclass(frozen=True)
class CodeRow:
    """Failures of an agent, or attempts without an answer (`agent` empty), by code."""

    agent: str
    code: str
    direction: str
    count: int


@dataclass(frozen=True)
class LatencyRow:
    """How long the answers of an agent took, in milliseconds."""

    agent: str
    runs: int
    p50: int
    p95: int


@dataclass(frozen=True)
class Health:
    failed_jobs: dict[str, int]  # by task
    deliveries: int
    parked: int  # of these
    outages: tuple[CodeRow, ...]
    failures: tuple[CodeRow, ...]
    latency: tuple[LatencyRow, ...]


def health(session: Session, period: Period) -> Health:
    received = within(Delivery.received_at, period)
    parked = func.count().filter(Delivery.state == "parked")
    deliveries = session.execute(select(func.count(), parked).where(received)).one()
    return Health(
        failed_jobs=_failed_jobs(session, period),
        deliveries=deliveries[0],
        parked=deliveries[1],
        outages=_outages(session, period),
        failures=failures_by_code(session, period),
        latency=_latency(session, period),
    )


def failures_by_code(session: Session, period: Period) -> tuple[CodeRow, ...]:
    """What agents did wrong and nobody has taken back since, the most frequent first."""
    kind = (Observation.agent, Observation.code, Observation.direction)
    found = select(*kind, func.count()).where(within(Observation.recorded_at, period), stands()).group_by(*kind)
    return tuple(CodeRow(*row) for row in session.execute(found.order_by(func.count().desc(), *kind)))


def _failed_jobs(session: Session, period: Period) -> dict[str, int]:
    """Given up in the period; retention takes jobs away after a while."""
    ended = (
        select(_JOBS.c.task_name, func.max(_EVENTS.c.at).label("at"))
        .join(_EVENTS, _EVENTS.c.job_id == _JOBS.c.id)
        .where(_JOBS.c.status == _FAILED)
        .group_by(_JOBS.c.id, _JOBS.c.task_name)
        .subquery()
    )
    task = ended.c.task_name
    rows = session.execute(select(task, func.count()).where(within(ended.c.at, period)).group_by(task).order_by(task))
    return dict(rows.all())


def _outages(session: Session, period: Period) -> tuple[CodeRow, ...]:
    """Attempts that brought no reply, by what went wrong."""
    failed = (~Run.replied, Run.outcome != DUPLICATE, not_evaluating())
    found = select(Run.outcome, func.count()).where(within(Run.recorded_at, period), *failed).group_by(Run.outcome)
    rows = session.execute(found.order_by(func.count().desc(), Run.outcome))
    return tuple(CodeRow("", code, "", number) for code, number in rows)


def _latency(session: Session, period: Period) -> tuple[LatencyRow, ...]:
    p50, p95 = (func.percentile_cont(share).within_group(Run.latency_ms.asc()) for share in (0.5, 0.95))
    answered = (Run.replied, for_its_own_sake(), Run.agent != PROBE)
    found = select(Run.agent, func.count(), p50, p95).where(within(Run.recorded_at, period), *answered)
    rows = session.execute(found.group_by(Run.agent).order_by(Run.agent))
    return tuple(LatencyRow(agent, number, round(p50), round(p95)) for agent, number, p50, p95 in rows)
