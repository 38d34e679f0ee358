"""The time. Everything else is handed it; what the clock process does with it is in `app.ticks`."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)  # noqa: TID251  the one place that reads the clock
