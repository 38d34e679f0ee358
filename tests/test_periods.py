"""Weeks as people have them: midnight to midnight where they are, also where clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app import periods

BERLIN = ZoneInfo("Europe/Berlin")
SANTIAGO = ZoneInfo("America/Santiago")  # where there are days without a midnight
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("monday", "hours"),
    [
        (date(2026, 11, 16), 168),
        (date(2026, 3, 23), 167),  # clocks go forward on Sunday
        (date(2026, 10, 19), 169),
    ],
)
def test_a_week_is_from_midnight_to_midnight(monday: date, hours: int) -> None:
    week = periods.week(monday, BERLIN)
    assert week.end - week.start == hours * HOUR
    assert week.start.astimezone(BERLIN).isoformat()[:16] == f"{monday}T00:00"
    assert week.end == periods.week(monday + timedelta(days=7), BERLIN).start


def test_the_four_weeks_before_end_where_the_week_begins() -> None:
    before = periods.weeks_before(date(2026, 10, 26), BERLIN)
    assert before.end == periods.week(date(2026, 10, 26), BERLIN).start
    assert before.end - before.start == 28 * 24 * HOUR + HOUR
    assert before.start == periods.week(date(2026, 9, 28), BERLIN).start


def test_a_day_that_begins_at_one_still_begins() -> None:
    week = periods.week(date(2026, 8, 31), SANTIAGO)  # Sunday the 6th begins at 01:00
    assert week.end == datetime(2026, 9, 7, 3, tzinfo=UTC)
    assert week.end - week.start == 167 * HOUR


@pytest.mark.parametrize(
    ("moment", "monday"),
    [
        ("2026-11-22T23:59:59+01:00", date(2026, 11, 9)),
        ("2026-11-23T00:00:00+01:00", date(2026, 11, 16)),
        ("2026-11-22T23:30:00+00:00", date(2026, 11, 16)),  # Monday in Berlin already
        ("2027-01-04T07:00:00+01:00", date(2026, 12, 28)),
    ],
)
def test_the_latest_week_that_is_over(moment: str, monday: date) -> None:
    assert periods.monday_before(datetime.fromisoformat(moment), BERLIN) == monday


@pytest.mark.parametrize(
    ("key", "monday"),
    [
        ("2026-W47", date(2026, 11, 16)),
        ("2026-W53", date(2026, 12, 28)),
        ("2027-W01", date(2027, 1, 4)),
        ("2025-W01", date(2024, 12, 30)),
    ],
)
def test_a_week_has_one_name(key: str, monday: date) -> None:
    assert periods.monday_of(key) == monday
    assert periods.key_of(monday) == key


@pytest.mark.parametrize(
    "key",
    [
        "",
        "2026-47",
        "2026-W00",
        "2025-W53",
        "2026-W54",
        "2026-W4",
        "2026-w47",
        "٢٠٢٦-W47",
        "0000-W01",
        "9999-W53",
        "2026-W47\n",
    ],
)
def test_what_is_no_week_has_no_monday(key: str) -> None:
    assert periods.monday_of(key) is None


def test_a_month_is_the_calendars() -> None:
    assert periods.month(datetime(2026, 10, 31, 23, 30, tzinfo=UTC), BERLIN) == (
        datetime(2026, 10, 31, 23, tzinfo=UTC),
        datetime(2026, 11, 30, 23, tzinfo=UTC),
    )
