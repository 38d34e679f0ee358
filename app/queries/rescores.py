"""Re-scorings: the list, and for one of them how far it is, what it cost, and which verdicts would change and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from sqlalchemy import and_, func, not_, or_, select
from sqlalchemy.orm import aliased

from agents.judge import ENGINE_VERSION
from agents.verdict import Outcome
from app import comparing
from app.errors import NotFound
from app.judgements import AND
from app.local_model import PREFIX as LOCAL
from app.runs import DUPLICATE
from app.tables import ContextVersion, Draft, Release, Rescore, RescoreResult, Run, Ticket, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from app.comparing import Comparison

MOST_LISTED = 20
MOST_VERSIONS = 100
MOST_SHOWN = 100  # tickets; of more, the matrix leads to those of one kind
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True)
class VersionRow:
    """A stored version; `released_at` and `note` are of its newest release, None where it never was in force.

    `proposal_id`: it was made for a proposal's trial.
    """

    version: str
    recorded_at: datetime
    released_at: datetime | None
    note: str | None
    proposal_id: int | None


@dataclass(frozen=True)
class RescoreRow:
    """`judged` and `given_up` tickets are done with. `cost_usd` is None where a price is unknown."""

    id: int
    context_version: str
    since: datetime
    until: datetime
    state: str
    note: str
    model: str
    demonstration: bool
    tickets: int
    unjudged: int
    removed: int
    calls: int
    estimate_usd: Decimal | None
    actor: str
    recorded_at: datetime
    finished_at: datetime | None
    judged: int
    given_up: int
    changed: int
    paid: int  # answers
    unanswered: int  # attempts without one, possibly billed
    cost_usd: Decimal | None

    @property
    def going(self) -> bool:
        return self.state in {"waiting", "running"}

    @property
    def checks_only(self) -> bool:
        return self.model == "none"


@dataclass(frozen=True)
class Cell:
    """Tickets with the same verdict before and the same one now; `moved`: a finding of theirs is another."""

    tickets: int = 0
    moved: int = 0


@dataclass(frozen=True)
class Matrix:
    """By (verdict that stands, verdict that it would be)."""

    cells: Mapping[tuple[str, str], Cell]

    def cell(self, old: str, new: str) -> Cell:
        return self.cells.get((old, new), Cell())

    @property
    def changed(self) -> int:
        return sum(cell.tickets for (old, new), cell in self.cells.items() if old != new)

    @property
    def unchanged(self) -> int:
        return sum(cell.tickets for (old, new), cell in self.cells.items() if old == new)

    @property
    def moved_only(self) -> int:
        """Tickets that keep their verdict although findings moved."""
        return sum(cell.moved for (old, new), cell in self.cells.items() if old == new)


@dataclass(frozen=True)
class TicketRow:
    """A ticket with the verdict that it had, and what it would be; `note` says why it could not be judged."""

    ticket_id: int
    revision_id: int
    external_id: str
    subject: str
    old: str
    old_score: Decimal | None
    old_reasons: tuple[str, ...]
    old_version: str
    new: str | None
    new_score: Decimal | None
    comparison: Comparison | None
    note: str


def versions(session: Session) -> tuple[VersionRow, ...]:
    """What can be judged by: what went live last comes first, then what never did, the newest first."""
    other = aliased(Release)
    newest = select(func.max(other.id)).where(other.context_version == ContextVersion.version).scalar_subquery()
    drafted = (
        select(func.max(Draft.proposal_id)).where(Draft.candidate_version == ContextVersion.version).scalar_subquery()
    )
    rows = session.execute(
        select(ContextVersion.version, ContextVersion.recorded_at, Release.released_at, Release.note, drafted)
        .outerjoin(Release, Release.id == newest)
        .order_by(Release.id.desc().nulls_last(), ContextVersion.recorded_at.desc())
        .limit(MOST_VERSIONS)
    )
    return tuple(VersionRow(*row) for row in rows)


def listed(session: Session) -> tuple[RescoreRow, ...]:
    """The newest first."""
    rows = session.scalars(select(Rescore).order_by(Rescore.id.desc()).limit(MOST_LISTED)).all()
    return tuple(_row(session, row) for row in rows)


def rescore(session: Session, rescore_id: int) -> RescoreRow:
    """Raises NotFound."""
    row = session.get(Rescore, rescore_id)
    if row is None:
        raise NotFound("there is no such re-scoring; it may have been in another database")
    return _row(session, row)


def _row(session: Session, row: Rescore) -> RescoreRow:
    kept = {name: getattr(row, name) for name in RescoreRow.__dataclass_fields__ if name in Rescore.__table__.c}
    return RescoreRow(**{**kept, **_counted(session, row.id), **_spent(session, row.id)})


def _counted(session: Session, rescore_id: int) -> dict[str, Any]:
    result = RescoreResult
    judged, given_up, changed = session.execute(
        select(
            func.count(result.outcome),
            func.count().filter(result.outcome.is_(None), result.note != ""),
            func.count().filter(result.outcome != Verdict.outcome),
        )
        .join(Verdict, Verdict.id == result.verdict_id)
        .where(result.rescore_id == rescore_id)
    ).one()
    return {"judged": judged, "given_up": given_up, "changed": changed}


def _spent(session: Session, rescore_id: int) -> dict[str, Any]:
    paid, unanswered, unpriced, cost = session.execute(
        select(
            func.count().filter(Run.replied),
            func.count().filter(_unanswered()),
            func.count().filter(Run.replied, Run.cost_usd.is_(None)),
            func.coalesce(func.sum(Run.cost_usd), 0),
        ).where(Run.rescore_id == rescore_id)
    ).one()
    return {"paid": paid, "unanswered": unanswered, "cost_usd": None if unpriced else cost}


def _unanswered() -> ColumnElement[bool]:
    return and_(not_(Run.replied), Run.outcome != DUPLICATE, not_(Run.model.startswith(LOCAL, autoescape=True)))


def matrix(session: Session, rescore_id: int) -> Matrix:
    result = RescoreResult
    rows = session.execute(
        select(Verdict.outcome, result.outcome, func.count(), func.count().filter(result.moved))
        .join(Verdict, Verdict.id == result.verdict_id)
        .where(result.rescore_id == rescore_id, result.outcome.is_not(None))
        .group_by(Verdict.outcome, result.outcome)
    )
    return Matrix({(old, str(new)): Cell(number, moved) for old, new, number, moved in rows})


def others(session: Session, row: RescoreRow) -> int:
    """How many of the verdicts before are another model's or engine's: there it need not be the texts that changed."""
    worker = func.split_part(Verdict.panel, AND, 1)
    other = or_(worker != row.model, Verdict.engine_version != ENGINE_VERSION)
    found = select(func.count()).select_from(RescoreResult).join(Verdict, Verdict.id == RescoreResult.verdict_id)
    return session.scalar(found.where(RescoreResult.rescore_id == row.id, other)) or 0


def tickets(
    session: Session, rescore_id: int, *, old: str = "", new: str = "", most: int | None = MOST_SHOWN
) -> tuple[TicketRow, ...]:
    """Those whose verdict would change; or those of one cell of the matrix, where a finding moved first."""
    result = RescoreResult
    changed: ColumnElement[bool] = Verdict.outcome != result.outcome
    kind = and_(Verdict.outcome == old, result.outcome == new) if old and new else changed
    return _tickets(session, rescore_id, kind, most=most)


def given_up(session: Session, rescore_id: int) -> tuple[TicketRow, ...]:
    """Those that could not be judged."""
    return _tickets(
        session, rescore_id, and_(RescoreResult.outcome.is_(None), RescoreResult.note != ""), most=MOST_SHOWN
    )


def _tickets(
    session: Session, rescore_id: int, kind: ColumnElement[bool], *, most: int | None
) -> tuple[TicketRow, ...]:
    result = RescoreResult
    rows = session.execute(
        select(Ticket.id, result.revision_id, Ticket.external_id, Ticket.subject, Verdict, result)
        .select_from(result)
        .join(Verdict, Verdict.id == result.verdict_id)
        .join(Ticket, Ticket.id == result.ticket_id)
        .where(result.rescore_id == rescore_id, kind)
        .order_by(result.moved.desc(), Verdict.outcome.desc(), result.outcome, result.revision_id)
        .limit(most)
    )
    return tuple(
        TicketRow(
            ticket_id=ticket_id,
            revision_id=revision_id,
            external_id=external_id,
            subject=subject,
            old=verdict.outcome,
            old_score=verdict.score,
            old_reasons=tuple(verdict.reasons),
            old_version=verdict.context_version,
            new=found.outcome,
            new_score=found.score,
            comparison=None if found.comparison is None else comparing.read(found.comparison),
            note=found.note,
        )
        for ticket_id, revision_id, external_id, subject, verdict, found in rows
    )
