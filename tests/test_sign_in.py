"""Signing in and out: the cookie, the limit, the ends of a sign-in, and where one goes from there."""

from __future__ import annotations

import hashlib
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select, text, update

from app import attempts, clock, passwords, sign_ins
from app.attempts import PER_ACCOUNT, PER_ADDRESS, WINDOW, attempt
from app.db import transaction
from app.sign_ins import IDLE, LONGEST
from app.tables import FailedSignIn, SignIn
from app.web.app import create_app
from app.web.auth import local
from tests.browsers import COOKIE, browser, signed_in
from tests.factories import PASSWORD, make_user
from tests.markup import read

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.settings import Settings
    from app.tables import User
    from app.vault import Vault

NOW = clock.now()


def test_the_right_password_signs_in_and_leads_to_what_was_wanted(
    stranger_pages: TestClient, lead: User, session: Session
) -> None:
    form = {"email": " Lee@Example.com ", "password": PASSWORD, "next": "/operations?replayed=1"}
    answer = stranger_pages.post("/sign-in", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/operations?replayed=1")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie
    value = stranger_pages.cookies[COOKIE]
    assert len(value) >= 43
    row = session.scalars(select(SignIn)).one()
    assert (row.user_id, row.token_hash) == (lead.id, hashlib.sha256(value.encode()).digest())
    page = read(stranger_pages.get("/").text)
    assert page.one("div", cls="who").words.startswith("Lee Novak lead")
    assert stranger_pages.get("/sign-in?next=/operations").headers["location"] == "/operations"


def test_a_fresh_sign_in_takes_the_old_cookie_s_place(stranger_pages: TestClient, lead: User, session: Session) -> None:
    form = {"email": lead.email, "password": PASSWORD}
    stranger_pages.post("/sign-in", data=form)
    first = stranger_pages.cookies[COOKIE]
    stranger_pages.post("/sign-in", data=form)
    assert stranger_pages.cookies[COOKIE] != first
    assert session.scalar(select(func.count()).select_from(SignIn)) == 1
    planted = browser(stranger_pages.app)
    planted.cookies.set(COOKIE, "chosen by somebody else", domain="127.0.0.1")
    assert "chosen" not in planted.post("/sign-in", data=form).headers["set-cookie"]


def test_with_https_the_cookie_is_for_this_host_and_https_alone(
    engine: Engine, vault: Vault, settings: Settings, lead: User
) -> None:
    public = settings.model_copy(update={"base_url": "https://qc.example.com"})
    client = browser(create_app(engine=engine, vault=vault, settings=public))
    answer = client.post("/sign-in", data={"email": lead.email, "password": PASSWORD})
    assert answer.headers["set-cookie"].startswith("__Host-ticketqc=")
    assert "Secure" in answer.headers["set-cookie"]
    assert "Domain" not in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "email", ["lee@example.com", "nobody@example.com", "closed@example.com", "", "a\0b", "x" * 9999]
)
def test_no_failure_tells_whether_there_is_the_account(
    stranger_pages: TestClient, session: Session, email: str
) -> None:
    make_user(session, email="lee@example.com")
    make_user(session, email="closed@example.com", closed_at=NOW)
    session.commit()
    given = PASSWORD if email == "closed@example.com" else "wrong password"
    answer = stranger_pages.post("/sign-in", data={"email": email, "password": given})
    assert answer.status_code == 401
    said = read(answer.text).one("p", cls="flash").words
    assert said == "E-mail or password is wrong, or the account is closed."
    assert "set-cookie" not in answer.headers
    assert session.scalar(select(func.count()).select_from(FailedSignIn)) == 2
    assert email not in str(session.scalars(select(FailedSignIn.key)).all()) or not email


def test_an_unknown_account_takes_as_long_as_a_known_one() -> None:
    """The same work: one verification, with the same settings as stored passwords have."""
    assert passwords.NOBODY.split("$")[1:4] == passwords.hashed("anything at all").split("$")[1:4]
    assert not passwords.fits("", None)
    assert passwords.fits(PASSWORD, passwords.hashed(PASSWORD))


@pytest.mark.parametrize("password", ["", "x" * 100_000, "\0", "Passwort\u0308" * 3])
def test_strange_passwords_are_wrong_and_nothing_more(stranger_pages: TestClient, lead: User, password: str) -> None:
    assert stranger_pages.post("/sign-in", data={"email": lead.email, "password": password}).status_code == 401


