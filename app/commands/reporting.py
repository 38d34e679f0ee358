"""`ticketqc report`: the report about a week, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Engine

    from app.settings import Settings
    from app.tables import Report


def report(
    week: Annotated[
        str, typer.Argument(metavar="[WEEK]", show_default="the last week that is over", help="Such as 2026-W47.")
    ] = "",
    *,
    again: Annotated[bool, typer.Option("--again", help="Make it anew from what is recorded now.")] = False,
    mail: Annotated[bool, typer.Option("--mail", help="Send it to whom it has not reached yet.")] = False,
) -> None:
    """Print the weekly report as Markdown; it is made, without a model, where there is none yet."""
    from app import clock
    from app.commands.database import opened
    from app.errors import SettingsError
    from app.settings import load_settings

    settings = load_settings()
    if mail and not settings.recipients:
        raise SettingsError("--mail needs TICKETQC_SMTP_URL, TICKETQC_MAIL_FROM and TICKETQC_MAIL_TO; nothing was sent")
    with opened(settings) as engine:
        found = _found(engine, settings, week, again=again, now=clock.now())
        typer.echo(found.markdown, nl=False)
        if mail:
            _send(engine, settings, found)


def _found(engine: Engine, settings: Settings, week: str, *, again: bool, now: datetime) -> Report:
    from zoneinfo import ZoneInfo

    from app import reports
    from app.audit import COMMAND_LINE
    from app.db import transaction
    from app.periods import key_of, monday_before
    from app.tables import Report

    key = week or key_of(monday_before(now, ZoneInfo(settings.timezone)))
    monday = reports.over(settings, key, at=now)
    with transaction(engine) as session:
        there = None if again else reports.newest(session, monday)
        if there is not None:
            return session.get_one(Report, there)
    return reports.make_plainly(engine, settings, key, actor=COMMAND_LINE, at=now)


def _send(engine: Engine, settings: Settings, found: Report) -> None:
    """Says how it went for each address. Ends with 1 where one does not have it for certain."""
    from app import clock, mail
    from app.db import transaction
    from app.queries.reports import mails

    mail.deliver(engine, settings, report_id=found.id)
    with transaction(engine) as session:
        rows = mails(session, found.week, settings.recipients, now=clock.now())
    for row in rows:
        typer.echo(f"ticketqc: {row.address}: {row.state}{f', {row.note}' if row.note else ''}", err=True)
    if any(row.state != "sent" for row in rows):
        raise typer.Exit(1)
