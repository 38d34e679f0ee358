"""Stretches of time that figures are about: half open, given as moments. A week begins on Monday, locally."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
WEEK = timedelta(days=7)  # of dates; where clocks change, a week of moments is an hour shorter or longer
WEEKS_BEFORE = 4  # that a week is compared with
_KEY = re.compile(r"(\d{4})-W(\d{2})", re.ASCII)
_AGE = re.compile(r"(\d{1,4})([hdw])", re.ASCII)
_UNITS = {"h": timedelta(hours=1), "d": DAY, "w": WEEK}


class Period(NamedTuple):
    start: datetime
    end: datetime  # not in it

    def back(self, length: timedelta) -> Period:
        """What came just before, so long."""
        return Period(self.start - length, self.start)


def week(monday: date, zone: ZoneInfo) -> Period:
    """From midnight to midnight a week later, as the clocks of that place have it."""
    return Period(_midnight(monday, zone), _midnight(monday + WEEK, zone))


def weeks_before(monday: date, zone: ZoneInfo) -> Period:
    """The four weeks that end where this one begins."""
    return Period(_midnight(monday - WEEKS_BEFORE * WEEK, zone), _midnight(monday, zone))


def last_days(now: datetime) -> Period:
    """Seven times 24 hours, up to now."""
    return Period(now - WEEK, now)


def month(moment: datetime, zone: ZoneInfo) -> Period:
    """The calendar month that a moment is in."""
    first = moment.astimezone(zone).date().replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return Period(_midnight(first, zone), _midnight(following, zone))


def monday_before(moment: datetime, zone: ZoneInfo) -> date:
    """The Monday of the latest week that is over."""
    today = moment.astimezone(zone).date()
    return today - timedelta(days=today.weekday()) - WEEK


def key_of(monday: date) -> str:
    """As people and addresses call the week: 2026-W47."""
    year, number, _ = monday.isocalendar()
    return f"{year}-W{number:02}"


def monday_of(key: str) -> date | None:
    """The Monday of a week that is called so; None where none is."""
    if (match := _KEY.fullmatch(key)) is None:
        return None
    try:
        return date.fromisocalendar(int(match[1]), int(match[2]), 1)
    except ValueError:
        return None


def moment_of(text: str, *, now: datetime, zone: ZoneInfo) -> datetime | None:
    """What people call a moment: an age (30d, 12h, 2w), a date (its midnight), or both date and time; None: neither."""
    given = text.strip().lower()
    try:
        if age := _AGE.fullmatch(given):
            return now - int(age[1]) * _UNITS[age[2]]
        moment = datetime.fromisoformat(given.upper())
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)
