"""Deciding and claiming in the browser: the forms, their bad inputs, what they show afterwards, and who may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, update

from app.clock import now
from app.tables import AuditEvent, Label, Revision, Ticket, Viewing
from tests.factories import (
    finding,
    make_context,
    make_escalation,
    make_revision,
    make_ticket,
    make_user,
    make_verdict,
    office_ticket,
)
from tests.markup import Element, read

if TYPE_CHECKING:
    from httpx2 import Response
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.tables import User, Verdict

FINDINGS = [
    finding("work_performed", "met"),
    finding("root_cause", "not_met", quoted=(9, 4, "client")),
    finding("secrets_in_ticket", "met", kind="checked"),
]
WHY = {"reason": "evidence_missed", "note": "Line 9 says it."}


def _judged(session: Session, outcome: str = "fail", **values: Any) -> tuple[Ticket, Verdict]:  # noqa: ANN401  a verdict's own
    ticket = make_ticket(session)
    revision = session.get_one(Revision, ticket.revision_id)
    verdict = make_verdict(session, revision, outcome=outcome, score=71, findings=FINDINGS, **values)
    session.commit()
    return ticket, verdict


def _page(pages: TestClient, ticket: Ticket, query: str = "") -> Element:
    answer = pages.get(f"/tickets/{ticket.id}{query}")
    assert answer.status_code == 200, answer.text
    return read(answer.text)


def _card(pages: TestClient, ticket: Ticket, query: str = "") -> Element:
    return _page(pages, ticket, query).one("section", id="decision")


def _sent(form: Element, **changed: str) -> dict[str, str]:
    """What a browser sends of a form that it was shown, some of it filled in."""
    inputs = {one.attributes["name"]: one.attributes["value"] for one in form.all("input")}
    chosen = {one.attributes["name"]: _chosen(one) for one in form.all("select")}
    return {**inputs, **chosen, **{one.attributes["name"]: one.text for one in form.all("textarea")}, **changed}


def _chosen(select_: Element) -> str:
    options = select_.all("option", selected="") or select_.all("option")
    return options[0].attributes["value"]


def _overrule(pages: TestClient, ticket: Ticket, **changed: str) -> Response:
    form = _card(pages, ticket).one("form", cls="decide")
    return pages.post(form.attributes["action"], data=_sent(form, **changed))


def _labels(session: Session) -> list[Label]:
    session.rollback()
    return list(session.scalars(select(Label).order_by(Label.id)))


def test_a_lead_confirms_with_one_button(pages: TestClient, session: Session, lead: User) -> None:
    ticket, _ = _judged(session)
    card = _card(pages, ticket)
    button = card.one("button", cls="primary")
    assert (button.words, "data-confirm" in button.attributes) == ("Confirm fail", True)
    form = next(one for one in card.all("form") if one.all("button", cls="primary"))
    answer = pages.post(form.attributes["action"], data=_sent(form))
    assert (answer.status_code, answer.headers["location"]) == (303, f"/tickets/{ticket.id}#decision")
    assert pages.post(form.attributes["action"], data=_sent(form)).status_code == 303  # pressed twice
    (label,) = _labels(session)
    assert (label.kind, label.outcome, label.user_id) == ("confirm", "fail", lead.id)
    said = _card(pages, ticket).one("div", cls="said")
    assert said.words == f"Fail score 71 by the findings {lead.name} confirmed the verdict, just now."
    assert _card(pages, ticket).all("button", cls="primary") == []
    assert pages.get("/").text.count("Nothing needs a decision") == 1
    assert f"confirmed by {lead.name}" in read(pages.get("/?verdict=decided").text).one("table").words


def test_a_lead_overrules_findings_and_the_page_tells_the_story(
    pages: TestClient, other_lead_pages: TestClient, session: Session, lead: User, other_lead: User
) -> None:
    ticket, _ = _judged(session)
    form = _card(pages, ticket).one("form", cls="decide")
    assert [one.words for one in form.all("label") if "for" in one.attributes] == [
        "Root cause", "Work performed", "No secrets in the ticket",
    ]  # fmt: skip
    answer = _overrule(pages, ticket, **{"finding.root_cause": "met"}, **WHY)
    assert answer.status_code == 303, answer.text
    said = _card(pages, ticket).one("div", cls="said").words
    assert said.startswith(
        f"Pass score 100 by the findings {lead.name} overruled the verdict, just now. "
        "Evidence was missed: Line 9 says it."
    )
    assert said.endswith("Root cause: met, judged not met")
    assert "Fail" in _page(pages, ticket).one("section", id="verdict").words, "the machine's stays"
    assert _overrule(other_lead_pages, ticket, outcome="fail").status_code == 303
    card = _card(pages, ticket)
    assert card.one("summary", cls="small").words == "1 earlier decision"
    newest, earlier = (one.words for one in card.all("div", cls="said"))
    assert newest.startswith(f"Fail score 71 by the findings {other_lead.name} confirmed")
    assert earlier.startswith(f"Pass score 100 by the findings superseded {lead.name} overruled")
    assert len(_labels(session)) == 2
    assert "What went wrong" not in _page(pages, ticket).words, "the finding that was overruled stands again"


def test_what_a_lead_overruled_is_told_of_the_agent(pages: TestClient, session: Session) -> None:
    ticket, _ = _judged(session)
    _overrule(pages, ticket, **{"finding.root_cause": "met"}, **WHY)
    make_revision(session, ticket, text=office_ticket(external_id=ticket.external_id, subject="Again"))
    session.commit()
    page = _page(pages, ticket, f"?revision={_labels(session)[0].revision_id}")
    assert "Quality control was overruled by a person: too strict (Root cause) seen by a lead, just now" in page.words
    assert "decided: pass" in page.one("nav", cls="history").words


def test_an_escalated_ticket_is_decided_without_a_reason(pages: TestClient, session: Session) -> None:
    ticket, _ = _judged(session, "escalate")
    card = _card(pages, ticket)
    assert card.all("button", cls="primary") == []
    quick = card.one("form", cls="actions")
    assert [button.words for button in quick.all("button", name="outcome")] == ["Pass", "Fail", "Cannot tell"]
    answer = pages.post(quick.attributes["action"], data=_sent(quick, outcome="pass"))
    assert answer.status_code == 303
    assert _overrule(pages, ticket, outcome="cannot_tell").status_code == 303
    assert "Cannot tell" in _card(pages, ticket).words
    row = read(pages.get("/?verdict=decided").text).one("table").one("tbody")
    assert row.all("td")[0].words == "Cannot tell"


BAD: list[tuple[dict[str, str], str, str]] = [
    ({"outcome": "pass"}, "reason", "Choose why the machine is overruled"),
    ({"outcome": "pass", "reason": "other"}, "note", "Say in a few words what was wrong"),
    ({"outcome": "pass", "reason": "whim", "note": "x"}, "reason", "This is not one of the reasons"),
    ({"outcome": "pass", **WHY, "note": "x" * 2_001}, "note", "2,001 characters; 2,000 is the most"),
    ({"outcome": "pass", **WHY, "note": "a\0b"}, "note", "a character that cannot be stored"),
    ({**WHY, "finding.root_cause": "great"}, "findings", "an answer that is not in the list"),
    ({**WHY, "finding.nothing": "met"}, "findings", "an answer that is not in the list"),
]


@pytest.mark.parametrize(("changed", "field", "words"), BAD, ids=[words for *_, words in BAD])
def test_what_is_wrong_is_said_beside_its_field_and_nothing_typed_is_lost(
    pages: TestClient, session: Session, changed: dict[str, str], field: str, words: str
) -> None:
    ticket, _ = _judged(session)
    answer = _overrule(pages, ticket, **changed)
    assert answer.status_code == 422
    card = read(answer.text).one("section", id="decision")
    assert words in card.one("p", id=f"error-{field}").words
    form = card.one("form", cls="decide")
    assert "open" in card.one("details", id="overrule").attributes
    assert form.one("textarea").text.strip() == changed.get("note", "").replace("\0", "")
    assert _chosen(form.one("select", name="outcome")) == changed.get("outcome", "findings")
    assert _labels(session) == []


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"verdict": "x", "standing": "", "outcome": "fail"},
        {"verdict": "1", "outcome": "fail"},
        {"verdict": "1", "standing": "1" * 30, "outcome": "fail"},
        {"verdict": "1", "standing": ""},
        {"verdict": "1", "standing": "", "outcome": "great"},
    ],
)
def test_a_form_that_is_not_whole_is_refused(pages: TestClient, session: Session, form: dict[str, str]) -> None:
    ticket, _ = _judged(session)
    answer = pages.post(f"/tickets/{ticket.id}/decision", data=form)
    assert answer.status_code == 422
    assert "nothing was saved" in read(answer.text).one("div", cls="empty").words
    assert _labels(session) == []


def test_a_stale_form_is_told_what_changed_and_keeps_what_was_typed(
    pages: TestClient, session: Session, other_lead: User, other_lead_pages: TestClient
) -> None:
    ticket, _ = _judged(session)
    form = _card(pages, ticket).one("form", cls="decide")
    sent = _sent(form, outcome="pass", **WHY)
    assert _overrule(other_lead_pages, ticket, outcome="fail").status_code == 303
    answer = pages.post(form.attributes["action"], data=sent)
    assert answer.status_code == 409
    card = read(answer.text).one("section", id="decision")
    assert f"{other_lead.name} has decided this ticket meanwhile (fail), and nothing was saved" in card.words
    again = card.one("form", cls="decide")
    assert again.one("textarea").text.strip() == WHY["note"]
    assert len(_labels(session)) == 1
    assert pages.post(form.attributes["action"], data=_sent(again)).status_code == 303
    make_revision(session, ticket, text=office_ticket(external_id=ticket.external_id, subject="Again"))
    session.execute(update(Ticket).values(verdict_id=None, label_id=None, decision=None))
    session.commit()
    answer = pages.post(form.attributes["action"], data=sent)
    assert answer.status_code == 409
    assert "The ticket has changed or was judged again" in read(answer.text).words
    assert len(_labels(session)) == 2


def test_only_leads_decide_and_claim(
    viewer_pages: TestClient, stranger_pages: TestClient, session: Session, pages: TestClient
) -> None:
    ticket, _ = _judged(session)
    card = _card(viewer_pages, ticket)
    assert card.all("form") == []
    assert card.words == "Decision A lead has not confirmed this yet. A lead decides."
    sent = _sent(_card(pages, ticket).one("form", cls="decide"), outcome="fail")
    for action in ("decision", "claim", "release"):
        address = f"/tickets/{ticket.id}/{action}"
        assert viewer_pages.post(address, data=sent).status_code == 403
        assert stranger_pages.post(address, data=sent).status_code == 401
        assert pages.post(address, data={**sent, "csrf": "x"}, headers={"X-CSRF-Token": "x"}).status_code == 403
        assert pages.post(f"/tickets/{10**17}/{action}", data=sent).status_code == 404
        assert pages.post(f"/tickets/{2**63}/{action}", data=sent).status_code == 404
    assert _labels(session) == []
    session.expire_all()
    assert session.get_one(Ticket, ticket.id).claimed_by is None


def test_what_cannot_be_decided_says_why(pages: TestClient, session: Session) -> None:
    make_context(session)
    open_ = make_ticket(session, text=office_ticket(status="open"))
    make_escalation(session, session.get_one(Revision, open_.revision_id))
    waiting = make_ticket(session, review_state="waiting_model")
    judged, verdict = _judged(session)
    make_revision(session, judged, text=office_ticket(external_id=judged.external_id, subject="Again"))
    session.execute(update(Ticket).where(Ticket.id == judged.id).values(verdict_id=None, outcome=None))
    session.commit()
    card = _card(pages, open_)
    assert "This ticket was handed to a person. There is no verdict to confirm or overrule yet" in card.words
    assert [form.attributes["action"] for form in card.all("form")] == [f"/tickets/{open_.id}/claim"]
    assert _card(pages, waiting).words == "Decision There is no verdict to decide about yet."
    earlier = _card(pages, judged, f"?revision={verdict.revision_id}")
    assert earlier.words == "Decision Nobody decided about this revision."
    assert pages.post(f"/tickets/{open_.id}/claim").status_code == 303
    assert "You claimed it just now" in _card(pages, open_).words


@pytest.mark.parametrize(("escalated", "said"), [(True, "Escalate"), (False, "Open")])
def test_an_open_ticket_says_the_same_as_its_row_in_the_queue(
    pages: TestClient, session: Session, *, escalated: bool, said: str
) -> None:
    make_context(session)
    open_ = make_ticket(session, text=office_ticket(status="open"), escalated=escalated)
    session.commit()
    outcome = read(pages.get(f"/tickets/{open_.id}").text).one("p", cls="outcome")
    assert outcome.words == said


def test_claims_show_and_are_taken_over_on_a_second_look(
    pages: TestClient, other_lead_pages: TestClient, session: Session, lead: User, other_lead: User
) -> None:
    ticket, _ = _judged(session)
    (row,) = read(pages.get("/?verdict=fail&q=vpn").text).one("tbody").all("tr")
    form = row.one("form")
    assert form.one("button").attributes["aria-label"] == f"Claim {ticket.external_id}"
    answer = pages.post(form.attributes["action"], data=_sent(form))
    assert answer.headers["location"] == "/?verdict=fail&q=vpn"
    assert "claimed by you, just now" in read(pages.get("/").text).one("tbody").words
    assert f"claimed by {lead.name}, just now" in read(other_lead_pages.get("/").text).one("tbody").words
    assert pages.get("/?claimed=mine").text.count("data-row") == 1
    assert "No ticket matches" in other_lead_pages.get("/?claimed=mine").text
    address = f"/tickets/{ticket.id}/claim"
    refused = other_lead_pages.post(address)
    assert refused.status_code == 409
    assert f"{lead.name} has had this ticket since" in read(refused.text).words
    form = _card(other_lead_pages, ticket).one("div", cls="claim").one("form")
    assert form.one("button").words == f"Yes, take it over from {lead.name}"
    assert other_lead_pages.post(address, data=_sent(form)).headers["location"] == f"/tickets/{ticket.id}"
    assert f"Claimed by {other_lead.name}" in _card(pages, ticket).words
    assert pages.post(f"/tickets/{ticket.id}/release").status_code == 409
    assert other_lead_pages.post(f"/tickets/{ticket.id}/release").status_code == 303
    assert "so that others see you are on it" in _card(pages, ticket).words
    actions = session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)).all()
    assert [one for one in actions if one.startswith("ticket.")] == [
        "ticket.claimed", "ticket.taken_over", "ticket.released",
    ]  # fmt: skip


@pytest.mark.parametrize("bad", ["x", "-1", "9" * 30, "\u0663"])
def test_a_claim_from_elsewhere_is_refused_and_leads_nowhere_else(
    pages: TestClient, session: Session, bad: str
) -> None:
    ticket, _ = _judged(session)
    assert pages.post(f"/tickets/{ticket.id}/claim", data={"instead_of": bad}).status_code == 400
    answer = pages.post(f"/tickets/{ticket.id}/claim", data={"back": "//evil.example/"})
    assert answer.headers["location"] == "/"


def test_whoever_may_decide_has_seen_the_verdict_from_then_on(
    pages: TestClient, viewer_pages: TestClient, session: Session, lead: User
) -> None:
    ticket, verdict = _judged(session)
    unjudged = make_ticket(session)
    session.commit()
    for _ in range(2):
        _page(viewer_pages, ticket)
        _page(pages, unjudged)
        _page(pages, ticket)
    rows = session.execute(select(Viewing.user_id, Viewing.revision_id)).all()
    assert [tuple(row) for row in rows] == [(lead.id, verdict.revision_id)]


def test_when_nothing_needs_a_decision_the_queue_says_what_there_is(pages: TestClient, session: Session) -> None:
    make_verdict(session, session.get_one(Revision, make_ticket(session).revision_id), outcome="pass")
    make_ticket(session, review_state="waiting_model")
    session.commit()
    page = read(pages.get("/").text)
    shown = page.one("div", cls="empty")
    assert shown.one("h2").words == "Nothing needs a decision"
    assert [(link.words, link.attributes["href"]) for link in shown.one("ul").all("a")] == [
        ("1 waiting to be judged", "/?verdict=waiting"),
        ("1 passed", "/?verdict=pass"),
    ]
    assert page.one(id="need").words == "0 need a decision"


def test_one_person_s_tickets_are_listed_for_leads_only(
    pages: TestClient, viewer_pages: TestClient, session: Session
) -> None:
    _judged(session)
    assert pages.get("/?assignee=Sam+Okoro").text.count("data-row") == 1
    assert "No ticket matches" in pages.get("/?assignee=Kim").text
    refused = viewer_pages.get("/?assignee=Sam+Okoro")
    assert refused.status_code == 403
    assert "Only a lead may list the tickets of one person" in read(refused.text).words
    assert read(viewer_pages.get("/").text).all("select", name="assignee") == []


def test_names_and_words_of_people_are_only_text(pages: TestClient, session: Session) -> None:
    hostile = make_user(session, name="<b>Eve</b>")
    ticket, verdict = _judged(session)
    note = '<script>alert(1)</script>\n"x"'
    label = Label(
        revision_id=verdict.revision_id, verdict_id=verdict.id, context_version=verdict.context_version,
        user_id=hostile.id, kind="overrule", outcome="pass", blind=False, reason="other", note=note, split="dev",
    )  # fmt: skip
    session.add(label)
    session.flush()
    session.execute(update(Ticket).values(claimed_by=hostile.id, claimed_at=now()))
    session.commit()
    for address in (f"/tickets/{ticket.id}", "/?verdict=all"):
        page = read(pages.get(address).text)
        assert [one.text for one in page.all("b") if one.text == "Eve"] == []
        assert "<b>Eve</b>" in page.text
    assert read(pages.get(f"/tickets/{ticket.id}").text).one("span", cls="typed").text == note
    assert session.scalar(select(func.count()).select_from(Label)) == 1
