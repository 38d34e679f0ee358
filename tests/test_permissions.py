"""Every route times everybody: who is let in, who is sent to sign in, who is refused; and a refusal changes nothing.

The routes are the application's own. One that is not in LEAST fails the test: say who may use it, here.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import text

from app import clock, links
from app.audit import COMMAND_LINE
from app.sign_ins import ROLES
from app.web.auth import CSRF_HEADER
from tests.browsers import browser, signed_in
from tests.factories import (
    make_batch,
    make_blind_check,
    make_connection,
    make_context,
    make_delivery,
    make_eval,
    make_pattern,
    make_report,
    make_rescore,
    make_ticket,
    make_user,
)
from tests.proposing import make_proposal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from httpx2 import Response
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.sign_ins import Role

# The least role that may; None: anybody, signed in or not.
LEAST: dict[str, Role | None] = {
    "POST /hooks/{connection}": None,
    "POST /hooks/{connection}/{token}": None,
    "GET /healthz": None,
    "GET /readyz": None,
    "GET /sign-in": None,
    "POST /sign-in": None,
    "GET /welcome/{token}": None,
    "POST /welcome/{token}": None,
    "POST /sign-out": "viewer",
    "GET /account": "viewer",
    "POST /account/name": "viewer",
    "POST /account/password": "viewer",
    "POST /account/sign-out-everywhere": "viewer",
    "GET /": "viewer",
    "GET /banner": "viewer",
    "GET /tickets/{ticket_id}": "viewer",
    "GET /tickets/{ticket_id}/decision": "lead",
    "POST /tickets/{ticket_id}/decision": "lead",
    "POST /tickets/{ticket_id}/claim": "lead",
    "POST /tickets/{ticket_id}/release": "lead",
    "GET /audit": "lead",
    "POST /audit": "lead",
    "GET /audit/{check_id}": "lead",
    "POST /audit/{check_id}": "lead",
    "GET /context": "viewer",
    "GET /context/diff": "viewer",
    "GET /context/{version}": "viewer",
    "GET /context/{a}/diff/{b}": "viewer",
    "POST /context/rollback": "lead",
    "GET /costs": "viewer",
    "GET /evals": "viewer",
    "GET /evals/{eval_id}": "viewer",
    "GET /proposals": "viewer",
    "GET /proposals/{proposal_id}": "viewer",
    "POST /proposals/{proposal_id}/approve": "lead",
    "POST /proposals/{proposal_id}/reject": "lead",
    "POST /proposals/{proposal_id}/revise": "lead",
    "POST /proposals/{proposal_id}/retry": "lead",
    "GET /rescores": "viewer",
    "POST /rescores": "lead",
    "GET /rescores/{rescore_id}": "viewer",
    "POST /rescores/{rescore_id}/cancel": "lead",
    "GET /agents": "viewer",
    "GET /patterns": "viewer",
    "GET /patterns/{pattern_id}": "viewer",
    "POST /patterns/{pattern_id}/mute": "lead",
    "POST /patterns/{pattern_id}/unmute": "lead",
    "GET /dashboard": "viewer",
    "GET /reports": "viewer",
    "GET /reports/{week}": "viewer",
    "POST /reports/{week}/again": "lead",
    "POST /reports/{week}/mail": "lead",
    "GET /operations": "viewer",
    "POST /operations/replay": "lead",
    "POST /operations/batches/{batch_id}/cancel": "lead",
    "GET /settings": "admin",
    "GET /settings/people": "admin",
    "POST /settings/people": "admin",
    "POST /settings/people/{user_id}/role": "admin",
    "GET /settings/people/{user_id}/reset": "admin",
    "POST /settings/people/{user_id}/reset": "admin",
    "POST /settings/people/{user_id}/close": "admin",
    "POST /settings/people/{user_id}/reopen": "admin",
    "POST /settings/links/withdraw": "admin",
}
# What forms send; a route without an entry sends nothing.
FORMS = {
    "POST /proposals/{proposal_id}/reject": {"draft": "1", "reason": "It hides the gap."},
    "POST /patterns/{pattern_id}/mute": {"note": "A fault of the form."},
    "POST /settings/people": {"email": "new@example.com", "role": "lead"},
    "POST /settings/people/{user_id}/role": {"role": "admin"},
    "POST /account/name": {"name": "Somebody Else"},
}
ALL_TABLES = "select schemaname, tablename from pg_tables where schemaname in ('public', 'procrastinate')"


class Asked(NamedTuple):
    """A route, as the table names it, and an address of it."""

    name: str
    method: str
    address: str


class Desk(NamedTuple):
    app: FastAPI
    session: Session
    routes: tuple[Asked, ...]

    def ask(self, client: TestClient, asked: Asked) -> Response:
        return client.request(asked.method, asked.address, data=FORMS.get(asked.name))

    def everything(self) -> dict[str, str]:
        """What is in the database, table by table."""
        self.session.rollback()
        tables = [f'"{schema}"."{name}"' for schema, name in self.session.execute(text(ALL_TABLES))]
        whole = "select '{0}', md5(coalesce(string_agg(t::text, '' order by t::text), '')) from {0} t"
        rows = self.session.execute(text(" union all ".join(whole.format(table) for table in tables)))
        return {name: content for name, content in rows}  # noqa: C416  says which is which


@pytest.fixture
def desk(stranger_pages: TestClient, session: Session) -> Desk:
    """One of everything that a route may be about."""
    make_delivery(session, connection=make_connection(session), state="parked", reason="unreadable")
    lead = make_user(session, role="lead")
    values = {
        "connection": "helpdesk",
        "token": links.invite(session, email="x@example.com", role="admin", actor=COMMAND_LINE, now=clock.now()),
        "ticket_id": make_ticket(session).id,
        "version": make_context(session).version,
        "a": make_context(session).version,
        "b": make_context(session).version,
        "pattern_id": make_pattern(session).id,
        "user_id": lead.id,
        "batch_id": make_batch(session).id,
        "week": make_report(session).week,
        "check_id": make_blind_check(session, lead).id,
        "rescore_id": make_rescore(session).id,
        "eval_id": make_eval(session).id,
        "proposal_id": make_proposal(session, cast("FastAPI", stranger_pages.app).state.settings).id,
    }
    make_user(session, role="admin")
    session.commit()
    app = cast("FastAPI", stranger_pages.app)
    asked = (Asked(name, *name.split(" ", 1)) for name in _names(app))
    return Desk(app, session, tuple(one._replace(address=one.address.format(**values)) for one in asked))


def _names(app: FastAPI) -> Iterator[str]:
    for route in iter_route_contexts(app.routes):
        for method in sorted((getattr(route, "methods", None) or set()) - {"HEAD"}):
            yield f"{method} {route.path}"


def test_every_route_says_who_may_use_it(stranger_pages: TestClient) -> None:
    app = cast("FastAPI", stranger_pages.app)
    names = list(_names(app))
    assert len(names) == len(set(names))
    assert set(names) == set(LEAST)


@pytest.mark.parametrize("closed", [False, True], ids=["not signed in", "closed account"])
def test_who_is_not_signed_in_gets_no_further_than_the_door(desk: Desk, *, closed: bool) -> None:
    client = browser(desk.app)
    if closed:
        user = make_user(desk.session, role="admin")
        client = signed_in(desk.app, desk.session, user)
        user.closed_at = clock.now()
        desk.session.commit()
    before = desk.everything()
    for asked in desk.routes:
        if LEAST[asked.name] is None:
            continue
        answer = desk.ask(client, asked)
        if asked.method == "GET":
            assert (answer.status_code, answer.headers["location"][:8]) == (303, "/sign-in"), asked
            assert client.get(asked.address, headers={"Accept": "*/*"}).status_code == 401, asked
        else:
            assert answer.status_code == 401, asked
    assert desk.everything() == before
    for asked in desk.routes:
        if LEAST[asked.name] is None:
            answer = desk.ask(client, asked)
            assert answer.status_code not in {303, 403}, asked
            assert answer.status_code < 500, asked


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_what_is_its_own_and_no_more(desk: Desk, role: Role) -> None:
    allowed = [asked for asked in desk.routes if _may(role, asked)]
    refused = [asked for asked in desk.routes if asked not in allowed]
    user = make_user(desk.session, role=role)
    client = signed_in(desk.app, desk.session, user)
    before = desk.everything()
    for asked in refused:
        assert desk.ask(client, asked).status_code == 403, asked
    assert desk.everything() == before
    for asked in allowed:
        if LEAST[asked.name] is not None:  # some end the sign-in: each with one of its own
            answer = desk.ask(signed_in(desk.app, desk.session, user), asked)
            assert answer.status_code < 500, (asked, answer.text)
            assert answer.status_code not in {401, 403}, (asked, answer.text)


def test_a_form_without_the_token_of_its_own_sign_in_changes_nothing(desk: Desk) -> None:
    user = make_user(desk.session, role="admin")
    client, elsewhere = (signed_in(desk.app, desk.session, user) for _ in range(2))
    right = client.headers.pop(CSRF_HEADER)
    wrong = ("", "0" * 64, elsewhere.headers[CSRF_HEADER], f"{right}0", "\u20ac", right.upper())
    before = desk.everything()
    posted = [asked for asked in desk.routes if asked.method != "GET" and LEAST[asked.name] is not None]
    for asked, token in product(posted, wrong):
        fields = {**FORMS.get(asked.name, {}), "csrf": token}
        assert client.request(asked.method, asked.address, data=fields).status_code == 403, (asked, token)
    for asked in posted:
        assert client.request(asked.method, asked.address).status_code == 403, asked
        assert client.request(asked.method, asked.address, files={"csrf": b"a file"}).status_code == 403, asked
    assert desk.everything() == before


def _may(role: Role, asked: Asked) -> bool:
    least = LEAST[asked.name]
    return least is None or ROLES.index(role) >= ROLES.index(least)
