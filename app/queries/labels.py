"""What people decided: the history of one ticket, a lead's blind checks, and how far people and machine agree."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, func, select
from sqlalchemy.orm import aliased

from agents.agreement import raw_agreement
from app import blind
from app.errors import NotFound
from app.tables import BlindCheck, Finding, Label, LabelFinding, Revision, Ticket, User, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy.orm import Session

    from agents.agreement import Agreement

MOST_LABELS = 50
MOST_CHECKS = 20


class Answer(NamedTuple):
    """A person's answer to a criterion; `machine` is None where the machine had no finding about it."""

    criterion: str
    machine: str | None
    person: str

    @property
    def differs(self) -> bool:
        return self.machine != self.person


@dataclass(frozen=True)
class LabelRow:
    """One decision. `machine` is the verdict that it is about; `standing` unless a later one superseded it."""

    id: int
    revision_id: int
    verdict_id: int | None
    name: str
    kind: str
    outcome: str
    score: Decimal | None
    machine: str | None
    blind: bool
    reason: str
    note: str
    recorded_at: datetime
    standing: bool
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class CheckRow:
    """A blind check of one lead, and where it stands among those given with it."""

    id: int
    ticket_id: int
    external_id: str
    subject: str
    revision_id: int
    verdict_id: int
    label_id: int | None
    number: int
    of: int
    next: int | None  # the first that is not answered


class Progress(NamedTuple):
    """Of the checks that a lead was given last."""

    given: int
    answered: int
    next: int | None


class AgreementRow(NamedTuple):
    """Blind labels about the verdicts of one panel; only where both say pass or fail can they agree."""

    panel: str
    demonstration: bool
    both: Agreement
    handed_over: int
    cannot_tell: int


def history(session: Session, ticket_id: int) -> tuple[LabelRow, ...]:
    """Every decision about any state of a ticket, the newest first."""
    newest = func.max(Label.id).over(partition_by=Label.revision_id)
    rows = session.execute(
        select(
            Label.id,
            Label.revision_id,
            Label.verdict_id,
            User.name,
            Label.kind,
            Label.outcome,
            Label.score,
            Verdict.outcome.label("machine"),
            Label.blind,
            Label.reason,
            Label.note,
            Label.recorded_at,
            (Label.id == newest).label("standing"),
        )
        .join(Revision, Revision.id == Label.revision_id)
        .join(User, User.id == Label.user_id)
        .outerjoin(Verdict, Verdict.id == Label.verdict_id)
        .where(Revision.ticket_id == ticket_id)
        .order_by(Label.id.desc())
        .limit(MOST_LABELS)
    ).all()
    answers = _answers(session, [row.id for row in rows])
    return tuple(LabelRow(**row._asdict(), answers=tuple(answers[row.id])) for row in rows)


def _answers(session: Session, label_ids: Sequence[int]) -> Mapping[int, list[Answer]]:
    given = defaultdict[int, list[Answer]](list)
    same = and_(Finding.verdict_id == Label.verdict_id, Finding.criterion == LabelFinding.criterion)
    rows = session.execute(
        select(LabelFinding.label_id, LabelFinding.criterion, Finding.result, LabelFinding.result)
        .join(Label, Label.id == LabelFinding.label_id)
        .outerjoin(Finding, same)
        .where(LabelFinding.label_id.in_(label_ids))
        .order_by(LabelFinding.criterion)
    )
    for label_id, *answer in rows:
        given[label_id].append(Answer(*answer))
    return given


def check(session: Session, *, user_id: int, check_id: int) -> CheckRow:
    """Raises NotFound where it is not there, or another lead's."""
    together = aliased(BlindCheck)
    batch = select(func.count()).where(
        together.user_id == BlindCheck.user_id, together.recorded_at == BlindCheck.recorded_at
    )
    row = session.execute(
        select(
            BlindCheck.id,
            Ticket.id.label("ticket_id"),
            Ticket.external_id,
            Ticket.subject,
            BlindCheck.revision_id,
            BlindCheck.verdict_id,
            BlindCheck.label_id,
            batch.where(together.id <= BlindCheck.id).scalar_subquery().label("number"),
            batch.scalar_subquery().label("of"),
        )
        .join(Revision, Revision.id == BlindCheck.revision_id)
        .join(Ticket, Ticket.id == Revision.ticket_id)
        .where(BlindCheck.id == check_id, BlindCheck.user_id == user_id)
    ).one_or_none()
    if row is None:
        raise NotFound("There is no such blind check of yours.")
    return CheckRow(**row._asdict(), next=progress(session, user_id=user_id).next)


def progress(session: Session, *, user_id: int) -> Progress:
    """How far this lead is with what they were given last."""
    newest = select(func.max(BlindCheck.recorded_at)).where(BlindCheck.user_id == user_id).scalar_subquery()
    open_ = func.min(BlindCheck.id).filter(BlindCheck.label_id.is_(None))
    row = session.execute(
        select(func.count(), func.count(BlindCheck.label_id), open_).where(
            BlindCheck.user_id == user_id, BlindCheck.recorded_at == newest
        )
    ).one()
    return Progress(*row)


def available(session: Session, *, user_id: int) -> int:
    """How many tickets could be given to this lead now, counted up to a batch."""
    some = blind.unseen(user_id).limit(blind.BATCH).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


class Checked(NamedTuple):
    """An answered blind check, for the list of the latest."""

    id: int
    external_id: str
    subject: str
    person: str
    machine: str
    blind: bool
    recorded_at: datetime


def latest_checks(session: Session, *, user_id: int) -> tuple[Checked, ...]:
    """What this lead answered last, beside what the machine had said."""
    rows = session.execute(
        select(
            BlindCheck.id,
            Ticket.external_id,
            Ticket.subject,
            Label.outcome,
            Verdict.outcome,
            Label.blind,
            Label.recorded_at,
        )
        .join(Label, Label.id == BlindCheck.label_id)
        .join(Verdict, Verdict.id == BlindCheck.verdict_id)
        .join(Revision, Revision.id == BlindCheck.revision_id)
        .join(Ticket, Ticket.id == Revision.ticket_id)
        .where(BlindCheck.user_id == user_id)
        .order_by(Label.id.desc())
        .limit(MOST_CHECKS)
    )
    return tuple(Checked(*row) for row in rows)


def agreement(session: Session) -> tuple[AgreementRow, ...]:
    """All blind labels beside the verdicts they were given about, by who judged; the most labels first."""
    handed_over, unsure = Verdict.outcome == "escalate", Label.outcome == "cannot_tell"
    both = and_(~handed_over, ~unsure)
    n = func.count().filter(both)
    rows = session.execute(
        select(
            Verdict.panel,
            Verdict.demonstration,
            n.label("n"),
            func.count().filter(both, Label.outcome == Verdict.outcome).label("agreed"),
            func.count().filter(handed_over),
            func.count().filter(and_(unsure, ~handed_over)),
        )
        .join(Verdict, Verdict.id == Label.verdict_id)
        .where(Label.blind)
        .group_by(Verdict.panel, Verdict.demonstration)
        .order_by(n.desc(), Verdict.panel)
    )
    return tuple(AgreementRow(*row[:2], raw_agreement(row.agreed, row.n), *row[4:]) for row in rows)


def context_of(session: Session, verdict_id: int) -> str:
    """The context version that a verdict pins."""
    return session.scalars(select(Verdict.context_version).where(Verdict.id == verdict_id)).one()
