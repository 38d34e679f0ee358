"""`ticketqc user ...` beside a running service: links, roles, and what is refused in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from app.commands.users import user_app
from app.errors import Conflict, NotFound, PersonRefused, TicketqcError
from app.tables import AuditEvent, User
from tests.factories import PASSWORD, make_user

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient


pytestmark = pytest.mark.usefixtures("command_line")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(user_app, arguments)
    if isinstance(result.exception, TicketqcError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_account_from_the_command_line(stranger_pages: TestClient, session: Session) -> None:
    assert "There is no account yet" in run("list")
    said = run("add", "Lee@example.com", "--role", "lead", "--name", "Lee Novak")
    link = said.splitlines()[-1]
    assert link.startswith("http://127.0.0.1:8000/welcome/")
    assert "invited, until" in run("list")
    assert 'value="Lee Novak"' in stranger_pages.get(link).text
    form = {"name": "Lee Novak", "password": PASSWORD, "again": PASSWORD}
    assert stranger_pages.post(link, data=form).status_code == 303
    assert run("role", "lee@example.com", "admin") == "lee@example.com is admin now.\n"
    assert stranger_pages.get("/settings").status_code == 303
    make_user(session, role="admin")
    session.commit()
    assert "/welcome/" in run("reset", "LEE@example.com")
    assert "link for a new password, until" in run("list")
    assert "lee@example.com is closed." in run("close", "lee@example.com")
    listed = next(line for line in run("list").splitlines() if "Lee Novak" in line)
    assert "closed" in listed
    by = session.scalars(select(AuditEvent.action).where(AuditEvent.actor == "command line").order_by(AuditEvent.id))
    assert by.all() == ["user.invited", "user.role_changed", "user.reset_link_made", "user.closed"]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("add", "lee", "--role", "lead"), PersonRefused, "e-mail address"),
        (("add", "lee@example.com", "--role", "boss"), PersonRefused, "viewer, lead, admin"),
        (("add", "ada@example.com", "--role", "lead"), Conflict, "already"),
        (("role", "ada@example.com", "boss"), PersonRefused, "choose a role"),
        (("role", "ada@example.com", "lead"), Conflict, "last admin"),
        (("close", "ada@example.com"), Conflict, "last admin"),
        (("close", "nobody@example.com"), NotFound, "ticketqc user list"),
        (("reset", "nobody@example.com"), NotFound, "ticketqc user list"),
    ],
)
def test_what_cannot_be_is_said_and_not_done(
    session: Session, arguments: tuple[str, ...], error: type[TicketqcError], said: str
) -> None:
    make_user(session, role="admin", email="ada@example.com")
    session.commit()
    with pytest.raises(error, match=said):
        run(*arguments)
    assert session.scalars(select(AuditEvent)).all() == []
    assert session.scalars(select(User.role)).all() == ["admin"]
