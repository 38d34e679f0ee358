"""`/reports` and `/reports/{week}`: the list, the report, made again, sent again, and addresses that are none."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from app import clock, mail
from app.settings import Settings
from app.tables import AuditEvent, Mail
from tests.browsers import signed_in
from tests.factories import make_report, make_ticket
from tests.markup import Element, read

if TYPE_CHECKING:
    from fastapi import FastAPI
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.tables import User

NOW = datetime.fromisoformat("2026-11-25T10:00:00+00:00")
MAILING = {
    "smtp_url": "smtp://mail.example.com",
    "mail_from": "qc@example.com",
    "mail_to": "a@example.com, b@example.com",
}


@pytest.fixture(autouse=True)
def _wednesday(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


def _page(pages: TestClient, address: str, status: int = 200) -> Element:
    answer = pages.get(address)
    assert answer.status_code == status, answer.text
    return read(answer.text)


def _mailing(pages: TestClient, session: Session, user: User) -> TestClient:
    """The same application, with mail set up."""
    app: FastAPI = pages.app  # type: ignore[assignment]  # what create_app made
    app.state.settings = Settings(_env_file=None, **{"data_dir": app.state.settings.data_dir, **MAILING})
    return signed_in(app, session, user)


def _came(session: Session, at: datetime) -> None:
    make_ticket(session)
    session.execute(text("update revisions set recorded_at = :at"), {"at": at})
    session.commit()


def test_a_fresh_install_says_when_there_will_be_one(pages: TestClient) -> None:
    words = _page(pages, "/reports").words
    assert "No week is over yet" in words
    assert "TICKETQC_SMTP_URL" in words


def test_every_week_since_the_first_ticket_is_listed_and_can_be_made(
    pages: TestClient, viewer_pages: TestClient, session: Session
) -> None:
    _came(session, NOW - timedelta(days=16))  # in week 46
    make_report(session, week="2026-W47", recorded_at=NOW - timedelta(days=2))
    session.add(Mail(key="report:2026-W47:a@example.com", address="a@example.com", state="sent"))
    session.add(Mail(key="report:2026-W47:b@example.com", address="b@example.com", state="failed", note="550 no"))
    session.commit()
    rows = _page(pages, "/reports").one("tbody").all("tr")
    assert [row.one("span", **{"class": "id"}).words for row in rows] == ["2026-W47", "2026-W46"]
    assert "sent to 1" in rows[0].words
    assert "1 not sent for certain" in rows[0].words
    assert [form.attributes["action"] for form in rows[1].all("form")] == ["/reports/2026-W46/again"]
    assert not _page(viewer_pages, "/reports").one("tbody").all("form")


def test_a_report_is_shown_as_it_was_written(pages: TestClient, session: Session) -> None:
    markdown = "# Week 47 of 2026\n\nAll <b>is</b> well.\n\n## Cost\n\n| For | calls |\n| --- | ----: |\n| all | 3 |\n"
    make_report(session, week="2026-W47", opening_by="claude-sonnet-5-5")
    make_report(session, week="2026-W47", markdown=markdown, opening_by="claude-sonnet-5-5")
    session.commit()
    page = _page(pages, "/reports/2026-W47")
    assert page.one("h1").words == "Week 47 of 2026"
    article = page.one("article")
    assert "All <b>is</b> well." in article.words
    assert [cell.words for cell in article.all("td")] == ["all", "3"]
    assert "the newest of 2" in page.words
    assert "by claude-sonnet-5-5" in page.words


@pytest.mark.parametrize(
    ("week", "said"),
    [
        ("2026-W48", "is not over yet"),
        ("2031-W01", "is not over yet"),
        ("2026-W99", "There is no such week; one is called 2026-W48"),
        ("%00", "There is no such week"),
        ("2026-W46", "There is no report about 2026-W46 yet"),
    ],
)
def test_a_week_without_a_report_says_why(pages: TestClient, week: str, said: str) -> None:
    assert said in _page(pages, f"/reports/{week}", 404).words
    if week != "2026-W46":
        assert pages.post(f"/reports/{week}/again").status_code == 404
    assert pages.post(f"/reports/{week}/mail").status_code == 404


def test_a_lead_asks_for_a_report_and_waits_for_it(pages: TestClient, session: Session) -> None:
    _came(session, NOW - timedelta(days=9))
    for _ in range(2):
        answer = pages.post("/reports/2026-W47/again")
        assert (answer.status_code, answer.headers["location"]) == (303, "/reports?asked=2026-W47")
    jobs = session.scalars(text("select task_name from procrastinate.procrastinate_jobs")).all()
    assert jobs == ["report_again"]
    assert "is being made" in _page(pages, "/reports?asked=2026-W47").words
    first = make_report(session, week="2026-W47")
    session.commit()
    assert "is being made" not in _page(pages, "/reports?asked=2026-W47").words
    assert pages.post("/reports/2026-W47/again").headers["location"] == f"/reports/2026-W47?after={first.id}"
    waiting = _page(pages, f"/reports/2026-W47?after={first.id}")
    assert waiting.one("div", id="report").attributes["hx-trigger"] == "every 2s"
    make_report(session, week="2026-W47")
    session.commit()
    done = _page(pages, f"/reports/2026-W47?after={first.id}")
    assert "Made again. This is the new one." in done.words
    assert "hx-trigger" not in done.one("div", id="report").attributes
    assert set(session.scalars(select(AuditEvent.subject))) == {"report:2026-W47"}


def test_mail_says_how_it_went_and_a_lead_sends_it_again(pages: TestClient, session: Session, lead: User) -> None:
    make_report(session, week="2026-W47")
    session.commit()
    assert "Reports can come by mail" in _page(pages, "/reports/2026-W47").words
    assert pages.post("/reports/2026-W47/mail").status_code == 409
    mailing = _mailing(pages, session, lead)
    old = NOW - mail.IN_FLIGHT
    session.add(Mail(key="report:2026-W47:a@example.com", address="a@example.com", state="sending", changed_at=old))
    session.commit()
    words = _page(mailing, "/reports/2026-W47").words
    assert "a@example.com nobody knows whether it arrived" in words
    assert "b@example.com not sent yet" in words
    assert "it may come twice" in words
    answer = mailing.post("/reports/2026-W47/mail")
    assert answer.headers["location"] == "/reports/2026-W47?mailed=1"
    assert session.scalars(text("select task_name from procrastinate.procrastinate_jobs")).all() == ["mail"]
    for address in ("a", "b"):
        row = Mail(key=f"report:2026-W47:{address}@example.com", address=f"{address}@example.com", state="sent")
        session.merge(row)
    session.commit()
    assert mailing.post("/reports/2026-W47/mail").status_code == 409
    assert not _page(mailing, "/reports/2026-W47").all("form", action="/reports/2026-W47/mail")
