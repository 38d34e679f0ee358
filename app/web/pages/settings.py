"""`/settings`: for admins, who may sign in, and what was decided and set by whom."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, NamedTuple
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Form, Path
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app import links, people
from app.queries import people as queries
from app.sign_ins import ROLES
from app.web.guard import guard
from app.web.view import BEYOND, View, ViewedByAdmin
from app.web.words import audited

if TYPE_CHECKING:
    from collections.abc import Mapping

router = APIRouter(dependencies=[Depends(guard)])

Text = Annotated[str, Form()]
PAGES = {
    "ticket": "/tickets/",
    "context": "/context/",
    "pattern": "/patterns/",
    "proposal": "/proposals/",
    "report": "/reports/",
}
UserId = Annotated[int, Path(ge=1, lt=BEYOND)]


@router.get("/settings")
def settings(view: ViewedByAdmin, before: int | None = None) -> HTMLResponse:
    """`before`: older events than this one."""
    return _page(view, before=before)


@router.get("/settings/people")
@router.get("/settings/people/{user_id}/reset")
def loaded_again(view: ViewedByAdmin) -> RedirectResponse:  # noqa: ARG001  who may
    """A link was shown at this address, once; who loads it again has not asked for another."""
    return _back()


@router.post("/settings/people")
def invite(view: ViewedByAdmin, email: Text = "", role: Text = "", name: Text = "") -> Response:
    """The link is shown in this answer and never again; asked again, a new one is made and the older one is void."""
    if wrong := links.invitation_problem(email=email, role=role, name=name):
        answer = _page(view, wrong=wrong, email=email, role=role, name=name)
        answer.status_code = HTTPStatus.UNPROCESSABLE_ENTITY
        return answer
    token = links.invite(view.session, email=email, role=role, name=name, actor=view.actor, now=view.now)
    return _page(view, link=_address(view, token), link_for=email)


@router.post("/settings/people/{user_id}/role")
def change_role(view: ViewedByAdmin, user_id: UserId, role: Text = "") -> RedirectResponse:
    people.change_role(view.session, user_id, role=role, actor=view.actor)
    return _back()


@router.post("/settings/people/{user_id}/reset")
def reset(view: ViewedByAdmin, user_id: UserId) -> HTMLResponse:
    made = links.reset(view.session, user_id, actor=view.actor, now=view.now)
    return _page(view, link=_address(view, made.token), link_for=made.email)


@router.post("/settings/people/{user_id}/close")
def close(view: ViewedByAdmin, user_id: UserId) -> RedirectResponse:
    people.close(view.session, user_id, actor=view.actor, now=view.now)
    return _back()


@router.post("/settings/people/{user_id}/reopen")
def reopen(view: ViewedByAdmin, user_id: UserId) -> RedirectResponse:
    people.reopen(view.session, user_id, actor=view.actor)
    return _back()


@router.post("/settings/links/withdraw")
def withdraw(view: ViewedByAdmin, email: Text = "") -> RedirectResponse:
    links.withdraw(view.session, email=email, actor=view.actor)
    return _back()


def _back() -> RedirectResponse:
    return RedirectResponse("/settings", HTTPStatus.SEE_OTHER)


def _page(  # noqa: PLR0913  what the form held
    view: View,
    *,
    before: int | None = None,
    wrong: str = "",
    link: str = "",
    link_for: str = "",
    email: str = "",
    role: str = "",
    name: str = "",
) -> HTMLResponse:
    session = view.session
    session.flush()
    listed = queries.people(session)
    events = queries.events(session, before=before if before is None or 0 < before < BEYOND else None)
    emails, tickets = {str(one.id): one.email for one in listed}, queries.tickets_of(session, events)
    return view.page(
        "settings.html",
        people=listed,
        about=lambda subject: _about(subject, emails, tickets),
        called=lambda name, value: _called(name, value, emails, ZoneInfo(view.settings.timezone)),
        links=queries.links(session, now=view.now),
        events=events[: queries.EVENTS],
        older=len(events) > queries.EVENTS,
        before=before,
        roles=ROLES,
        wrong=wrong,
        link=link,
        link_for=link_for,
        given={"email": email, "role": role, "name": name},
    )


class _About(NamedTuple):
    """What an event was about: in words, and where it can be seen."""

    words: str
    address: str = ""


def _about(subject: str, emails: Mapping[str, str], tickets: Mapping[str, str]) -> _About:
    kind, _, name = subject.partition(":")
    if kind == "ticket" and name in tickets:
        return _About(tickets[name], f"{PAGES[kind]}{name}")
    if kind == "user":
        return _About(emails.get(name, f"account {name}"))
    if kind == "invitation":
        return _About(name)
    words = f"{kind} {name[:12]}".strip()
    return _About(words, f"{PAGES[kind]}{name}") if kind in PAGES else _About(f"{kind} {name}".strip())


def _called(name: str, value: object, emails: Mapping[str, str], zone: ZoneInfo) -> str:
    """What an event says of one thing, in words."""
    return emails.get(str(value), f"account {value}") if name == "claimed_by" else audited(name, value, zone)


def _address(view: View, token: str) -> str:
    """As its reader will open it: the address people use, else the one this admin uses."""
    base = view.settings.base_url or str(view.request.base_url).rstrip("/")
    return f"{base}/welcome/{token}"
