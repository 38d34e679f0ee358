"""What agents' and patterns' pages and the hourly look-out read of a large house: a week or a month of it, by index."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, select, text

from agents.observation import Fingerprint
from app.clock import now
from app.patterns import notice, sweep
from app.queries import agents, failures
from app.queries import patterns as queries
from app.tables import Pattern, Proposal, Revision
from tests.factories import make_context, make_ticket
from tests.sightings import labelled

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.tables import User

MANY = 20_000  # over 500 days
SUBJECTS = 40
_LARGE = re.compile(r"Seq Scan on (observations|runs|revisions)")


def _fill(session: Session, user: User) -> None:
    ticket = make_ticket(session)
    labelled(session, user, ticket)  # or there would be nothing to look for
    values = {"ticket": ticket.id, "version": make_context(session).version, "many": MANY, "subjects": SUBJECTS}
    at = "now() - n * interval '36 minutes'"
    for statement in (
        f"""insert into revisions (ticket_id, content_hash, intake_hash, document, recorded_at)
            select :ticket, 'h' || n, 'i',
                   jsonb_build_object('ticket', jsonb_build_object(
                       'requester', 'R' || n % 90, 'description', repeat(md5(n::text), 30))),
                   {at} from generate_series(1, :many) n""",  # noqa: S608  our own
        f"""insert into runs (reply_key, agent, purpose, repetition, context_version, agent_hash, model, outcome,
                              replied, cost_usd, recorded_at)
            select 'k' || n, 'qc', 'review', 0, :version, 'a', 'm', 'answered', true, 0.001, {at}
            from generate_series(1, :many) n""",  # noqa: S608  our own
        """insert into observations (observer, agent, code, subject, revision_id, context_version, evidence,
                                      recorded_at)
            select 'validator', 'qc', 'quote_not_found', 'c' || id % :subjects, id, :version, '[]', recorded_at
            from revisions where content_hash like 'h%'""",
    ):
        session.execute(text(statement), values)
    for number in range(SUBJECTS):
        opened_at = now() - timedelta(days=3)
        session.add(Pattern(agent="qc", code="quote_not_found", subject=f"c{number}", opened_at=opened_at))
    session.commit()
    for table in ("revisions", "runs", "observations", "patterns"):
        session.execute(text(f"analyze {table}"))


def test_nothing_reads_the_whole_of_a_large_table(session: Session, lead: User) -> None:
    _fill(session, lead)
    pattern_id = session.scalars(select(Pattern.id).limit(1)).one()
    plans: list[str] = []

    def explain(*sent: Any) -> None:  # noqa: ANN401  SQLAlchemy's event
        _, cursor, statement, parameters, *_ = sent
        if statement.lstrip().lower().startswith(("select", "with", "update")):
            cursor.execute(f"explain {statement}", parameters)
            plans.append("\n".join(row[0] for row in cursor.fetchall()))

    engine = session.get_bind()
    event.listen(engine, "before_cursor_execute", explain)
    try:
        moment = now()
        week = failures.last_days(7, now=moment, timezone="Europe/Berlin")
        agents.usage(session, week=week.after, month=moment - timedelta(days=30))
        failures.by_day(session, week)
        queries.listed(session, now=moment)
        queries.pattern(session, pattern_id, now=moment)
        seen = queries.sightings(session, pattern_id)
        queries.judged(session, [one.id for one in seen[:3]])
        queries.said(session, [one.id for one in seen[:3]])
        queries.versions(session, pattern_id)
        queries.events(session, pattern_id)
        queries.proposals(session, Proposal.pattern_id == pattern_id, most=3)
        notice(session, [Fingerprint("qc", "quote_not_found", "c3"), Fingerprint("qc", "refusal", "")], now=moment)
        sweep(session, now=moment)
    finally:
        event.remove(engine, "before_cursor_execute", explain)
    assert len(seen) == queries.MOST_SIGHTINGS
    assert session.get_one(Revision, seen[0].revision_id).recorded_at > moment - timedelta(days=2)
    assert len(plans) > 15
    found = [plan for plan in plans if _LARGE.search(plan)]
    assert not found, "\n\n".join(found)
