"""A database as a desk would find it on an ordinary morning: the sample tickets judged, some waiting, some stuck.

For looking at pages, by tests and by people: `python -m tests.demo` serves it on 127.0.0.1 until Ctrl-C.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from agents.judge import Judgement, Panel, judge
from agents.question import Question, Reply, Usage
from agents.ticket import Revision, Ticket, parse_jsonl_line
from app import claims, documents, labels, tables
from app.audit import Actor
from app.clock import now
from app.intake.recording import record
from app.sign_ins import ROLES
from app.weighing import Decision
from tests import demo_patterns, demo_proposals, demo_reports, demo_rescores
from tests.factories import (
    PASSWORD,
    REPOSITORY,
    make_blind_check,
    make_connection,
    make_context,
    make_delivery,
    make_eval,
    make_findings,
    make_model_state,
    make_run,
    make_user,
    make_verdict,
    shipped_context,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

SAMPLES = REPOSITORY / "app" / "samples" / "office_it.jsonl"
MODEL = "claude-haiku-5-5"
NOT_MET = {
    1: ("root_cause",),
    2: ("root_cause", "follow_up", "resolution_confirmed", "communication"),
    4: ("clear_problem", "resolution_confirmed"),
}


def samples() -> list[Ticket]:
    return [parse_jsonl_line(line) for line in SAMPLES.read_bytes().splitlines()]


def fill(session: Session) -> None:
    """Everything the pages show, in every state they know."""
    for role in ROLES:
        make_user(session, role=role, email=f"{role}@example.com")
    make_context(session)
    make_model_state(session, state="ready", model=MODEL)
    make_model_state(session, role="strong", state="ready", model="claude-sonnet-5-5")
    helpdesk = make_connection(session, name="helpdesk", rejected=3)
    files = make_connection(session, name="samples", scheme="file")
    for number, ticket in enumerate(samples()):
        recorded = record(session, connection=files, ticket=ticket, sample=True)
        row = session.get_one(tables.Revision, recorded.revision_id)
        if ticket.finished and number % 6 != 3:
            _judge(session, row, number=number)
    _reopened(session, connection=helpdesk)
    _decided(session)
    for minutes, reason in (
        (4, "status: 'Awaiting vendor' is not mapped"),
        (190, "not valid JSON: Expecting ',' delimiter at column 118"),
    ):
        make_delivery(
            session, connection=helpdesk, state="parked", reason=reason, received_at=now() - timedelta(minutes=minutes)
        )
    for minutes in range(0, 60, 7):
        make_delivery(session, connection=helpdesk, state="read", received_at=now() - timedelta(minutes=minutes))
    demo_patterns.fill(session)
    demo_proposals.fill(session)
    demo_rescores.fill(session)
    make_eval(session)
    session.commit()


def _reopened(session: Session, *, connection: tables.Connection) -> None:
    """A ticket that failed, was mended by a note, and passed."""
    first = samples()[0].model_copy(update={"external_id": "INC-2077", "resolution": None})
    mended = samples()[0].model_copy(update={"external_id": "INC-2077"})
    for number, ticket in ((2, first), (0, mended)):
        recorded = record(session, connection=connection, ticket=ticket)
        _judge(session, session.get_one(tables.Revision, recorded.revision_id), number=number)


def _decided(session: Session) -> None:
    """A decision and the one it superseded, somebody's claim, and a blind check before and after its answer."""
    lead, admin = (
        session.scalars(select(tables.User).where(tables.User.email == f"{role}@example.com")).one()
        for role in ("lead", "admin")
    )
    mended, claimed, checked, unseen = (
        _named(session, name) for name in ("INC-2077", "INC-2046", "INC-2047", "INC-2048")
    )
    first = _decide(
        session, admin, mended, "fail", findings={"root_cause": "not_met"}, reason="other", note="No cause."
    )
    _decide(session, lead, mended, "pass", standing_label_id=first)
    claims.claim(session, actor=Actor(lead.email, lead.id), ticket_id=claimed.id, now=now() - timedelta(minutes=20))
    answered = make_blind_check(session, admin, verdict=session.get_one(tables.Verdict, checked.verdict_id))
    answered.label_id = _decide(session, admin, checked, "pass", findings={"root_cause": "met"}, blind=True)
    make_blind_check(session, admin, verdict=session.get_one(tables.Verdict, unseen.verdict_id))


def _named(session: Session, name: str) -> tables.Ticket:
    return session.scalars(select(tables.Ticket).where(tables.Ticket.external_id == name)).one()


def _decide(session: Session, user: tables.User, ticket: tables.Ticket, outcome: Any, **values: Any) -> int:  # noqa: ANN401  a decision's own
    decision = Decision(ticket.verdict_id or 0, outcome, **values)
    label_id = labels.decide(
        session, actor=Actor(user.email, user.id), ticket_id=ticket.id, decision=decision, now=now()
    )
    session.flush()
    return label_id


