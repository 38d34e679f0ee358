"""`/rescores` and the page of each: the cost before it begins, how far it is, which verdicts would change and why."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from app import comparing
from app.clock import now
from app.comparing import Comparison, Move
from app.tables import Rescore, RescoreResult, Revision, Ticket, Verdict, Viewing
from app.web.app import create_app
from tests.browsers import signed_in
from tests.factories import make_context, make_model_state, make_run, make_ticket, make_verdict, office_ticket
from tests.markup import read
from tests.rescored import begun, version_with

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.settings import Settings
    from app.tables import User
    from app.vault import Vault
    from tests.markup import Element

MOVED = Comparison(
    ("the critical criterion <root cause> is not met",),
    (
        Move("root_cause", "Root cause", "met", "not_met", "The note <b>says</b> nothing.", reworded=True),
        Move("tone", "Tone", None, "partly", "It is curt.", reworded=False),
        Move("follow_up", "", "met", None, "", reworded=False),
    ),
)


def page(client: TestClient, address: str, code: int = 200, **headers: str) -> Element:
    answer = client.get(address, headers=headers)
    assert answer.status_code == code, answer.text
    return read(answer.text)


def words(client: TestClient, address: str, code: int = 200) -> str:
    return page(client, address, code).one("main").words


@pytest.fixture
def version(session: Session) -> str:
    make_context(session)
    make_model_state(session)
    for outcome in ("pass", "fail", "pass", "pass"):
        ticket = make_ticket(session, text=office_ticket(subject="<i>VPN</i> drops"))
        make_verdict(session, session.get_one(Revision, ticket.revision_id), outcome=outcome, engine_version=2)
    make_ticket(session)
    session.commit()
    return version_with(session)


@pytest.fixture
def row(session: Session, settings: Settings, version: str) -> Rescore:
    return begun(session, settings, version)


def fill(session: Session, row: Rescore, *new: str, **columns: object) -> None:
    """So many of its tickets have these verdicts; the first that is another than before has moved findings."""
    found = session.scalars(select(RescoreResult).where(RescoreResult.rescore_id == row.id).order_by("revision_id"))
    for result, outcome in zip(found, new, strict=False):
        old = session.get_one(Verdict, result.verdict_id).outcome
        told = MOVED if old != outcome else Comparison(("all is met",), ())
        result.outcome, result.comparison, result.moved = outcome, comparing.document(told), bool(told.moves)
    session.execute(
        update(Rescore).where(Rescore.id == row.id).values(**{"state": "done", "model": "claude-haiku-5-5", **columns})
    )
    session.commit()


def test_the_list_leads_to_the_form_and_says_what_for(pages: TestClient, version: str) -> None:
    shown = words(pages, "/rescores")
    assert "Nothing was re-scored yet" in shown
    assert f"{version[:12]} · never in force" in shown
    assert "re-scoring" in words(pages, "/context")
    tried = page(pages, f"/context/{version}")
    assert f"/rescores?context={version}" in [link.attributes["href"] for link in tried.all("a")]
    options = page(pages, f"/rescores?context={version}").all("option")
    assert [one.attributes["value"] for one in options if "selected" in one.attributes] == [version]


def test_the_cost_stands_there_before_anything_begins_and_the_confirmed_window_counts(
    pages: TestClient, session: Session, version: str
) -> None:
    shown = words(pages, f"/rescores?since=30d&until=&context={version}")
    assert "1 more have no verdict yet" in shown
    assert "what the last calls of each agent with this model did cost on average" in shown
    form = page(pages, f"/rescores?since=30d&context={version}").one("form", method="post", action="/rescores")
    fields = {one.attributes["name"]: one.attributes["value"] for one in form.all("input")}
    assert session.scalars(select(Rescore)).all() == []
    answer = pages.post("/rescores", data=fields, follow_redirects=False)
    row = session.scalars(select(Rescore)).one()
    assert (answer.status_code, answer.headers["location"]) == (303, f"/rescores/{row.id}")
    assert (row.tickets, row.calls, row.since.isoformat()) == (4, 8, fields["since"])
    assert "Waiting waiting for its turn" in words(pages, f"/rescores/{row.id}").replace("Waiting for", "waiting for")


@pytest.fixture
def asking_pages(engine: Engine, vault: Vault, settings: Settings, session: Session, lead: User) -> TestClient:
    """Of an install that asks the strong model where the worker abstains."""
    asking = settings.model_copy(update={"strong_on_abstention": True})
    return signed_in(create_app(engine=engine, vault=vault, settings=asking), session, lead)


def test_what_the_strong_model_may_take_stands_there_too(
    pages: TestClient, asking_pages: TestClient, session: Session, version: str
) -> None:
    make_model_state(session, role="strong", model="claude-sonnet-5-5")
    make_run(session, model="claude-sonnet-5-5", purpose="strong", cost_usd=Decimal("0.0052"))
    session.commit()
    address = f"/rescores?since=30d&context={version}"
    assert "is asked too" not in words(pages, address)
    shown = words(asking_pages, address)
    assert "claude-sonnet-5-5 is asked too where the worker leaves open what decides" in shown
    assert "for up to 4 tickets, about $0.021. If as often as in the verdicts that stand, for 0." in shown
    assert "and what the strong model takes" in shown


def test_what_cannot_be_wanted_comes_back_with_the_form(pages: TestClient, session: Session, version: str) -> None:
    for query, said in (
        ("since=soon", "is no time"),
        ("since=2d&until=3d", "The window is empty"),
        ("since=2020-01-01&until=2020-02-01", "No finished ticket with a verdict"),
        ("since=30d&context=0000000000", "There is no context version"),
        ("since=30d&context=%00", "at least 6 characters"),
    ):
        given = query if "context" in query else f"{query}&context={version}"
        shown = page(pages, f"/rescores?{given}", 422)
        assert said in shown.one("main").words, query
        assert pages.post("/rescores", data=dict(part.split("=") for part in given.split("&"))).status_code == 422
    assert session.scalars(select(Rescore)).all() == []


def test_a_viewer_sees_what_was_found_and_begins_nothing(
    viewer_pages: TestClient, session: Session, row: Rescore
) -> None:
    shown = page(viewer_pages, f"/rescores?since=30d&context={row.context_version}")
    assert [form.attributes["action"] for form in shown.one("main").all("form")] == []
    fill(session, row, "fail", "fail")
    assert "1 verdict would change" in words(viewer_pages, f"/rescores/{row.id}")


def test_what_would_change_is_counted_listed_and_explained(pages: TestClient, session: Session, row: Rescore) -> None:
    fill(session, row, "fail", "fail", "pass", "escalate")
    make_run(session, rescore_id=row.id)
    session.commit()
    shown = page(pages, f"/rescores/{row.id}")
    told = shown.one("main").words
    assert "2 verdicts would change" in told
    assert "2 keep their verdict" in told
    cells = [cell.words for cell in shown.all("tbody")[0].all("td")]
    assert cells == ["1", "1", "1", "0", "1", "0", "0", "0", "0"]
    assert "Root cause: met → not met (in other words) The note <b>says</b> nothing." in told
    assert "Tone: not asked → partly met (asked by this version) It is curt." in told
    assert "Follow-up: met → not asked (this version does not ask it)" in told
    assert "Now decided by: The critical criterion <root cause> is not met." in told
    assert "<i>VPN</i> drops" in told
    assert "1 answer paid, by claude-haiku-5-5, $0.00041; it was expected to take 8 calls" in told
    tickets = [link.attributes["href"] for link in shown.one("ul", cls="changed").all("a")]
    found = session.scalars(select(RescoreResult).order_by(RescoreResult.revision_id)).all()
    assert tickets == [f"/tickets/{found[n].ticket_id}?revision={found[n].revision_id}" for n in (3, 0)]
    one = page(pages, f"/rescores/{row.id}?old=pass&new=fail")
    assert len(one.one("ul", cls="changed").all("li", cls="")) == 1 + len(MOVED.moves)
    same = words(pages, f"/rescores/{row.id}?old=pass&new=pass")
    assert "No finding moved." in same
    assert "Which, and why" in words(pages, f"/rescores/{row.id}?old=pass&new=x")


def test_a_lead_who_reads_it_has_seen_the_machine_s_word_on_these_tickets(
    pages: TestClient, session: Session, row: Rescore
) -> None:
    fill(session, row, "fail", "fail", "pass", "escalate")
    pages.get(f"/rescores/{row.id}")
    shown = session.scalars(select(RescoreResult.revision_id).order_by(RescoreResult.revision_id)).all()
    assert set(session.scalars(select(Viewing.revision_id))) == {shown[0], shown[3]}


def test_it_moves_by_itself_while_it_is_under_way_and_can_be_cancelled(
    pages: TestClient, session: Session, row: Rescore
) -> None:
    fill(session, row, "fail", "fail", state="running")
    whole = page(pages, f"/rescores/{row.id}")
    assert whole.one(id="rescore").attributes["hx-get"] == f"/rescores/{row.id}"
    part = pages.get(f"/rescores/{row.id}", headers={"HX-Request": "true"}).text
    assert "<html" not in part
    assert "2 of 4 tickets judged" in read(part).words
    answer = pages.post(f"/rescores/{row.id}/cancel", follow_redirects=False)
    shown = page(pages, answer.headers["location"])
    assert "Cancelled. What was judged by then is below" in shown.one("main").words
    assert "hx-get" not in shown.one(id="rescore").attributes
    assert pages.post(f"/rescores/{row.id}/cancel").status_code == 409
    assert "Cancelled" in words(pages, "/rescores")


def test_what_its_numbers_do_not_prove_stands_beside_them(pages: TestClient, session: Session, row: Rescore) -> None:
    fill(session, row, "fail", "fail", "pass", model="none")
    told = words(pages, f"/rescores/{row.id}")
    assert "No model was configured, so criteria that need judgement are not scored" in told
    session.execute(update(Verdict).values(panel="claude-opus-4"))
    session.execute(update(RescoreResult).where(RescoreResult.outcome.is_(None)).values(note="it is gone"))
    fill(session, row, model="claude-haiku-5-5", finished_at=now())
    told = words(pages, f"/rescores/{row.id}")
    assert "4 of the verdicts that stand were given by another model" in told
    assert "1 could not be judged" in told
    assert "It is gone." in told
    fill(session, row, state="failed", note="it was begun with another model")
    assert "Failed It was begun with another model." in words(pages, f"/rescores/{row.id}")
    assert words(pages, "/rescores/999999", 404)
    assert session.scalars(select(Ticket.outcome)).all().count("fail") == 1
