"""Accounts and the links that make them: by whom, once, in time, and what nobody can do to the last admin."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest
import structlog
from sqlalchemy import func, select

from app import claims, clock, labels, links, passwords, people, sign_ins
from app.audit import COMMAND_LINE, Actor
from app.db import transaction
from app.errors import Conflict, NotFound, PersonRefused, TicketqcError
from app.links import FIRST, INVITED, Given
from app.tables import AuditEvent, FailedSignIn, Invitation, Revision, SignIn, User
from app.weighing import Decision
from tests.browsers import COOKIE, browser, signed_in
from tests.factories import PASSWORD, make_ticket, make_user, make_verdict
from tests.markup import read

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

NOW = clock.now()
NEW = "another walk in the rain"
FILLED = {"email": "ada@example.com", "name": "Ada Sato", "password": NEW, "again": NEW}


class Event(NamedTuple):
    actor: str
    action: str
    subject: str
    before: dict[str, object] | None
    after: dict[str, object] | None
    note: str


def events(session: Session) -> list[Event]:
    columns = (getattr(AuditEvent, name) for name in Event._fields)
    return [Event(*row) for row in session.execute(select(*columns).order_by(AuditEvent.id))]


def first_link(session: Session) -> str:
    token = links.first(session, now=clock.now())
    session.commit()
    assert token is not None
    return token


def invited(session: Session, email: str = "new@example.com", *, role: str = "lead") -> str:
    token = links.invite(session, email=email, role=role, actor=COMMAND_LINE, now=clock.now())
    session.commit()
    return token


def users(session: Session) -> list[tuple[str, str, str]]:
    return [(row.email, row.name, row.role) for row in session.execute(select(User.email, User.name, User.role))]


def test_the_first_link_makes_the_admin_once(stranger_pages: TestClient, session: Session) -> None:
    assert "Nobody has an account yet" in stranger_pages.get("/sign-in").text
    token = first_link(session)
    for _ in range(2):  # looking does not use it up
        page = stranger_pages.get(f"/welcome/{token}")
        assert page.headers["referrer-policy"] == "strict-origin"
        assert "makes the first account, with the role admin" in read(page.text).one("main").words
    with structlog.testing.capture_logs() as logs:
        answer = stranger_pages.post(f"/welcome/{token}", data={**FILLED, "email": " Ada@Example.COM"})
        again = stranger_pages.post(f"/welcome/{token}", data={**FILLED, "email": "b@example.com"})
    assert token not in str(logs)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert again.status_code == 404
    assert "does not work any more" in again.text
    assert users(session) == [("ada@example.com", "Ada Sato", "admin")]
    assert stranger_pages.get("/settings").status_code == 200
    (event,) = events(session)
    assert (event.actor, event.action, event.note) == ("ada@example.com", "user.made", "by the link of the first start")
    assert event.after == {"email": "ada@example.com", "name": "Ada Sato", "role": "admin"}
    assert links.first(session, now=NOW) is None


def test_a_newer_first_link_makes_the_older_void_and_an_account_makes_any_void(session: Session) -> None:
    older, newer = first_link(session), first_link(session)
    with pytest.raises(NotFound):
        links.find(session, older, now=clock.now())
    assert links.find(session, newer, now=clock.now()).role == "admin"
    make_user(session, role="viewer")
    with pytest.raises(NotFound):
        links.find(session, newer, now=clock.now())


def test_links_end(session: Session) -> None:
    first = links.first(session, now=NOW)
    assert first is not None
    second = timedelta(seconds=1)
    assert links.find(session, first, now=NOW + FIRST - second)
    with pytest.raises(NotFound):
        links.find(session, first, now=NOW + FIRST)
    token = links.invite(session, email="a@example.com", role="lead", actor=COMMAND_LINE, now=NOW)
    assert links.find(session, token, now=NOW + INVITED - second)
    for void in (token + "x", "", "\0", "\ud800"):
        with pytest.raises(NotFound):
            links.find(session, void, now=NOW)
    with pytest.raises(NotFound):
        links.find(session, token, now=NOW + INVITED)


@pytest.mark.parametrize(
    ("changed", "field", "said"),
    [
        ({"email": "ada"}, "email", "Type an e-mail address, such as"),
        ({"email": ""}, "email", "Type an e-mail address."),
        ({"email": "a\0@example.com\u0430"}, "email", "such as"),
        ({"email": f"{'x' * 250}@example.com"}, "email", "such as"),
        ({"name": "  "}, "name", "Type the name"),
        ({"name": "x" * 101}, "name", "At most 100"),
        ({"name": "Ada\0"}, "name", "cannot be shown"),
        ({"name": "Ada\u202eotaS"}, "name", "cannot be shown"),
        ({"password": "short", "again": "short"}, "password", "At least 12"),
        ({"password": "x" * 257, "again": "x" * 257}, "password", "At most 256"),
        ({"again": NEW + " "}, "password", "not the same"),
        ({"password": "ADA@example.com", "again": "ADA@example.com"}, "password", "Not the e-mail"),
        ({"password": "", "again": ""}, "password", "At least 12"),
    ],
)
def test_what_is_wrong_with_the_form_is_said_beside_the_field(
    stranger_pages: TestClient, session: Session, changed: dict[str, str], field: str, said: str
) -> None:
    token = first_link(session)
    answer = stranger_pages.post(f"/welcome/{token}", data={**FILLED, **changed})
    assert answer.status_code == 422
    page = read(answer.text)
    (wrong,) = (one for one in page.all("input") if one.attributes.get("aria-invalid") == "true")
    assert wrong.attributes["name"] == field
    assert said in page.one(id=f"{field}-said").words
    assert NEW not in answer.text
    assert users(session) == []
    assert session.scalars(select(Invitation.used_at)).all() == [None]
    empty = stranger_pages.post(f"/welcome/{token}")
    assert len([one for one in read(empty.text).all("input") if "aria-invalid" in one.attributes]) == 3


def test_an_invitation_makes_an_account_of_its_own_role_and_address(
    admin_pages: TestClient, stranger_pages: TestClient, session: Session
) -> None:
    answer = admin_pages.post("/settings/people", data={"email": "New@example.com", "role": "viewer"})
    link = read(answer.text).one("p", cls="flash").one("code").words
    assert link.startswith("http://127.0.0.1:8000/welcome/")
    page = read(stranger_pages.get(link).text)
    assert "new@example.com is invited by ada@example.com, with the role viewer." in page.one("main").words
    given = {**FILLED, "name": "Nia", "email": "other@example.com", "role": "admin"}
    assert stranger_pages.post(link, data=given).status_code == 303
    assert ("new@example.com", "Nia", "viewer") in users(session)
    assert stranger_pages.get("/settings").status_code == 403
    assert [(event.actor, event.action) for event in events(session)] == [
        ("ada@example.com", "user.invited"),
        ("new@example.com", "user.made"),
    ]
    assert link not in admin_pages.get("/settings").text


def test_asked_again_the_newer_invitation_counts_and_one_can_be_withdrawn(
    admin_pages: TestClient, session: Session
) -> None:
    older = invited(session)
    newer = invited(session, role="admin")
    with pytest.raises(NotFound):
        links.find(session, older, now=clock.now())
    assert links.find(session, newer, now=clock.now()).role == "admin"
    session.rollback()
    for _ in range(2):
        assert admin_pages.post("/settings/links/withdraw", data={"email": "new@example.com"}).status_code == 303
    with pytest.raises(NotFound):
        links.find(session, newer, now=clock.now())
    assert [event.action for event in events(session)].count("user.link_withdrawn") == 1


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({}, 422),
        ({"email": "new@example.com"}, 422),
        ({"email": "new@example.com", "role": "owner"}, 422),
        ({"email": "new", "role": "lead"}, 422),
        ({"email": "new@example.com\0", "role": "lead\0"}, 422),
        ({"email": "new@example.com", "role": "lead", "name": "x" * 101}, 422),
        ({"email": "ADA@example.com", "role": "lead"}, 409),
    ],
)
def test_an_invitation_that_cannot_be_is_refused_in_words(
    admin_pages: TestClient, session: Session, form: dict[str, str], status: int
) -> None:
    answer = admin_pages.post("/settings/people", data=form)
    assert answer.status_code == status
    page = read(answer.text)
    assert page.one("p", cls="problem").words if status == 422 else "already" in page.words
    assert session.scalar(select(func.count()).select_from(Invitation)) == 0
    assert events(session) == []


def test_an_account_that_was_made_meanwhile_keeps_its_password(stranger_pages: TestClient, session: Session) -> None:
    token = invited(session)
    make_user(session, email="new@example.com")
    session.commit()
    answer = stranger_pages.post(f"/welcome/{token}", data=FILLED)
    assert answer.status_code == 409
    assert "already; sign in with it" in answer.text
    assert session.scalar(select(func.count()).select_from(SignIn)) == 0


def test_one_link_used_twice_at_once_makes_one_account(engine: Engine, session: Session) -> None:
    token = invited(session)
    ready, made = threading.Barrier(2), list[str]()

    def use(name: str) -> None:
        ready.wait()
        try:
            with transaction(engine) as own:
                link = links.find(own, token, now=clock.now())
                links.accept(own, link, Given("", name, NEW, NEW), now=clock.now())
            made.append(name)
        except TicketqcError as error:
            assert isinstance(error, NotFound)  # noqa: PT017  the other one

    threads = [threading.Thread(target=use, args=(name,)) for name in ("Ada", "Olu")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [name for _, name, _ in users(session)] == made
    assert len(made) == 1


def test_a_link_for_a_new_password_ends_what_the_old_one_began(
    admin_pages: TestClient, stranger_pages: TestClient, session: Session
) -> None:
    user = make_user(session, email="lee@example.com", name="Lee")
    thief = signed_in(admin_pages.app, session, user)
    for _ in range(5):
        stranger_pages.post("/sign-in", data={"email": user.email, "password": "wrong"})
    answer = admin_pages.post(f"/settings/people/{user.id}/reset")
    link = read(answer.text).one("p", cls="flash").one("code").words
    assert thief.get("/").status_code == 200  # until it is used
    page = read(stranger_pages.get(link).text)
    assert page.one("h1").words == "New password"
    assert [one.attributes["name"] for one in page.all("input")] == ["csrf", "password", "again"]
    short = {"password": "lee@example.com", "again": "lee@example.com"}
    assert stranger_pages.post(link, data=short).status_code == 422
    assert stranger_pages.post(link, data={"password": NEW, "again": NEW, "name": "Thief"}).status_code == 303
    assert stranger_pages.get("/account").status_code == 200
    assert thief.get("/").status_code == 303
    fresh = browser(admin_pages.app)
    assert fresh.post("/sign-in", data={"email": user.email, "password": PASSWORD}).status_code == 401
    assert fresh.post("/sign-in", data={"email": user.email, "password": NEW}).status_code == 303
    assert (user.email, "Lee", "lead") in users(session)
    assert [(one.actor, one.action, one.note) for one in events(session)] == [
        ("ada@example.com", "user.reset_link_made", ""),
        ("lee@example.com", "user.password_changed", "by a link"),
    ]


def test_an_admin_changes_roles_closes_and_reopens(admin_pages: TestClient, session: Session) -> None:
    user = make_user(session, role="viewer", email="vera@example.com")
    theirs = signed_in(admin_pages.app, session, user)
    settings = f"/settings/people/{user.id}"
    assert admin_pages.post(f"{settings}/role", data={"role": "lead"}).status_code == 303
    assert theirs.get("/").status_code == 303
    assert admin_pages.post(f"{settings}/role", data={"role": "lead"}).status_code == 303
    reset = links.reset(session, user.id, actor=COMMAND_LINE, now=clock.now()).token
    theirs = signed_in(admin_pages.app, session, user)
    for _ in range(2):
        assert admin_pages.post(f"{settings}/close").status_code == 303
    assert theirs.get("/").status_code == 303
    assert theirs.get(f"/welcome/{reset}").status_code == 404
    assert admin_pages.post(f"{settings}/reset").status_code == 409
    shown = read(admin_pages.get("/settings").text)
    assert "closed" in next(row.words for row in shown.all("tr") if "vera@" in row.words)
    for _ in range(2):
        assert admin_pages.post(f"{settings}/reopen").status_code == 303
    form = {"email": "vera@example.com", "password": PASSWORD}
    assert browser(admin_pages.app).post("/sign-in", data=form).status_code == 303
    by, on = "ada@example.com", f"user:{user.id}"
    assert [event for event in events(session) if event.actor == by] == [
        (by, "user.role_changed", on, {"role": "viewer"}, {"role": "lead"}, ""),
        (by, "user.closed", on, {"closed": False}, {"closed": True}, ""),
        (by, "user.reopened", on, {"closed": True}, {"closed": False}, ""),
    ]


def test_an_account_that_is_not_there_or_a_role_that_is_none_changes_nothing(
    admin_pages: TestClient, session: Session, lead: User
) -> None:
    for action in ("role", "reset", "close", "reopen"):
        for number in ("0", str(2**63), str(2**62), "x"):
            answer = admin_pages.post(f"/settings/people/{number}/{action}", data={"role": "lead"})
            assert answer.status_code == 404, (action, number)
    for role in ("", "owner", "Admin", "lead\0"):
        assert admin_pages.post(f"/settings/people/{lead.id}/role", data={"role": role}).status_code == 422
    assert events(session) == []


def test_the_last_admin_stays(admin_pages: TestClient, session: Session, admin: User) -> None:
    make_user(session, role="admin", closed_at=NOW)
    make_user(session, role="lead")
    session.commit()
    for action, form in (("role", {"role": "lead"}), ("close", {})):
        answer = admin_pages.post(f"/settings/people/{admin.id}/{action}", data=form)
        assert answer.status_code == 409
        assert "The last admin is" in read(answer.text).one("main").words
        assert "Ada Sato" in read(answer.text).one("header", cls="top").words
    assert events(session) == []
    make_user(session, role="admin")
    session.commit()
    assert admin_pages.post(f"/settings/people/{admin.id}/close").status_code == 303
    assert admin_pages.get("/settings").status_code == 303


def test_two_admins_cannot_demote_each_other_at_once(engine: Engine, session: Session) -> None:
    pair = [make_user(session, role="admin").id for _ in range(2)]
    session.commit()
    ready, refused = threading.Barrier(2), list[str]()

    def demote(other: int) -> None:
        ready.wait()
        try:
            with transaction(engine) as own:
                people.change_role(own, other, role="viewer", actor=COMMAND_LINE)
        except Conflict as error:
            refused.append(str(error))

    threads = [threading.Thread(target=demote, args=(number,)) for number in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert session.scalar(select(func.count()).where(User.role == "admin")) == 1


def test_one_s_own_name_and_password(pages: TestClient, session: Session, lead: User) -> None:
    other = signed_in(pages.app, session, lead)
    assert pages.post("/account/name", data={"name": " Lee N. "}).headers["location"] == "/account?done=name"
    assert "Lee N. lead" in read(pages.get("/account?done=name").text).one("div", cls="who").words
    before = pages.cookies[COOKIE]
    answer = pages.post("/account/password", data={"old": PASSWORD, "password": NEW, "again": NEW})
    assert answer.headers["location"] == "/account?done=password"
    assert pages.cookies[COOKIE] != before
    assert pages.get("/account?done=password").status_code == 200
    assert other.get("/account").status_code == 303
    assert session.scalar(select(func.count()).select_from(SignIn)) == 1
    assert session.scalar(select(User.password_hash)) != lead.password_hash
    assert [(one.actor, one.action, one.before, one.after) for one in events(session)] == [
        ("lee@example.com", "user.renamed", {"name": "Lee Novak"}, {"name": "Lee N."}),
        ("lee@example.com", "user.password_changed", None, None),
    ]


@pytest.mark.parametrize(
    ("address", "form", "said"),
    [
        ("name", {"name": ""}, "Type the name"),
        ("name", {"name": "a\nb"}, "cannot be shown"),
        ("password", {"old": "wrong", "password": NEW, "again": NEW}, "not your present password"),
        ("password", {"old": PASSWORD, "password": NEW, "again": ""}, "not the same"),
        ("password", {"old": PASSWORD, "password": "short", "again": "short"}, "At least 12"),
        ("password", {}, "not your present password"),
    ],
)
def test_one_s_own_mistakes_are_said_and_change_nothing(
    pages: TestClient, session: Session, address: str, form: dict[str, str], said: str
) -> None:
    answer = pages.post(f"/account/{address}", data=form)
    assert answer.status_code == 422
    assert said in read(answer.text).one("main").words
    assert events(session) == []
    assert pages.get("/account").status_code == 200


def test_who_found_an_open_browser_may_not_try_passwords_for_long(
    pages: TestClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "fits", lambda password, stored: bool(stored) and password == PASSWORD)
    for _ in range(5):
        pages.post("/account/password", data={"old": "wrong"})
    answer = pages.post("/account/password", data={"old": PASSWORD, "password": NEW, "again": NEW})
    assert answer.status_code == 422
    assert "Too many wrong passwords" in answer.text
    assert session.scalar(select(func.count()).select_from(FailedSignIn)) == 10
    assert events(session) == []


def test_signing_out_everywhere(pages: TestClient, session: Session, lead: User, other_lead_pages: TestClient) -> None:
    other = signed_in(pages.app, session, lead)
    assert pages.post("/account/sign-out-everywhere").headers["location"] == "/sign-in"
    assert {client.get("/").status_code for client in (pages, other)} == {303}
    assert other_lead_pages.get("/").status_code == 200
    assert [event.action for event in events(session)] == ["user.signed_out_everywhere"]


def test_settings_show_who_did_what_and_page_back(admin_pages: TestClient, session: Session) -> None:
    make_user(session, email="vera@example.com", name="<b>Vera</b>")
    session.commit()
    for number in range(60):
        role = ("viewer", "lead")[number % 2]
        people.change_role(session, people.by_email(session, "vera@example.com").id, role=role, actor=Actor("x@y"))
    session.add(AuditEvent(actor="x@y", action="thing.done", subject="thing:1", note="<i>why</i>", after={"a": [1]}))
    session.commit()
    page = read(admin_pages.get("/settings").text)
    rows = page.one("section", **{"aria-labelledby": "events-title"}).one("tbody").all("tr")
    assert len(rows) == 50
    assert rows[0].words.startswith("x@y thing done thing 1 a: 1 <i>why</i>")
    assert rows[1].words.startswith("x@y changed a role vera@example.com role: viewer → lead")
    assert page.all("b") == []
    (older,) = (link for link in page.all("a", cls="button") if link.words == "Older")
    last = read(admin_pages.get(older.attributes["href"]).text)
    assert len(last.one("section", **{"aria-labelledby": "events-title"}).one("tbody").all("tr")) == 11
    for strange in ("0", "-1", str(2**70)):
        assert admin_pages.get(f"/settings?before={strange}").status_code == 200


def test_settings_tell_a_decision_in_words(admin_pages: TestClient, session: Session, lead: User) -> None:
    ticket = make_ticket(session, external_id="HD-7", claimed_by=lead.id, claimed_at=clock.now())
    verdict = make_verdict(session, session.get_one(Revision, ticket.revision_id), outcome="fail")
    given = Decision(verdict.id, "pass", reason="evidence_misread", note="It is there.")
    session.commit()
    claims.release(session, actor=Actor(lead.email, lead.id), ticket_id=ticket.id)
    labels.decide(session, actor=Actor(lead.email, lead.id), ticket_id=ticket.id, decision=given, now=clock.now())
    before, after = {"verdict": "fail", "decision": None}, {"decision": "pass", "findings": {"root_cause": "not_met"}}
    older = AuditEvent(
        actor="x@y", action="ticket.decided", subject="ticket:99999", before=before, after=after, note=""
    )
    session.add(older)
    session.commit()
    page = read(admin_pages.get("/settings").text)
    earlier, decided, released = page.one("section", **{"aria-labelledby": "events-title"}).one("tbody").all("tr")
    said = "decided HD-7 decision: pass kind: overrule reason: evidence misread verdict: fail"
    assert decided.words.startswith(f"{lead.email} {said} It is there.")
    assert released.words.startswith(f"{lead.email} gave back HD-7 claimed by: {lead.email} → nothing")
    assert decided.one("a").attributes["href"] == f"/tickets/{ticket.id}"
    assert "decided ticket 99999 decision: pass findings: root cause: not met verdict: fail" in earlier.words


@pytest.mark.parametrize(
    ("address", "leads_to"),
    [
        ("/settings/people", "/settings"),
        ("/settings/people/1/reset", "/settings"),
        ("/tickets/3/decision", "/tickets/3"),
    ],
)
def test_what_a_form_was_sent_to_can_be_loaded_again(admin_pages: TestClient, address: str, leads_to: str) -> None:
    answer = admin_pages.get(address, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, leads_to)


def test_the_navigation_leads_where_one_may_go(pages: TestClient, admin_pages: TestClient) -> None:
    shown = [read(one.get("/account").text).one("nav").words.split() for one in (pages, admin_pages)]
    assert shown[0] == ["Queue", "Dashboard", "Reports", "Agents", "Context", "Operations"]
    assert shown[1] == [*shown[0], "Settings"]
    refused = read(pages.get("/settings").text)
    assert "this needs the role admin, and yours is lead" in refused.one("main").words.replace("This", "this")
    assert refused.one("nav").words.split() == shown[0]


def test_a_rule_of_the_core_holds_without_the_page(session: Session, lead: User) -> None:
    with pytest.raises(PersonRefused):
        people.rename(session, lead.id, name="\0", actor=COMMAND_LINE)
    with pytest.raises(PersonRefused):
        links.invite(session, email="no", role="lead", actor=COMMAND_LINE, now=NOW)
    with pytest.raises(PersonRefused):
        people.change_role(session, lead.id, role="owner", actor=COMMAND_LINE)
    assert sign_ins.find(session, sign_ins.begin(session, lead.id, now=NOW), now=NOW, at_work=True) is not None
