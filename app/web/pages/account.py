"""`/account`: one's own name and password, and signing out everywhere."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app import attempts, passwords, people, sign_ins
from app.web import auth
from app.web.guard import guard
from app.web.view import View, Viewed  # noqa: TC001  FastAPI reads it from the signature

router = APIRouter(dependencies=[Depends(guard)])

Text = Annotated[str, Form()]
DONE = {"name": "Your name is changed.", "password": "Your password is changed. You are signed out everywhere else."}


@router.get("/account")
def account(view: Viewed, done: str = "") -> HTMLResponse:
    return view.page("account.html", done=DONE.get(done, ""), name=view.user.name, problems={})


@router.post("/account/name")
def rename(view: Viewed, name: Text = "") -> Response:
    if wrong := people.name_problem(name):
        return _refused(view, {"name": wrong}, name=name)
    people.rename(view.session, view.user.id, name=name, actor=view.actor)
    return RedirectResponse("/account?done=name", HTTPStatus.SEE_OTHER)


@router.post("/account/password")
def change_password(view: Viewed, old: Text = "", password: Text = "", again: Text = "") -> Response:
    """Whoever found an open browser does not have the old password, and may not try for long."""
    asked_from = view.request.client.host if view.request.client else ""
    tried = attempts.attempt(view.session, email=view.user.email, password=old, address=asked_from, now=view.now)
    if tried.user is None:
        limited = "Too many wrong passwords. Try again later."
        return _refused(view, {"old": limited if tried.wait else "This is not your present password."})
    if wrong := passwords.problem(password, again=again, email=view.user.email):
        return _refused(view, {"password": wrong})
    people.change_password(view.session, view.user.id, password=password, actor=view.actor)
    answer = RedirectResponse("/account?done=password", HTTPStatus.SEE_OTHER)
    token = sign_ins.begin(view.session, view.user.id, now=view.now)
    auth.set_cookie(answer, token, settings=view.settings)
    return answer


@router.post("/account/sign-out-everywhere")
def sign_out_everywhere(view: Viewed) -> RedirectResponse:
    people.sign_out_everywhere(view.session, view.user.id, actor=view.actor)
    answer = RedirectResponse(auth.SIGN_IN, HTTPStatus.SEE_OTHER)
    auth.forget_cookie(answer, settings=view.settings)
    return answer


def _refused(view: View, problems: dict[str, str], *, name: str | None = None) -> HTMLResponse:
    shown = view.user.name if name is None else name
    answer = view.page("account.html", done="", name=shown, problems=problems)
    answer.status_code = HTTPStatus.UNPROCESSABLE_ENTITY
    return answer
