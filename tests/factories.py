"""Rows for tests, each in one call: what a test does not name gets a plausible value."""

from __future__ import annotations

import functools
import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import func, select

from agents.context import Context, parse, read_folder
from agents.evaluation import Arm, Costs, Said, Wanted, figures
from agents.masking import revise
from agents.ticket import Ticket as TicketText
from agents.ticket import read_ticket
from agents.verdict import Evidence, Finding, Span
from app import documents
from app.tables import (
    Base,
    Batch,
    BlindCheck,
    Connection,
    ContextVersion,
    Delivery,
    Escalation,
    Eval,
    ModelState,
    Observation,
    Pattern,
    Release,
    Report,
    Rescore,
    Reuse,
    Revision,
    Run,
    Ticket,
    Triage,
    User,
    Verdict,
)
from app.tables import Finding as FindingRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from agents.rubric import Rubric
    from agents.verdict import Result

REPOSITORY = Path(__file__).resolve().parent.parent
_serial = itertools.count(1)
Row = TypeVar("Row", bound=Base)


def office_ticket(**changes: object) -> TicketText:
    """A finished ticket of an office IT desk, as JSON and through the real door."""
    number = next(_serial)
    raw = {
        "external_id": f"INC-{50_000 + number}",
        "source": "helpdesk",
        "subject": "VPN drops every ten minutes",
        "description": "Since Monday the VPN on my laptop LT-204 drops every ten minutes.\n\nI cannot work from home.",
        "requester": "Ana Ruiz",
        "assignee": "Sam Okoro",
        "team": "Service desk",
        "queue": "Network",
        "priority": "p3",
        "category": "network",
        "status": "closed",
        "created_at": "2026-11-20T08:00:00Z",
        "closed_at": "2026-11-20T11:30:00Z",
        "entries": [
            {
                "author": "Sam Okoro",
                "author_role": "agent",
                "visibility": "internal",
                "at": "2026-11-20T09:10:00Z",
                "body": "The client certificate of LT-204 expired on Sunday.\nRenewed it and restarted the client.",
                "minutes": 15,
                "billable": True,
            },
            {
                "author": "Ana Ruiz",
                "author_role": "requester",
                "at": "2026-11-20T11:20:00Z",
                "body": "Works now, thank you.",
            },
        ],
        "resolution": {"code": "Fixed", "note": "Renewed the client certificate."},
    }
    return read_ticket({**raw, **changes})


PASSWORD = "a long walk in the rain"
PASSWORD_HASH = (  # made by app.passwords once: it takes a good part of a second
    "$argon2id$v=19$m=65536,t=3,p=4$VUSAdh3LS5L8sxYtcxgs0Q$FVCqhuB+08h9egD0Ot8JTJOvKZJolONWDOXVRJ5qinQ"
)


def make_user(session: Session, *, role: str = "lead", **columns: object) -> User:
    """Somebody who signs in with PASSWORD; the e-mail and the name follow the role."""
    number = next(_serial)
    values = {"email": f"{role}{number}@example.com", "name": f"{role.title()} {number}", **columns}
    return _added(session, User(role=role, **{"password_hash": PASSWORD_HASH, **values}))


def make_connection(
    session: Session, *, name: str = "helpdesk", scheme: str = "standard", **columns: object
) -> Connection:
    """The connection of that name, made where it is not there yet."""
    found = session.scalar(select(Connection).where(Connection.name == name))
    if found is not None:
        return found
    return _added(session, Connection(name=name, scheme=scheme, options=columns.pop("options", {}), **columns))


@functools.cache
def shipped_context() -> Context:
    """The context files of this repository."""
    return parse(read_folder(REPOSITORY / "context"))


def make_context(session: Session, *, context: Context | None = None, release: bool = True) -> Context:
    """A context version in the database, by default the files this repository ships, in force."""
    context = context or shipped_context()
    if session.get(ContextVersion, context.version) is None:
        _added(
            session,
            ContextVersion(version=context.version, documents=documents.context_document(context.files)),
        )
        if release:
            _added(session, Release(context_version=context.version, note="first start"))
    return context


def make_delivery(session: Session, *, connection: Connection | None = None, **columns: object) -> Delivery:
    connection = connection or make_connection(session)
    columns.setdefault("key", f"msg_{next(_serial)}")
    columns.setdefault("body", b"sealed")
    return _added(session, Delivery(connection_id=connection.id, **columns))


def make_ticket(
    session: Session,
    *,
    connection: Connection | None = None,
    text: TicketText | None = None,
    **columns: object,
) -> Ticket:
    """A ticket with its first revision; `columns` are columns of the ticket's row."""
    connection = connection or make_connection(session)
    text = text or office_ticket()
    shown = {name: getattr(text, name) for name in ("external_id", "subject", "queue", "assignee", "status")}
    ticket = _added(session, Ticket(connection_id=connection.id, **{**shown, **columns}))
    make_revision(session, ticket, text=text)
    return ticket


