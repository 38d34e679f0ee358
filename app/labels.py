"""A person's decision about a verdict: a label. The newest about a revision stands; the machine's rows stay too."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from app import audit, documents, releases
from app.errors import Conflict, DecisionRefused, NotFound
from app.judgements import NO_MODEL, observe
from app.tables import Finding, Label, LabelFinding, Revision, Ticket, User, Verdict, Viewing
from app.weighing import Machine, Problem, overruled, weigh

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy.orm import Session

    from agents.context import Context
    from agents.verdict import Outcome as MachineOutcome
    from app.audit import Actor
    from app.weighing import Decision, Weighed

Split = Literal["dev", "gate", "sealed"]
DEV, GATE = 50, 80  # of 100 requesters: half for proposals to learn from, 30 to try them on, 20 that nobody looks at


def decide(session: Session, *, actor: Actor, ticket_id: int, decision: Decision, now: datetime) -> int:
    """The label's id. Raises Conflict or DecisionRefused, with nothing written, where `problem` names one.

    1. The ticket's row is locked: of two who decide at once the second sees the first.
    2. What was said is weighed by the verdict's own code.
    3. The label, the findings that were answered, and what they say about the agent are appended.
    4. If its revision is still the newest, the ticket shows the decision, and nobody's claim is needed any more.

    The same form sent twice makes one label.
    """
    assessed = _assess(session, actor=actor, ticket_id=ticket_id, decision=decision)
    if isinstance(assessed, Problem):
        raise (Conflict if assessed.stale else DecisionRefused)(assessed.words)
    if assessed.already is not None:
        return assessed.already
    label_id = _append(session, assessed, actor=actor, decision=decision, now=now)
    _observe(session, assessed, label_id)
    _record(session, assessed, label_id, actor=actor, decision=decision)
    _show(session, assessed, label_id, now=now)
    return label_id


def problem(session: Session, *, actor: Actor, ticket_id: int, decision: Decision) -> Problem | None:
    """What keeps this decision from being taken; it stays so until the transaction ends."""
    assessed = _assess(session, actor=actor, ticket_id=ticket_id, decision=decision)
    return assessed if isinstance(assessed, Problem) else None


def split_of(connection_id: int, *, requester: str, external_id: str) -> Split:
    """By the requester, for good: all tickets of one are in the same split. One without a requester is by itself."""
    who = f"requester\0{requester.strip().casefold()}" if requester.strip() else f"ticket\0{external_id}"
    digest = hashlib.sha256(f"{connection_id}\0{who}".encode()).digest()
    place = int.from_bytes(digest[:8]) % 100
    return "dev" if place < DEV else "gate" if place < GATE else "sealed"


def see(session: Session, *, user_id: int, revision_ids: Iterable[int]) -> None:
    """From here on this person has seen what the machine said about these revisions."""
    rows = [{"user_id": user_id, "revision_id": number} for number in sorted(set(revision_ids))]
    if rows:
        session.execute(insert(Viewing).values(rows).on_conflict_do_nothing())


@dataclass(frozen=True)
class _Assessed:
    """A decision that can be taken, and all that it is about. `already` is the label of the same form, sent before."""

    ticket: Ticket
    verdict: Verdict
    context: Context
    machine: Machine
    weighed: Weighed
    blind: bool
    already: int | None


def _assess(session: Session, *, actor: Actor, ticket_id: int, decision: Decision) -> _Assessed | Problem:
    ticket = _locked(session, ticket_id)
    verdict = _verdict(session, ticket, decision)
    if verdict is None:
        return Problem("", _CHANGED, stale=True)
    context = releases.load(session, verdict.context_version)
    machine = _machine(session, verdict)
    blind = decision.blind and not _has_seen(session, actor, verdict.revision_id)
    weighed = weigh(decision, machine, context.rubric, blind=blind)
    if isinstance(weighed, Problem):
        return weighed
    already = None
    if not decision.blind and ticket.label_id != decision.standing_label_id:
        already = _same(session, ticket, actor=actor, decision=decision, weighed=weighed)
        if already is None:
            return Problem("", _decided_by(session, ticket), stale=True)
    return _Assessed(ticket, verdict, context, machine, weighed, blind, already)


def _locked(session: Session, ticket_id: int) -> Ticket:
    found = select(Ticket).where(Ticket.id == ticket_id, Ticket.revision_id.is_not(None)).with_for_update()
    ticket = session.scalar(found.execution_options(populate_existing=True))
    if ticket is None:
        raise NotFound("there is no such ticket; it may have been in another database")
    return ticket


_CHANGED = (
    "the ticket has changed or was judged again since you opened this page, and nothing was saved. "
    "Look at what it says now, then decide"
)


def _verdict(session: Session, ticket: Ticket, decision: Decision) -> Verdict | None:
    """The verdict that is decided about: the current one, or what a blind check has pinned."""
    if not decision.blind and decision.verdict_id != ticket.verdict_id:
        return None
    of_ticket = select(Revision.id).where(Revision.ticket_id == ticket.id)
    found = select(Verdict).where(Verdict.id == decision.verdict_id, Verdict.revision_id.in_(of_ticket))
    return session.scalar(found)


def _machine(session: Session, verdict: Verdict) -> Machine:
    rows = session.scalars(select(Finding).where(Finding.verdict_id == verdict.id).order_by(Finding.id))
    return Machine(cast("MachineOutcome", verdict.outcome), tuple(map(documents.finding, rows)))


def _has_seen(session: Session, actor: Actor, revision_id: int) -> bool:
    seen = select(Viewing.user_id).where(Viewing.user_id == actor.user_id, Viewing.revision_id == revision_id)
    return session.scalar(seen) is not None


def _same(session: Session, ticket: Ticket, *, actor: Actor, decision: Decision, weighed: Weighed) -> int | None:
    """The standing label, where it is this very decision: a form sent twice."""
    standing = session.scalar(select(Label).where(Label.id == ticket.label_id))
    if standing is None:
        return None
    before = select(func.max(Label.id)).where(Label.revision_id == standing.revision_id, Label.id < standing.id)
    rows = session.execute(
        select(LabelFinding.criterion, LabelFinding.result).where(LabelFinding.label_id == standing.id)
    )
    stored = (
        standing.user_id, standing.verdict_id, standing.outcome, standing.reason, standing.note,
        {row.criterion: row.result for row in rows}, session.scalar(before),
    )  # fmt: skip
    said = (
        actor.user_id, decision.verdict_id, weighed.outcome, decision.reason, decision.note.strip(),
        dict(decision.findings), decision.standing_label_id,
    )  # fmt: skip
    return standing.id if stored == said else None


def _decided_by(session: Session, ticket: Ticket) -> str:
    row = session.execute(
        select(User.name, Label.outcome).join(User, User.id == Label.user_id).where(Label.id == ticket.label_id)
    ).one_or_none()
    if row is None:
        return _CHANGED
    outcome = row.outcome.replace("_", " ")
    return (
        f"{row.name} has decided this ticket meanwhile ({outcome}), and nothing was saved. Decide again if you disagree"
    )


def _append(session: Session, assessed: _Assessed, *, actor: Actor, decision: Decision, now: datetime) -> int:
    verdict, weighed = assessed.verdict, assessed.weighed
    label = Label(
        revision_id=verdict.revision_id,
        verdict_id=verdict.id,
        context_version=verdict.context_version,
        user_id=actor.user_id,
        kind=weighed.kind,
        outcome=weighed.outcome,
        score=weighed.score,
        blind=assessed.blind,
        reason=decision.reason,
        note=decision.note.strip(),
        split=_split(session, assessed),
        recorded_at=now,
    )
    session.add(label)
    session.flush()
    rubric = assessed.context.rubric
    session.add_all(
        LabelFinding(label_id=label.id, criterion=name, text_hash=rubric[name].text_hash, result=result)
        for name, result in decision.findings.items()
    )
    return label.id


def _split(session: Session, assessed: _Assessed) -> Split:
    document = session.scalars(select(Revision.document).where(Revision.id == assessed.verdict.revision_id)).one()
    ticket = assessed.ticket
    requester = documents.revision(document).ticket.requester
    return split_of(ticket.connection_id, requester=requester, external_id=ticket.external_id)


def _observe(session: Session, assessed: _Assessed, label_id: int) -> None:
    """Imported history makes none: what failed there is not a failure of this week.

    Nor does a verdict that no model had a part in: no agent has failed, and no text that one reads could mend it.
    """
    verdict = assessed.verdict
    if verdict.panel != NO_MODEL and session.scalar(select(Revision.live).where(Revision.id == verdict.revision_id)):
        observe(
            session,
            overruled(assessed.weighed, assessed.machine),
            revision_id=verdict.revision_id,
            context_version=verdict.context_version,
            label_id=label_id,
        )


def _show(session: Session, assessed: _Assessed, label_id: int, *, now: datetime) -> None:
    session.execute(
        update(Ticket)
        .where(Ticket.id == assessed.ticket.id, Ticket.revision_id == assessed.verdict.revision_id)
        .values(label_id=label_id, decision=assessed.weighed.outcome, claimed_by=None, claimed_at=None, changed_at=now)
    )


def _record(session: Session, assessed: _Assessed, label_id: int, *, actor: Actor, decision: Decision) -> None:
    ticket, weighed = assessed.ticket, assessed.weighed
    audit.record(
        session,
        actor,
        action="ticket.decided",
        subject=f"ticket:{ticket.id}",
        before={"label": ticket.label_id, "decision": ticket.decision},
        after={
            "verdict": assessed.machine.outcome,
            "label": label_id,
            "decision": weighed.outcome,
            "kind": weighed.kind,
            "blind": assessed.blind,
            "findings": dict(decision.findings),
            "reason": decision.reason,
        },
        note=decision.note.strip(),
    )
