"""`/proposals` and the one page about each: what fails, the edit, its trial, the decision, and forms gone wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from app import releases
from app.audit import COMMAND_LINE
from app.tables import Draft, Observation, Proposal, Replay, Ticket
from tests.factories import shipped_context
from tests.markup import read
from tests.proposing import EDIT, ITEM, TEXT, WHY, finish, make_proposal, open_pattern

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.settings import Settings
    from app.tables import User
    from tests.markup import Element


def page(client: TestClient, address: str, **headers: str) -> Element:
    answer = client.get(address, headers=headers)
    assert answer.status_code == 200, answer.text
    return read(answer.text)


@pytest.fixture
def proposal(session: Session, settings: Settings) -> Proposal:
    return make_proposal(session, settings)


@pytest.fixture
def address(proposal: Proposal) -> str:
    return f"/proposals/{proposal.id}"


def test_without_a_proposal_the_list_says_how_one_comes(pages: TestClient) -> None:
    assert "No proposals yet" in page(pages, "/proposals").one("main").words


@pytest.mark.usefixtures("proposal")
def test_the_list_says_what_waits(pages: TestClient, session: Session) -> None:
    for subject in ("follow_up", "communication"):
        session.add(
            Proposal(
                pattern_id=open_pattern(session, subject=subject), kind="noise", why="x", model="m", demonstration=True
            )
        )
    session.commit()
    shown = page(pages, "/proposals").one("main").words
    assert "Quality control quoted words that are not in the ticket (Root cause)" in shown
    assert WHY in shown
    assert "3 proposals wait for a decision. No further one is made" in shown


def test_the_page_shows_what_fails_the_edit_and_a_trial_that_waits(pages: TestClient, address: str) -> None:
    shown = page(pages, address)
    words = shown.one("main").words
    assert "Proposal" in shown.one("h1").words
    quotes = [quote.words for quote in shown.all("blockquote")]
    assert quotes == ["the VPN on my laptop line 7"] * 3
    assert f"New item: {EDIT.title}" in words
    added = [line.words for line in shown.one(cls="diff").all("p", cls="new")]
    assert any(TEXT in line for line in added)
    assert "3 of 3 tickets, 0 of them with a person's label" in words
    assert "Waiting" in words
    assert "Nothing goes live untried." in words
    assert shown.one(id="trial").attributes["hx-get"] == address
    assert not shown.all("form", action=f"{address}/approve")
    part = page(pages, address, **{"HX-Request": "true"})
    assert part.one(id="trial")
    assert not part.all("html")


def test_a_trial_that_runs_shows_how_far_it_is(pages: TestClient, session: Session, address: str) -> None:
    session.execute(update(Replay).values(state="running"))
    session.commit()
    shown = page(pages, address)
    assert "0 of 21 calls answered" in shown.one(id="trial").words
    assert shown.one("progress").attributes["value"] == "0.0"


def test_a_trial_that_is_over_shows_fixed_broken_and_every_changed_verdict(
    pages: TestClient, session: Session, address: str
) -> None:
    finish(session)
    shown = page(pages, address).one(id="trial")
    assert "hx-get" not in shown.attributes
    assert "Fixed: wrong before, right now 1 7 % to 79 %" in shown.words
    assert "few labels prove little" in shown.words
    assert "cost $0.012" in shown.words
    assert "Handed to a person: 1 before, 0 after." in shown.words
    rows = [row.words for row in shown.all("table", cls="rows")[0].one("tbody").all("tr")]
    assert len(rows) == 2
    assert "of the pattern to a person wrong; the failure showed 3 of 3 times pass right" in rows[0]
    assert "a person says pass pass right changing wrong Broken" in rows[1]
    assert shown.one("form", action=f"{address}/approve")


def test_a_demonstration_says_so(pages: TestClient, session: Session, address: str) -> None:
    session.execute(update(Proposal).values(demonstration=True))
    finish(session, demonstration=True)
    assert "A demonstration: the local model proposed this and judged its trial" in page(pages, address).words


def test_a_lead_approves_once(pages: TestClient, session: Session, address: str, lead: User) -> None:
    finish(session)
    answer = pages.post(f"{address}/approve", data={"draft": "1", "note": " good "})
    assert (answer.status_code, answer.headers["location"]) == (303, f"{address}?done=approved")
    shown = page(pages, answer.headers["location"])
    assert "It is in force now" in shown.one(cls="flash").words
    assert f"Approved by {lead.name}: good" in shown.words
    assert not shown.all("textarea")
    assert pages.post(f"{address}/approve", data={"draft": "1"}).status_code == 409
    context = page(pages, "/context")
    assert context.one("section", id=ITEM)
    assert any(link.attributes.get("href") == address for link in context.all("a"))


def test_what_was_tried_on_another_version_can_only_be_tried_again(
    pages: TestClient, session: Session, address: str
) -> None:
    finish(session)
    files = {**shipped_context().files, "qc.md": shipped_context().files["qc.md"] + "\n"}
    releases.release(session, files, note="meanwhile", actor=COMMAND_LINE)
    session.commit()
    shown = page(pages, address)
    assert "Another version is in force by now" in shown.words
    assert not shown.all("form", action=f"{address}/approve")
    assert pages.post(f"{address}/approve", data={"draft": "1"}).status_code == 409
    answer = pages.post(f"{address}/retry", data={"draft": "1"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"{address}?done=retried")
    assert pages.post(f"{address}/retry", data={"draft": "1"}).status_code == 409
    assert pages.post(f"{address}/retry", data={"draft": "2"}).status_code == 409
    assert "wording 2, by Lee Novak" in page(pages, address).words


def test_a_lead_s_wording_is_tried_or_comes_back_with_what_is_wrong(
    pages: TestClient, session: Session, address: str
) -> None:
    finish(session)
    bad = {"draft": "1", "title-0": "Cause", "text-0": "See https://evil.example for the cause."}
    answer = pages.post(f"{address}/revise", data=bad)
    assert answer.status_code == 422
    again = read(answer.text)
    assert "holds an address" in again.one("div", cls="flash").words
    assert again.one("textarea", id="text-0").text.strip() == bad["text-0"]
    for changed, status in (
        ({"drop-0": "yes"}, 422),
        ({"title-0": EDIT.title, "text-0": EDIT.text}, 422),
        ({"text-0": ""}, 422),
        ({"title-0": ""}, 422),
        ({"text-0": "x" * 50_000}, 422),
        ({"text-0": "a\0b"}, 400),
        ({"draft": "2"}, 409),
        ({"draft": ""}, 409),
        ({"draft": "\u0661"}, 409),
    ):
        assert pages.post(f"{address}/revise", data={**bad, **changed}).status_code == status, changed
    assert len(list(session.scalars(select(Draft)))) == 1
    good = {**bad, "text-0": "Where the closing note names a reason,\r\nroot_cause is met."}
    answer = pages.post(f"{address}/revise", data=good)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{address}?done=revised")
    newest = session.scalars(select(Draft).order_by(Draft.number.desc())).first()
    assert newest is not None
    (edit,) = newest.edits["edits"]
    assert edit == {
        "operation": "add",
        "file": EDIT.file,
        "item": ITEM,
        "title": "Cause",
        "text": "Where the closing note names a reason,\nroot_cause is met.",
    }
    assert pages.post(f"{address}/revise", data=good).status_code == 409


def test_a_rejection_needs_its_reason(pages: TestClient, address: str) -> None:
    for reason, status in (("", 422), (" \u200b ", 422), ("x" * 2_001, 422), ("a\0b", 400)):
        answer = pages.post(f"{address}/reject", data={"draft": "1", "reason": reason})
        assert answer.status_code == status, reason
    assert "Say why" in read(pages.post(f"{address}/reject", data={"draft": "1"}).text).one(id="reason-said").words
    answer = pages.post(f"{address}/reject", data={"draft": "1", "reason": "Too wide."})
    assert answer.headers["location"] == f"{address}?done=rejected"
    assert "Too wide." in page(pages, address).words
    assert pages.post(f"{address}/reject", data={"draft": "1", "reason": "Again."}).status_code == 409


def test_noise_is_acknowledged(pages: TestClient, session: Session, settings: Settings) -> None:
    row = make_proposal(session, settings, kind="noise")
    shown = page(pages, f"/proposals/{row.id}")
    assert "No change is proposed" in shown.words
    assert not shown.all(cls="diff")
    assert pages.post(f"/proposals/{row.id}/revise", data={"draft": "0"}).status_code == 409
    too_long = pages.post(f"/proposals/{row.id}/approve", data={"note": "x" * 2_001})
    assert too_long.status_code == 422
    answer = pages.post(f"/proposals/{row.id}/approve", data={"draft": "0", "note": ""})
    assert answer.headers["location"] == f"/proposals/{row.id}?done=acknowledged"


def test_a_viewer_reads_and_decides_nothing(viewer_pages: TestClient, session: Session, address: str) -> None:
    finish(session)
    shown = page(viewer_pages, address)
    assert "A lead decides about this." in shown.words
    assert not shown.all("textarea")
    for what in ("approve", "reject", "revise", "retry"):
        assert viewer_pages.post(f"{address}/{what}", data={"draft": "1", "reason": "x"}).status_code == 403
    assert session.scalars(select(Proposal.state)).one() == "open"


@pytest.mark.parametrize("number", ["0", "-1", "999999", "9999999999999999999999", "x", "1.5"])
def test_an_address_that_is_no_proposal_is_not_found(pages: TestClient, number: str) -> None:
    assert pages.get(f"/proposals/{number}").status_code == 404
    assert pages.post(f"/proposals/{number}/retry").status_code == 404


def test_hostile_words_of_a_ticket_are_shown_as_words(pages: TestClient, session: Session, address: str) -> None:
    evil = "<script>alert(1)</script>"
    session.execute(update(Observation).values(evidence=[{"line": 1, "quote": evil, "spans": []}]))
    session.execute(update(Ticket).values(subject=evil * 20))
    session.execute(update(Proposal).values(why=evil))
    finish(session)
    answer = pages.get(address)
    assert evil not in answer.text
    assert evil in read(answer.text).words
