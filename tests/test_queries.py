"""The pages' SQL: order, filters, pages of a list, and that none of it reads whole tables."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, select, text, update

from app.errors import BadRequest, NotFound
from app.queries import contexts, operations, tickets
from app.queries import ticket as one
from app.queries.tickets import Cursor, Filters
from app.tables import Revision, Ticket
from tests.factories import (
    finding,
    make_connection,
    make_context,
    make_delivery,
    make_escalation,
    make_revision,
    make_run,
    make_ticket,
    make_triage,
    make_user,
    make_verdict,
    office_ticket,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
MANY = 20_000


def _row(session: Session, name: str, **columns: Any) -> Ticket:  # noqa: ANN401  any column
    return make_ticket(session, text=office_ticket(external_id=name), **{"changed_at": NOW, **columns})


def _names(session: Session, **filters: str) -> list[str]:
    return [row.external_id for row in tickets.page(session, Filters(**{"verdict": "all", **filters}), now=NOW).rows]


EVERY_STATE: list[tuple[str, dict[str, Any]]] = [
    ("open", {}),
    ("passed", {"review_state": "done", "outcome": "pass"}),
    ("running", {"review_state": "running"}),
    ("waiting", {"review_state": "waiting_model", "changed_at": NOW - timedelta(hours=1)}),
    ("parked", {"review_state": "parked"}),
    ("failed", {"review_state": "done", "outcome": "fail", "changed_at": NOW - timedelta(hours=2)}),
    ("failed later", {"review_state": "done", "outcome": "fail"}),
    ("escalated", {"review_state": "done", "outcome": "escalate"}),
    ("escalated at intake", {"escalated": True, "changed_at": NOW - timedelta(days=3)}),
    ("decided", {"escalated": True, "decision": "pass", "changed_at": NOW - timedelta(hours=1)}),
    ("decided later", {"review_state": "done", "outcome": "fail", "decision": "fail"}),
]


def test_what_needs_a_decision_comes_first_the_longest_waiting_of_it_and_else_the_latest(session: Session) -> None:
    for name, columns in EVERY_STATE:
        _row(session, name, subject="the same word", **columns)
    needs = ["escalated at intake", "escalated", "failed", "failed later"]
    order = [*needs, "parked", "running", "waiting", "passed", "open", "decided later", "decided"]
    assert _names(session) == _names(session, q="word") == order
    assert _names(session, verdict="") == needs
    assert _names(session, verdict="", q="word") == order, "who searches looks for a ticket, wherever it stands"
    assert _names(session, verdict="decided") == order[-2:]
    for filters in (Filters(verdict="all"), Filters(verdict="all", q="word")):
        seen, after = [], None
        while True:
            page = tickets.page(session, filters, now=NOW, after=after, size=2)
            seen += [row.external_id for row in page.rows]
            if page.after is None:
                break
            after = Cursor.read(str(page.after))
        assert seen == order
    last = tickets.page(session, Filters(verdict="fail", q="word"), now=NOW, after=Cursor(0, NOW, 1))
    assert last == ((), None)


def test_a_row_says_who_has_it_and_who_decided(session: Session) -> None:
    ana, ben = make_user(session, name="Ana"), make_user(session, name="Ben")
    _row(session, "mine", escalated=True, claimed_by=ana.id, claimed_at=NOW)
    _row(session, "his", escalated=True, claimed_by=ben.id, claimed_at=NOW)
    _row(session, "nobody's", escalated=True)

    def names(claimed: str) -> list[str]:
        return [row.external_id for row in tickets.page(session, Filters(claimed=claimed), now=NOW, me=ana.id).rows]

    assert names("mine") == ["mine"]
    assert names("nobody") == ["nobody's"]
    assert len(names("")) == tickets.count(session, Filters(), now=NOW, me=ana.id) == 3
    (row,) = tickets.page(session, Filters(claimed="mine"), now=NOW, me=ben.id).rows
    assert (row.claimant, row.claimed_by, row.claimed_at, row.decision) == (ben.id, "Ben", NOW, None)


def test_a_failed_ticket_that_is_judged_again_waits(session: Session) -> None:
    _row(session, "again", review_state="running", outcome="fail")
    (row,) = tickets.page(session, Filters(verdict="all"), now=NOW).rows
    assert row.state == "waiting"


def test_a_row_says_what_decided(session: Session) -> None:
    ticket = make_ticket(session)
    revision = session.get_one(Revision, ticket.revision_id)
    make_verdict(session, revision, outcome="fail", score=58, reasons=["Root cause: not met", "Follow-up: partly"])
    (row,) = tickets.page(session, Filters(verdict="all"), now=NOW).rows
    assert (row.state, row.reason, row.score, row.panel) == (
        "fail",
        "Root cause: not met",
        Decimal(58),
        "claude-haiku-5-5",
    )


def test_a_row_escalated_at_intake_names_the_rule_and_not_the_verdict(session: Session) -> None:
    ticket = make_ticket(session)
    revision = session.get_one(Revision, ticket.revision_id)
    make_verdict(session, revision, outcome="pass")
    make_escalation(session, revision, rule="legal_threat")
    (row,) = tickets.page(session, Filters(verdict="all"), now=NOW).rows
    assert (row.state, row.reason, row.rule) == ("escalate", "", "legal_threat")


def test_a_waiting_row_says_why(session: Session) -> None:
    _row(session, "INC-1", review_state="waiting_model", review_note="waiting for the model")
    (row,) = tickets.page(session, Filters(verdict="all"), now=NOW).rows
    assert row.reason == "waiting for the model"


def test_filters_narrow_and_combine(session: Session) -> None:
    desk, other = make_connection(session, name="desk"), make_connection(session, name="other")
    _row(session, "A", connection=desk, queue="Network", review_state="done", outcome="fail")
    _row(session, "B", connection=desk, queue="Printing", review_state="done", outcome="pass")
    _row(session, "C", connection=other, queue="Network", assignee="Kim", changed_at=NOW - timedelta(days=9))
    assert _names(session, assignee="Kim") == ["C"]
    assert tickets.assignees(session) == ("Kim", "Sam Okoro")
    assert _names(session, verdict="fail") == ["A"]
    assert _names(session, queue="Network") == ["A", "C"]
    assert _names(session, source="other") == ["C"]
    assert _names(session, source="nobody") == []
    assert _names(session, age="7d") == ["A", "B"]
    assert _names(session, queue="Network", source="desk") == ["A"]


def test_the_criterion_filter_finds_what_the_current_verdict_does_not_meet(session: Session) -> None:
    for name, result in (("A", "not_met"), ("B", "partly"), ("C", "met")):
        revision = session.get_one(Revision, _row(session, name).revision_id)
        make_verdict(session, revision, findings=[finding("root_cause", result)])  # type: ignore[arg-type]
    mended = _row(session, "D")
    make_verdict(session, session.get_one(Revision, mended.revision_id), findings=[finding("root_cause", "not_met")])
    make_verdict(session, make_revision(session, mended, text=office_ticket(external_id="D", subject="again")))
    assert _names(session, criterion="root_cause") == ["A"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("vpn", ["INC-2041"]),
        ("VPN off", ["INC-2041"]),
        ("2041", ["INC-2041"]),
        ("inc-20", ["INC-2041", "INC-2042"]),
        ("drucker büro", ["INC-2042"]),
        ("fpn", []),
        ("--", []),
        ("' | x:* & !", []),
        ("vpn & !office", ["INC-2041"]),
        ("%", []),
        ("x" * 5_000, []),
    ],
)
def test_search_finds_beginnings_of_words_in_id_and_subject(session: Session, given: str, found: list[str]) -> None:
    _row(session, "INC-2041", subject="VPN down for the whole office")
    _row(session, "INC-2042", subject="Drucker im Büro", changed_at=NOW - timedelta(hours=1))
    assert _names(session, q=given) == found


def test_every_ticket_is_on_exactly_one_page(session: Session) -> None:
    kinds: tuple[dict[str, Any], ...] = ({}, {"review_state": "done", "outcome": "fail"}, {"escalated": True})
    states = itertools.cycle(kinds)
    for number, columns in zip(range(23), states, strict=False):
        _row(session, f"T{number}", **columns)  # all changed at the same moment
    seen, after = [], None
    while True:
        page = tickets.page(session, Filters(verdict="all"), now=NOW, after=after, size=5)
        seen += [row.external_id for row in page.rows]
        if page.after is None:
            break
        after = Cursor.read(str(page.after))
    assert len(seen) == 23
    assert seen == _names(session)


def test_a_full_last_page_has_no_next(session: Session) -> None:
    for number in range(5):
        _row(session, f"T{number}")
    assert tickets.page(session, Filters(verdict="all"), now=NOW, size=5).after is None
    assert tickets.page(session, Filters(verdict="all"), now=NOW, size=4).after is not None


@pytest.mark.parametrize(
    "given", ["x", "6.1", "7.1.1", "-1.1.1", "6.-1.1", "6.1.1; drop", "6." + "9" * 17 + ".1", "\u0666.\u0661.\u0661"]
)
def test_a_page_mark_that_is_not_ours_is_refused(given: str) -> None:
    with pytest.raises(BadRequest):
        Cursor.read(given)


@pytest.mark.parametrize("filters", [{"verdict": "great"}, {"age": "9y"}, {"claimed": "x"}])
def test_a_filter_with_an_unknown_value_is_refused(session: Session, filters: dict[str, str]) -> None:
    with pytest.raises(BadRequest, match="may be one of"):
        _names(session, **filters)


def test_counts_stop_where_nobody_reads_on(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "MOST_COUNTED", 2)
    for number in range(4):
        _row(session, f"T{number}")
    _row(session, "failed", review_state="done", outcome="fail")
    assert tickets.counts(session, now=NOW) == {
        "escalate": 0,
        "fail": 1,
        "parked": 0,
        "waiting": 0,
        "pass": 0,
        "open": 3,
        "decided": 0,
    }
    assert tickets.count(session, Filters(verdict="all", q="vpn"), now=NOW) == 3


def test_queues_are_named_once_and_not_the_empty_one(session: Session) -> None:
    for number, queue in enumerate(("Network", "", "Printing", "Network", "Ärzte")):
        _row(session, f"T{number}", queue=queue)
    assert set(tickets.queues(session)) == {"Network", "Printing", "Ärzte"}
    assert len(tickets.queues(session)) == 3


def _fill(session: Session) -> None:
    """Many tickets and deliveries, as fast as the database makes them."""
    connection = make_connection(session)
    session.execute(
        text(
            """
            insert into tickets (connection_id, external_id, subject, queue, assignee, status, revision_id,
                                 review_state, outcome, escalated, changed_at)
            select :connection, 'INC-' || n, 'Subject ' || n, 'Queue ' || n % 20, 'Sam', 'closed', n, 'done',
                   case when n % 9 = 0 then 'fail' else 'pass' end, n % 500 = 0, now() - n * interval '1 minute'
            from generate_series(1, :many) n
            """
        ),
        {"connection": connection.id, "many": MANY},
    )
    session.execute(
        text(
            """
            insert into deliveries (connection_id, key, body, state, received_at)
            select :connection, 'k' || n, '', case when n % 400 = 0 then 'parked' else 'read' end,
                   now() - n * interval '1 minute' from generate_series(1, :many) n
            """
        ),
        {"connection": connection.id, "many": MANY},
    )
    revision_id = make_revision(session, session.scalars(select(Ticket).limit(1)).one()).id
    session.execute(
        text(
            """
            insert into escalations (ticket_id, revision_id, rule, agent, evidence)
            select id, :revision, 'rule ' || id, 'triage', '[]' from tickets where id % 10 = 0
            """
        ),
        {"revision": revision_id},
    )
    session.commit()
    for table in ("tickets", "deliveries", "verdicts", "escalations"):
        session.execute(text(f"analyze {table}"))


def test_no_page_reads_a_whole_table(session: Session) -> None:
    """Every statement of the queue page and of the parked deliveries, as it was sent, explained."""
    _fill(session)
    plans: list[str] = []

    def explain(*sent: Any) -> None:  # noqa: ANN401  SQLAlchemy's event
        _, cursor, statement, parameters, *_ = sent
        if statement.lstrip().lower().startswith(("select", "with")):
            cursor.execute(f"explain {statement}", parameters)
            plans.append("\n".join(row[0] for row in cursor.fetchall()))

    after = Cursor(2, datetime.now(UTC) - timedelta(days=9), 10_000)  # noqa: TID251  rows are filled beside it
    engine = session.get_bind()
    event.listen(engine, "before_cursor_execute", explain)
    try:
        tickets.page(session, Filters(), now=NOW, me=1)
        tickets.page(session, Filters(verdict="all"), now=NOW, me=1, after=after)
        tickets.page(session, Filters(), now=NOW, after=after._replace(urgency=5))
        tickets.page(session, Filters(assignee="Sam"), now=NOW)
        tickets.page(session, Filters(claimed="mine", verdict="all"), now=NOW, me=1)
        tickets.assignees(session)
        tickets.page(session, Filters(verdict="escalate"), now=NOW)
        tickets.page(session, Filters(queue="Queue 3", verdict="all"), now=NOW, after=after)
        tickets.page(session, Filters(source="helpdesk", verdict="all"), now=NOW)
        tickets.page(session, Filters(q="inc 17711", verdict="all"), now=NOW)
        tickets.page(session, Filters(q="no such word", verdict="pass"), now=NOW, after=after)
        tickets.count(session, Filters(q="subject", source="helpdesk", verdict="all"), now=NOW)
        tickets.counts(session, now=NOW, me=1)
        tickets.queues(session)
        operations.parked(session)
        operations.parked_count(session)
        operations.reviews(session)
    finally:
        event.remove(engine, "before_cursor_execute", explain)
    assert len(plans) > 15
    for plan in plans:
        assert "Seq Scan on tickets" not in plan, plan
        assert "Seq Scan on deliveries" not in plan, plan
        assert "on escalations" not in plan or "ix_escalations_ticket_id" in plan, plan


def test_a_ticket_without_a_revision_is_not_there(session: Session) -> None:
    ticket = make_ticket(session)
    session.execute(update(Ticket).where(Ticket.id == ticket.id).values(revision_id=None))
    with pytest.raises(NotFound):
        one.ticket(session, ticket.id)


def test_revisions_stand_in_the_order_of_the_source(session: Session) -> None:
    ticket = make_ticket(session, text=office_ticket(external_id="X", updated_at="2026-11-20T10:00:00Z"))
    late = office_ticket(external_id="X", subject="older", updated_at="2026-11-20T09:00:00Z")
    older = make_revision(session, ticket, text=late)
    make_verdict(session, older, outcome="fail", score=40)
    make_verdict(session, older, outcome="pass", score=90, engine_version=2)
    first, second = one.revisions(session, ticket.id)
    assert (first.id, first.number, first.outcome, first.score) == (older.id, 1, "pass", Decimal(90))
    assert (second.number, second.outcome) == (2, None)


def test_the_ticket_s_own_verdict_is_shown_before_a_newer_one(session: Session) -> None:
    ticket = make_ticket(session)
    revision = session.get_one(Revision, ticket.revision_id)
    current = make_verdict(session, revision, outcome="pass")
    newer = make_verdict(session, revision, outcome="fail", panel="another")
    found = one.verdict(session, revision.id, current=current.id)
    assert found is not None
    assert found.id == current.id
    found = one.verdict(session, revision.id, current=None)
    assert found is not None
    assert found.id == newer.id


def test_findings_come_back_as_the_engine_made_them(session: Session) -> None:
    ticket = make_ticket(session)
    made = [finding("root_cause", "not_met", quoted=(9, 4, "client"), reason="No cause."), finding("work_performed")]
    verdict = make_verdict(session, session.get_one(Revision, ticket.revision_id), findings=made)
    assert list(one.findings(session, verdict.id)) == made


def test_triage_of_an_older_revision_holds_while_the_intake_is_the_same(session: Session) -> None:
    ticket = make_ticket(session, text=office_ticket(external_id="X"))
    opened = session.get_one(Revision, ticket.revision_id)
    make_triage(session, opened)
    make_escalation(session, opened, rule="legal_threat")
    make_escalation(session, opened, rule="major_outage", agent="qc")
    closed = make_revision(session, ticket, text=office_ticket(external_id="X", resolution=None))
    found = one.triage(session, closed.id)
    assert found is not None
    assert found.revision_id == opened.id
    assert [row.rule for row in one.escalations(session, closed.id)] == ["legal_threat"]
    make_escalation(session, closed, rule="legal_threat", evidence=[{"line": 9, "quote": "", "spans": []}])
    (shown,) = one.escalations(session, closed.id)
    assert [evidence.line for evidence in shown.evidence] == [9]
    changed = make_revision(session, ticket, text=office_ticket(external_id="X", description="Something else."))
    assert one.triage(session, changed.id) is None
    assert one.escalations(session, changed.id) == ()


def test_totals_tell_money_from_what_has_no_price(session: Session) -> None:
    ticket = make_ticket(session)
    revision = session.get_one(Revision, ticket.revision_id)
    make_run(session, revision=revision, cost_usd=Decimal("0.0004"))
    make_run(session, revision=revision, cost_usd=None)
    make_run(session, revision=revision, cost_usd=None, replied=False, outcome="timeout")
    make_run(session, revision=revision, cost_usd=Decimal("0.0001"), replied=False, reply=None, outcome="duplicate")
    totals = one.totals(one.runs(session, ticket.id))
    assert (totals.cost_usd, totals.unpriced, totals.unanswered) == (Decimal("0.0005"), 1, 1)


def test_the_newest_release_is_in_force(session: Session) -> None:
    assert contexts.in_force(session) is None
    context = make_context(session)
    row = contexts.in_force(session)
    assert row is not None
    assert (row.version, row.note, row.in_force) == (context.version, "first start", True)
    assert contexts.version(session, "no such") is None


def test_jobs_are_counted_by_task_with_the_oldest_that_waits(session: Session) -> None:
    for task, status in (("review", "todo"), ("review", "doing"), ("intake", "failed"), ("intake", "succeeded")):
        session.execute(
            text("insert into procrastinate.procrastinate_jobs (queue_name, task_name, status) values ('q', :t, :s)"),
            {"t": task, "s": status},
        )
    found = operations.jobs(session)
    rows = [(row.task, row.waiting, row.running, row.failed) for row in found.tasks]
    assert rows == [("intake", 0, 0, 1), ("review", 1, 1, 0)]
    assert found.oldest_waiting is not None


def test_an_empty_queue_has_no_oldest(session: Session) -> None:
    assert operations.jobs(session) == operations.QueueRow((), None)


def test_connections_count_today_and_what_is_parked(session: Session) -> None:
    desk = make_connection(session, name="desk", rejected=2)
    make_connection(session, name="idle", scheme="file")
    make_delivery(session, connection=desk, received_at=NOW)
    make_delivery(session, connection=desk, received_at=NOW - timedelta(days=2), state="parked", reason="unreadable")
    rows = [tuple(vars(row).values()) for row in operations.connections(session, since=NOW - timedelta(hours=9))]
    assert rows == [("desk", "standard", 1, 1, 2), ("idle", "file", 0, 0, 0)]
