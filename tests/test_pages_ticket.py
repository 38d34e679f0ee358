"""`/tickets/{id}`: thread, verdict, findings with the words they were judged by, and everything behind them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from agents.context import parse
from app import retention
from app.clock import now
from app.tables import Observation, Revision
from tests.factories import (
    finding,
    make_context,
    make_escalation,
    make_model_state,
    make_revision,
    make_run,
    make_ticket,
    make_triage,
    make_verdict,
    office_ticket,
    shipped_context,
)
from tests.markup import Element, read

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.tables import Ticket

CITED = {"line": 9, "quote": "certificate of LT-204", "spans": [[9, 11, 32]]}


def _page(pages: TestClient, session: Session, ticket: Ticket, query: str = "", **headers: str) -> Element:
    session.commit()
    answer = pages.get(f"/tickets/{ticket.id}{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return read(answer.text)


def _revision(session: Session, ticket: Ticket) -> Revision:
    return session.get_one(Revision, ticket.revision_id)


def _judged(session: Session) -> Ticket:
    ticket = make_ticket(session)
    findings = [
        finding("root_cause", "not_met", quoted=(9, 11, "certificate of LT-204"), reason="No cause is named."),
        finding("communication", "partly", quoted=(12, 0, "Works now"), reason="Not told plainly."),
        finding("follow_up", "unscored", reason="the quote is not there", evidence_status="void"),
        finding("resolution_confirmed", "not_met", absent=True, evidence_status="absent"),
        finding("work_performed", quoted=(10, 0, "Renewed it and restarted")),
        finding("secrets_in_ticket", kind="checked"),
        finding("reopened", "not_applicable", kind="checked", reason="this source never supplies status changes"),
    ]
    reasons = ["Root cause: not met", "Communication: partly"]
    make_verdict(session, _revision(session, ticket), outcome="fail", score=57.5, findings=findings, reasons=reasons)
    return ticket


def test_the_thread_is_numbered_and_says_who_spoke_how(pages: TestClient, session: Session) -> None:
    make_context(session)
    page = _page(pages, session, make_ticket(session))
    parts = page.one("section", cls="thread").all("div", cls="part")
    assert [part.one("h3").words.split(" · ")[0] for part in parts] == [
        "Subject and fields", "Description", "Sam Okoro agent internal 15 min, billable",
        "Ana Ruiz requester 20 Nov 2026, 11:20", "Resolution",
    ]  # fmt: skip
    assert "internal" in parts[2].classes
    assert "internal" not in parts[3].classes
    lines = page.one("section", cls="thread").all("ol", cls="lines")
    numbers = [line.attributes["id"] for part in lines for line in part.all("li") if "id" in line.attributes]
    assert numbers == [f"L{number}" for number in range(1, 14)]
    assert page.one("li", id="L9").one("div", cls="text").text == "The client certificate of LT-204 expired on Sunday."


def test_the_verdict_says_what_decided_and_who_judged(pages: TestClient, session: Session) -> None:
    card = _page(pages, session, _judged(session)).one("section", id="verdict")
    assert "Fail 57 of 100, over what is scored: 1 of 7 criteria is not; pass mark 80" in card.words
    assert [item.words for item in card.one("ul", cls="reasons").all("li")] == [
        "Root cause: not met", "Communication: partly",
    ]  # fmt: skip
    assert "Judged by claude-haiku-5-5, just now." in card.words


def test_a_ticket_too_long_to_be_read_is_not_called_judged(pages: TestClient, session: Session) -> None:
    ticket = make_ticket(session)
    findings = [finding("root_cause", "unscored", reason="too long to judge"), finding("reopened", kind="checked")]
    make_verdict(session, _revision(session, ticket), outcome="escalate", findings=findings)
    card = _page(pages, session, ticket).one("section", id="verdict")
    assert "Only the checks ran, just now: no model has read this ticket." in card.words


def test_a_demonstration_is_called_one(pages: TestClient, session: Session) -> None:
    ticket = make_ticket(session)
    found = [finding("root_cause")]
    make_verdict(session, _revision(session, ticket), findings=found, panel="tiny-1b", demonstration=True)
    card = _page(pages, session, ticket).one("section", id="verdict")
    assert "Judged by tiny-1b demonstration, just now." in card.words
    assert "no claim of quality" in card.words


def test_without_a_model_nothing_pretends_to_be_a_judgement(pages: TestClient, session: Session) -> None:
    ticket = make_ticket(session)
    why = "no model is configured"
    findings = [finding(name, "unscored", reason=why) for name in ("root_cause", "follow_up", "clear_problem")]
    findings.append(finding("secrets_in_ticket", kind="checked"))
    make_verdict(session, _revision(session, ticket), outcome="escalate", findings=findings, panel="none")
    page = _page(pages, session, ticket)
    card = page.one("section", id="verdict")
    assert "100 of 100, over what is scored: 3 of 4 criteria are not; pass mark 80" in card.words
    assert "Only the checks ran, just now: no model was configured." in card.words
    unscored = page.all("section", cls="group")[0]
    assert unscored.words.count("No model is configured.") == 1
    assert len(unscored.all("li", cls="finding")) == 3


def test_findings_stand_in_groups_the_good_ones_folded(pages: TestClient, session: Session) -> None:
    page = _page(pages, session, _judged(session))
    groups = page.all("section", cls="group")
    assert [group.one("h3").words for group in groups] == [
        "Not met 2", "Partly met 1", "Not scored 1", "Met 2", "Does not apply 1",
    ]  # fmt: skip
    assert [bool(group.all("details", **{"data-group": ""})) for group in groups] == [False] * 3 + [True] * 2
    cause, confirmed = groups[0].all("li", cls="finding")
    assert cause.attributes["id"] == "f-root_cause"
    assert "No cause is named." in cause.words
    assert cause.one("blockquote").words == "certificate of LT-204 line 9"
    assert cause.one("a", cls="line-link").attributes["href"] == "#L9"
    assert "Does the record say why the fault happened?" in cause.one("details").words
    assert "Nothing in the ticket shows it." in confirmed.words
    assert "is not in the ticket, so this does not count" in groups[2].words
    assert "checked critical weight 5" in groups[3].all("li", cls="finding")[1].one("span", cls="tags").words


def test_evidence_and_line_point_at_each_other(pages: TestClient, session: Session) -> None:
    page = _page(pages, session, _judged(session))
    line = page.one("li", id="L9")
    mark = line.one("mark")
    assert mark.words == "certificate of LT-204"
    assert "tone-not_met" in mark.classes
    back = line.one("ul", cls="cites").one("a")
    assert back.words == "Root cause"
    assert page.one("li", id=back.attributes["href"][1:])


def test_findings_keep_the_words_they_were_judged_by(pages: TestClient, session: Session) -> None:
    ticket = _judged(session)
    files = dict(shipped_context().files)
    files["qc_rubric.md"] = files["qc_rubric.md"].replace("why the fault happened", "what the weather was")
    make_context(session, context=parse(files))
    page = _page(pages, session, ticket)
    assert "why the fault happened" in page.one("li", id="f-root_cause").words
    pinned = page.one("a", href=f"/context/{shipped_context().version}")
    assert pinned.words == f"context version {shipped_context().version[:12]}"


def test_a_criterion_that_the_pinned_context_does_not_know_shows_its_id() -> None:
    from app.web.findings import groups  # noqa: PLC0415

    (group,) = groups([replace(finding("gone_criterion", "not_met"))], shipped_context())
    assert group.shown[0].title == "gone_criterion"


def test_while_the_model_is_away_the_checks_show(pages: TestClient, session: Session) -> None:
    make_context(session)
    make_model_state(session, state="downloading", model="tiny", demonstration=True, progress=0.25)
    text = office_ticket(resolution={"code": "", "note": "Fixed."})
    ticket = make_ticket(session, text=text, review_state="waiting_model", review_note="waiting for the model")
    page = _page(pages, session, ticket)
    card = page.one("section", id="verdict")
    assert "Waiting for the model. Judged criteria fill in here by themselves" in card.words
    assert card.one("progress").attributes["value"] == "0.25"
    placeholder = page.one("li", id="f-resolution_placeholder")
    assert "checked" in placeholder.words
    assert not page.all("li", id="f-root_cause")
    assert page.one("article", id="ticket").attributes["hx-get"] == f"/tickets/{ticket.id}"


def test_a_finished_page_looks_no_more(pages: TestClient, session: Session) -> None:
    assert "hx-get" not in _page(pages, session, _judged(session)).one("article", id="ticket").attributes


def test_htmx_gets_the_ticket_alone(pages: TestClient, session: Session) -> None:
    part = _page(pages, session, _judged(session), **{"HX-Request": "true"})
    assert part.one("article", id="ticket")
    assert not part.all("html")


def test_an_open_ticket_is_judged_later(pages: TestClient, session: Session) -> None:
    make_context(session)
    ticket = make_ticket(session, text=office_ticket(status="open", closed_at=None, resolution=None))
    page = _page(pages, session, ticket)
    assert "The ticket is judged when it is resolved or closed." in page.one("section", id="verdict").words
    assert page.all("section", cls="group") == []


def test_an_open_ticket_that_is_triaged_is_not_called_judged(pages: TestClient, session: Session) -> None:
    make_context(session)
    text = office_ticket(status="open", closed_at=None, resolution=None)
    ticket = make_ticket(session, text=text, review_state="running")
    card = _page(pages, session, ticket).one("section", id="verdict")
    said = "Intake is being triaged now. The ticket is judged when it is resolved or closed."
    assert said in card.words


def test_a_parked_review_says_why_and_that_nothing_is_lost(pages: TestClient, session: Session) -> None:
    make_context(session)
    ticket = make_ticket(session, review_state="parked", review_note="reviewing failed: the disk is full")
    card = _page(pages, session, ticket).one("section", id="verdict")
    assert "Reviewing failed: the disk is full." in card.words
    assert "Nothing was lost" in card.words


def test_a_ticket_before_any_release_still_shows_its_thread(pages: TestClient, session: Session) -> None:
    page = _page(pages, session, make_ticket(session, review_state="waiting_model"))
    assert page.one("li", id="L1")


def test_escalations_show_rule_and_span(pages: TestClient, session: Session) -> None:
    make_context(session)
    ticket = make_ticket(session)
    revision = _revision(session, ticket)
    found_by = {"triage": "the agent (triage)", "qc": "the agent (qc)", "code": "code"}
    for agent in found_by:
        make_escalation(session, revision, agent=agent, evidence=[CITED])
    page = _page(pages, session, ticket)
    for agent, words in found_by.items():
        rule = page.one("li", id=f"r-security_incident-{agent}")
        assert f"Security incident found by {words}" in rule.words
    assert "tone-escalate" in page.one("li", id="L9").one("mark").classes


def test_triage_shows_what_intake_captured(pages: TestClient, session: Session) -> None:
    make_context(session)
    ticket = make_ticket(session, text=office_ticket(priority="High"))
    make_triage(session, _revision(session, ticket))
    shown = _page(pages, session, ticket).one("section", **{"aria-labelledby": "triage-title"})
    facts = {fact.one("dt").words: fact.one("dd").words for fact in shown.one("dl").all("div")}
    assert facts == {
        "Category": "network the ticket says network",
        "Priority": "p3 the ticket says High",
        "Problem": "Present line 7",
        "Who or what is affected": "Present line 7",
        "Impact": "Present line 8",
        "How to reach them": "Missing",
    }
    assert "How can we reach you while the VPN is down?" in shown.words


def test_history_is_a_strip_of_verdicts_and_each_can_be_opened(pages: TestClient, session: Session) -> None:
    text = office_ticket(external_id="X", updated_at="2026-11-20T10:00:00Z", resolution=None)
    ticket = make_ticket(session, text=text)
    first = _revision(session, ticket)
    make_verdict(session, first, outcome="fail", score=55, reasons=["Root cause: not met"])
    mended = office_ticket(external_id="X", updated_at="2026-11-20T12:00:00Z")
    make_verdict(session, make_revision(session, ticket, text=mended), score=92)
    strip = _page(pages, session, ticket).one("nav", cls="history")
    shown = [link.words for link in strip.one("ol").all("a")]
    assert [words.split(" · ")[0] for words in shown] == ["Revision 1", "Revision 2"]
    assert [words.split()[-2:] for words in shown] == [["Fail", "55"], ["Pass", "92"]]
    older = _page(pages, session, ticket, f"?revision={first.id}")
    assert "Root cause: not met" in older.one("section", id="verdict").words
    assert "This is an earlier state of the ticket." in older.one("nav", cls="history").words
    assert "Resolution" not in [heading.words for heading in older.one("section", cls="thread").all("h3")]


@pytest.mark.parametrize("revision", ["0", "999999", str(2**70), "x"])
def test_a_revision_of_another_ticket_is_not_found(pages: TestClient, session: Session, revision: str) -> None:
    ticket = make_ticket(session)
    session.commit()
    assert pages.get(f"/tickets/{ticket.id}?revision={revision}").status_code == 404


def test_another_ticket_s_revision_is_not_shown_here(pages: TestClient, session: Session) -> None:
    ticket, other = make_ticket(session), make_ticket(session)
    session.commit()
    assert pages.get(f"/tickets/{ticket.id}?revision={other.revision_id}").status_code == 404


def test_runs_show_tokens_and_cost_with_their_sum(pages: TestClient, session: Session) -> None:
    ticket = _judged(session)
    revision = _revision(session, ticket)
    make_run(session, revision=revision, agent="triage", cost_usd=Decimal("0.0001"), cache_write_5m_tokens=1_200)
    make_run(session, revision=revision, purpose="second", cost_usd=Decimal("0.00041"))
    lost = {"replied": False, "cost_usd": None, "outcome": "timeout", "latency_ms": 0}
    make_run(session, revision=revision, **lost)
    make_run(session, revision=revision, model="local:tiny-1b", **lost)
    section = _page(pages, session, ticket).one("section", **{"aria-labelledby": "runs-title"})
    rows = [[cell.words for cell in row.all("td")][:-1] for row in section.one("tbody").all("tr")]
    assert rows[0] == [
        "Triage", "review", "claude-haiku-5-5-20261001", "812", "4 710", "1 200", "348", "$0.00010",
        "2.1 s", "answered",
    ]  # fmt: skip
    assert rows[1][1] == "second review"
    assert rows[2][-3:] == ["possibly billed", "", "timeout"]
    assert rows[3][-3:] == ["$0", "", "timeout"]
    assert "$0.00051" in section.one("tfoot").words
    assert "1 without an answer" in section.words


def test_observations_are_in_words(pages: TestClient, session: Session) -> None:
    ticket = _judged(session)
    for code, subject in (("quote_not_found", "root_cause"), ("missed_escalation", "legal_threat")):
        seen = {"observer": "validator", "agent": "qc", "code": code, "subject": subject, "evidence": [CITED]}
        pins = {"revision_id": ticket.revision_id, "context_version": shipped_context().version}
        session.add(Observation(**seen, **pins))
    section = _page(pages, session, ticket).one("section", **{"aria-labelledby": "observations-title"})
    first, second = (item.words for item in section.one("ul").all("li"))
    assert first.startswith("Quality control quoted words that are not in the ticket (Root cause) seen by")
    assert "did not name an escalation rule that applies (Legal threat)" in second


def test_secrets_show_as_masks_with_their_kind(pages: TestClient, session: Session) -> None:
    text = office_ticket(entries=[{"author_role": "agent", "body": "The new password: Winter-2026-xyz!"}])
    page = _page(pages, session, make_ticket(session, text=text))
    assert "Winter" not in page.text
    line = page.one("section", cls="thread").one("span", cls="secret")
    assert set(line.text) == {"*"}
    assert "password masked" in page.one("section", cls="thread").words


def test_hostile_text_is_only_text_in_every_place(pages: TestClient, session: Session) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>'\"{{ 7*7 }}"
    text = office_ticket(
        subject=evil, description=f"{evil}\n{'x' * 10_000}\nabc\u202edef\u200b", requester=evil, assignee=evil,
        category=evil, priority=evil, url="javascript:alert(1)",
        entries=[{"author": evil, "author_role": "agent", "body": f"**bold** [a](javascript:x)\n{evil}"}],
        resolution={"code": evil, "note": evil},
    )  # fmt: skip
    ticket = make_ticket(session, text=text)
    row = finding("root_cause", "not_met", reason=evil, quoted=(7, 0, evil))
    make_verdict(session, _revision(session, ticket), outcome="fail", findings=[row], reasons=[evil])
    make_triage(session, _revision(session, ticket))
    page = _page(pages, session, ticket)
    assert len(page.all("script")) == 2
    assert not page.all("img")
    assert not [link for link in page.all("a") if "javascript" in link.attributes["href"]]
    assert page.one("h1").text == evil
    assert page.one("li", id="L7").one("mark").text == evil
    assert "49" not in page.one("h1").text
    assert "**bold** [a](javascript:x)" in page.one("section", cls="thread").text
    assert "abcright-to-left overridedefzero width space" in page.one("section", cls="thread").text
    assert all(text.attributes["dir"] == "auto" for text in page.all("div", cls="text"))


def test_a_subject_of_200_words_is_no_headline(pages: TestClient, session: Session) -> None:
    page = _page(pages, session, make_ticket(session, text=office_ticket(subject="word " * 200)))
    assert "long" in page.one("h1").classes


def test_the_ticket_links_to_where_it_came_from(pages: TestClient, session: Session) -> None:
    page = _page(pages, session, make_ticket(session, text=office_ticket(url="https://desk.example/7")))
    link = page.one("a", href="https://desk.example/7")
    assert link.attributes["rel"] == "noopener noreferrer"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://[", "//evil.example", "data:text/html,x", "ftp://x/y"])
def test_no_link_where_a_browser_should_not_go(pages: TestClient, session: Session, url: str) -> None:
    page = _page(pages, session, make_ticket(session, text=office_ticket(url=url)))
    assert "open in the ticketing system" not in page.words


def test_a_revision_whose_text_retention_took_keeps_its_verdict(
    pages: TestClient, session: Session, engine: Engine
) -> None:
    ticket = _judged(session)
    revision = _revision(session, ticket)
    revision.recorded_at = now() - timedelta(days=401)
    make_escalation(session, revision, evidence=[CITED])
    triage = make_triage(session, revision)
    triage.answer = {**triage.answer, "rules": [{"rule": "security_incident", "evidence": CITED}]}
    session.commit()
    assert retention.remove(engine, moment=now(), deliveries=timedelta(days=30)).revisions == 1
    session.expire_all()
    page = _page(pages, session, ticket)
    assert "The text of this revision was removed" in page.one("section", cls="thread").words
    assert "Fail 57" in page.one("section", id="verdict").words
    assert page.one("li", id="f-root_cause")
    assert "LT-204" not in page.text


def test_a_ticket_of_ten_thousand_lines_is_shown_whole(pages: TestClient, session: Session) -> None:
    page = _page(pages, session, make_ticket(session, text=office_ticket(description="line\n" * 10_000)))
    assert page.one("li", id="L10006")