def _judge(session: Session, row: tables.Revision, *, number: int) -> None:
    """The real engine with a made-up model, stored as a review stores it."""
    revision = documents.revision(row.document)
    supplied = frozenset({"priority", "category", "minutes", "billable", "resolution"})
    panel = Panel(MODEL, lambda question: _reply(question, revision, number=number), lambda key: key[:16])
    judgement = judge(revision, shipped_context(), supplied=supplied, panel=panel)
    _store(session, row, judgement)
    for agent, cost in (("triage", "0.000102"), ("qc", "0.000411")):
        make_run(session, revision=row, agent=agent, cost_usd=Decimal(cost))


def _store(session: Session, row: tables.Revision, judgement: Judgement) -> None:
    made = judgement.verdict
    verdict = make_verdict(session, row, outcome=made.outcome, score=made.score, reasons=list(made.reasons))
    make_findings(session, verdict, judgement.findings, shipped_context().rubric)
    pins = {"ticket_id": row.ticket_id, "revision_id": row.id}
    if judgement.triage:
        answer = documents.triage_document(judgement.triage)
        hashes = {"intake_hash": row.intake_hash, "agent_hash": "a" * 64}
        triage = insert(tables.Triage).values(**pins, **hashes, model=MODEL, answer=answer)
        session.execute(triage.on_conflict_do_nothing())
    for hit in judgement.rules:
        evidence = [documents.evidence_document(hit.evidence)]
        session.add(tables.Escalation(**pins, rule=hit.rule, agent="triage", evidence=evidence))
    for seen in judgement.observations:
        cited = [documents.evidence_document(one) for one in seen.evidence]
        told = {"observer": seen.observer, "agent": seen.agent, "code": seen.code, "subject": seen.subject}
        session.add(
            tables.Observation(**told, revision_id=row.id, context_version=shipped_context().version, evidence=cited)
        )
    session.flush()


def _reply(question: Question, revision: Revision, *, number: int) -> Reply:
    answer = _triaged(revision, number) if question.agent == "triage" else _judged(revision, number)
    usage = Usage(input=812, output=348, cache_read=4_710)
    return Reply(json.dumps(answer), "answered", "end_turn", usage, MODEL, latency_ms=2_140)


def _quote(revision: Revision, place: int) -> dict[str, Any]:
    """A few words of a line that has enough of them."""
    long = [line for line in revision.lines if line.part != "field" and len(line.text.split()) > 5]
    line = long[place % len(long)]
    return {"line": line.number, "quote": " ".join(line.text.split()[:5])}


def _triaged(revision: Revision, number: int) -> dict[str, Any]:
    intake = Revision(ticket=revision.ticket.model_copy(update={"entries": (), "resolution": None}))
    shown = {name: _quote(intake, place) for place, name in enumerate(("problem", "affected", "impact"))}
    rules = [{"rule": "security_incident", **_quote(intake, 1)}] if number == 5 else []
    contact = {"line": 0, "quote": ""}
    asked = ["How can we reach you while the VPN is down?"]
    return {"category": "network", "priority": "p3", **shown, "contact": contact, "rules": rules, "ask": asked}


def _judged(revision: Revision, number: int) -> dict[str, Any]:
    failed = NOT_MET.get(number % 5, ())
    found: dict[str, Any] = {}
    for place, criterion in enumerate(shipped_context().rubric.judged):
        cited = _quote(revision, place + 2)
        result = "not_met" if criterion.id in failed else "met"
        if number % 5 == 3 and criterion.id == "follow_up":
            result, cited = "partly", {"line": 1, "quote": "words that are not in the ticket"}
        said = {"not_met": "The record does not say it.", "partly": "It is named, but has no date."}.get(result, "")
        needed = result != "met" or criterion.critical
        found[criterion.id] = {
            "result": result,
            "lines": [cited["line"]] if needed else [],
            "quote": cited["quote"] if needed else "",
            "reason": said,
        }
    return {"findings": found, "triage": []}


def serve(engine: Engine, data_dir: Path, *, port: int) -> None:
    """Until Ctrl-C."""
    import uvicorn  # noqa: PLC0415  only for looking

    from app.settings import Settings  # noqa: PLC0415
    from app.vault import Vault  # noqa: PLC0415
    from app.web.app import create_app  # noqa: PLC0415

    settings = Settings(_env_file=None, data_dir=data_dir, port=port)
    app = create_app(engine=engine, vault=Vault.load(settings), settings=settings)
    print(f"sign in as one of {', '.join(f'{role}@example.com' for role in ROLES)}: {PASSWORD}")  # noqa: T201
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def main() -> None:
    from sqlalchemy.orm import Session  # noqa: PLC0415  only for looking

    from app import db, embedded  # noqa: PLC0415
    from app.settings import Settings  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="ticketqc-demo-") as folder:
        Path(folder).chmod(0o711)
        server = embedded.start(Settings(_env_file=None, data_dir=Path(folder)))
        try:
            db.upgrade(server.url)
            engine = db.make_engine(server.url)
            with Session(engine, expire_on_commit=False) as session:
                fill(session)
                demo_reports.fill(session)
                demo_reports.written(session, Settings(_env_file=None))
                session.commit()
            port = int(sys.argv[1]) if len(sys.argv) > 1 else 8123
            serve(engine, Path(folder), port=port)
            engine.dispose()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