def _try(session: Session, given: str = "", *, email: str = "lee@example.com", **more: object) -> str | float:
    """Right, wrong, or the seconds to wait."""
    where = {"address": "192.0.2.1", "now": NOW, **more}
    tried = attempt(session, email=email, password=given, **where)  # type: ignore[arg-type]
    session.commit()
    if tried.wait is not None:
        return tried.wait.total_seconds()
    return "right" if tried.user else "wrong"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password is right where it is PASSWORD; what takes the time is tested above."""
    monkeypatch.setattr(passwords, "fits", lambda password, stored: stored is not None and password == PASSWORD)


@pytest.mark.usefixtures("lead", "quick")
def test_an_account_is_tried_five_times_in_a_quarter_of_an_hour(session: Session) -> None:
    minute = timedelta(minutes=1)
    for number in range(PER_ACCOUNT):
        assert _try(session, now=NOW + number * minute, address=f"192.0.2.{number}") == "wrong"
    assert _try(session, PASSWORD, now=NOW + 5 * minute, address="192.0.2.99") == 600
    assert _try(session, PASSWORD, email="LEE@example.com ", now=NOW + 5 * minute) == 600
    assert _try(session, PASSWORD, now=NOW + WINDOW - timedelta(seconds=1)) == 1
    assert _try(session, PASSWORD, now=NOW + WINDOW) == "right"
    assert _try(session, now=NOW + WINDOW) == "wrong"


@pytest.mark.usefixtures("lead", "quick")
def test_success_forgets_the_account_s_failures_and_not_the_address_s(session: Session) -> None:
    for _ in range(4):
        for _ in range(PER_ACCOUNT - 1):
            assert _try(session) == "wrong"
        assert _try(session, PASSWORD) == "right"
    for number in range(PER_ADDRESS - 4 * (PER_ACCOUNT - 1)):
        assert _try(session, email=f"somebody{number}@example.com") == "wrong"
    assert _try(session, PASSWORD) == 900
    assert _try(session, PASSWORD, address="192.0.2.2") == "right"


@pytest.mark.usefixtures("quick")
def test_an_account_that_does_not_exist_is_limited_too(session: Session) -> None:
    assert [_try(session, email="nobody@example.com") for _ in range(6)] == [*["wrong"] * 5, 900]


@pytest.mark.usefixtures("quick")
def test_the_addresses_of_one_network_count_as_one(session: Session) -> None:
    for number in range(PER_ADDRESS):
        assert _try(session, email=f"a{number}@example.com", address=f"2001:db8:1:2::{number:x}") == "wrong"
    assert _try(session, email="z@example.com", address="2001:db8:1:2:ffff::1") == 900
    assert _try(session, email="z@example.com", address="2001:db8:1:3::1") == "wrong"


@pytest.mark.usefixtures("lead", "quick")
def test_many_at_once_get_no_more_tries_than_one_after_the_other(engine: Engine) -> None:
    """Half of them from one address for many accounts, half for one account from many addresses."""
    tried: list[bool] = []

    def guess(number: int) -> None:
        with transaction(engine) as session:
            email, address = (
                ("lee@example.com", f"192.0.2.{number}") if number % 2 else (f"x{number}@a", "198.51.100.1")
            )
            tried.append(attempt(session, email=email, password="wrong", address=address, now=NOW).wait is None)

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(tried) == PER_ACCOUNT + PER_ADDRESS


@pytest.mark.usefixtures("lead", "quick")
def test_too_many_tries_are_told_when_to_come_back(stranger_pages: TestClient) -> None:
    form = {"email": "lee@example.com", "password": "wrong"}
    assert [stranger_pages.post("/sign-in", data=form).status_code for _ in range(6)] == [401] * 5 + [429]
    answer = stranger_pages.post("/sign-in", data={**form, "password": PASSWORD})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "900"
    assert "Try again in 15 min" in read(answer.text).one("p", cls="flash").words


def _aged(session: Session, **ages: timedelta) -> None:
    session.execute(update(SignIn).values({name: clock.now() - age for name, age in ages.items()}))
    session.commit()


@pytest.mark.parametrize(
    ("ages", "status"),
    [
        ({"seen_at": IDLE - timedelta(minutes=1)}, 200),
        ({"seen_at": IDLE}, 303),
        ({"created_at": LONGEST - timedelta(minutes=1)}, 200),
        ({"created_at": LONGEST}, 303),
    ],
)
def test_a_sign_in_ends_by_itself(pages: TestClient, session: Session, ages: dict[str, timedelta], status: int) -> None:
    _aged(session, **ages)
    assert pages.get("/account").status_code == status


def test_somebody_at_work_stays_and_a_page_that_asks_by_itself_does_not_count(
    pages: TestClient, session: Session
) -> None:
    def seen() -> datetime:
        session.expire_all()
        return session.scalars(select(SignIn.seen_at)).one()

    _aged(session, seen_at=timedelta(hours=1))
    before = seen()
    assert pages.get("/operations", headers={"HX-Request": "true"}).status_code == 200
    assert seen() == before
    pages.get("/operations")
    assert seen() > before + timedelta(minutes=59)
    noted = seen()
    pages.get("/operations")
    assert seen() == noted


def test_signing_out_ends_this_browser_s_sign_in_alone(pages: TestClient, session: Session, lead: User) -> None:
    other = signed_in(pages.app, session, lead)
    value = pages.cookies[COOKIE]
    answer = pages.post("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert 'ticketqc=""' in answer.headers["set-cookie"]
    assert pages.get("/", headers={"Cookie": f"{COOKIE}={value}"}).status_code == 303
    assert other.get("/").status_code == 200
    assert pages.get("/sign-out", headers={"Accept": "text/html"}).status_code == 405


@pytest.mark.parametrize("cookie", ["", "x", "\x80\xff", "a" * 5000, "' or 1=1 --"])
def test_a_made_up_cookie_is_nobody_s(stranger_pages: TestClient, cookie: str) -> None:
    headers = [("cookie", f"{COOKIE}={cookie}".encode("latin-1"))]
    assert stranger_pages.get("/", headers=headers).status_code == 303  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "status", "where"),
    [
        ({}, 303, "/sign-in?next=/tickets/7%3Frevision%3D3"),
        ({"Accept": "*/*"}, 401, None),
        ({"HX-Request": "true", "HX-Current-URL": "http://127.0.0.1:8000/?q=vpn"}, 401, "/sign-in?next=/%3Fq%3Dvpn"),
        ({"HX-Request": "true", "HX-Current-URL": "http://evil.example//evil.example"}, 401, "/sign-in"),
        ({"HX-Request": "true"}, 401, "/sign-in"),
    ],
)
def test_who_is_sent_to_sign_in_comes_back(
    stranger_pages: TestClient, headers: dict[str, str], status: int, where: str | None
) -> None:
    answer = stranger_pages.get("/tickets/7?revision=3", headers=headers)
    assert answer.status_code == status
    assert answer.headers.get("hx-redirect" if "HX-Request" in headers else "location") == where


def test_after_signing_in_only_our_own_pages_are_next() -> None:
    assert local("/tickets/7?revision=3#L9") == "/tickets/7?revision=3#L9"
    elsewhere = [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil",
        "https://evil.example",
        "https:evil",
        "evil.example",
        "",
    ]
    hidden = [
        "/\t/evil.example",
        "/\n/evil",
        "\t//evil",
        " //evil",
        "/%0d%0aSet-Cookie: x\r\n",
        "/\0",
        "/sign-in",
        "/x" * 2000,
    ]
    assert {local(address) for address in (*elsewhere, *hidden)} == {"/"}


@pytest.mark.usefixtures("lead")
def test_a_stranger_s_page_shows_nothing_of_the_system(stranger_pages: TestClient) -> None:
    page = read(stranger_pages.get("/sign-in").text)
    assert page.all("nav") == []
    assert page.all(id="banner") == []
    assert "Nobody has an account yet" not in page.words
    assert page.one("input", name="password").attributes["autocomplete"] == "current-password"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Length": "1048577"}, 413),
        ({"Content-Length": "9" * 400}, 413),
        ({"Transfer-Encoding": "chunked"}, 413),
    ],
)
def test_a_body_that_no_form_has_is_not_read(stranger_pages: TestClient, headers: dict[str, str], status: int) -> None:
    answer = stranger_pages.post("/sign-in", content=b"email=x", headers=headers)
    assert answer.status_code == status
    assert "nothing was changed" in answer.text
    assert stranger_pages.post("/sign-in", content=b"x" * 1_000).status_code == 401


def test_no_secret_of_a_sign_in_is_in_the_database(stranger_pages: TestClient, lead: User, session: Session) -> None:
    stranger_pages.post("/sign-in", data={"email": lead.email, "password": PASSWORD})
    page = read(stranger_pages.get("/account").text)
    csrf = page.all("input", name="csrf")[0].attributes["value"]
    value = stranger_pages.cookies[COOKIE]
    assert csrf == sign_ins.csrf(value)
    stored = session.execute(text("select t::text from sign_ins t union all select t::text from users t")).scalars()
    for row in stored:
        assert value not in row
        assert csrf not in row
        assert PASSWORD not in row
    assert attempts.normal("\ud800 X") == "? x"
