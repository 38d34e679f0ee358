"""A lead's first day in a real browser: from the link of the first start to the week's report.

That an edit is tried, approved and taken back in a browser is in test_browser.py.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import select

from app import links, periods, reports
from app.audit import MACHINE
from app.clock import now
from app.tables import Ticket, User
from app.web.app import create_app
from tests import demo
from tests.factories import make_context
from tests.serving import serving
from tests.test_browser import ARGUMENTS, CHROMIUM, Watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.settings import Settings
    from app.vault import Vault

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install chromium to run the browser tests")

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def tab(browser: Browser, engine: Engine, vault: Vault, settings: Settings) -> Iterator[Watched]:
    """A stranger's, at a service that was just started for the first time."""
    with serving(create_app(engine=engine, vault=vault, settings=settings)) as url:
        context = browser.new_context(base_url=url, viewport={"width": 1440, "height": 900})
        watched = Watched(context)
        yield watched
        context.close()
        assert watched.complaints == []


def test_the_first_day(tab: Watched, engine: Engine, session: Session, settings: Settings) -> None:
    page = tab.page
    _comes_in_by_the_link(page, session)
    demo.fill(session)
    _signs_out_and_in_again(page)
    _decides(page, session)
    _checks_blindly(page)
    _reads_the_report(page, engine, settings)


def _comes_in_by_the_link(page: Page, session: Session) -> None:
    make_context(session)
    token = links.first(session, now=now())
    session.commit()
    page.goto("/")
    assert "/sign-in" in page.url
    page.goto(f"/welcome/{token}")
    page.get_by_label("E-mail").fill("lena@example.com")
    page.get_by_label("Name").fill("Lena Lead")
    for field in page.locator("input[type=password]").all():
        field.fill(PASSWORD)
    page.locator("main form button").first.click()
    page.wait_for_url(lambda address: "welcome" not in address)
    assert session.scalars(select(User.role)).all() == ["admin"]


def _signs_out_and_in_again(page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in*")
    page.get_by_label("E-mail").fill("lena@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda address: "sign-in" not in address)


def _decides(page: Page, session: Session) -> None:
    page.goto("/?verdict=fail")
    page.locator("[data-row]").first.click()
    page.wait_for_url("**/tickets/*")
    ticket = int(page.url.partition("/tickets/")[2].partition("#")[0])
    page.get_by_role("button", name="Confirm").first.click()
    page.wait_for_url("**/tickets/*#decision")
    session.expire_all()
    assert session.get_one(Ticket, ticket).decision == "fail"


def _checks_blindly(page: Page) -> None:
    page.goto("/audit")
    page.get_by_role("button", name="unseen").click()
    page.wait_for_url("**/audit/*")
    assert "score" not in page.locator("main").inner_text().lower()
    page.get_by_label("Pass", exact=True).check()
    page.get_by_role("button", name="Save, then compare").click()
    page.locator("table.compared").wait_for()
    assert "machine" in page.locator(".lead").inner_text()


def _reads_the_report(page: Page, engine: Engine, settings: Settings) -> None:
    week = periods.key_of((now() - timedelta(days=7)).date())
    reports.make_plainly(engine, settings, week, actor=MACHINE, at=now())
    page.goto(f"/reports/{week}")
    assert week in page.content()
    page.goto("/dashboard")
    assert page.locator("svg").count() > 3
