"""The page of one ticket: its states, and for one of them the verdict with all that it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, exists, false, func, or_, select, true
from sqlalchemy.dialects.postgresql import distinct_on

from app import documents
from app.errors import NotFound
from app.local_model import PREFIX as LOCAL
from app.runs import DUPLICATE, for_its_own_sake
from app.tables import (
    Connection,
    Escalation,
    Finding,
    Label,
    Observation,
    Run,
    Ticket,
    User,
    Verdict,
)
from app.tables import Revision as RevisionTable
from app.tables import Triage as TriageTable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from agents.ticket import Revision
    from agents.triage import Triage
    from agents.verdict import Evidence
    from agents.verdict import Finding as FindingValue

MOST_REVISIONS = 100  # the newest; a ticket with more is a machine talking to itself
MOST_RUNS = 200
MOST_OBSERVATIONS = 50


@dataclass(frozen=True)
class TicketRow:
    """`supplied` are the optional fields its source is known to fill; checks that need another do not apply.

    `label_id` is the decision that stands, `claimed_by` the name of whoever looks after the ticket.
    """

    id: int
    external_id: str
    subject: str
    source: str
    supplied: frozenset[str]
    revision_id: int
    review_state: str
    review_note: str
    verdict_id: int | None
    escalated: bool
    sample: bool
    label_id: int | None
    claimant: int | None
    claimed_by: str | None
    claimed_at: datetime | None


@dataclass(frozen=True)
class RevisionRow:
    """One state in the strip; `outcome` and `score` are of its newest verdict, if it has one. Numbered from 1.

    `decision` is a person's, the one that stands. Not `live`: it came as imported history.
    """

    id: int
    number: int
    at: datetime
    outcome: str | None
    score: Decimal | None
    demonstration: bool
    decision: str | None
    live: bool


@dataclass(frozen=True)
class VerdictRow:
    id: int
    outcome: str
    score: Decimal | None
    reasons: tuple[str, ...]
    context_version: str
    engine_version: int
    panel: str
    demonstration: bool
    cost_usd: Decimal | None
    recorded_at: datetime


@dataclass(frozen=True)
class RunRow:
    id: int
    revision_id: int
    agent: str
    purpose: str
    repetition: int
    model: str
    answered_by: str
    outcome: str
    replied: bool
    request_id: str
    input_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    latency_ms: int
    rescore_id: int | None  # of the re-scoring that has paid for it
    recorded_at: datetime

    @property
    def possibly_billed(self) -> bool:
        """No reply came, but a vendor may have given one. The model on this machine bills nobody."""
        return not self.replied and self.outcome != DUPLICATE and not self.model.startswith(LOCAL)


@dataclass(frozen=True)
class Totals:
    """Over the runs shown. `unanswered` are attempts without a reply that may have been billed; `unpriced` are
    answered by a model whose price is unknown."""

    input_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int
    output_tokens: int
    cost_usd: Decimal
    unanswered: int
    unpriced: int


@dataclass(frozen=True)
class TriageRow:
    """`revision_id` is the state that was asked about; its intake is the shown one's."""

    revision_id: int
    model: str
    answer: Triage
    recorded_at: datetime


@dataclass(frozen=True)
class EscalationRow:
    rule: str
    agent: str
    evidence: tuple[Evidence, ...]
    recorded_at: datetime

    @property
    def anchor(self) -> str:
        """Its place on the page; code, triage and QC may each have found the same rule."""
        return f"r-{self.rule.replace('.', '-')}-{self.agent}"


@dataclass(frozen=True)
class ObservationRow:
    observer: str
    agent: str
    code: str
    subject: str
    direction: str
    evidence: tuple[Evidence, ...]
    recorded_at: datetime


