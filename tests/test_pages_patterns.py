"""`/patterns` and `/patterns/{id}`: what they count, what they cite, who may mute, and every bad form."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from app import patterns
from app.audit import Actor
from app.clock import now
from app.patterns import sweep
from app.tables import AuditEvent, Label, LabelFinding, Pattern, PatternEvent, Proposal, Revision, Ticket
from tests.factories import (
    finding,
    make_context,
    make_observation,
    make_run,
    make_ticket,
    make_verdict,
    office_ticket,
    shipped_context,
)
from tests.markup import Element, read

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.tables import User

DAY = timedelta(days=1)
CITED = {"line": 8, "quote": "I cannot work from home", "spans": [[8, 0, 23]]}


def seen(session: Session, *days_ago: float, requester: str = "Ana Ruiz", **columns: object) -> list[Ticket]:
    """The same failure on a ticket of its own, so many days ago each."""
    tickets = []
    for back in days_ago:
        ticket = make_ticket(session, text=office_ticket(requester=requester))
        make_observation(session, ticket, recorded_at=now() - back * DAY, **columns)
        tickets.append(ticket)
    return tickets


def opened(session: Session) -> Pattern:
    """The only pattern there is by now."""
    sweep(session, now=now())
    session.commit()
    return session.scalars(select(Pattern)).one()


def page(pages: TestClient, address: str) -> Element:
    answer = pages.get(address)
    assert answer.status_code == 200, answer.text
    return read(answer.text).one("main")


def section(main: Element, name: str) -> Element:
    return main.one("section", **{"aria-labelledby": f"{name}-title"})


def facts(part: Element) -> dict[str, str]:
    return {fact.one("dt").words: fact.one("dd").words for fact in part.one("dl").all("div")}


def rows(part: Element) -> list[list[str]]:
    return [[cell.words for cell in row.all("td")] for row in part.one("tbody").all("tr")]


def test_without_any_pattern_the_page_says_what_would_be_there(viewer_pages: TestClient) -> None:
    main = page(viewer_pages, "/patterns")
    assert main.one("h2").words == "No patterns yet"
    assert "three different tickets within seven days" in main.words


def test_the_list_has_open_ones_first_and_what_each_amounts_to(pages: TestClient, session: Session) -> None:
    seen(session, 6.9, 1, 1, 0, requester="Ana")
    seen(session, 0, 0, 8, 8, 8, subject="follow_up")
    for _ in range(40):
        make_run(session, recorded_at=now() - 2 * DAY)
    for purpose in ("repair", "replay", "replay_repair"):
        make_run(session, purpose=purpose)
    make_run(session, agent="triage")
    make_run(session, recorded_at=now() - 7 * DAY)
    make_run(session, replied=False, outcome="overloaded", reply=None)
    sweep(session, now=now())
    old = session.scalars(select(Pattern).where(Pattern.subject == "follow_up")).one()
    patterns.decided(session, old.id, now=now(), note="", actor=Actor("lee"))
    session.commit()
    first, second = rows(page(pages, "/patterns"))
    title = "Quality control quoted words that are not in the ticket"
    assert first == ["Open", f"Open{title} (Root cause) one source", "4", "4", "10.0", "just now", "1 d"]
    assert second[:5] == ["Cools down", f"Cools down{title} (Follow-up)", "2", "2", "5.0"]


def test_an_open_pattern_shows_its_newest_tickets_side_by_side(pages: TestClient, session: Session) -> None:
    context = make_context(session)
    tickets = seen(session, 5, 3, 2, requester="Ben", evidence=[CITED])
    (newest,) = seen(session, 0.1)
    revision = session.get_one(Revision, newest.revision_id)
    why = "the model said not met, but its quote is not in the ticket"
    make_verdict(session, revision, outcome="escalate", findings=[finding("root_cause", "unscored", reason=why)])
    make_observation(session, tickets[1], recorded_at=now() - DAY, observer="qc")
    pattern = opened(session)
    main = page(pages, f"/patterns/{pattern.id}")
    assert main.one("h1").words == "Quality control quoted words that are not in the ticket (Root cause)"
    assert "One source" not in main.words

    cards = section(main, "tickets").all("article")
    assert [card.one("h3").words for card in cards] == [
        newest.external_id,
        tickets[1].external_id,
        tickets[2].external_id,
    ]
    assert "Not scored said the machine The model said not met, but its quote is not in the ticket." in cards[0].words
    address = f"/tickets/{tickets[2].id}?revision={tickets[2].revision_id}"
    assert cards[2].one("q").text == CITED["quote"]
    assert [link.attributes["href"] for link in cards[2].all("a")] == [address, f"{address}#L8"]
    assert pages.get(address).status_code == 200

    assert len(section(main, "seen").one("tbody").all("tr")) == 5
    assert rows(section(main, "versions")) == [[context.version[:12], "5", "5 d", "2 h"]]
    assert [item.words for item in section(main, "history").all("li")] == ["Opened just now"]


def test_how_often_is_told_with_what_it_could_have_been(pages: TestClient, session: Session) -> None:
    seen(session, 0, 0, 1, 27, 28.5)
    pattern = opened(session)
    part = section(page(pages, f"/patterns/{pattern.id}"), "trend")
    assert facts(part) == {
        "In the last 7 days": "3 times, on 3 tickets",
        "Rate per 100": "nothing to compare: no runs of Quality control in this time",
    }
    counts = [int(cells[1]) for cells in rows(part)]
    assert len(counts) == 28
    assert (counts[0], counts[-2:], sum(counts)) == (1, [1, 2], 4)
    assert part.one("svg").attributes["aria-label"] == "Times on each of the last 28 days; the most on one day is 2"
    assert len(part.one("svg").all("rect")) == 3
    for _ in range(8):
        make_run(session)
    session.commit()
    again = section(page(pages, f"/patterns/{pattern.id}"), "trend")
    assert facts(again)["Rate per 100"] == "37.5 of 8 runs of Quality control in this time"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("unstable", "100.0 of 3 second runs in this time"),
        ("refusal", "37.5 of 8 runs of Quality control in this time"),
    ],
)
def test_only_runs_in_which_it_could_have_shown_are_compared(
    pages: TestClient, session: Session, code: str, words: str
) -> None:
    seen(session, 0, 0, 0, code=code)
    for purpose in ("review",) * 5 + ("second",) * 3 + ("second_repair", "replay"):
        make_run(session, purpose=purpose)
    pattern = opened(session)
    assert facts(section(page(pages, f"/patterns/{pattern.id}"), "trend"))["Rate per 100"] == words


def overruled(session: Session, user: User) -> list[Ticket]:
    """Three tickets on which a person found the root cause met after all, and one more that was only confirmed."""
    context = make_context(session)
    tickets = []
    for number in range(4):
        ticket = make_ticket(session, text=office_ticket(requester=f"Person {number}"))
        revision = session.get_one(Revision, ticket.revision_id)
        quoted = finding("root_cause", "not_met", quoted=(8, 0, "I cannot work"), reason="no cause is named")
        verdict = make_verdict(session, revision, outcome="fail", score=60, findings=[quoted])
        label = Label(
            revision_id=revision.id, verdict_id=verdict.id, context_version=context.version, user_id=user.id,
            kind="overrule" if number else "confirm", outcome="pass" if number else "fail", blind=False, split="dev",
            reason="evidence_missed", note="It is in the resolution.",
        )  # fmt: skip
        session.add(label)
        session.flush()
        if number:
            said = {"criterion": "root_cause", "text_hash": context.rubric["root_cause"].text_hash, "result": "met"}
            session.add(LabelFinding(label_id=label.id, **said))
            code = {"observer": "person", "code": "overruled", "direction": "false_fail"}
            make_observation(session, ticket, label_id=label.id, **code)
            tickets.append(ticket)
    return tickets


def test_what_people_overruled_shows_both_words_and_only_while_they_stand(
    pages: TestClient, session: Session, lead: User
) -> None:
    tickets = overruled(session, lead)
    pattern = opened(session)
    main = page(pages, f"/patterns/{pattern.id}")
    assert main.one("h1").words == "Quality control was overruled by a person: too strict (Root cause)"
    card = section(main, "tickets").all("article")[0]
    assert "Not met said the machine No cause is named." in card.words
    assert card.one("q").text == "I cannot work"
    assert "Met said Lee Novak: evidence missed It is in the resolution." in card.words
    assert facts(section(main, "trend"))["Rate per 100"] == "75.0 of 4 tickets that people decided about in this time"

    for ticket in tickets:
        label = Label(
            revision_id=ticket.revision_id, context_version=shipped_context().version, user_id=lead.id,
            kind="decide", outcome="cannot_tell", blind=False, split="dev",
        )  # fmt: skip
        session.add(label)
    session.commit()
    main = page(pages, f"/patterns/{pattern.id}")
    assert "were taken back" in section(main, "tickets").words
    assert facts(section(main, "trend"))["In the last 7 days"] == "0 times, on 0 tickets"
    assert rows(page(pages, "/patterns"))[0][5] == "taken back"


def test_what_was_proposed_is_told_with_its_end(pages: TestClient, session: Session, lead: User) -> None:
    seen(session, 0, 0, 0)
    pattern = opened(session)
    made = {"pattern_id": pattern.id, "model": "m", "demonstration": False}
    ended = {"state": "rejected", "decided_by": lead.id, "decided_at": now(), "decision_note": "Too narrow."}
    session.add(Proposal(**made, kind="rewrite", why="The rule is vague.", **ended))
    session.flush()
    waiting = Proposal(**made, kind="more_context", why="A pattern is missing.")
    session.add(waiting)
    patterns.event(session, pattern.id, "no_answer", note="it was cut off")
    session.commit()
    main = page(pages, f"/patterns/{pattern.id}")
    newest, oldest = section(main, "proposals").all("li")
    assert newest.words == "More context waits for a person just now A pattern is missing."
    assert "Rewrite rejected" in oldest.words
    assert "rejected by Lee Novak just now The rule is vague. Too narrow." in oldest.words
    assert newest.one("a").attributes["href"] == f"/proposals/{waiting.id}"
    said = section(main, "history").all("li")[0].words
    assert said == "No proposal came of it just now It was cut off."


def test_a_lead_mutes_with_a_reason_and_unmutes(pages: TestClient, session: Session, lead: User) -> None:
    seen(session, 0, 0, 0)
    pattern = opened(session)
    address = f"/patterns/{pattern.id}"
    answer = pages.post(f"{address}/mute", data={"note": "  A fault of\u202e the form  "})
    assert (answer.status_code, answer.headers["location"]) == (303, f"{address}?done=muted")
    main = page(pages, f"{address}?done=muted")
    assert main.one("p", cls="flash").words.startswith("Muted.")
    event = section(main, "history").all("li")[0].words
    assert event == "Muted just now by Lee Novak A fault of the form."
    assert not main.all("form", action=f"{address}/mute")
    again = pages.post(f"{address}/mute", data={"note": "x"})
    assert again.status_code == 409
    assert "somebody else has muted this pattern" in again.text.lower()

    assert pages.post(f"{address}/unmute").headers["location"] == f"{address}?done=unmuted"
    assert page(pages, f"{address}?done=unmuted").all("p", cls="flash")[0].words == "No longer muted."
    assert pages.post(f"{address}/unmute").status_code == 409
    kinds = session.scalars(select(PatternEvent.kind).order_by(PatternEvent.id)).all()
    assert kinds == ["opened", "muted", "unmuted"]
    changed = session.execute(select(AuditEvent.action, AuditEvent.user_id).order_by(AuditEvent.id)).all()
    assert [tuple(one) for one in changed] == [("pattern.muted", lead.id), ("pattern.unmuted", lead.id)]


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({}, 422, "Say why"),
        ({"note": " \u200b\n"}, 422, "Say why"),
        ({"note": "x" * 2_001}, 422, "2,001"),
        ({"note": "a\0b"}, 400, "not text"),
    ],
)
def test_a_reason_that_is_none_mutes_nothing(
    pages: TestClient, session: Session, form: dict[str, str], status: int, words: str
) -> None:
    seen(session, 0, 0, 0)
    pattern = opened(session)
    answer = pages.post(f"/patterns/{pattern.id}/mute", data=form)
    assert answer.status_code == status
    assert words in answer.text
    if status == 422:
        field = read(answer.text).one("input", name="note")
        assert field.attributes["aria-invalid"] == "true"
        assert field.attributes["value"] == form.get("note", "")
    session.refresh(pattern)
    assert pattern.state == "open"
    assert session.scalars(select(AuditEvent)).all() == []


def test_who_may(
    stranger_pages: TestClient, viewer_pages: TestClient, admin_pages: TestClient, pages: TestClient, session: Session
) -> None:
    seen(session, 0, 0, 0)
    pattern = opened(session)
    address = f"/patterns/{pattern.id}"
    for path in ("/patterns", address, "/agents"):
        assert stranger_pages.get(path).status_code == 303
    assert not page(viewer_pages, address).all("form")
    for act in ("mute", "unmute"):
        assert stranger_pages.post(f"{address}/{act}", data={"note": "x"}).status_code == 401
        assert viewer_pages.post(f"{address}/{act}", data={"note": "x"}).status_code == 403
        forged = pages.post(f"{address}/{act}", data={"note": "x"}, headers={"X-CSRF-Token": "other"})
        assert forged.status_code == 403
    session.refresh(pattern)
    assert pattern.state == "open"
    assert admin_pages.post(f"{address}/mute", data={"note": "x"}).status_code == 303


@pytest.mark.parametrize("path", ["7", "0", "x", "9" * 30, "1?done=other", "-1"])
def test_there_is_no_such_pattern(pages: TestClient, path: str) -> None:
    assert pages.get(f"/patterns/{path}").status_code == 404
    for act in ("mute", "unmute"):
        assert pages.post(f"/patterns/{path.partition('?')[0]}/{act}", data={"note": "x"}).status_code == 404


def test_hostile_words_are_only_text(pages: TestClient, session: Session) -> None:
    evil = "<script>alert(1)</script>'\"{{ 7*7 }}"
    for number in range(3):
        ticket = make_ticket(session, text=office_ticket(subject=evil, external_id=f"{number}{evil}"))
        cited = {"line": 1, "quote": evil, "spans": []}
        make_observation(session, ticket, evidence=[cited], subject=evil)
    pattern = opened(session)
    main = page(pages, f"/patterns/{pattern.id}")
    assert not main.all("script")
    assert evil in main.one("h1").text
    assert main.all("q")[0].text == evil
    assert evil in page(pages, "/patterns").text


def test_a_long_list_of_sightings_says_so(pages: TestClient, session: Session) -> None:
    (ticket,) = seen(session, 0)
    seen(session, 0, 0)
    for number in range(100):
        make_observation(session, ticket, observer=f"observer {number}", recorded_at=now() - DAY)
    pattern = opened(session)
    part = section(page(pages, f"/patterns/{pattern.id}"), "seen")
    assert part.one("h2").words == "Where it was seen 100+"
    assert len(part.one("tbody").all("tr")) == 100


def test_names_that_the_context_no_longer_has_are_ids(pages: TestClient, session: Session) -> None:
    known: list[tuple[dict[str, Any], str]] = [
        ({"subject": "gone_criterion"}, "(gone_criterion)"),
        ({"agent": "triage", "code": "missed_information", "subject": "impact"}, "(Impact)"),
        ({"subject": "triage.category"}, "(Category, as it judged triage)"),
        ({"code": "overruled", "subject": "verdict", "direction": "false_pass"}, "too lenient (The verdict)"),
        ({"agent": "chief_of_staff", "code": "refusal", "subject": ""}, "Chief of staff refused to answer"),
    ]
    for columns, _ in known:
        seen(session, 0, 0, 0, **columns)
    sweep(session, now=now())
    session.commit()
    titles = [cells[1].removesuffix(" one source") for cells in rows(page(pages, "/patterns"))]
    assert all(any(title.endswith(ending) for title in titles) for _, ending in known)
