"""`/operations` with its replay, and `/context/{version}`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from agents.context import FILES
from app.clock import now
from app.tables import Delivery, Mail
from tests.factories import (
    make_connection,
    make_context,
    make_delivery,
    make_model_state,
    make_ticket,
    shipped_context,
)
from tests.markup import Element, read

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient


def _page(pages: TestClient, address: str = "/operations", **headers: str) -> Element:
    answer = pages.get(address, headers=headers)
    assert answer.status_code == 200, answer.text
    return read(answer.text)


def _section(page: Element, name: str) -> Element:
    return page.one("section", **{"aria-labelledby": f"{name}-title"})


def _facts(section: Element) -> dict[str, str]:
    return {fact.one("dt").words: fact.one("dd").words for fact in section.one("dl").all("div")}


def test_a_fresh_install_says_what_there_is_to_do(pages: TestClient) -> None:
    page = _page(pages)
    assert _facts(_section(page, "jobs")) == {"Waiting": "0", "Running": "0", "Failed": "0"}
    assert "None. A delivery that cannot be read is kept here" in _section(page, "parked").words
    assert "ticketqc connection add helpdesk --scheme path" in _section(page, "connections").words
    assert "has not looked its models up yet" in _section(page, "models").words
    assert _facts(_section(page, "versions"))["Clock"] == "has not ticked yet"
    assert _facts(_section(page, "versions"))["Context in force"] == "none yet"
    assert not page.all("form", action="/operations/replay")


def test_a_mail_that_did_not_go_out_is_told(pages: TestClient, session: Session) -> None:
    for address, state, note, old in (
        ("a@example.com", "sent", "", 9),
        ("b@example.com", "failed", "the server refused it: 550 no", 0),
        ("c@example.com", "sending", "", 0),
        ("d@example.com", "sending", "", 9),
    ):
        at = now() - timedelta(minutes=old)
        session.add(Mail(key=f"report:2026-W47:{address}", address=address, state=state, note=note, changed_at=at))
    session.commit()
    rows = _section(_page(pages), "mail").one("tbody").all("tr")
    assert [row.all("td")[1].words for row in rows] == ["d@example.com", "b@example.com"]
    assert "Nobody knows whether it arrived." in rows[0].words
    assert "The server refused it: 550 no." in rows[1].words


def test_work_is_counted(pages: TestClient, session: Session) -> None:
    for state in ("waiting_model", "running", "parked", "parked"):
        make_ticket(session, review_state=state)
    for status in ("todo", "failed"):
        session.execute(
            text("insert into procrastinate.procrastinate_jobs (queue_name, task_name, status) values ('q', :t, :s)"),
            {"t": "review", "s": status},
        )
    session.commit()
    page = _page(pages)
    assert _facts(_section(page, "reviews")) == {"Waiting": "1", "Running": "1", "Parked": "2"}
    jobs = _section(page, "jobs")
    assert _facts(jobs)["Waiting"] == "1 oldest: just now"
    assert _facts(jobs)["Failed"] == "1 the worker's log says why"
    assert [cell.words for cell in jobs.one("tbody").all("td")] == ["judge finished tickets", "1", "0", "1"]


def test_models_say_their_state_and_how_to_choose(pages: TestClient, session: Session) -> None:
    make_model_state(session, state="downloading", model="tiny-1b", demonstration=True, progress=0.5, detail="part 3")
    make_model_state(session, role="strong", state="failed", model="claude-sonnet-5-5", detail="no key")
    session.commit()
    section = _section(_page(pages), "models")
    worker, strong = (row.words for row in section.one("tbody").all("tr"))
    assert worker == "Worker: triage and quality control tiny-1b demonstration downloading 50 % part 3 just now"
    assert strong == "Strong: chief of staff claude-sonnet-5-5 cannot be used no key just now"
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "TICKETQC_WORKER_MODEL"):
        assert name in section.words


def test_versions_and_ticks(pages: TestClient, session: Session) -> None:
    context = make_context(session)
    for key in ("resume:2026-11-23T08:59", "resume:2026-11-23T09:00", "retention:2026-11-22"):
        session.execute(text("insert into ticks (key) values (:key)"), {"key": key})
    session.commit()
    facts = _facts(_section(_page(pages), "versions"))
    assert facts["Context in force"] == f"{context.version[:12]}, released just now (first start)"
    assert facts["Clock: last time to take up waiting tickets"] == "just now"
    assert facts["Clock: last time to remove old texts"] == "just now"
    assert facts["Database"].startswith("PostgreSQL ")


def test_connections_count_and_lead_to_their_tickets(pages: TestClient, session: Session) -> None:
    make_delivery(session, connection=make_connection(session, name="a-desk", rejected=4))
    session.commit()
    section = _section(_page(pages), "connections")
    assert [cell.words for cell in section.one("tbody").all("td")] == ["a-desk", "Standard Webhooks", "1", "0", "4"]
    assert section.one("a").attributes["href"] == "/?source=a-desk"


def test_parked_deliveries_show_reason_and_age_and_can_be_replayed(pages: TestClient, session: Session) -> None:
    connection = make_connection(session)
    reason = "status: '<b>Awaiting</b>' is not mapped"
    parked = make_delivery(
        session, connection=connection, state="parked", reason=reason, received_at=now() - timedelta(hours=3, minutes=1)
    )
    gone = make_delivery(session, connection=connection, state="parked", reason="too old", body=None)
    session.commit()
    section = _section(_page(pages), "parked")
    first, second = section.one("tbody").all("tr")
    assert first.words == f"helpdesk {reason} 3 h Replay"
    assert "its body was removed" in second.words
    assert [button.words for button in section.all("button")] == ["Replay all", "Replay"]

    answer = pages.post("/operations/replay", data={"delivery": str(parked.id)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/operations?replayed=1")
    assert session.scalars(select(Delivery.state).order_by(Delivery.id)).all() == ["received", "parked"]
    jobs = session.execute(text("select task_name, args from procrastinate.procrastinate_jobs")).all()
    assert [tuple(job) for job in jobs] == [("intake", {"delivery_id": parked.id})]
    said = _page(pages, "/operations?replayed=1").one("p", cls="flash")
    assert said.words.startswith("1 delivery is being read again.")
    assert gone.state == "parked"


def test_all_are_replayed_at_once_and_a_second_click_finds_none(pages: TestClient, session: Session) -> None:
    for _ in range(3):
        make_delivery(session, state="parked", reason="unreadable")
    session.commit()
    assert pages.post("/operations/replay").headers["location"] == "/operations?replayed=3"
    again = pages.post("/operations/replay")
    assert again.headers["location"] == "/operations?replayed=0"
    assert "Nothing was left to replay." in _page(pages, "/operations?replayed=0").one("p", cls="flash").words


def test_a_viewer_sees_what_is_stuck_and_has_no_button(viewer_pages: TestClient, session: Session) -> None:
    delivery = make_delivery(session, connection=make_connection(session), state="parked", reason="unreadable")
    session.commit()
    section = _section(_page(viewer_pages), "parked")
    assert "unreadable" in section.words
    assert "A lead can replay them" in section.words
    assert section.all("form") == []
    assert viewer_pages.post("/operations/replay").status_code == 403
    session.refresh(delivery)
    assert delivery.state == "parked"


def test_a_long_list_says_how_long(pages: TestClient, session: Session) -> None:
    connection = make_connection(session)
    for _ in range(1_002):
        make_delivery(session, connection=connection, state="parked", reason="unreadable")
    session.commit()
    section = _section(_page(pages), "parked")
    assert section.one("h2").words == "Parked deliveries 1,000+"
    assert len(section.one("tbody").all("tr")) == 50


@pytest.mark.parametrize("body", [{"delivery": "x"}, {"delivery": "9" * 40}])
def test_a_form_that_we_did_not_make_replays_nothing(pages: TestClient, session: Session, body: dict[str, str]) -> None:
    delivery = make_delivery(session, state="parked", reason="unreadable")
    session.commit()
    assert pages.post("/operations/replay", data=body).status_code == 404
    session.refresh(delivery)
    assert delivery.state == "parked"


def test_looking_never_changes(pages: TestClient) -> None:
    assert pages.get("/operations/replay").status_code == 405


def test_htmx_gets_the_page_s_content_alone(pages: TestClient) -> None:
    part = _page(pages, **{"HX-Request": "true"})
    assert part.one("div", id="operations")
    assert not part.all("html")


def test_a_context_version_shows_its_exact_texts(pages: TestClient, session: Session) -> None:
    context = make_context(session)
    session.commit()
    page = _page(pages, f"/context/{context.version}")
    assert [heading.words for heading in page.one("main").all("h2")] == list(FILES)
    assert [source.text for source in page.all("pre", cls="source")] == [context.files[name] for name in FILES]
    assert "In force now." in page.words


def test_a_version_that_never_went_live_says_so(pages: TestClient, session: Session) -> None:
    make_context(session, release=False)
    session.commit()
    assert "Released never" in _page(pages, f"/context/{shipped_context().version}").one("main").words


@pytest.mark.parametrize("version", ["none", "%00", "%27", "a" * 5_000])
def test_an_unknown_version_is_not_found(pages: TestClient, version: str) -> None:
    assert pages.get(f"/context/{version}").status_code == 404
