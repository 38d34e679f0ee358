"""Blind checks: who is given what, that nothing of the machine shows before the answer, and what both said after it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select

from app import blind
from app.audit import Actor
from app.db import transaction
from app.labels import decide
from app.queries import labels as queries
from app.retention import REVISIONS, remove
from app.tables import AuditEvent, BlindCheck, Label, LabelFinding, Observation, Revision, Ticket, Viewing
from app.weighing import Decision
from tests.factories import (
    finding,
    make_escalation,
    make_revision,
    make_run,
    make_ticket,
    make_triage,
    make_verdict,
    office_ticket,
    shipped_context,
)
from tests.markup import Element, read
from tests.proposing import make_proposal

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.settings import Settings
    from app.tables import User, Verdict

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)


def _actor(user: User) -> Actor:
    return Actor(user.email, user.id)


def _finished(session: Session, *, outcome: str = "pass", **values: Any) -> tuple[Ticket, Verdict]:  # noqa: ANN401  a verdict's own
    ticket = make_ticket(session)
    return ticket, make_verdict(session, session.get_one(Revision, ticket.revision_id), outcome=outcome, **values)


def _give(session: Session, user: User, *, now: datetime = NOW) -> int | None:
    return blind.give(session, actor=_actor(user), user_id=user.id, now=now)


def _checks(session: Session, user: User) -> list[BlindCheck]:
    session.flush()
    return list(session.scalars(select(BlindCheck).where(BlindCheck.user_id == user.id).order_by(BlindCheck.id)))


def _answer(session: Session, user: User, check: BlindCheck, outcome: Any = "pass", **values: Any) -> int:  # noqa: ANN401  a decision's own
    decision = Decision(check.verdict_id, outcome, **values, blind=True)
    return blind.answer(session, actor=_actor(user), check_id=check.id, decision=decision, now=NOW)


def test_given_is_what_this_lead_has_not_seen_decided_or_been_given(
    session: Session, lead: User, other_lead: User
) -> None:
    seen, decided, other, free = (_finished(session) for _ in range(4))
    make_ticket(session, text=office_ticket(status="open"))
    make_ticket(session, review_state="waiting_model")
    gone, _ = _finished(session)
    gone.subject = "(removed)"
    session.add(Viewing(user_id=lead.id, revision_id=seen[0].revision_id))
    for user, (ticket, verdict) in ((lead, decided), (other_lead, other)):
        decide(session, actor=_actor(user), ticket_id=ticket.id, decision=Decision(verdict.id, "pass"), now=NOW)
    session.flush()
    assert queries.available(session, user_id=lead.id) == 2
    first = _give(session, lead)
    given = _checks(session, lead)
    assert {check.verdict_id for check in given} == {other[1].id, free[1].id}
    assert first == given[0].id
    assert (queries.available(session, user_id=lead.id), queries.progress(session, user_id=lead.id)) == (
        0, (2, 0, first),
    )  # fmt: skip
    assert queries.available(session, user_id=other_lead.id) == 3


def test_ten_at_a_time_by_chance_and_no_more_before_they_are_answered(session: Session, lead: User) -> None:
    for _ in range(24):
        _finished(session)
    first = _give(session, lead)
    assert _give(session, lead) == first
    checks = _checks(session, lead)
    revisions = [check.revision_id for check in checks]
    assert len(revisions) == 10
    assert sorted(revisions) != list(range(min(revisions), min(revisions) + 10)), "not simply the first ten"
    for number, check in enumerate(checks, 1):
        row = queries.check(session, user_id=lead.id, check_id=check.id)
        assert (row.number, row.of, row.next) == (number, 10, check.id)
        _answer(session, lead, check)
        session.flush()
    assert queries.progress(session, user_id=lead.id) == (10, 10, None)
    later = NOW + timedelta(hours=1)
    assert _give(session, lead, now=later) not in {None, first}
    assert {check.revision_id for check in _checks(session, lead)[10:]}.isdisjoint(revisions)
    assert queries.progress(session, user_id=lead.id).answered == 0
    events = session.scalars(select(AuditEvent.action).where(AuditEvent.action.like("blind_check%"))).all()
    assert events == ["blind_check.begun"] * 2


def test_the_button_pressed_twice_at_once_gives_one_batch(engine: Engine, session: Session, lead: User) -> None:
    for _ in range(25):
        _finished(session)
    session.commit()

    def press(_: int) -> int | None:
        with transaction(engine) as own:
            return _give(own, lead)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(press, range(2))
    assert first == second
    assert len(_checks(session, lead)) == 10


def test_answered_twice_the_first_answer_counts(engine: Engine, session: Session, lead: User) -> None:
    _finished(session, outcome="fail", findings=[finding("root_cause", "not_met")])
    _give(session, lead)
    (check,) = _checks(session, lead)
    session.commit()

    def press(outcome: str) -> int:
        with transaction(engine) as own:
            return _answer(own, lead, check, outcome)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(press, ("pass", "cannot_tell"))
    assert first == second
    assert len(session.scalars(select(Label)).all()) == 1
    assert len(session.scalars(select(LabelFinding)).all()) == 0


def _page(pages: TestClient, address: str) -> Element:
    answer = pages.get(address)
    assert answer.status_code == 200, answer.text
    return read(answer.text)


SECRETS = ("ZEBRA", "QUAGGA", "OKAPI", "71.25", "claude-haiku", "claude-zonkey", "GIRAFFE", "IBEX", "escalat", "tone-")


def test_nothing_of_the_machine_is_on_the_page_before_the_answer(
    pages: TestClient, session: Session, lead: User
) -> None:
    ticket = make_ticket(session)
    revision = session.get_one(Revision, ticket.revision_id)
    found = [
        finding("root_cause", "not_met", quoted=(9, 4, "client certificate"), reason="ZEBRA says no."),
        finding("work_performed", "unscored", reason="QUAGGA"),
    ]
    verdict = make_verdict(
        session, revision, outcome="escalate", score=71.25, reasons=["OKAPI decided"], findings=found
    )
    make_run(session, revision=revision, answered_by="claude-zonkey", reply="GIRAFFE")
    make_triage(session, revision, model="claude-zonkey")
    make_escalation(session, revision, rule="legal_threat", evidence=[{"line": 9, "quote": "IBEX", "spans": []}])
    pins = {"revision_id": revision.id, "context_version": verdict.context_version}
    row = {"observer": "qc", "agent": "triage", "code": "wrong_category", "subject": "IBEX", "evidence": []}
    session.add(Observation(**row, **pins))
    session.commit()
    assert pages.post("/audit").status_code == 303
    (check,) = _checks(session, lead)
    session.commit()
    full = pages.get(f"/tickets/{ticket.id}?revision=0")
    assert full.status_code == 404
    answer = pages.get(f"/audit/{check.id}")
    text = answer.text[answer.text.index("<main") : answer.text.index("</main>")]
    assert [word for word in SECRETS if word.lower() in text.lower()] == []
    page = read(answer.text)
    main = page.one("main")
    assert main.all("mark") == main.all("ul", cls="cites") == main.all("li", cls="finding") == []
    assert not [link for link in main.all("a") if link.attributes["href"].startswith(("/tickets", "/context"))]
    assert "The client certificate of LT-204 expired on Sunday." in main.words
    assert [option.attributes["value"] for option in main.all("input", type="radio")] == ["pass", "fail", "cannot_tell"]
    assert [one for one in main.all("input", type="radio") if "checked" in one.attributes] == []
    assert all(select_.all("option", selected="") == [] for select_ in main.all("select"))
    assert [one.words for one in main.all("label") if "for" in one.attributes] == [
        criterion.title for criterion in shipped_context().rubric.judged
    ]
    assert session.scalars(select(Viewing)).all() == []


def test_after_the_answer_both_stand_side_by_side(pages: TestClient, session: Session) -> None:
    found = [finding("root_cause", "not_met", reason="None."), finding("work_performed", "met")]
    ticket, _ = _finished(session, outcome="fail", score=71, reasons=["Root cause: not met"], findings=found)
    session.commit()
    address = pages.post("/audit").headers["location"]
    missing = pages.post(address, data={"finding.root_cause": "met", "note": "Line 9."})
    assert missing.status_code == 422
    page = read(missing.text)
    assert page.one("p", id="error-outcome").words == "Say pass, fail or cannot tell."
    assert page.one("textarea").text.strip() == "Line 9."
    assert page.one("select", id="a-root_cause").one("option", selected="").words == "Met"
    assert pages.post(address, data={"outcome": "great"}).status_code == 422
    assert pages.post(address, data={"outcome": "pass", "note": "x" * 2_001}).status_code == 422
    assert session.scalars(select(Label)).all() == []
    form = {"outcome": "pass", "finding.root_cause": "met", "finding.work_performed": "met", "note": "Line 9."}
    for _ in range(2):
        assert pages.post(address, data=form).headers["location"] == address
    page = _page(pages, address)
    assert page.one("p", cls="lead").words == "You and the machine disagree on the verdict."
    rows = [[cell.words for cell in row.children if isinstance(cell, Element)] for row in page.one("tbody").all("tr")]
    assert rows == [
        ["The ticket", "Pass", "Fail 71 Root cause: not met."],
        ["Root cause", "Met", "Not met differs"],
        ["Work performed", "Met", "Met"],
    ]
    assert "Line 9." in page.words
    (label,) = session.scalars(select(Label))
    assert (label.blind, label.kind, label.outcome, label.score) == (True, "decide", "pass", None)
    observed = session.execute(select(Observation.subject, Observation.direction, Observation.label_id)).all()
    assert [tuple(row) for row in observed] == [("root_cause", "false_fail", label.id)]
    assert session.scalars(select(Viewing.revision_id)).all() == [ticket.revision_id]
    assert "blind" in _page(pages, f"/tickets/{ticket.id}").one("div", cls="said").words


def test_a_ticket_opened_meanwhile_is_answered_but_not_blind(pages: TestClient, session: Session) -> None:
    ticket, _ = _finished(session)
    session.commit()
    address = pages.post("/audit").headers["location"]
    _page(pages, f"/tickets/{ticket.id}")
    assert pages.post(address, data={"outcome": "pass"}).status_code == 303
    assert "not counted as blind" in _page(pages, address).one("p", cls="lead").words
    assert queries.agreement(session) == ()


def test_the_queue_does_not_tell_what_is_still_to_be_checked_blind(
    pages: TestClient, other_lead_pages: TestClient, session: Session
) -> None:
    ticket, _ = _finished(session, outcome="fail", score=58)
    session.commit()
    address = pages.post("/audit").headers["location"]
    for listed in ("/", "/?verdict=fail", "/?verdict=all", f"/?q={ticket.external_id}"):
        page = _page(pages, listed).one("section", id="queue")
        assert not page.all("a", href=f"/tickets/{ticket.id}")
        assert "1 of your blind checks is open" in page.words
        assert [tab.words for tab in page.all("a") if tab.words.startswith("Fail")] in (["Fail"], ["Fail 0"])
        assert _page(other_lead_pages, listed).all("a", href=f"/tickets/{ticket.id}")
    pages.post(address, data={"outcome": "cannot_tell"})
    page = _page(pages, "/?verdict=all").one("section", id="queue")
    assert page.all("a", href=f"/tickets/{ticket.id}")
    assert "blind check" not in page.words


def test_whatever_page_tells_what_the_machine_said_ends_the_blindness(
    pages: TestClient, session: Session, settings: Settings, lead: User
) -> None:
    """The states of a ticket beside the one that is looked at, the tickets of a pattern, and those of a trial."""
    beside, _ = _finished(session, outcome="fail")
    judged = beside.revision_id
    other = make_revision(session, beside, text=office_ticket(external_id=beside.external_id, status="open"))
    proposal = make_proposal(session, settings)
    session.commit()
    seen = select(Observation.revision_id).distinct()
    patterned = set(session.scalars(seen))
    viewed = select(Viewing.revision_id).where(Viewing.user_id == lead.id)
    _page(pages, f"/tickets/{beside.id}?revision={other.id}")
    assert set(session.scalars(viewed)) == {judged}
    _page(pages, f"/proposals/{proposal.id}")
    assert set(session.scalars(viewed)) == {judged, *patterned}
    session.execute(delete(Viewing))
    session.commit()
    _page(pages, f"/patterns/{proposal.pattern_id}")
    assert set(session.scalars(viewed)) == patterned


def test_another_lead_s_check_is_not_there(
    pages: TestClient, other_lead_pages: TestClient, viewer_pages: TestClient, session: Session
) -> None:
    _finished(session)
    session.commit()
    address = pages.post("/audit").headers["location"]
    form = {"outcome": "pass"}
    assert other_lead_pages.get(address).status_code == 404
    assert other_lead_pages.post(address, data=form).status_code == 404
    assert pages.get(f"/audit/{10**17}").status_code == pages.post(f"/audit/{10**17}", data=form).status_code == 404
    assert pages.get(f"/audit/{2**63}").status_code == 404
    for path in ("/audit", address):
        assert viewer_pages.get(path).status_code == viewer_pages.post(path, data=form).status_code == 403
    session.rollback()
    assert session.scalars(select(Label)).all() == []


def test_the_page_says_how_far_one_is_and_what_is_left(pages: TestClient, session: Session, lead: User) -> None:
    page = _page(pages, "/audit")
    assert page.one("div", cls="empty").one("h2").words == "Nothing is left to check"
    assert "No ticket has been judged blind yet." in page.words
    assert pages.post("/audit").headers["location"] == "/audit"
    for _ in range(3):
        _finished(session)
    session.commit()
    page = _page(pages, "/audit")
    assert page.one("button", cls="primary").words == "Review 3 unseen"
    assert "3 and not 10: the other finished tickets you have opened, decided or checked already." in page.words
    first = pages.post("/audit").headers["location"]
    assert "1 of 3" in _page(pages, first).words
    pages.post(first, data={"outcome": "pass"})
    onward = _page(pages, first).one("a", cls="primary")
    assert onward.words == "Next ticket"
    assert "2 of 3" in _page(pages, onward.attributes["href"]).words
    page = _page(pages, "/audit")
    assert page.one("a", cls="primary").words == "Go on: 1 of 3 done"
    assert len(page.one("table", cls="checks").one("tbody").all("tr")) == 1
    assert len(_checks(session, lead)) == 3


def test_agreement_counts_blind_labels_only_and_apart_what_is_no_error(
    pages: TestClient, session: Session, lead: User, other_lead: User
) -> None:
    said = [("pass", "pass")] * 8 + [("fail", "pass")] * 2 + [("pass", "cannot_tell"), ("escalate", "pass")]
    for machine, person in said:
        ticket, verdict = _finished(session, outcome=machine)
        told = Decision(verdict.id, person, blind=True)  # type: ignore[arg-type]
        decide(session, actor=_actor(lead), ticket_id=ticket.id, decision=told, now=NOW)
    ticket, verdict = _finished(session)
    decide(session, actor=_actor(other_lead), ticket_id=ticket.id, decision=Decision(verdict.id, "pass"), now=NOW)
    ticket, verdict = _finished(session, panel="tiny", demonstration=True)
    decision = Decision(verdict.id, "fail", blind=True)
    decide(session, actor=_actor(lead), ticket_id=ticket.id, decision=decision, now=NOW)
    session.commit()
    rows = _page(pages, "/audit").one("table", cls="figures").one("tbody").all("tr")
    assert [[cell.words for cell in row.all("td")] for row in rows] == [
        ["claude-haiku-5-5", "10", "8", "80 %", "49 % to 94 %", "1", "1"],
        ["tiny demonstration", "1", "0", "too few to say", "0", "0"],
    ]


def test_a_text_that_retention_took_is_not_given_and_one_given_before_says_so(
    engine: Engine, pages: TestClient, session: Session
) -> None:
    _finished(session)
    session.commit()
    address = pages.post("/audit").headers["location"]
    for revision in session.scalars(select(Revision)):
        revision.recorded_at = NOW - REVISIONS - timedelta(days=1)
    _finished(session)
    session.commit()
    remove(engine, moment=NOW, deliveries=timedelta(days=30))
    assert "The text of this revision was removed" in _page(pages, address).words


@pytest.mark.parametrize("bad", ["finding.gone", "finding.root_cause"])
def test_an_answer_to_what_was_not_asked_is_refused(pages: TestClient, session: Session, bad: str) -> None:
    _finished(session)
    session.commit()
    address = pages.post("/audit").headers["location"]
    answer = pages.post(address, data={"outcome": "pass", bad: "unscored"})
    assert answer.status_code == 422
    assert "an answer that is not in the list" in read(answer.text).one("p", id="error-findings").words
