"""Seven weeks before the demonstration's morning, for trends and reports: fewer root causes missing than there were."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sqlalchemy import insert, select, update

from agents.masking import revise
from app import documents, periods, reports
from app.audit import MACHINE
from app.clock import now
from app.tables import Connection, Finding, Mail, Release, Revision, Run, Ticket, Verdict
from tests.factories import make_run, office_ticket, shipped_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from app.settings import Settings

# By week, the oldest first: tickets, and of ten of them how many lack a root cause.
HISTORY = ((6, 5), (18, 6), (24, 5), (31, 5), (26, 3), (34, 2), (38, 1))
MISSED = {"root_cause": 0, "follow_up": 2, "communication": 1}  # of ten; the first by week


def fill(session: Session) -> None:
    """After the tickets of the morning are there."""
    chance = random.Random(47)  # noqa: S311  the same desk every time
    rows = [
        {"at": now() - timedelta(days=7 * back, hours=chance.uniform(1, 160)), "lacking": _lacking(chance, of_ten)}
        for back, (number, of_ten) in zip(range(7, 0, -1), HISTORY, strict=True)
        for _ in range(number)
    ]
    revisions = _tickets(session, rows)
    verdicts = _verdicts(session, rows, revisions)
    session.execute(insert(Finding), list(_findings(rows, verdicts)))
    session.execute(insert(Run), list(_runs(rows, revisions)))
    make_run(session, purpose="replay", recorded_at=now() - timedelta(days=2), cost_usd=Decimal("0.031"))
    make_run(session, recorded_at=now() - timedelta(days=3), replied=False, reply=None, outcome="overloaded")
    release = session.scalars(select(Release).order_by(Release.id)).first()
    if release is not None:
        release.released_at = now() - timedelta(days=60)
    session.flush()


def written(session: Session, settings: Settings) -> str:
    """Last week's report, mailed to one of three for certain; the week's name."""
    monday = periods.monday_before(now(), ZoneInfo(settings.timezone))
    draft = reports.read(session, settings, monday, at=now())
    reports.add(session, draft, text=draft.plain_opening, by="", actor=MACHINE)
    key = periods.key_of(monday)
    for name, state, note in (
        ("lead", "sent", ""),
        ("manager", "failed", "the server refused it: 550 no such mailbox"),
        ("director", "sending", "the connection ended before the server said that it has it (reset)"),
    ):
        address = f"{name}@example.com"
        session.add(Mail(key=f"report:{key}:{address}", address=address, state=state, note=note))
    session.flush()
    return key


def _lacking(chance: random.Random, of_ten: int) -> frozenset[str]:
    missed = {**MISSED, "root_cause": of_ten}
    return frozenset(criterion for criterion, often in missed.items() if chance.random() * 10 < often)


def _tickets(session: Session, rows: list[dict[str, Any]]) -> list[int]:
    """The ids of their revisions."""
    connection = session.scalars(select(Connection.id).order_by(Connection.id)).first()
    texts = [office_ticket(status="closed") for _ in rows]
    shown = ("external_id", "subject", "queue", "assignee", "status")
    tickets = [
        {
            **{name: getattr(text, name) for name in shown},
            "connection_id": connection,
            "review_state": "done",
            "outcome": _outcome(row),
            "decision": "pass",
            "created_at": row["at"],
            "changed_at": row["at"],
        }
        for text, row in zip(texts, rows, strict=True)
    ]
    ids = session.scalars(insert(Ticket).returning(Ticket.id, sort_by_parameter_order=True), tickets).all()
    revised = [revise(text) for text in texts]
    states = [
        {
            "ticket_id": ticket,
            "content_hash": one.hash,
            "intake_hash": one.intake_hash,
            "document": documents.revision_document(one),
            "recorded_at": row["at"],
        }
        for ticket, one, row in zip(ids, revised, rows, strict=True)
    ]
    made = session.scalars(insert(Revision).returning(Revision.id, sort_by_parameter_order=True), states).all()
    newest = update(Ticket).where(Ticket.id == Revision.ticket_id, Ticket.revision_id.is_(None))
    session.execute(newest.values(revision_id=Revision.id).execution_options(synchronize_session=False))
    return list(made)


def _outcome(row: dict[str, Any]) -> str:
    return "fail" if row["lacking"] & {"root_cause", "follow_up"} else "escalate" if row["lacking"] else "pass"


def _verdicts(session: Session, rows: list[dict[str, Any]], revisions: list[int]) -> list[int]:
    judged = [
        {
            "revision_id": revision,
            "context_version": shipped_context().version,
            "engine_version": 1,
            "panel": "claude-haiku-5-5",
            "demonstration": False,
            "outcome": _outcome(row),
            "score": Decimal(100),
            "reasons": [],
            "cost_usd": Decimal("0.0005"),
            "recorded_at": row["at"],
        }
        for revision, row in zip(revisions, rows, strict=True)
    ]
    return list(session.scalars(insert(Verdict).returning(Verdict.id, sort_by_parameter_order=True), judged))


def _findings(rows: list[dict[str, Any]], verdicts: list[int]) -> Iterator[dict[str, Any]]:
    rubric = shipped_context().rubric
    for verdict, row in zip(verdicts, rows, strict=True):
        for criterion in rubric.judged:
            yield {
                "verdict_id": verdict,
                "criterion": criterion.id,
                "text_hash": criterion.text_hash,
                "kind": "judged",
                "result": "not_met" if criterion.id in row["lacking"] else "met",
                "reason": "",
                "evidence": [],
                "absent": False,
                "evidence_status": None,
            }


def _runs(rows: list[dict[str, Any]], revisions: list[int]) -> Iterator[dict[str, Any]]:
    for number, (revision, row) in enumerate(zip(revisions, rows, strict=True)):
        yield {
            "reply_key": f"demonstration-{number}",
            "agent": "qc",
            "purpose": "review",
            "repetition": 0,
            "revision_id": revision,
            "context_version": shipped_context().version,
            "agent_hash": "a" * 64,
            "model": "claude-haiku-5-5",
            "outcome": "answered",
            "reply": "{}",
            "replied": True,
            "input_tokens": 812,
            "output_tokens": 348,
            "cache_read_tokens": 4_710,
            "cost_usd": Decimal("0.000513"),
            "latency_ms": 2_140,
            "recorded_at": row["at"],
        }
