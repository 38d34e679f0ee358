"""`/`: what stands in a row, filters in the address, the empty states, hostile text, and the parts htmx asks for."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from app.clock import now
from app.queries.tickets import Cursor
from app.tables import Revision
from tests.factories import (
    finding,
    make_connection,
    make_context,
    make_escalation,
    make_model_state,
    make_ticket,
    make_verdict,
    office_ticket,
)
from tests.markup import Element, read

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.tables import Ticket

HTMX = {"HX-Request": "true"}


def _page(pages: TestClient, address: str = "/", **headers: str) -> Element:
    answer = pages.get(address, headers=headers)
    assert answer.status_code == 200, answer.text
    return read(answer.text)


def _rows(page: Element) -> list[Element]:
    return page.one("table", cls="rows").one("tbody").all("tr") if page.all("table", cls="rows") else []


def _judged(session: Session, name: str, outcome: str, **values: object) -> Ticket:
    ticket = make_ticket(session, text=office_ticket(external_id=name))
    make_verdict(session, session.get_one(Revision, ticket.revision_id), outcome=outcome, **values)  # type: ignore[arg-type]
    return ticket


def test_an_empty_desk_learns_how_to_send_a_ticket(pages: TestClient) -> None:
    page = _page(pages)
    assert page.one("h2", id="keys-title")
    shown = page.one("div", cls="empty")
    assert shown.one("h2").words == "No tickets yet"
    assert "ticketqc connection add helpdesk --scheme path" in shown.text
    assert "curl http://127.0.0.1:8000/hooks/helpdesk/TOKEN" in shown.text


def test_a_row_holds_what_a_lead_needs_to_choose(pages: TestClient, session: Session) -> None:
    ticket = _judged(session, "INC-7", "fail", score=58.9, reasons=["Root cause: not met"], demonstration=True)
    ticket.sample = True
    session.commit()
    (row,) = _rows(_page(pages))
    cells = [cell.words for cell in row.all("td")]
    assert cells[0] == "Fail 58"
    assert "VPN drops every ten minutes INC-7 sample demonstration Root cause: not met" in cells[1]
    assert cells[2:5] == ["Network", "Sam Okoro", "claude-haiku-5-5 demonstration"]
    assert cells[5] == "just now"
    assert row.one("a").attributes["href"] == f"/tickets/{ticket.id}"
    assert row.one("td", cls="number").one("time").attributes["title"].endswith("UTC")


def test_an_open_ticket_that_intake_escalated_names_the_rule(pages: TestClient, session: Session) -> None:
    make_context(session)
    ticket = make_ticket(session, text=office_ticket(status="open"))
    make_escalation(session, session.get_one(Revision, ticket.revision_id))
    session.commit()
    (row,) = _rows(_page(pages))
    assert row.all("td")[0].words == "Escalate"
    assert "escalation rule: Security incident" in row.words


def test_no_model_in_a_verdict_is_said(pages: TestClient, session: Session) -> None:
    _judged(session, "INC-7", "escalate", score=100, panel="none")
    session.commit()
    (row,) = _rows(_page(pages))
    assert row.all("td")[4].words == "checks only"
    assert row.all("td")[0].words == "Escalate"


def test_tabs_count_and_choose_verdicts(pages: TestClient, session: Session) -> None:
    for name, outcome in (("A", "fail"), ("B", "fail"), ("C", "pass"), ("D", "escalate")):
        _judged(session, name, outcome)
    session.commit()
    tabs = [(tab.words, tab.attributes["href"]) for tab in _page(pages).one("nav", cls="tabs").all("a")]
    assert tabs[:3] == [("Needs a decision 3", "/"), ("Escalate 1", "/?verdict=escalate"), ("Fail 2", "/?verdict=fail")]
    page = _page(pages, "/?verdict=fail")
    assert len(_rows(page)) == 2
    assert [tab.words for tab in page.all("a", **{"aria-current": "true"})] == ["Fail 2"]


def test_filters_stand_in_the_address_and_in_the_form(pages: TestClient, session: Session) -> None:
    make_connection(session, name="desk")
    for name, result in (("A", "not_met"), ("B", "met")):
        _judged(session, name, "fail", findings=[finding("root_cause", result)])  # type: ignore[arg-type]
    session.commit()
    page = _page(
        pages,
        "/?criterion=root_cause&q=vpn&verdict=fail&queue=Network&source=helpdesk&age=7d&assignee=Sam+Okoro&claimed=nobody",
    )
    assert len(_rows(page)) == 1
    assert page.one("p", cls="found").words == "1 ticket found. Clear the filters"
    chosen = {select.attributes["name"]: select.one("option", selected="").words for select in page.all("select")}
    assert chosen == {
        "criterion": "Root cause", "queue": "Network", "source": "helpdesk", "age": "in the last 7 days",
        "assignee": "Sam Okoro", "claimed": "nobody",
    }  # fmt: skip
    assert page.one("input", id="q").attributes["value"] == "vpn"
    assert page.one("input", name="verdict").attributes["value"] == "fail"
    assert all("criterion=root_cause" in tab.attributes["href"] for tab in page.one("nav", cls="tabs").all("a"))


def test_nothing_found_is_not_an_empty_desk(pages: TestClient, session: Session) -> None:
    make_ticket(session)
    session.commit()
    page = _page(pages, "/?q=nothing+like+it&queue=Gone")
    assert page.one("div", cls="empty").one("h2").words == "No ticket matches"
    assert page.one("p", cls="found").words == "0 tickets found. Clear the filters"
    assert page.one("option", value="Gone")


@pytest.mark.parametrize("query", ["verdict=great", "age=9y", "after=x", "after=7.1.1"])
def test_an_address_that_nobody_was_given_is_explained(pages: TestClient, query: str) -> None:
    answer = pages.get(f"/?{query}")
    assert answer.status_code == 400
    assert read(answer.text).one("h1").words == "That address cannot be read"


def test_characters_that_no_text_holds_find_nothing_and_break_nothing(pages: TestClient) -> None:
    assert pages.get("/?q=%00&queue=a%00b&source=%ff&criterion='%22").status_code == 200


def test_a_thousand_tickets_come_in_pages_that_lead_to_the_last(pages: TestClient, session: Session) -> None:
    connection = make_connection(session)
    for number in range(1_000):
        make_ticket(session, connection=connection, text=office_ticket(external_id=f"T{number}"))
    session.commit()
    page = _page(pages, "/?queue=Network&verdict=all")
    seen: list[str] = []
    while True:
        seen += [row.one("a").attributes["href"] for row in _rows(page)]
        onward = page.all("a", rel="next")
        if not onward:
            break
        page = _page(pages, onward[0].attributes["href"])
    assert len(seen) == len(set(seen)) == 1_000
    assert page.one("nav", cls="pager").words == "First page"
    assert "1,000 tickets found" in page.words


def test_hostile_and_endless_text_is_only_text(pages: TestClient, session: Session) -> None:
    hostile = '<script>alert(1)</script>" onmouseover="x \u202egnp.exe ' + "word " * 200
    text = office_ticket(subject=hostile, external_id="<b>1</b>", queue="<i>q</i>", assignee="'><img src=x>")
    ticket = make_ticket(session, text=text)
    make_verdict(session, session.get_one(Revision, ticket.revision_id), reasons=["<u>why</u>"])
    session.commit()
    page = _page(pages, "/?verdict=all")
    (row,) = _rows(page)
    assert row.one("a").text == hostile
    assert row.one("a").attributes["dir"] == "auto"
    assert "<b>1</b>" in row.words
    assert not [one for one in page.all() if one.tag in {"b", "i", "u", "img"} or "onmouseover" in one.attributes]
    assert len(page.all("script")) == 2


def test_htmx_gets_the_list_alone_and_the_address_that_it_stands_for(pages: TestClient, session: Session) -> None:
    make_ticket(session)
    session.commit()
    answer = pages.get("/?q=vpn&criterion=&queue=&verdict=all", headers=HTMX)
    assert answer.headers["hx-replace-url"] == "/?verdict=all&q=vpn"
    part = read(answer.text)
    assert len(_rows(part)) == 1
    assert part.one("section", id="queue")
    assert part.all("form") == part.all("html") == []


def test_the_list_looks_soon_where_it_moves_and_else_for_what_is_new(pages: TestClient, session: Session) -> None:
    ticket = make_ticket(session, review_state="waiting_model", review_note="waiting for the model")
    session.commit()
    section = _page(pages, "/?queue=Network&verdict=all").one("section", id="queue")
    assert section.attributes["hx-get"] == "/?verdict=all&queue=Network"
    assert section.attributes["hx-trigger"] == "every 5s"
    ticket.review_state = "open"
    session.commit()
    assert _page(pages).one("section", id="queue").attributes["hx-trigger"] == "every 30s"
    later = f"/?after={Cursor(1, now() + timedelta(days=1), 1)}"  # a page that nothing new comes to
    assert "hx-get" not in _page(pages, later).one("section", id="queue").attributes


NONE = (
    "No model is configured: checks still run, judged criteria are not scored. Set ANTHROPIC_API_KEY and restart, "
    "or run without MODEL=none to use the local demonstration model."
)
MOVING = "Checks show already; judged criteria fill in when it is ready."
FAILED = (
    "The model haiku cannot be used: the API key was not accepted. Checks still run; tickets wait for the model "
    "and lose nothing."
)
BANNERS: list[tuple[dict[str, Any], str]] = [
    ({"state": "none", "model": ""}, NONE),
    (
        {"state": "ready", "model": "tiny", "demonstration": True},
        "Verdicts come from the local demonstration model tiny: not a claim of quality.",
    ),
    ({"state": "ready", "model": "haiku"}, ""),
    (
        {"state": "downloading", "model": "tiny", "demonstration": True, "progress": 0.42},
        f"The local demonstration model tiny is being downloaded. {MOVING} 42 %",
    ),
    (
        {"state": "loading", "model": "tiny", "demonstration": True},
        f"The local demonstration model tiny is being loaded. {MOVING}",
    ),
    (
        {"state": "loading", "model": "local", "demonstration": True, "detail": "looking for the model"},
        f"The local demonstration model is being loaded: looking for the model. {MOVING}",
    ),
    ({"state": "checking", "model": "haiku"}, f"The model haiku is being looked up. {MOVING}"),
    (
        {"state": "failed", "model": "local", "demonstration": True, "detail": "it is not running"},
        FAILED.replace("model haiku", "local demonstration model").replace(
            "the API key was not accepted", "it is not running"
        ),
    ),
    ({"state": "failed", "model": "haiku", "detail": "the API key was not accepted."}, FAILED),
]


@pytest.mark.parametrize(("columns", "said"), BANNERS, ids=[str(columns["state"]) for columns, _ in BANNERS])
def test_every_page_says_what_the_model_is(
    pages: TestClient, session: Session, columns: dict[str, Any], said: str
) -> None:
    make_model_state(session, **columns)
    session.commit()
    banner = _page(pages).one("aside", id="banner")
    assert banner.words == said
    assert ("hx-get" in banner.attributes) == (columns["state"] in {"downloading", "loading", "checking"})
    assert read(pages.get("/banner").text).one("aside", id="banner").words == said


def test_before_the_first_look_the_banner_says_so(pages: TestClient) -> None:
    banner = _page(pages).one("aside", id="banner")
    assert "has not been looked up yet" in banner.words
    assert "hx-get" in banner.attributes
