"""What the chief of staff is told of a pattern, as things stood when it was called.

A retry reads the same brief, so that the reply which was paid for is found again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from sqlalchemy import and_, func, literal, select

from agents.chief_of_staff import Brief, Earlier, LabelBeside, Sighting
from agents.edits import from_documents
from agents.observation import WHOLE_VERDICT
from app import documents, patterns, tables
from app.patterns import SEALED, WINDOW
from app.queries.failures import chances, rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from agents.chief_of_staff import Kind
    from agents.observation import Code, Direction
    from agents.question import Agent
    from agents.ticket import Revision

MOST_SIGHTINGS = 24  # the newest; more of the same tell nothing new and cost tokens
MOST_TICKETS = 200  # whose words no edit may hold
MOST_LABELS = 40
MOST_REJECTED = 5


class Surroundings(NamedTuple):
    """What no edit may be taken from: the pattern's tickets, and people's names."""

    tickets: tuple[Revision, ...]
    names: frozenset[str]


class _Seen(NamedTuple):
    row: tables.Observation
    ticket_id: int


def surroundings(session: Session, pattern_id: int) -> Surroundings:
    """The tickets that the pattern was ever seen on, the newest first, and everybody who signs in."""
    revision = tables.Revision
    seen = (
        select(tables.Observation.revision_id)
        .select_from(tables.Pattern)
        .join(tables.Observation, patterns.same())
        .where(tables.Pattern.id == pattern_id)
    )
    readable = select(revision).where(revision.id.in_(seen), ~revision.document.has_key("removed"))
    rows = session.scalars(readable.order_by(revision.id.desc()).limit(MOST_TICKETS))
    tickets = tuple(documents.revision(row.document) for row in rows)
    return Surroundings(tickets, frozenset(session.scalars(select(tables.User.name))))


def read(session: Session, pattern: tables.Pattern, *, as_of: datetime) -> Brief:
    """The pattern as it stood at that moment."""
    seen = [
        _Seen(*row)
        for row in session.execute(_seen(pattern.id, as_of).where(patterns.unsealed()).limit(MOST_SIGHTINGS))
    ]
    numbers = {ticket: number for number, ticket in enumerate(dict.fromkeys(one.ticket_id for one in seen), start=1)}
    said = _said(session, pattern, [one.row for one in seen])
    tickets, requesters, number = _counts(session, pattern.id, as_of)
    possible = chances(session, after=as_of - WINDOW, until=as_of).of(pattern.agent, pattern.code)
    return Brief(
        agent=cast("Agent", pattern.agent),
        code=cast("Code", pattern.code),
        subject=pattern.subject,
        direction=cast("Direction", pattern.direction),
        sightings=tuple(_sighting(one, numbers[one.ticket_id], said) for one in seen),
        tickets=tickets,
        requesters=requesters,
        rate=rate(number, possible),
        labels=tuple(_labels(session, seen, numbers, as_of)),
        rejected=tuple(_rejected(session, pattern.id, as_of)),
    )


def _seen(pattern_id: int, as_of: datetime) -> Select[tables.Observation, int]:
    """What the pattern is open for, the newest first."""
    return (
        select(tables.Observation, tables.Revision.ticket_id)
        .select_from(tables.Pattern)
        .join(tables.Observation, patterns.same())
        .join(tables.Revision, tables.Revision.id == tables.Observation.revision_id)
        .where(tables.Pattern.id == pattern_id, patterns.since_opened(), patterns.stands())
        .where(tables.Observation.recorded_at <= as_of)
        .order_by(tables.Observation.id.desc())
    )


def _counts(session: Session, pattern_id: int, as_of: datetime) -> tuple[int, int, int]:
    """Distinct tickets, distinct requesters, and how often within the last 168 hours."""
    seen = _seen(pattern_id, as_of).order_by(None).subquery()
    requester = func.lower(func.trim(tables.Revision.document["ticket"]["requester"].astext))
    recent = func.count().filter(seen.c.recorded_at > as_of - WINDOW)
    row = session.execute(
        select(func.count(seen.c.ticket_id.distinct()), func.count(requester.distinct()), recent)
        .select_from(seen)
        .join(tables.Revision, tables.Revision.id == seen.c.revision_id)
    ).one()
    return row[0], row[1], row[2]


def _sighting(seen: _Seen, number: int, said: Mapping[int, str]) -> Sighting:
    cited = next(iter(documents.evidence(seen.row.evidence)), None)
    return Sighting(
        ticket=number,
        code=cast("Code", seen.row.code),
        version=seen.row.context_version,
        line=cited.line if cited else 0,
        quote=cited.quote if cited else "",
        said=said.get(seen.row.id, ""),
    )


def _said(session: Session, pattern: tables.Pattern, seen: Sequence[tables.Observation]) -> dict[int, str]:
    """By observation: what the agent had answered about its subject on that state of the ticket."""
    told = _said_by_qc if pattern.agent == "qc" else _said_by_triage
    answers = {row.id: told(session, row) for row in seen}
    return {number: words for number, words in answers.items() if words}


def _said_by_qc(session: Session, seen: tables.Observation) -> str:
    verdict, finding = tables.Verdict, tables.Finding
    same = and_(verdict.revision_id == seen.revision_id, verdict.context_version == seen.context_version)
    if seen.subject == WHOLE_VERDICT:
        return session.scalar(select(verdict.outcome).where(same).order_by(verdict.id.desc()).limit(1)) or ""
    found = session.scalar(
        select(finding)
        .join(verdict, verdict.id == finding.verdict_id)
        .where(same, finding.criterion == seen.subject)
        .order_by(finding.id.desc())
        .limit(1)
    )
    return "" if found is None else f"{found.result}: {found.reason}" if found.reason else found.result


def _said_by_triage(session: Session, seen: tables.Observation) -> str:
    triage, revision = tables.Triage, tables.Revision
    stored = session.scalar(
        select(triage)
        .join(revision, and_(revision.ticket_id == triage.ticket_id, revision.intake_hash == triage.intake_hash))
        .where(revision.id == seen.revision_id)
        .order_by(triage.id.desc())
        .limit(1)
    )
    if stored is None:
        return ""
    answer = documents.triage(stored.answer)
    if seen.subject in {"category", "priority"}:
        return str(getattr(answer, seen.subject))
    if seen.subject in answer.fields:
        return answer.fields[seen.subject].state
    return ", ".join(hit.rule for hit in answer.rules) or "no rule applies"


def _labels(
    session: Session, seen: Sequence[_Seen], numbers: Mapping[int, int], as_of: datetime
) -> Iterator[LabelBeside]:
    """What people decided about these tickets beside what the machine had said; nothing of what is sealed."""
    label = tables.Label
    tickets = {one.row.revision_id: numbers[one.ticket_id] for one in seen}
    newest = (
        select(func.max(label.id))
        .where(label.revision_id.in_(tickets), label.recorded_at <= as_of)
        .group_by(label.revision_id)
    )
    rows = session.scalars(select(label).where(label.id.in_(newest), label.split != literal(SEALED)).order_by(label.id))
    told = [beside for row in rows for beside in _label(session, row, tickets[row.revision_id])]
    yield from told[:MOST_LABELS]


def _label(session: Session, row: tables.Label, number: int) -> Iterator[LabelBeside]:
    finding, answer = tables.Finding, tables.LabelFinding
    machine = session.get(tables.Verdict, row.verdict_id) if row.verdict_id is not None else None
    yield LabelBeside(number, WHOLE_VERDICT, person=row.outcome, machine=machine.outcome if machine else "nothing")
    found = and_(finding.verdict_id == row.verdict_id, finding.criterion == answer.criterion)
    rows = session.execute(
        select(answer.criterion, answer.result, finding.result)
        .outerjoin(finding, found)
        .where(answer.label_id == row.id)
        .order_by(answer.criterion)
    )
    for criterion, person, said in rows:
        yield LabelBeside(number, criterion, person=person, machine=said or "nothing")


def _rejected(session: Session, pattern_id: int, as_of: datetime) -> Iterator[Earlier]:
    """What was proposed before and turned down, the newest first, in the wording that was turned down."""
    proposal, draft = tables.Proposal, tables.Draft
    rows = session.scalars(
        select(proposal)
        .where(proposal.pattern_id == pattern_id, proposal.state == "rejected", proposal.decided_at <= as_of)
        .order_by(proposal.id.desc())
        .limit(MOST_REJECTED)
    )
    for row in rows:
        last = session.scalar(select(draft).where(draft.proposal_id == row.id).order_by(draft.number.desc()).limit(1))
        edits = from_documents(last.edits) if last is not None else ()
        yield Earlier(kind=cast("Kind", row.kind), why=row.why, reason=row.decision_note, edits=edits)