def make_revision(session: Session, ticket: Ticket, *, text: TicketText | None = None, **columns: object) -> Revision:
    """A newer state of a ticket; the ticket's row now points at it."""
    revised = revise(text or office_ticket(external_id=ticket.external_id))
    revision = _added(
        session,
        Revision(
            ticket_id=ticket.id,
            content_hash=revised.hash,
            intake_hash=revised.intake_hash,
            document=documents.revision_document(revised),
            updated_at=revised.ticket.updated_at,
            **columns,
        ),
    )
    ticket.revision_id = revision.id
    session.flush()
    return revision


def finding(criterion: str, result: Result = "met", **values: Any) -> Finding:  # noqa: ANN401  the finding's own
    """A judged finding; `quoted=(line, start, quote)` gives it verified evidence."""
    if quoted := values.pop("quoted", None):
        line, start, quote = quoted
        evidence = Evidence(line, quote, (Span(line, start, start + len(quote)),))
        values = {"evidence": (evidence,), "evidence_status": "verified", **values}
    return Finding(criterion, values.pop("kind", "judged"), result, **values)


def make_verdict(
    session: Session,
    revision: Revision,
    *,
    outcome: str = "pass",
    score: float | None = 100.0,
    findings: Sequence[Finding] = (),
    **columns: object,
) -> Verdict:
    """A verdict with its findings; on the newest revision the ticket's row carries it as a review would leave it."""
    context = make_context(session)
    values = {
        "context_version": context.version,
        "engine_version": 1,
        "panel": "claude-haiku-5-5",
        "demonstration": False,
        "reasons": ["everything that applies is met"],
        "cost_usd": Decimal("0.00041"),
        **columns,
    }
    exact = None if score is None else Decimal(str(score))
    verdict = _added(session, Verdict(revision_id=revision.id, outcome=outcome, score=exact, **values))
    make_findings(session, verdict, findings, context.rubric)
    ticket = session.get_one(Ticket, revision.ticket_id)
    if ticket.revision_id == revision.id:
        ticket.verdict_id, ticket.outcome, ticket.score = verdict.id, outcome, exact
        ticket.review_state, ticket.escalated = "done", outcome == "escalate"
        session.flush()
    return verdict


def make_findings(session: Session, verdict: Verdict, findings: Iterable[Finding], rubric: Rubric) -> None:
    """The findings of a verdict, as a review would leave them."""
    rows = documents.finding_rows(findings, rubric)
    session.add_all(FindingRow(verdict_id=verdict.id, **row) for row in rows)
    session.flush()


def make_blind_check(session: Session, user: User, *, verdict: Verdict | None = None) -> BlindCheck:
    """A finished ticket that a lead was given without its verdict."""
    if verdict is None:
        verdict = make_verdict(session, session.get_one(Revision, make_ticket(session).revision_id))
    return _added(session, BlindCheck(user_id=user.id, revision_id=verdict.revision_id, verdict_id=verdict.id))


def make_run(session: Session, *, revision: Revision | None = None, **columns: object) -> Run:
    """One answered model call."""
    values = {
        "reply_key": f"key-{next(_serial)}",
        "agent": "qc",
        "purpose": "review",
        "repetition": 0,
        "context_version": make_context(session).version,
        "agent_hash": "a" * 64,
        "model": "claude-haiku-5-5",
        "answered_by": "claude-haiku-5-5-20261001",
        "outcome": "answered",
        "stop_reason": "end_turn",
        "reply": "{}",
        "replied": True,
        "input_tokens": 812,
        "output_tokens": 348,
        "cache_read_tokens": 4710,
        "cost_usd": Decimal("0.000412"),
        "latency_ms": 2140,
        **columns,
    }
    return _added(session, Run(revision_id=revision.id if revision else None, **values))


def make_observation(session: Session, ticket: Ticket, **columns: object) -> Observation:
    """A failure of qc on a ticket's newest revision: a quote that is not there."""
    values = {
        "observer": "validator",
        "agent": "qc",
        "code": "quote_not_found",
        "subject": "root_cause",
        "revision_id": ticket.revision_id,
        "context_version": make_context(session).version,
        "evidence": [],
        **columns,
    }
    return _added(session, Observation(**values))


def make_pattern(session: Session, **columns: object) -> Pattern:
    """An open pattern of what `make_observation` makes."""
    values = {
        "agent": "qc",
        "code": "quote_not_found",
        "subject": "root_cause",
        "opened_at": datetime(2026, 11, 20, 8, tzinfo=UTC),
        **columns,
    }
    return _added(session, Pattern(**values))


