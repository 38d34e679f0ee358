"""Failures that add up, in every state that a pattern knows, on the tickets of the demonstration."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from app import patterns
from app.audit import Actor
from app.clock import now
from app.patterns import sweep
from app.tables import Finding, Label, LabelFinding, Observation, Pattern, Proposal, Ticket, User, Verdict
from tests.factories import make_run, shipped_context

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

DAY = timedelta(days=1)
# What failed, and how many days ago on a ticket each.
QUIET, STRICT = (25, 24.5, 24), (20, 11, 6.5, 4, 4.2, 2, 1, 0.1)
SEEN: tuple[tuple[dict[str, str], tuple[float, ...]], ...] = (
    ({"agent": "qc", "code": "quote_not_found", "subject": "follow_up"}, (18, 5, 3, 3, 1, 0.2)),
    ({"agent": "triage", "code": "missed_information", "subject": "contact", "observer": "qc"}, (9, 8, 6, 2)),
    ({"agent": "qc", "code": "unstable", "subject": "work_performed"}, (5, 3, 2)),
    ({"agent": "triage", "code": "invalid_answer", "subject": ""}, QUIET),
)


def fill(session: Session) -> None:
    """After the tickets are there, and judged."""
    tickets = list(session.scalars(select(Ticket).where(Ticket.verdict_id.is_not(None)).order_by(Ticket.id)))
    place = 0
    for columns, days in SEEN:
        for back in days:
            place += 1
            _observe(session, tickets[place % len(tickets)], back=back, **columns)
    _overruled(session, tickets)
    for back in range(25):
        for agent, number in (("triage", 3), ("qc", 4)):
            for _ in range(number):
                make_run(session, agent=agent, recorded_at=now() - back * DAY)
    make_run(session, agent="qc", purpose="replay", recorded_at=now() - DAY)
    make_run(session, agent="chief_of_staff", purpose="proposal", model="claude-sonnet-5-5")
    sweep(session, now=now() - 20 * DAY)
    sweep(session, now=now())
    _decided(session)


def _observe(session: Session, ticket: Ticket, *, back: float, **columns: Any) -> None:  # noqa: ANN401  columns
    values = {"observer": "validator", "evidence": [], **columns}
    pins = {"revision_id": ticket.revision_id, "context_version": shipped_context().version}
    session.add(Observation(**values, **pins, recorded_at=now() - back * DAY))
    session.flush()


def _overruled(session: Session, tickets: list[Ticket]) -> None:
    """A lead who found more than the machine, on tickets that passed all the same."""
    lead = session.scalars(select(User).where(User.email == "lead@example.com")).first()
    assert lead is not None
    failed = select(Finding).join(Verdict, Verdict.id == Finding.verdict_id)
    for back, ticket in zip(
        STRICT, (one for one in tickets if one.outcome == "pass" and not one.label_id), strict=False
    ):
        found = session.scalars(failed.where(Verdict.id == ticket.verdict_id, Finding.criterion == "root_cause")).one()
        found.result, found.reason = "not_met", "The record does not say it."
        label = Label(
            revision_id=ticket.revision_id, verdict_id=ticket.verdict_id, context_version=shipped_context().version,
            user_id=lead.id, kind="overrule", outcome="pass", blind=False, split="dev", reason="evidence_missed",
            note="The cause is named in the resolution, in other words.", recorded_at=now() - back * DAY,
        )  # fmt: skip
        session.add(label)
        session.flush()
        ticket.label_id, ticket.decision = label.id, label.outcome
        text_hash = shipped_context().rubric["root_cause"].text_hash
        session.add(LabelFinding(label_id=label.id, criterion="root_cause", text_hash=text_hash, result="met"))
        columns = {"observer": "person", "agent": "qc", "code": "overruled", "direction": "false_fail"}
        _observe(
            session, ticket, back=back, **columns, subject="root_cause", label_id=label.id, evidence=found.evidence
        )


def _decided(session: Session) -> None:
    """One waits for a decision, one had its own, one is muted."""
    lead = session.scalars(select(User).where(User.email == "lead@example.com")).first()
    assert lead is not None
    actor = Actor(lead.email, lead.id)
    by_code = {row.code: row for row in session.scalars(select(Pattern))}
    made = {"model": "claude-sonnet-5-5", "demonstration": False}
    why = "The criterion does not say that a cause counts in whatever words it is named."
    session.add(Proposal(pattern_id=by_code["overruled"].id, kind="rewrite", why=why, **made))
    patterns.event(session, by_code["overruled"].id, "proposed")
    ended = {"state": "rejected", "decided_by": lead.id, "decided_at": now(), "decision_note": "Too long."}
    missed = by_code["missed_information"].id
    session.add(Proposal(pattern_id=missed, kind="more_context", why="Say when to ask.", **made, **ended))
    patterns.decided(session, missed, now=now(), note="Too long.", actor=actor)
    patterns.mute(session, by_code["unstable"].id, reason="The vendor is mending it.", actor=actor)
