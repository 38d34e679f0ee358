"""The pages in a real Chromium: nothing is blocked or fails, the keyboard works, phones fit, axe finds nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright
from sqlalchemy import select, update

from app import clock, links
from app.audit import Actor
from app.db import transaction
from app.settings import Settings
from app.tables import BlindCheck, Draft, Eval, Label, Pattern, Proposal, Replay, Rescore, Revision, Ticket, User
from app.web.app import create_app
from tests import demo, demo_reports
from tests.browsers import COOKIE, new_cookie
from tests.factories import PASSWORD, make_model_state, make_ticket, make_verdict, office_ticket, shipped_context
from tests.proposing import finish
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.vault import Vault

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Nothing, or by how much the page is too wide and what sticks out.
WIDER = """
(([page]) => page.scrollWidth <= page.clientWidth ? [] : [page.scrollWidth - page.clientWidth,
    ...[...document.querySelectorAll("main *")].filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
        .map((one) => one.outerHTML.slice(0, 120))])([document.documentElement])
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install chromium to run the browser tests")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def address(engine: Engine, session: Session, vault: Vault, settings: Settings) -> Iterator[str]:
    """A service with a desk's ordinary morning in it."""
    demo.fill(session)
    with serving(create_app(engine=engine, vault=vault, settings=settings)) as url:
        yield url


def _sign_in(context: BrowserContext, session: Session, *, address: str, role: str = "lead") -> None:
    user = session.scalars(select(User).where(User.email == f"{role}@example.com")).one()
    context.add_cookies([{"name": COOKIE, "value": new_cookie(session, user), "url": address}])