def make_triage(session: Session, revision: Revision, **columns: object) -> Triage:
    answer = {
        "version": 1,
        "category": "network",
        "priority": "p3",
        "fields": {
            "problem": {
                "state": "present",
                "evidence": {"line": 7, "quote": "the VPN on my laptop", "spans": [[7, 13, 33]]},
            },
            "affected": {
                "state": "present",
                "evidence": {"line": 7, "quote": "my laptop LT-204", "spans": [[7, 24, 40]]},
            },
            "impact": {"state": "present", "evidence": {"line": 8, "quote": "I cannot work", "spans": [[8, 0, 13]]}},
            "contact": {"state": "missing", "evidence": None},
        },
        "rules": [],
        "ask": ["How can we reach you while the VPN is down?"],
    }
    values = {"agent_hash": "a" * 64, "model": "claude-haiku-5-5", "answer": answer, **columns}
    pins = {"ticket_id": revision.ticket_id, "revision_id": revision.id, "intake_hash": revision.intake_hash}
    return _added(session, Triage(**pins, **values))


def make_escalation(session: Session, revision: Revision, **columns: object) -> Escalation:
    """An escalation rule that applies; the ticket's row is marked as intake would mark it."""
    values = {"rule": "security_incident", "agent": "triage", "evidence": [], **columns}
    session.get_one(Ticket, revision.ticket_id).escalated = True
    return _added(session, Escalation(ticket_id=revision.ticket_id, revision_id=revision.id, **values))


def make_batch(session: Session, **columns: object) -> Batch:
    """One that the vendor has."""
    values = {"model": "claude-haiku-5-5", "state": "waiting", "requests": 62, **columns}
    return _added(session, Batch(**values))


def make_report(session: Session, *, week: str = "2026-W03", **columns: object) -> Report:
    """A report about a week long over."""
    values = {"figures": {"version": 1}, "markdown": f"# Week {week}\n\nAll is well.\n", "actor": "ticketqc", **columns}
    return _added(session, Report(week=week, **values))


def make_reuse(session: Session, **columns: object) -> Reuse:
    """A ticket was served by a reply that was paid for another."""
    values = {"context_version": make_context(session).version, "revision_id": make_ticket(session).revision_id}
    return _added(session, Reuse(**{**values, **columns}))


def make_rescore(session: Session, **columns: object) -> Rescore:
    """A re-scoring of the last month that waits, with no ticket in it."""
    until = datetime(2026, 11, 20, 8, tzinfo=UTC)
    counts = dict.fromkeys(("tickets", "unjudged", "removed", "calls"), 0)
    values = {"since": until - timedelta(days=30), "until": until, "actor": "command line", **counts, **columns}
    return _added(session, Rescore(context_version=make_context(session).version, **values))


def make_eval(session: Session, *, figures: Mapping[str, Any] | None = None, **columns: object) -> Eval:
    """Two models compared on twelve labelled tickets, as the code of the product computes it."""
    version = make_context(session).version
    values = {"context_version": version, "models": ["claude-haiku-5-5", "claude-sonnet-5-5"], **columns}
    return _added(session, Eval(figures={**(figures or eval_figures())}, **values))


def eval_figures(*, tickets: int = 12, wrong: Decimal | None = Decimal("0.5")) -> dict[str, Any]:
    """The first model passes everything, the second hands one ticket over; the person fails every fourth ticket."""
    wanted = [
        Wanted("pass" if at % 4 else "fail", {"root_cause": "met" if at % 3 else "not_met"}) for at in range(tickets)
    ]
    found = {"root_cause": "met", "follow_up": "met"}
    lax = [Said("pass", found, Decimal("0.0006"), 2_100 + at) for at in range(tickets)]
    strict = [
        Said(one.outcome, {**found, **one.findings}, Decimal("0.012"), 4_800 + at) for at, one in enumerate(wanted)
    ]
    strict[0] = strict[0]._replace(outcome="escalate")
    arms = (Arm("claude-haiku-5-5", False, tuple(lax)), Arm("claude-sonnet-5-5", False, tuple(strict)))  # noqa: FBT003
    counted = figures(wanted, arms, criteria=("root_cause", "follow_up"), costs=Costs(wrong, Decimal("0.1")))
    return {**counted, "blind": True, "available": tickets, "others": 3}


def make_model_state(session: Session, *, role: str = "worker", **columns: object) -> ModelState:
    """What the model of a role is doing; replaces what was there."""
    values = {
        "model": "claude-haiku-5-5",
        "state": "ready",
        "demonstration": False,
        "progress": None,
        "detail": "",
        "changed_at": func.clock_timestamp(),
        **columns,
    }
    return session.merge(ModelState(role=role, **values))


def _added(session: Session, row: Row) -> Row:
    session.add(row)
    session.flush()
    return row
