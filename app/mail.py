"""The weekly report by mail: at most once to an address for what a server has accepted, and never in silence.

1. T: an address is claimed by its row, `sending`; whoever comes second finds it and does nothing.
2. The message goes out; no transaction is open.
3. T: the row says how it went. What was not accepted may be claimed again, by this job's next try or by a person.
   Where nobody can tell, after a crash or a lost connection, it stays `sending`, and only a person may send it again.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from app import audit, markdown, smtp
from app.clock import now
from app.db import transaction
from app.errors import Conflict, NotFound, TicketqcError
from app.queue import enqueue
from app.smtp import Undelivered, Unknown
from app.tables import Mail, Report

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.audit import Actor
    from app.deps import Deps
    from app.settings import Settings

log = structlog.get_logger()

IN_FLIGHT = timedelta(minutes=5)  # longer than all steps of one sending may take; what is `sending` after that is lost


class MailFailed(TicketqcError):  # noqa: N818  the name says it
    """Some messages were not accepted; another try may help."""


def send_report(deps: Deps, *, report_id: int) -> None:
    """Every address has it, or its row says why not. Raises MailFailed where another try may help."""
    failed = deliver(deps.engine, deps.settings, report_id=report_id)
    if failed:
        raise MailFailed(f"{failed} of {len(deps.settings.recipients)} mails were not accepted; see the report's page")


def deliver(engine: Engine, settings: Settings, *, report_id: int) -> int:
    """How many addresses it did not reach for a reason that may pass."""
    report = _report(engine, report_id)
    again = 0
    for address in settings.recipients:
        key = key_of(report.week, address)
        if _claim(engine, key, address):
            again += _send(engine, settings, report, key=key, address=address)
    return again


def key_of(week: str, address: str) -> str:
    """What the message is for: a week's report goes to an address once, however often it is made."""
    return f"report:{week}:{address}"


def again(session: Session, settings: Settings, *, week: str, actor: Actor, at: datetime) -> None:
    """Whom the week's report has not reached for certain gets it. Raises Conflict where it has reached everybody.

    That a message may then come twice is for the person to decide, who is told so.
    """
    report_id = session.scalar(select(func.max(Report.id)).where(Report.week == week))
    if report_id is None:
        raise NotFound("there is no report of this week yet")
    if not settings.recipients:
        raise Conflict("mail is not set up, so nothing was sent; the page of reports says how")
    keys = [key_of(week, address) for address in settings.recipients]
    rows = session.scalars(select(Mail).where(Mail.key.in_(keys)).order_by(Mail.key).with_for_update()).all()
    settled = [row for row in rows if row.state == "sent" or in_flight(row.state, row.note, row.changed_at, at=at)]
    if len(settled) == len(keys):
        raise Conflict("it has been sent to every address, or is on its way; nothing was sent again")
    for row in rows:
        if row not in settled:
            row.state, row.changed_at = "failed", at
    session.flush()
    enqueue(session, "mail", once=f"mail:{report_id}", report_id=report_id)
    audit.record(session, actor, action="report.mailed", subject=f"report:{week}")


def in_flight(state: str, note: str, changed_at: datetime, *, at: datetime) -> bool:
    """True while a worker may be at it; after that nobody knows whether it arrived."""
    return state == "sending" and not note and at - changed_at < IN_FLIGHT


def _report(engine: Engine, report_id: int) -> Report:
    with transaction(engine) as session:
        report = session.get(Report, report_id)
    if report is None:
        raise NotFound(f"there is no report {report_id}")
    return report


def _claim(engine: Engine, key: str, address: str) -> bool:
    """True for one caller only; what was not accepted before may be claimed again."""
    fresh = {"state": "sending", "note": "", "changed_at": func.clock_timestamp()}
    claimed = insert(Mail).values(key=key, address=address, **fresh)
    with transaction(engine) as session:
        failed = claimed.on_conflict_do_update(index_elements=["key"], set_=fresh, where=Mail.state == "failed")
        return session.scalar(failed.returning(Mail.key)) is not None


def _send(engine: Engine, settings: Settings, report: Report, *, key: str, address: str) -> bool:
    """True where it was not accepted and another try may help."""
    assert settings.smtp_url is not None  # noqa: S101  there are no recipients without it
    message = compose(settings, report, address=address, at=now())
    try:
        smtp.send(message, by=smtp.server(settings.smtp_url.get_secret_value()))
    except Undelivered as error:
        _note(engine, key, "failed", str(error))
        return not error.permanent
    except Unknown as error:
        _note(engine, key, "sending", str(error))
        return False
    _note(engine, key, "sent", "")
    return False


def _note(engine: Engine, key: str, state: str, note: str) -> None:
    with transaction(engine) as session:
        changed = {"state": state, "note": note, "changed_at": func.clock_timestamp()}
        session.execute(update(Mail).where(Mail.key == key).values(**changed))
    log.info("mail.done", state=state, reason=note)


def compose(settings: Settings, report: Report, *, address: str, at: datetime) -> EmailMessage:
    """The report as text and as HTML that fetches nothing; a second sending is recognised by its id."""
    sender = settings.mail_from or ""
    heading = report.markdown.partition("\n")[0].removeprefix("# ")
    link = f"\n\nOn its page: {settings.base_url}/reports/{report.week}\n" if settings.base_url else "\n"
    text = report.markdown.rstrip() + link
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = address
    message["Subject"] = f"ticketqc: {heading}"
    message["Date"] = format_datetime(at)
    message["Message-ID"] = f"<report-{report.week}-{digest}@{sender.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text, cte="quoted-printable")
    message.add_alternative(_PAGE.format(body=markdown.to_html(text)), subtype="html", cte="quoted-printable")
    return message


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 46rem; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: 2px 12px 2px 0; border-bottom: 1px solid #d9dee3; text-align: left; }}
.number {{ text-align: right; }}
</style></head><body>
{body}</body></html>
"""
