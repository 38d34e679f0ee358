"""`/dashboard`: charts that say what they show, no trend where there is none, and the numbers behind each."""

from __future__ import annotations

import csv
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from app.clock import now
from app.shares import Share
from app.tables import Revision
from app.web import charts
from tests.factories import finding, make_run, make_ticket, make_verdict, shipped_context
from tests.markup import Element, read

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from agents.verdict import Result

CAUSE = shipped_context().rubric.criteria[0]


def _page(pages: TestClient, address: str = "/dashboard") -> Element:
    answer = pages.get(address)
    assert answer.status_code == 200, answer.text
    return read(answer.text)


def _title(page: Element, chart: str) -> str:
    return page.one("figure", id=chart).one("h2").words


def judge(session: Session, number: int, *, days: int, result: Result, live: bool = True) -> None:
    at = now() - timedelta(days=days)
    for _ in range(number):
        ticket = make_ticket(session)
        revision = session.get_one(Revision, ticket.revision_id)
        verdict = make_verdict(
            session, revision, outcome="pass" if result == "met" else "fail", findings=[finding(CAUSE.id, result)]
        )
        verdict.recorded_at = revision.recorded_at = at
        revision.live = live
        make_run(session, revision=revision, recorded_at=at, cost_usd=Decimal("0.01"))
    session.commit()


def test_an_empty_dashboard_says_what_fills_it(pages: TestClient) -> None:
    page = _page(pages)
    assert "No tickets were judged in eight weeks" in page.words
    assert not page.all("figure")


def test_each_chart_says_its_finding_and_has_its_numbers(pages: TestClient, session: Session) -> None:
    judge(session, 9, days=1, result="not_met")
    judge(session, 3, days=2, result="met")
    judge(session, 20, days=9, result="met")
    page = _page(pages)
    assert _title(page, "verdicts") == "12 verdicts: 3 pass, 9 fail, 0 went to a person"
    assert _title(page, "fail-rate") == "Of tickets that pass or fail, 75 % fail, up from 0 %"
    assert _title(page, "criteria") == f"{CAUSE.title} is not met in 75 % of tickets, up from 0 %"
    assert _title(page, "cost") == "$0.12 paid, $0.010 a ticket"
    for drawn in page.all("svg", role="img"):
        named = drawn.attributes["aria-labelledby"].split()
        assert [part.attributes["id"] for part in (drawn.one("title"), drawn.one("desc"))] == named
    answer = pages.get("/dashboard?csv=verdicts")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'attachment; filename="ticketqc-verdicts-' in answer.headers["content-disposition"]
    rows = list(csv.reader(answer.text.splitlines()))
    assert rows[0] == ["seven days up to", "pass", "fail", "to a person", "judged"]
    assert [row[1:] for row in rows[-2:]] == [["20", "0", "0", "20"], ["3", "9", "0", "12"]]
    assert len(rows) == 9
    assert [cell.words for cell in page.one("figure", id="fail-rate").one("tbody").all("tr")[-1].all("td")][1:4] == [
        "9",
        "12",
        "75 %",
    ]
    assert pages.get("/dashboard?csv=cost").text.endswith(",0.12\r\n")
    for chart in ("fail-rate", "criteria", "cost", "failures"):
        assert pages.get(f"/dashboard?csv={chart}").status_code == 200


def test_a_week_without_a_judgement_draws_nothing(pages: TestClient, session: Session) -> None:
    make_ticket(session)
    session.commit()
    page = _page(pages)
    assert _title(page, "verdicts") == "No tickets were judged"
    assert _title(page, "fail-rate") == "No ticket passed or failed"
    assert _title(page, "criteria") == "Too few tickets to say which criterion is missed most"
    assert _title(page, "cost") == "No model was asked, nothing was paid"
    assert _title(page, "failures") == "No failure of an agent was seen"


def test_few_tickets_make_no_trend(pages: TestClient, session: Session) -> None:
    judge(session, 4, days=1, result="not_met")
    judge(session, 20, days=9, result="met")
    page = _page(pages)
    assert _title(page, "fail-rate") == "Too few tickets to say how many fail: 4 of 4"
    assert _title(page, "criteria") == "Too few tickets to say which criterion is missed most"
    judge(session, 12, days=1, result="met")
    assert _title(_page(pages), "fail-rate") == "Of tickets that pass or fail, 25 % fail, no clear change from 0 %"


def test_imported_history_is_shown_where_it_is_asked_for(pages: TestClient, session: Session) -> None:
    judge(session, 10, days=1, result="not_met", live=False)
    words = _page(pages).words
    assert "10 tickets of imported history came" in words
    assert _title(_page(pages, "/dashboard?tickets=all"), "verdicts").startswith("10 verdicts")
    assert "csv=verdicts" in pages.get("/dashboard?tickets=all").text
    assert list(csv.reader(pages.get("/dashboard?tickets=all&csv=verdicts").text.splitlines()))[-1][-1] == "10"


@pytest.mark.parametrize("address", ["/dashboard?csv=salaries", "/dashboard?csv=%00", "/dashboard?tickets=mine"])
def test_what_is_not_there_is_not_found(pages: TestClient, address: str) -> None:
    assert pages.get(address).status_code == 404


def test_a_cell_never_becomes_a_formula() -> None:
    chart = charts.Chart("x", "", "", ("name", "times"), (("=HYPERLINK(1)", 3), ("-1", -2), ("fine", 1.5)))
    assert list(csv.reader(chart.csv.splitlines()))[1:] == [["'=HYPERLINK(1)", "3"], ["'-1", "-2"], ["fine", "1.5"]]


def test_columns_fill_the_sheet_from_the_bottom() -> None:
    drawn = charts.columns([{"pass": 1, "fail": 3}, {"pass": 0, "fail": 2}])
    assert [(part.tone, part.y, part.height) for part in drawn] == [("pass", 75, 25), ("fail", 0, 75), ("fail", 50, 50)]
    assert charts.columns([]) == charts.columns([{"pass": 0}]) == ()


def test_a_line_is_broken_where_there_are_too_few_to_say() -> None:
    shares = [Share(5, 10), Share(5, 10), Share(1, 2), Share(10, 10)]
    drawn = charts.line(shares, top=1.0)
    assert (len(drawn.dots), len(drawn.strokes), len(drawn.bands)) == (3, 1, 1)
    assert drawn.dots[0] == (12.5, 50.0)
    assert charts.line([], top=1.0).dots == ()
    low, high = charts.share_bar("", Share(0, 10), Share(0, 0))[3:5]
    assert low == 0
    assert high == pytest.approx(27.75, abs=0.01)
