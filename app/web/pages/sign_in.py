"""`/sign-in`, `/sign-out`, and `/welcome/{token}`, where a link makes an account or gives one a new password."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app import attempts, links, people, sign_ins
from app.links import Given
from app.web import auth
from app.web.guard import guard
from app.web.view import Viewed, Visit, Visited  # noqa: TC001  FastAPI reads it from the signature

if TYPE_CHECKING:
    from app.tables import Invitation

router = APIRouter(dependencies=[Depends(guard)])

Text = Annotated[str, Form()]


@router.get("/sign-in")
def sign_in(visit: Visited, next: str = "/") -> Response:  # noqa: A002  the name in the address
    """The form; who is signed in already goes on."""
    token = auth.token_of(visit.request)
    if token and sign_ins.find(visit.session, token, now=visit.now, at_work=True):
        return RedirectResponse(auth.local(next), HTTPStatus.SEE_OTHER)
    return _form(visit, wanted=next)


@router.post("/sign-in")
def try_to_sign_in(visit: Visited, email: Text = "", password: Text = "", next: Text = "/") -> Response:  # noqa: A002
    """A fresh cookie and the page that was wanted, or the form again: no failure tells whether there is the account."""
    asked_from = visit.request.client.host if visit.request.client else ""
    tried = attempts.attempt(visit.session, email=email, password=password, address=asked_from, now=visit.now)
    if tried.wait is not None:
        minutes = -(-int(tried.wait.total_seconds()) // 60)
        answer = _form(visit, wanted=next, email=email, wrong=_TOO_MANY.format(minutes))
        answer.headers["Retry-After"] = str(minutes * 60)
        answer.status_code = HTTPStatus.TOO_MANY_REQUESTS
        return answer
    if tried.user is None:
        answer = _form(visit, wanted=next, email=email, wrong=_WRONG)
        answer.status_code = HTTPStatus.UNAUTHORIZED
        return answer
    sign_ins.end(visit.session, auth.token_of(visit.request))
    return _welcomed(visit, sign_ins.begin(visit.session, tried.user.id, now=visit.now), wanted=next)


_WRONG = "E-mail or password is wrong, or the account is closed."
_TOO_MANY = "Too many wrong passwords. Try again in {} min, or ask an admin for a link to set a new one."


@router.post("/sign-out")
def sign_out(view: Viewed) -> RedirectResponse:
    """This browser is signed in no more; others of the same user are."""
    sign_ins.end(view.session, auth.token_of(view.request))
    answer = RedirectResponse(auth.SIGN_IN, HTTPStatus.SEE_OTHER)
    auth.forget_cookie(answer, settings=view.settings)
    return answer


@router.get("/welcome/{token}")
def welcome(visit: Visited, token: str) -> HTMLResponse:
    """Looking does not use the link up: mail programs and chats look at every address."""
    return _welcome(visit, links.find(visit.session, token, now=visit.now))


@router.post("/welcome/{token}")
def accept(  # noqa: PLR0913  the fields of the form
    visit: Visited, token: str, *, email: Text = "", name: Text = "", password: Text = "", again: Text = ""
) -> Response:
    link = links.find(visit.session, token, now=visit.now)
    given = Given(email, name, password, again)
    if problems := given.problems(link):
        answer = _welcome(visit, link, given=given, problems=problems)
        answer.status_code = HTTPStatus.UNPROCESSABLE_ENTITY
        return answer
    sign_ins.end(visit.session, auth.token_of(visit.request))
    return _welcomed(visit, links.accept(visit.session, link, given, now=visit.now), wanted="/")


def _form(visit: Visit, *, wanted: str, email: str = "", wrong: str = "") -> HTMLResponse:
    nobody = people.nobody_yet(visit.session)
    return visit.page("sign_in.html", next=auth.local(wanted), email=email, wrong=wrong, nobody=nobody)


def _welcome(
    visit: Visit, link: Invitation, *, given: Given | None = None, problems: dict[str, str] | None = None
) -> HTMLResponse:
    """The address is a secret: no other page is told of it, not even one of ours."""
    given = given or Given(link.email, link.name, "", "")
    answer = visit.page("welcome.html", link=link, given=given, problems=problems or {})
    # The host alone is told: with `no-referrer` the form would come from `Origin: null`, which the guard refuses.
    answer.headers["Referrer-Policy"] = "strict-origin"
    return answer


def _welcomed(visit: Visit, token: str, *, wanted: str) -> RedirectResponse:
    answer = RedirectResponse(auth.local(wanted), HTTPStatus.SEE_OTHER)
    auth.set_cookie(answer, token, settings=visit.settings)
    return answer
