"""How a ticket enters: each state once, the newest in force whatever the order, and one job for what has to be done."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, text

from agents.ticket import read_ticket
from app import documents
from app.db import transaction
from app.intake.recording import Arrival, Recorded, record, record_all
from app.tables import Connection, Escalation, Revision, Ticket
from tests.factories import make_connection, make_verdict

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

START = datetime(2026, 11, 23, 10, tzinfo=UTC)


def state(**changes: object) -> dict[str, Any]:
    return {"external_id": "INC-1", "subject": "VPN drops", "status": "closed", **changes}


def arrive(
    session: Session, connection: Connection, *states: dict[str, Any], minutes: int = 0, **how: bool
) -> list[Recorded]:
    """These states of tickets arrive together, `minutes` after the start."""
    arrival = Arrival(received_at=START + timedelta(minutes=minutes), **how)
    recorded = record_all(session, connection=connection, tickets=[read_ticket(raw) for raw in states], arrival=arrival)
    session.expire_all()
    return recorded


@pytest.fixture
def connection(session: Session) -> Connection:
    made = make_connection(session, name="desk")
    session.commit()
    return made


def the_ticket(session: Session, external_id: str = "INC-1") -> Ticket:
    return session.scalars(select(Ticket).where(Ticket.external_id == external_id)).one()


def jobs(session: Session) -> list[tuple[str, int]]:
    """What is to be done: task and revision."""
    rows = session.execute(
        text("select task_name, args ->> 'revision_id' from procrastinate.procrastinate_jobs order by id")
    )
    return [(task, int(revision_id)) for task, revision_id in rows]


def revisions(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(Revision)).one()


def test_a_finished_ticket_waits_for_its_review(session: Session, connection: Connection) -> None:
    (recorded,) = arrive(session, connection, state(queue="Network", assignee="Sam"))
    ticket = the_ticket(session)
    assert recorded == Recorded(ticket.id, ticket.revision_id or 0, new=True)
    assert (ticket.subject, ticket.queue, ticket.assignee, ticket.status) == ("VPN drops", "Network", "Sam", "closed")
    assert (ticket.review_state, ticket.outcome, ticket.escalated, ticket.sample) == (
        "waiting_model",
        None,
        False,
        False,
    )
    assert jobs(session) == [("review", recorded.revision_id)]


@pytest.mark.parametrize("status", ["open", "pending"])
def test_an_unfinished_ticket_is_triaged(session: Session, connection: Connection, status: str) -> None:
    (recorded,) = arrive(session, connection, state(status=status))
    assert the_ticket(session).review_state == "open"
    assert jobs(session) == [("triage", recorded.revision_id)]


def test_the_same_state_again_is_nothing_new(session: Session, connection: Connection) -> None:
    (first,) = arrive(session, connection, state())
    changed_at = the_ticket(session).changed_at
    (second,) = arrive(session, connection, state(updated_at="2026-11-23T12:00:00Z", url="https://x"), minutes=5)
    assert second == first._replace(new=False)
    assert revisions(session) == len(jobs(session)) == 1
    assert the_ticket(session).changed_at == changed_at


def test_resolved_then_closed_is_one_revision_and_the_row_says_closed(session: Session, connection: Connection) -> None:
    arrive(session, connection, state(status="resolved"))
    (again,) = arrive(session, connection, state(status="closed"), minutes=5)
    assert not again.new
    assert the_ticket(session).status == "closed"
    assert len(jobs(session)) == 1


def test_a_new_state_is_a_new_revision_with_a_job_of_its_own(session: Session, connection: Connection) -> None:
    (first,) = arrive(session, connection, state(status="open"))
    (second,) = arrive(session, connection, state(status="closed"), minutes=5)
    assert second.ticket_id == first.ticket_id
    assert the_ticket(session).revision_id == second.revision_id
    assert jobs(session) == [("triage", first.revision_id), ("review", second.revision_id)]


def test_an_older_state_that_arrives_late_is_kept_but_not_the_newest(session: Session, connection: Connection) -> None:
    (newer,) = arrive(session, connection, state(subject="new", updated_at="2026-11-23T09:30:00Z"))
    (older,) = arrive(session, connection, state(subject="old", updated_at="2026-11-23T09:00:00Z"), minutes=5)
    ticket = the_ticket(session)
    assert older.new
    assert (ticket.revision_id, ticket.subject) == (newer.revision_id, "new")
    assert revisions(session) == 2
    assert jobs(session) == [("review", newer.revision_id)]


def test_without_a_time_of_the_source_receipt_decides(session: Session, connection: Connection) -> None:
    """Two deliveries whose jobs ran in the wrong order."""
    (later,) = arrive(session, connection, state(subject="second"), minutes=2)
    arrive(session, connection, state(subject="first"), minutes=1)
    assert the_ticket(session).revision_id == later.revision_id


def test_two_states_of_one_second_are_ordered_by_receipt(session: Session, connection: Connection) -> None:
    moment = "2026-11-23T09:30:00Z"
    (later,) = arrive(session, connection, state(subject="second", updated_at=moment), minutes=2)
    arrive(session, connection, state(subject="first", updated_at=moment), minutes=1)
    assert the_ticket(session).revision_id == later.revision_id


def test_a_clock_that_is_years_ahead_does_not_freeze_the_ticket(session: Session, connection: Connection) -> None:
    arrive(session, connection, state(subject="from 2099", updated_at="2099-01-01T00:00:00Z"))
    (later,) = arrive(session, connection, state(subject="now", updated_at="2099-01-01T00:00:00Z"), minutes=1)
    (much,) = arrive(session, connection, state(subject="next day"), minutes=25 * 60)
    assert later.revision_id < much.revision_id
    assert the_ticket(session).revision_id == much.revision_id


def test_a_return_to_a_judged_state_brings_its_verdict_back_and_pays_nothing(
    session: Session, connection: Connection
) -> None:
    (first,) = arrive(session, connection, state())
    verdict = make_verdict(session, session.get_one(Revision, first.revision_id), outcome="escalate", score=50)
    (second,) = arrive(session, connection, state(status="open"), minutes=5)
    reopened = the_ticket(session)
    assert (reopened.verdict_id, reopened.outcome, reopened.score, reopened.escalated) == (None, None, None, False)
    assert reopened.review_state == "open"

    (third,) = arrive(session, connection, state(), minutes=10)
    assert third == first._replace(new=False)
    back = the_ticket(session)
    assert (back.revision_id, back.verdict_id, back.outcome) == (first.revision_id, verdict.id, "escalate")
    assert (back.score, back.escalated, back.review_state) == (Decimal(50), True, "done")
    assert jobs(session) == [("review", first.revision_id), ("triage", second.revision_id)]


def test_a_return_to_a_state_that_was_never_judged_is_reviewed(session: Session, connection: Connection) -> None:
    (newest,) = arrive(session, connection, state(subject="new", updated_at="2026-11-23T09:30:00Z"))
    (late,) = arrive(session, connection, state(subject="old", updated_at="2026-11-23T09:00:00Z"), minutes=1)
    arrive(session, connection, state(subject="old", updated_at="2026-11-23T09:45:00Z"), minutes=2)
    assert the_ticket(session).revision_id == late.revision_id
    assert jobs(session) == [("review", newest.revision_id), ("review", late.revision_id)]


def test_what_triage_handed_to_a_person_stays_with_a_person(session: Session, connection: Connection) -> None:
    """Triage looks at an intake once, so the next state of the ticket must not lose what it found."""
    (first,) = arrive(session, connection, state(status="open"))
    found = Escalation(
        ticket_id=first.ticket_id, revision_id=first.revision_id, rule="vip", agent="triage", evidence=[]
    )
    session.add(found)
    note = {"author_role": "agent", "body": "Looking at it."}
    arrive(session, connection, state(status="open", entries=[note]), minutes=5)
    assert the_ticket(session).escalated
    arrive(session, connection, state(status="open", subject="Another matter altogether"), minutes=6)
    assert not the_ticket(session).escalated


def test_secrets_are_masked_before_a_row_holds_them(session: Session, connection: Connection) -> None:
    note = {"author_role": "agent", "body": "The new password: Tr0ub4dor&3x"}
    (recorded,) = arrive(session, connection, state(entries=[note]))
    row = session.get_one(Revision, recorded.revision_id)
    assert "Tr0ub4dor" not in str(row.document)
    revision = documents.revision(row.document)
    assert [masked.kind for masked in revision.masked]
    assert revision.hash == row.content_hash
    assert row.document["version"] == 1


def test_a_ticket_without_entries_or_anything_else(session: Session, connection: Connection) -> None:
    arrive(session, connection, {"external_id": 7, "status": "closed"})
    assert the_ticket(session, "7").subject == ""


def test_a_ticket_of_200000_characters(session: Session, connection: Connection) -> None:
    """In the columns of the queue page stands the beginning; the revision keeps it all."""
    words = "word " * 40_000
    (recorded,) = arrive(session, connection, state(description=words, subject=words, assignee=words, queue=words))
    assert len(the_ticket(session).subject) == 500
    document = session.get_one(Revision, recorded.revision_id).document
    assert len(document["ticket"]["description"]) == len(document["ticket"]["subject"]) == 200_000


def test_the_source_is_the_connection_unless_the_ticket_names_one(session: Session, connection: Connection) -> None:
    (one, two) = arrive(session, connection, state(), state(external_id="2", source="legacy"))
    sources = [session.get_one(Revision, seen.revision_id).document["ticket"]["source"] for seen in (one, two)]
    assert sources == ["desk", "legacy"]


def test_what_a_connection_supplies_only_grows(session: Session, connection: Connection) -> None:
    arrive(session, connection, state(priority="high"))
    assert session.get_one(Connection, connection.id).supplied == ["priority"]
    arrive(session, connection, state(external_id="2", entries=[{"body": "x", "minutes": 5}]))
    arrive(session, connection, state(external_id="3"))
    assert session.get_one(Connection, connection.id).supplied == ["minutes", "priority"]


@pytest.mark.parametrize(
    ("closed_at", "live", "expected"),
    [
        ("2026-11-16T09:59:59Z", False, False),
        ("2026-11-16T10:00:01Z", False, True),
        (None, False, True),
        ("2020-01-01T00:00:00Z", True, True),
    ],
)
def test_history_is_what_was_closed_more_than_seven_days_ago(
    session: Session, connection: Connection, closed_at: str | None, *, live: bool, expected: bool
) -> None:
    (recorded,) = arrive(session, connection, state(closed_at=closed_at), live=live)
    assert session.get_one(Revision, recorded.revision_id).live is expected


def test_samples_are_marked(session: Session, connection: Connection) -> None:
    arrive(session, connection, state(), sample=True)
    assert the_ticket(session).sample


def test_several_states_of_one_ticket_in_one_delivery(session: Session, connection: Connection) -> None:
    """A batch of events: answers stand in the order given, and the last state is the newest."""
    recorded = arrive(
        session, connection, state(external_id="B"), state(external_id="A", status="open"),
        state(external_id="A", subject="closed now"), state(external_id="B"),
    )  # fmt: skip
    assert [seen.new for seen in recorded] == [True, True, True, False]
    assert the_ticket(session, "A").revision_id == recorded[2].revision_id
    assert the_ticket(session, "B").revision_id == recorded[0].revision_id == recorded[3].revision_id


def test_one_ticket_that_arrives_now(session: Session, connection: Connection) -> None:
    recorded = record(session, connection=connection, ticket=read_ticket(state()))
    row = session.get_one(Revision, recorded.revision_id)
    assert abs((row.recorded_at - session.scalars(select(func.now())).one()).total_seconds()) < 60


def test_one_id_of_two_connections_is_two_tickets(session: Session, connection: Connection) -> None:
    (first,) = arrive(session, connection, state())
    (second,) = arrive(session, make_connection(session, name="other"), state())
    assert first.ticket_id != second.ticket_id


def test_many_at_once_neither_double_nor_deadlock(engine: Engine, session: Session, connection: Connection) -> None:
    """Eight threads, each with all tickets in an order of its own, each round growing what the connection supplies."""
    ids = [f"INC-{number}" for number in range(6)]
    grows: list[dict[str, object]] = [{"priority": "high"}, {"category": "vpn"}, {"resolution": "Renewed."}, {}]
    together = threading.Barrier(8, timeout=20)

    def one(thread: int) -> int:
        new = 0
        for turn in range(4):
            mine = ids[thread % 6 :] + ids[: thread % 6]
            tickets = [
                read_ticket(state(external_id=external_id, description=f"state {turn}", **grows[(thread + at) % 4]))
                for at, external_id in enumerate(mine if thread % 2 else mine[::-1])
            ]
            together.wait()
            with transaction(engine) as own:
                row = own.get_one(Connection, connection.id)
                arrival = Arrival(received_at=START + timedelta(minutes=turn))
                new += sum(seen.new for seen in record_all(own, connection=row, tickets=tickets, arrival=arrival))
        return new

    with ThreadPoolExecutor(8) as pool:
        new = sum(pool.map(one, range(8)))
    assert session.scalars(select(func.count()).select_from(Ticket)).one() == 6
    assert revisions(session) == new
    session.expire_all()
    latest = [
        documents.revision(session.get_one(Revision, row.revision_id).document)
        for row in session.scalars(select(Ticket))
    ]
    assert {revision.ticket.description for revision in latest} == {"state 3"}
    assert session.get_one(Connection, connection.id).supplied == ["category", "priority", "resolution"]
    waiting = jobs(session)
    assert len(waiting) == len(set(waiting))