class Watched:
    """A tab whose every complaint counts."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", self._failed)

    def _said(self, said: ConsoleMessage) -> None:
        """A form that is answered with what is wrong in it, as it should be, is an error to the browser."""
        if said.type == "error" and "422 (Unprocessable" not in said.text:
            self.complaints.append(said.text)

    def _failed(self, request: Request) -> None:
        """A search that the next letter overtakes is given up, as it should be."""
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"{request.url}: {request.failure}")


@pytest.fixture
def tab(chromium: Browser, address: str, session: Session) -> Iterator[Watched]:
    """One that a lead has signed in with."""
    context = chromium.new_context(base_url=address, viewport={"width": 1440, "height": 900})
    _sign_in(context, session, address=address)
    watched = Watched(context)
    yield watched
    context.close()
    assert watched.complaints == []


def _hostile(session: Session) -> Ticket:
    word = "x" * 10_000
    text = office_ticket(subject=f"{word} " + "word " * 200, description=f"{word}\n\u202etxt.exe", queue=word[:400])
    ticket = make_ticket(session, text=text, assignee=word[:400])
    make_verdict(session, session.get_one(Revision, ticket.revision_id), outcome="fail", reasons=[word])
    session.commit()
    return ticket


# Escalated, waiting, judged twice, open.
TELLING = ("INC-2046", "INC-2044", "INC-2077", "INC-2049")


def _addresses(session: Session, *more: Ticket) -> list[str]:
    told = session.scalars(select(Ticket).where(Ticket.external_id.in_(TELLING)))
    tickets = [f"/tickets/{ticket.id}" for ticket in (*told, *more)]
    context = f"/context/{shipped_context().version}"
    patterns = ["/agents", "/patterns", *(f"/patterns/{key}" for key in session.scalars(select(Pattern.id)))]
    changed = session.scalars(select(Draft)).one()
    diff = f"/context/{changed.base_version}/diff/{changed.candidate_version}"
    patterns += ["/proposals", *(f"/proposals/{key}" for key in session.scalars(select(Proposal.id)))]
    scored = ["/rescores", f"/rescores?since=30d&context={changed.candidate_version}", "/rescores?since=soon"]
    patterns += [*scored, *(f"/rescores/{key}" for key in session.scalars(select(Rescore.id)))]
    people = ["/context", diff, "/account", "/settings", f"/welcome/{_link(session)}"]
    checks = [f"/audit/{check.id}" for check in session.scalars(select(BlindCheck))]
    decided = ["/?verdict=all", "/?verdict=decided", "/?claimed=mine", "/audit", *checks]
    compared = ["/evals", *(f"/evals/{key}" for key in session.scalars(select(Eval.id)))]
    plain = ["/", "/?verdict=fail&q=vpn", "/?q=nothing", "/operations", context, "/gone"]
    return [*plain, *decided, *people, *patterns, *_reported(session), *compared, *tickets]


def _reported(session: Session) -> list[str]:
    """Weeks to compare, and a report about the last one."""
    demo_reports.fill(session)
    week = demo_reports.written(session, Settings(_env_file=None))
    session.commit()
    return ["/dashboard", "/dashboard?tickets=all", "/reports", f"/reports/{week}"]


def _link(session: Session) -> str:
    """For somebody whose name has no end, and stands on the settings page meanwhile."""
    long = f"{'x' * 200}@example.com"
    token = links.invite(session, email=long, role="lead", actor=Actor(long), now=clock.now())
    session.commit()
    return token


def _ticket(session: Session, name: str) -> Ticket:
    return session.scalars(select(Ticket).where(Ticket.external_id == name)).one()


def test_axe_finds_nothing_on_any_page(chromium: Browser, address: str, session: Session) -> None:
    hostile = _hostile(session)
    make_model_state(session, state="downloading", model="tiny", demonstration=True, progress=0.3)
    session.commit()
    context = chromium.new_context(base_url=address, viewport={"width": 1024, "height": 900}, color_scheme="light")
    _sign_in(context, session, address=address, role="admin")
    page = context.new_page()
    for path in _addresses(session, hostile):
        page.emulate_media(color_scheme="light")
        page.goto(path)
        for fold in page.locator("details").all():
            fold.evaluate("fold => fold.open = true")
        page.evaluate(AXE.read_text())
        assert _violations(page) == [], path
        page.emulate_media(color_scheme="dark")  # colours alone are others in the dark
        assert _violations(page, "color-contrast") == [], f"{path} in the dark"
    context.close()


def _violations(page: Page, *rules: str) -> list[tuple[str, str]]:
    """What axe has against the page, by these rules or all."""
    only = {"runOnly": rules} if rules else {}
    found = page.evaluate("options => axe.run(document, options)", {"resultTypes": ["violations"], **only})
    return [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]]


def test_nothing_is_wider_than_the_screen(chromium: Browser, address: str, session: Session) -> None:
    hostile = _hostile(session)
    context = chromium.new_context(base_url=address)
    _sign_in(context, session, address=address, role="admin")
    page = context.new_page()
    for path in _addresses(session, hostile):
        page.goto(path)
        for width in (375, 1024, 1440):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(WIDER) == [], (path, width)
    context.close()


def test_j_and_k_choose_and_enter_opens(tab: Watched) -> None:
    page = tab.page
    page.goto("/")
    subjects = page.locator("a.subject")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    second = subjects.nth(1).text_content()
    assert page.evaluate("document.activeElement.textContent") == second
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/tickets/"))
    assert page.locator("h1").text_content() == second


def test_slash_searches_as_one_types_and_escape_leaves(tab: Watched) -> None:
    page = tab.page
    page.goto("/")
    page.keyboard.press("/")
    page.keyboard.type("visio")
    page.wait_for_url(re.compile(r"/\?q=visio$"))
    assert page.locator("a.subject").all_text_contents() == ["Please install Visio on PC-118"]
    assert page.locator("#q").input_value() == "visio"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.tagName") == "BODY"
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.className") == "subject clamp"


def test_a_chosen_filter_takes_effect_at_once(tab: Watched) -> None:
    page = tab.page
    page.goto("/")
    page.get_by_label("Not met").select_option("root_cause")
    page.wait_for_url(re.compile("criterion=root_cause"))
    assert "found" in (page.locator(".found").text_content() or "")
    page.reload()
    assert page.get_by_label("Not met").input_value() == "root_cause"
    page.get_by_role("link", name="Fail").click()
    page.wait_for_url(re.compile("verdict=fail"))
    assert "criterion=root_cause" in page.url


def test_question_mark_shows_the_keys(tab: Watched) -> None:
    page = tab.page
    page.goto("/operations")
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()
    page.get_by_role("button", name="Keyboard").click()
    assert page.get_by_role("dialog").is_visible()


def test_the_first_tab_stop_leads_to_the_content(tab: Watched) -> None:
    page = tab.page
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_finding_and_line_lead_to_each_other(tab: Watched, session: Session) -> None:
    page = tab.page
    ticket = _ticket(session, "INC-2046")
    page.goto(f"/tickets/{ticket.id}")
    page.locator("#f-secrets_in_ticket a.line-link").click()
    assert page.locator("li:target mark").count() == 1
    page.locator("li:target .cites a").first.click()
    assert page.evaluate("document.querySelector(':target').id") == "f-secrets_in_ticket"
    assert not page.locator("#f-work_performed").is_visible()
    page.get_by_role("link", name="Work performed").click()
    assert page.locator("#f-work_performed").is_visible()


def test_the_keyboard_walks_the_findings_and_enter_shows_the_line(tab: Watched, session: Session) -> None:
    page = tab.page
    ticket = _ticket(session, "INC-2046")
    page.goto(f"/tickets/{ticket.id}")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.id") == "r-security_incident-triage"
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.id") == "f-secrets_in_ticket"
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("#L9$"))


def test_c_confirms_on_the_second_press_and_o_opens_the_form(tab: Watched, session: Session) -> None:
    page = tab.page
    ticket = _ticket(session, "INC-2053")
    page.goto(f"/tickets/{ticket.id}")
    page.keyboard.press("c")
    assert page.evaluate("document.activeElement.textContent") == "Confirm fail"
    assert session.scalars(select(Label).where(Label.revision_id == ticket.revision_id)).all() == []
    page.keyboard.press("c")
    page.wait_for_url(re.compile("#decision"))
    assert "confirmed the verdict" in (page.locator("#decision .said").text_content() or "")
    page.keyboard.press("o")
    assert page.evaluate("document.activeElement.name") == "outcome"
    page.get_by_label("Work performed", exact=True).select_option("met")
    page.get_by_role("button", name="Save decision").click()
    assert "Choose why the machine is overruled" in (page.locator("#error-reason").text_content() or "")
    assert page.get_by_label("Work performed", exact=True).input_value() == "met"


def test_the_number_of_the_header_moves_with_the_list(tab: Watched, session: Session) -> None:
    page = tab.page
    page.goto("/")
    before = int((page.locator("#need").text_content() or "").split()[0])
    ticket = _ticket(session, "INC-2053")
    session.execute(update(Ticket).where(Ticket.id == ticket.id).values(decision="fail"))
    session.commit()
    page.get_by_label("Source").select_option("samples")
    page.wait_for_url(re.compile("source=samples"))
    page.get_by_text(f"{before - 1} need a decision").wait_for(timeout=3_000)


def test_a_replay_from_the_page_is_accepted(tab: Watched) -> None:
    page = tab.page
    page.goto("/operations")
    page.get_by_role("button", name="Replay all").click()
    page.wait_for_url(re.compile("replayed=2"))
    assert "2 deliveries are being read again" in (page.locator(".flash").text_content() or "")


def test_a_trial_ends_by_itself_and_what_is_approved_can_be_taken_back(tab: Watched, session: Session) -> None:
    page = tab.page
    session.execute(update(Replay).values(state="running", result=None))
    session.commit()
    waiting = session.scalars(select(Proposal.id).where(Proposal.state == "open")).one()
    page.goto(f"/proposals/{waiting}")
    page.get_by_text("Being tried").wait_for()
    page.get_by_label("Reason").fill("I am still thinking")
    finish(session)
    page.get_by_role("button", name="Approve and put in force").wait_for(timeout=6_000)
    assert page.get_by_label("Reason").input_value() == "I am still thinking"
    page.get_by_role("button", name="Approve and put in force").click()
    page.get_by_text("It is in force now").wait_for()
    page.get_by_role("link", name="what was in force when").click()
    page.get_by_label("Why").fill("It was a test")
    page.get_by_role("button", name="Roll back").click()
    page.get_by_text("is in force again").wait_for()
    assert page.get_by_text("rolled back by").count() == 1


def test_the_banner_and_the_list_move_by_themselves_and_then_rest(
    tab: Watched, engine: Engine, session: Session
) -> None:
    page = tab.page
    make_model_state(session, state="loading", model="tiny", demonstration=True)
    session.commit()
    page.goto("/?verdict=all")
    waiting = page.locator("tr", has_text="Shared mailbox")
    assert "Waiting" in (waiting.text_content() or "")
    page.locator("a.subject").nth(2).focus()
    kept = page.evaluate("document.activeElement.href")
    with transaction(engine) as other:
        make_model_state(other, state="ready", model="tiny", demonstration=True)
        ticket = _ticket(other, "INC-2044")
        make_verdict(other, other.get_one(Revision, ticket.revision_id), outcome="pass", demonstration=True)
    page.get_by_text("Verdicts come from the local demonstration model tiny").wait_for(timeout=6_000)
    waiting.get_by_text("Pass").wait_for(timeout=8_000)
    assert page.evaluate("document.activeElement.href") == kept
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(5_500)
    assert asked == []


def test_an_open_fold_stays_open_while_the_page_fills_in(tab: Watched, session: Session) -> None:
    page = tab.page
    ticket = _ticket(session, "INC-2044")
    page.goto(f"/tickets/{ticket.id}")
    page.locator("summary", has_text="Met").first.click()
    with page.expect_response(lambda answer: answer.url.endswith(f"/tickets/{ticket.id}"), timeout=6_000):
        pass
    page.wait_for_timeout(300)
    assert page.locator("details[data-group][open]").count() == 1
    assert page.locator("header.top").count() == 1


def test_everything_works_without_script(chromium: Browser, address: str) -> None:
    context = chromium.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/?verdict=")
    page.get_by_label("E-mail").fill("lead@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    assert page.url == f"{address}/?verdict="
    page.get_by_label("Search").fill("visio")
    page.get_by_role("button", name="Filter").click()
    assert page.locator("a.subject").count() == 1
    page.locator("a.subject").click()
    assert page.locator("#verdict").is_visible()
    page.goto("/operations")
    page.get_by_role("button", name="Replay all").click()
    assert "being read again" in (page.locator(".flash").text_content() or "")
    page.get_by_role("button", name="Sign out").click()
    assert page.url == f"{address}/sign-in"
    context.close()
