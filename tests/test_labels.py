"""Labels in the database: what is appended, what stands, what is stale, and two who decide at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from app.audit import Actor
from app.db import transaction
from app.errors import Conflict, DecisionRefused, NotFound
from app.intake.recording import record
from app.labels import decide, problem, see, split_of
from app.queries.labels import history
from app.tables import AuditEvent, Finding, Label, LabelFinding, Observation, Pattern, Revision, Ticket, Verdict
from app.weighing import Decision
from tests.factories import (
    finding,
    make_connection,
    make_revision,
    make_ticket,
    make_user,
    make_verdict,
    office_ticket,
    shipped_context,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.tables import User

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
WHY: dict[str, Any] = {"reason": "evidence_missed", "note": "It is in line 9."}
FINDINGS = [
    finding("work_performed", "met", quoted=(10, 0, "Renewed it")),
    finding("root_cause", "not_met", quoted=(9, 4, "client")),
    finding("resolution_confirmed", "partly", quoted=(12, 0, "Works now")),
    finding("secrets_in_ticket", "met", kind="checked"),
]


def _actor(user: User) -> Actor:
    return Actor(user.email, user.id)


def _judged(session: Session, outcome: str = "fail", **values: Any) -> tuple[Ticket, Verdict]:  # noqa: ANN401  a verdict's own
    ticket = make_ticket(session, **values.pop("ticket", {}))
    revision = session.get_one(Revision, ticket.revision_id)
    verdict = make_verdict(session, revision, outcome=outcome, score=65, findings=FINDINGS, **values)
    session.commit()
    return ticket, verdict


def _decide(
    session: Session,
    user: User,
    ticket: Ticket,
    verdict: Verdict,
    outcome: Any = None,  # noqa: ANN401  a decision's own
    **values: Any,  # noqa: ANN401  a decision's own
) -> Label:
    decision = Decision(verdict.id, outcome, **values)
    label_id = decide(session, actor=_actor(user), ticket_id=ticket.id, decision=decision, now=NOW)
    session.flush()
    return session.get_one(Label, label_id)


def _observed(session: Session) -> list[tuple[str, str, int | None]]:
    rows = session.scalars(select(Observation).order_by(Observation.id))
    return [(row.subject, row.direction, row.label_id) for row in rows]


def test_a_decision_appends_a_label_and_leaves_the_machine_s_rows(session: Session, lead: User) -> None:
    ticket, verdict = _judged(session, ticket={"claimed_by": lead.id, "claimed_at": NOW})
    before = [vars(row).copy() for row in session.scalars(select(Finding))]
    label = _decide(
        session, lead, ticket, verdict, findings={"root_cause": "met", "resolution_confirmed": "met"}, **WHY
    )
    assert (label.kind, label.outcome, label.score, label.blind) == ("overrule", "pass", Decimal(100), False)
    assert (label.revision_id, label.verdict_id, label.context_version) == (
        ticket.revision_id, verdict.id, verdict.context_version,
    )  # fmt: skip
    assert (label.reason, label.note, label.user_id, label.recorded_at) == (*WHY.values(), lead.id, NOW)
    answers = session.scalars(select(LabelFinding).order_by(LabelFinding.criterion)).all()
    rubric = shipped_context().rubric
    assert [(row.criterion, row.result, row.text_hash) for row in answers] == [
        (name, "met", rubric[name].text_hash) for name in ("resolution_confirmed", "root_cause")
    ]
    session.expire_all()
    assert (ticket.decision, ticket.label_id, ticket.urgency, ticket.claimed_by) == ("pass", label.id, 0, None)
    assert (ticket.outcome, verdict.outcome, verdict.score) == ("fail", "fail", Decimal(65))
    now = session.scalars(select(Finding)).all()
    assert [(row.result, row.reason) for row in now] == [(row["result"], row["reason"]) for row in before]
    assert _observed(session) == [
        ("root_cause", "false_fail", label.id),
        ("resolution_confirmed", "false_fail", label.id),
    ]
    (event,) = session.scalars(select(AuditEvent))
    assert (event.user_id, event.actor, event.action, event.subject) == (
        lead.id, lead.email, "ticket.decided", f"ticket:{ticket.id}",
    )  # fmt: skip
    assert event.before == {"label": None, "decision": None}
    assert event.after is not None
    assert (event.after["verdict"], event.after["label"], event.after["decision"]) == ("fail", label.id, "pass")
    assert event.note == WHY["note"]


def test_what_code_alone_judged_is_no_failure_of_an_agent(session: Session, lead: User) -> None:
    ticket, verdict = _judged(session, panel="none")
    assert _decide(session, lead, ticket, verdict, "pass", **WHY).kind == "overrule"
    assert _observed(session) == []


def test_a_later_decision_supersedes_and_the_earlier_one_is_still_told(
    session: Session, lead: User, other_lead: User
) -> None:
    ticket, verdict = _judged(session)
    first = _decide(session, lead, ticket, verdict, "fail")
    second = _decide(session, other_lead, ticket, verdict, "pass", standing_label_id=first.id, **WHY)
    assert (first.kind, second.kind) == ("confirm", "overrule")
    newest, earlier = history(session, ticket.id)
    assert (newest.id, newest.standing, newest.name, newest.machine) == (second.id, True, other_lead.name, "fail")
    assert (earlier.id, earlier.standing) == (first.id, False)
    session.expire_all()
    assert (ticket.decision, ticket.label_id) == ("pass", second.id)
    assert _observed(session) == [("verdict", "false_fail", second.id)]


def test_the_same_form_sent_twice_makes_one_label(session: Session, lead: User, other_lead: User) -> None:
    ticket, verdict = _judged(session)
    values = {"findings": {"root_cause": "met"}, **WHY}
    first = _decide(session, lead, ticket, verdict, "pass", **values)
    assert _decide(session, lead, ticket, verdict, "pass", **values).id == first.id
    for user, changed in (
        (other_lead, values),
        (lead, {**values, "note": "Something else."}),
        (lead, {**values, "findings": {}}),
    ):
        with pytest.raises(Conflict, match=f"{lead.name} has decided this ticket meanwhile"):
            _decide(session, user, ticket, verdict, "pass", **changed)
    assert len(session.scalars(select(Label)).all()) == len(_observed(session)) == 1


def test_what_is_stale_or_not_there_changes_nothing(session: Session, lead: User) -> None:
    ticket, verdict = _judged(session)
    other, others = _judged(session)
    newer = make_verdict(session, session.get_one(Revision, ticket.revision_id), engine_version=2)
    for told in (verdict, others, Verdict(id=10**17)):
        with pytest.raises(Conflict, match="nothing was saved"):
            _decide(session, lead, ticket, told, "fail")
    with pytest.raises(Conflict, match="nothing was saved"):
        _decide(session, lead, ticket, newer, "pass", standing_label_id=1)
    with pytest.raises(DecisionRefused):
        _decide(session, lead, other, others, "pass")
    with pytest.raises(NotFound):
        decide(session, actor=_actor(lead), ticket_id=10**17, decision=Decision(1, "pass"), now=NOW)
    stale = problem(session, actor=_actor(lead), ticket_id=ticket.id, decision=Decision(verdict.id, "pass"))
    assert stale is not None
    assert stale.stale
    assert session.scalars(select(Label)).all() == []
    assert session.scalars(select(AuditEvent)).all() == []
    assert _observed(session) == []


def test_of_two_who_decide_at_once_one_is_told_and_may_decide_again(
    engine: Engine, session: Session, lead: User, other_lead: User
) -> None:
    ticket, verdict = _judged(session)

    def attempt(user: User) -> int | str:
        try:
            with transaction(engine) as own:
                decision = Decision(verdict.id, "fail")
                return decide(own, actor=_actor(user), ticket_id=ticket.id, decision=decision, now=NOW)
        except Conflict as conflict:
            return str(conflict)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(attempt, (lead, other_lead)))
    (first,) = [one for one in results if isinstance(one, int)]
    (told,) = [one for one in results if isinstance(one, str)]
    assert "has decided this ticket meanwhile (fail), and nothing was saved" in told
    late = other_lead if results[0] == first else lead
    second = _decide(session, late, ticket, verdict, "pass", standing_label_id=first, **WHY)
    assert [row.id for row in history(session, ticket.id)] == [second.id, first]


def test_history_that_was_imported_makes_labels_and_no_observations(session: Session, lead: User) -> None:
    ticket, verdict = _judged(session)
    session.get_one(Revision, ticket.revision_id).live = False
    session.flush()
    assert _decide(session, lead, ticket, verdict, "pass", **WHY).outcome == "pass"
    assert _observed(session) == []


def test_a_verdict_without_a_model_can_be_decided_while_the_ticket_waits(session: Session, lead: User) -> None:
    ticket, verdict = _judged(session, "escalate", panel="none")
    ticket.review_state, ticket.review_note = "waiting_model", "waiting for the model"
    session.flush()
    assert _decide(session, lead, ticket, verdict, "fail").kind == "decide"
    session.expire_all()
    assert ticket.urgency == 0
    assert _observed(session) == []


def test_a_newer_state_has_nobody_s_decision_and_one_that_returns_has_its_own(session: Session, lead: User) -> None:
    connection = make_connection(session)
    closed = office_ticket(external_id="X", updated_at="2026-11-20T10:00:00Z")
    first = record(session, connection=connection, ticket=closed)
    verdict = make_verdict(session, session.get_one(Revision, first.revision_id), outcome="fail", findings=FINDINGS)
    ticket = session.get_one(Ticket, first.ticket_id)
    label = _decide(session, lead, ticket, verdict, "fail")
    ticket.claimed_by, ticket.claimed_at = lead.id, NOW
    session.flush()
    changed = office_ticket(external_id="X", subject="Again", updated_at="2026-11-20T11:00:00Z")
    record(session, connection=connection, ticket=changed)
    session.expire_all()
    assert (ticket.label_id, ticket.decision, ticket.claimed_by) == (None, None, lead.id)
    back = office_ticket(external_id="X", updated_at="2026-11-20T12:00:00Z")
    assert record(session, connection=connection, ticket=back).revision_id == first.revision_id
    session.expire_all()
    assert (ticket.label_id, ticket.decision, ticket.claimed_by, ticket.urgency) == (label.id, "fail", lead.id, 0)


def test_blind_is_only_what_was_said_before_the_machine_s_word_was_seen(
    session: Session, lead: User, other_lead: User
) -> None:
    ticket, verdict = _judged(session)
    for _ in range(2):
        see(session, user_id=other_lead.id, revision_ids=[verdict.revision_id])
    blind = _decide(session, lead, ticket, verdict, "pass", findings={"root_cause": "met"}, blind=True)
    assert (blind.blind, blind.kind, blind.score, blind.reason) == (True, "decide", None, "")
    assert _observed(session) == [("root_cause", "false_fail", blind.id)]
    seen = _decide(session, other_lead, ticket, verdict, "pass", blind=True)
    assert (seen.blind, seen.kind) == (False, "overrule")
    session.expire_all()
    assert ticket.label_id == seen.id


def test_a_blind_answer_about_an_earlier_state_does_not_decide_the_newest(session: Session, lead: User) -> None:
    ticket, verdict = _judged(session)
    make_revision(session, ticket, text=office_ticket(external_id=ticket.external_id, subject="Again"))
    label = _decide(session, lead, ticket, verdict, "pass", blind=True)
    session.expire_all()
    assert (label.revision_id, ticket.label_id, ticket.decision) == (verdict.revision_id, None, None)


def test_all_tickets_of_a_requester_are_in_one_split_for_good() -> None:
    names = [f"Requester {number}" for number in range(2_000)]
    splits = [split_of(1, requester=name, external_id="A") for name in names]
    assert splits == [split_of(1, requester=f" {name.upper()} ", external_id="B") for name in names]
    shares = {split: splits.count(split) / 2_000 for split in ("dev", "gate", "sealed")}
    assert shares == pytest.approx({"dev": 0.5, "gate": 0.3, "sealed": 0.2}, abs=0.04)
    assert splits[:8] == ["dev", "sealed", "dev", "dev", "sealed", "sealed", "gate", "dev"]
    assert {split_of(1, requester=" ", external_id=f"T{number}") for number in range(50)} == {"dev", "gate", "sealed"}
    assert splits != [split_of(2, requester=name, external_id="A") for name in names]


def test_a_user_whose_account_is_closed_stays_named(session: Session) -> None:
    gone = make_user(session, name="Kim Ode", closed_at=NOW + timedelta(days=1))
    ticket, verdict = _judged(session)
    _decide(session, gone, ticket, verdict, "fail")
    (row,) = history(session, ticket.id)
    assert row.name == "Kim Ode"


def test_three_tickets_overruled_alike_are_a_pattern_until_one_decision_is_taken_back(
    session: Session, lead: User
) -> None:
    judged = [_judged(session) for _ in range(3)]
    for ticket, verdict in judged[:2]:
        _decide(session, lead, ticket, verdict, "pass", **WHY)
    first = session.get_one(Ticket, judged[0][0].id)
    session.refresh(first)
    _decide(session, lead, first, judged[0][1], "fail", standing_label_id=first.label_id)
    _decide(session, lead, *judged[2], "pass", **WHY)
    assert session.scalars(select(Pattern)).all() == [], "only two stand"
    session.refresh(first)
    _decide(session, lead, first, judged[0][1], "pass", standing_label_id=first.label_id, **WHY)
    (pattern,) = session.scalars(select(Pattern))
    assert (pattern.agent, pattern.code, pattern.subject, pattern.direction) == (
        "qc", "overruled", "verdict", "false_fail",
    )  # fmt: skip