def ticket(session: Session, ticket_id: int) -> TicketRow:
    """Raises NotFound where there is no such ticket, or none that has been read."""
    row = session.execute(
        select(
            Ticket.id,
            Ticket.external_id,
            Ticket.subject,
            Connection.name.label("source"),
            func.coalesce(Connection.declared, Connection.supplied).label("supplied"),
            Ticket.revision_id,
            Ticket.review_state,
            Ticket.review_note,
            Ticket.verdict_id,
            Ticket.escalated,
            Ticket.sample,
            Ticket.label_id,
            Ticket.claimed_by.label("claimant"),
            User.name.label("claimed_by"),
            Ticket.claimed_at,
        )
        .join(Connection, Connection.id == Ticket.connection_id)
        .outerjoin(User, User.id == Ticket.claimed_by)
        .where(Ticket.id == ticket_id, Ticket.revision_id.is_not(None))
    ).one_or_none()
    if row is None:
        raise NotFound("there is no such ticket; it may have been in another database")
    values = row._asdict()
    return TicketRow(**{**values, "supplied": frozenset(values["supplied"])})


def revisions(session: Session, ticket_id: int) -> tuple[RevisionRow, ...]:
    """The states of a ticket, oldest first, each with its newest verdict."""
    at = func.coalesce(RevisionTable.updated_at, RevisionTable.recorded_at)
    newest = (
        select(Verdict.outcome, Verdict.score, Verdict.demonstration)
        .where(Verdict.revision_id == RevisionTable.id)
        .order_by(Verdict.id.desc())
        .limit(1)
        .lateral()
    )
    decided = select(Label.outcome).where(Label.revision_id == RevisionTable.id).order_by(Label.id.desc()).limit(1)
    rows = session.execute(
        select(
            RevisionTable.id,
            func.row_number().over(order_by=(at, RevisionTable.id)).label("number"),
            at,
            newest.c.outcome,
            newest.c.score,
            func.coalesce(newest.c.demonstration, false()),
            decided.scalar_subquery(),
            RevisionTable.live,
        )
        .outerjoin(newest, true())
        .where(RevisionTable.ticket_id == ticket_id)
        .order_by(at.desc(), RevisionTable.id.desc())
        .limit(MOST_REVISIONS)
    ).all()
    return tuple(RevisionRow(*row) for row in reversed(rows))


class State(NamedTuple):
    """A revision as agents read it; `removed` where retention has taken its texts."""

    revision: Revision
    removed: bool


def state(session: Session, revision_id: int) -> State:
    """The immutable state itself."""
    document = session.scalars(select(RevisionTable.document).where(RevisionTable.id == revision_id)).one()
    return State(documents.revision(document), documents.removed(document))


def verdict(session: Session, revision_id: int, *, current: int | None) -> VerdictRow | None:
    """The verdict on a revision: the ticket's current one where it is on this revision, else the newest."""
    row = session.execute(
        select(
            Verdict.id,
            Verdict.outcome,
            Verdict.score,
            Verdict.reasons,
            Verdict.context_version,
            Verdict.engine_version,
            Verdict.panel,
            Verdict.demonstration,
            Verdict.cost_usd,
            Verdict.recorded_at,
        )
        .where(Verdict.revision_id == revision_id)
        .order_by((Verdict.id == current).desc(), Verdict.id.desc())
        .limit(1)
    ).first()
    return None if row is None else VerdictRow(**{**row._asdict(), "reasons": tuple(row.reasons)})


def findings(session: Session, verdict_id: int) -> tuple[FindingValue, ...]:
    """The findings of a verdict, as the engine's own values."""
    rows = session.scalars(select(Finding).where(Finding.verdict_id == verdict_id).order_by(Finding.id))
    return tuple(map(documents.finding, rows))


def runs(session: Session, ticket_id: int) -> tuple[RunRow, ...]:
    """The model calls that judged any state of a ticket, oldest first; the newest where there are too many."""
    states = select(RevisionTable.id).where(RevisionTable.ticket_id == ticket_id)
    rows = session.execute(
        select(
            Run.id,
            Run.revision_id,
            Run.agent,
            Run.purpose,
            Run.repetition,
            Run.model,
            Run.answered_by,
            Run.outcome,
            Run.replied,
            Run.request_id,
            Run.input_tokens,
            (Run.cache_write_5m_tokens + Run.cache_write_1h_tokens).label("cache_write_tokens"),
            Run.cache_read_tokens,
            Run.output_tokens,
            Run.cost_usd,
            Run.latency_ms,
            Run.rescore_id,
            Run.recorded_at,
        )
        .where(Run.revision_id.in_(states), or_(for_its_own_sake(), _reused()))
        .order_by(Run.id.desc())
        .limit(MOST_RUNS)
    ).mappings()
    return tuple(RunRow(**row) for row in reversed(rows.all()))


