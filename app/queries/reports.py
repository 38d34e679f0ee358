"""The reports there are, by week, and how their mails went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on

from app import periods
from app.mail import in_flight
from app.periods import WEEK, monday_before
from app.tables import Mail, Report, Revision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime
    from zoneinfo import ZoneInfo

    from sqlalchemy.orm import Session

MOST_WEEKS = 60  # on the list: a year and a bit


@dataclass(frozen=True)
class MailRow:
    """`state` is sent, failed, sending, or unknown where nobody can tell whether it arrived."""

    address: str
    week: str
    state: str
    note: str
    changed_at: datetime


@dataclass(frozen=True)
class ReportRow:
    """The newest report of a week, which was made so many times."""

    id: int
    week: str
    markdown: str
    opening_by: str
    actor: str
    recorded_at: datetime
    times: int


@dataclass(frozen=True)
class WeekRow:
    """A week that is over; `made_at` is when its newest report was made, None where it has none."""

    week: str
    monday: date
    made_at: datetime | None
    mails: tuple[MailRow, ...]


def weeks(session: Session, *, now: datetime, zone: ZoneInfo) -> tuple[WeekRow, ...]:
    """Every week that is over since the first ticket came, and every other that has a report, the newest first."""
    made = _newest(session)
    first = session.scalar(select(func.min(Revision.recorded_at)))
    since = monday_before(first, zone) + WEEK if first else None
    last = monday_before(now, zone)
    keys = {periods.key_of(last - back * WEEK) for back in range(MOST_WEEKS) if since and last - back * WEEK >= since}
    listed = sorted(keys | made.keys(), reverse=True)[:MOST_WEEKS]
    mails = _mails(session, now=now)
    return tuple(
        WeekRow(key, monday, made.get(key), tuple(row for row in mails if row.week == key))
        for key in listed
        if (monday := periods.monday_of(key)) is not None
    )


def report(session: Session, week: str) -> ReportRow | None:
    """What is shown about a week."""
    made = (Report.id, Report.week, Report.markdown, Report.opening_by, Report.actor, Report.recorded_at)
    times = select(func.count()).select_from(Report).where(Report.week == week).scalar_subquery()
    newest = select(*made, times).where(Report.week == week).order_by(Report.id.desc()).limit(1)
    row = session.execute(newest).first()
    return None if row is None else ReportRow(*row)


def mails(session: Session, week: str, addresses: Sequence[str], *, now: datetime) -> tuple[MailRow, ...]:
    """Of a week's report: whoever it was sent to, and those of these addresses that it was not."""
    known = tuple(row for row in _mails(session, now=now) if row.week == week)
    told = {row.address for row in known}
    return known + tuple(MailRow(one, week, "none", "", now) for one in addresses if one not in told)


def mail_problems(session: Session, *, now: datetime) -> tuple[MailRow, ...]:
    """Mails of reports that were not accepted, or of which nobody knows, the newest first."""
    return tuple(row for row in _mails(session, now=now) if row.state in {"failed", "unknown"})


def _newest(session: Session) -> dict[str, datetime]:
    """When the newest report of each week was made."""
    week = select(Report.week, Report.recorded_at).ext(distinct_on(Report.week))
    return dict(session.execute(week.order_by(Report.week, Report.id.desc())).all())


def _mails(session: Session, *, now: datetime) -> list[MailRow]:
    found = select(Mail.key, Mail.address, Mail.state, Mail.note, Mail.changed_at).where(Mail.key.startswith("report:"))
    rows = session.execute(found.order_by(Mail.key.desc()).limit(MOST_WEEKS * 10))
    return [_mail(*row, now=now) for row in rows]


def _mail(key: str, address: str, state: str, note: str, changed_at: datetime, *, now: datetime) -> MailRow:  # noqa: PLR0913
    if state == "sending" and not in_flight(state, note, changed_at, at=now):
        state = "unknown"
    return MailRow(address, key.split(":")[1], state, note, changed_at)
