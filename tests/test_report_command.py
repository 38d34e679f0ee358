"""`ticketqc report`: the Markdown of a week, made where it is missing, and its mail."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, text
from typer.testing import CliRunner

from app import clock
from app.cli import root
from app.errors import NotFound, SettingsError, TicketqcError
from app.periods import key_of, monday_before
from app.tables import Report
from tests.factories import make_report, make_ticket
from tests.postbox import postbox

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

WEEK = key_of(monday_before(clock.now(), ZoneInfo("UTC")))


pytestmark = pytest.mark.usefixtures("command_line")


def run(*arguments: str, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(root, ["report", *arguments])
    if isinstance(result.exception, TicketqcError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_it_is_made_once_and_again_when_asked(session: Session) -> None:
    make_ticket(session)
    session.execute(text("update revisions set recorded_at = :at"), {"at": clock.now() - timedelta(days=20)})
    session.commit()
    made, _ = run()
    assert made.startswith("# Week ")
    assert run() == (made, "")
    run(WEEK, "--again")
    rows = session.scalars(select(Report).order_by(Report.id)).all()
    assert [(row.week, row.actor) for row in rows] == [(WEEK, "command line")] * 2
    assert rows[0].markdown == made


def test_a_week_that_is_none_is_told(session: Session) -> None:
    for week, said in (("2026-47", "no such week"), ("2999-W01", "is not over yet")):
        with pytest.raises(NotFound, match=said):
            run(week)
    with pytest.raises(SettingsError, match="--mail needs TICKETQC_SMTP_URL"):
        run("--mail")
    assert session.scalars(select(Report)).all() == []


def test_it_is_mailed_to_whom_it_has_not_reached(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    make_report(session)
    session.commit()
    with postbox() as box:
        monkeypatch.setenv("TICKETQC_SMTP_URL", f"smtp://127.0.0.1:{box.port}")
        monkeypatch.setenv("TICKETQC_MAIL_FROM", "qc@example.com")
        monkeypatch.setenv("TICKETQC_MAIL_TO", "a@example.com,b@example.com")
        box.refusals["b@example.com"] = ["550 no such mailbox"]
        out, said = run("2026-W03", "--mail", code=1)
        assert out.startswith("# Week 2026-W03")
        assert "ticketqc: a@example.com: sent\n" in said
        assert "ticketqc: b@example.com: failed, the server refused it: 550 no such mailbox\n" in said
        assert run("2026-W03", "--mail")[1].count(": sent\n") == 2
    assert box.addresses == ["a@example.com", "b@example.com"]