def _reused() -> ColumnElement[bool]:
    """A re-scoring asked first, and since then a verdict under that version rests on the answer."""
    found = exists().where(Verdict.revision_id == Run.revision_id, Verdict.context_version == Run.context_version)
    return and_(Run.rescore_id.is_not(None), found)


def totals(shown: Sequence[RunRow]) -> Totals:
    """What the runs took together."""
    return Totals(
        input_tokens=sum(run.input_tokens for run in shown),
        cache_write_tokens=sum(run.cache_write_tokens for run in shown),
        cache_read_tokens=sum(run.cache_read_tokens for run in shown),
        output_tokens=sum(run.output_tokens for run in shown),
        cost_usd=sum((run.cost_usd for run in shown if run.cost_usd is not None), Decimal(0)),
        unanswered=sum(run.possibly_billed for run in shown),
        unpriced=sum(run.replied and run.cost_usd is None for run in shown),
    )


def triage(session: Session, revision_id: int) -> TriageRow | None:
    """Triage's newest answer about the intake that a revision has; intake rarely changes, so it may be an older run."""
    shown = select(RevisionTable.ticket_id, RevisionTable.intake_hash).where(RevisionTable.id == revision_id).subquery()
    row = session.execute(
        select(TriageTable.revision_id, TriageTable.model, TriageTable.answer, TriageTable.recorded_at)
        .join(shown, and_(shown.c.ticket_id == TriageTable.ticket_id, shown.c.intake_hash == TriageTable.intake_hash))
        .order_by(TriageTable.id.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    return TriageRow(row.revision_id, row.model, documents.triage(row.answer), row.recorded_at)


def escalations(session: Session, revision_id: int) -> tuple[EscalationRow, ...]:
    """The escalation rules that apply to a revision, each once for whoever found it.

    What triage found holds while the intake stays the same: where an earlier revision has the same, this one's shows.
    """
    shown = select(RevisionTable.ticket_id, RevisionTable.intake_hash).where(RevisionTable.id == revision_id).subquery()
    own = Escalation.revision_id == revision_id
    of_intake = and_(Escalation.agent == "triage", RevisionTable.intake_hash == shown.c.intake_hash)
    rows = session.execute(
        select(Escalation.rule, Escalation.agent, Escalation.evidence, Escalation.recorded_at)
        .join(shown, shown.c.ticket_id == Escalation.ticket_id)
        .join(RevisionTable, RevisionTable.id == Escalation.revision_id)
        .where(or_(own, of_intake))
        .ext(distinct_on(Escalation.rule, Escalation.agent))
        .order_by(Escalation.rule, Escalation.agent, own.desc(), Escalation.id.desc())
    )
    found = (EscalationRow(row.rule, row.agent, documents.evidence(row.evidence), row.recorded_at) for row in rows)
    return tuple(sorted(found, key=lambda row: row.recorded_at))


def observations(session: Session, revision_id: int) -> tuple[ObservationRow, ...]:
    """The agents' failures seen on a revision; of those that people saw, by the decision that stands."""
    standing = select(func.max(Label.id)).where(Label.revision_id == revision_id).scalar_subquery()
    columns = (
        Observation.observer,
        Observation.agent,
        Observation.code,
        Observation.subject,
        Observation.direction,
        Observation.evidence,
        Observation.recorded_at,
    )
    rows = session.execute(
        select(*columns)
        .where(Observation.revision_id == revision_id)
        .where(or_(Observation.label_id.is_(None), Observation.label_id == standing))
        .order_by(Observation.id)
        .limit(MOST_OBSERVATIONS)
    )
    return tuple(ObservationRow(**{**row._asdict(), "evidence": documents.evidence(row.evidence)}) for row in rows)
