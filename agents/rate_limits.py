"""What the headers of an answer say of a key's rate limits. Source: the Messages API's page on rate limits."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["requests", "tokens", "input-tokens", "output-tokens"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PREFIX = "anthropic-ratelimit-"
MOST = 1e12  # of anything; a number beyond it is nonsense


class Limit(NamedTuple):
    """So much there is when it is whole, so much is left, and so many seconds until it is whole again."""

    whole: float
    left: float
    seconds: float


def read(headers: Mapping[str, str], *, now: datetime) -> dict[Kind, Limit]:
    """The limits that the headers name in full. Never raises: the answer that came with them is paid.

    The server's own `date` tells what time it was there; `now` is for servers that send none.
    """
    at = _date(headers.get("date")) or now
    found = ((kind, _limit(headers, kind, at)) for kind in KINDS)
    return {kind: limit for kind, limit in found if limit is not None}


def _limit(headers: Mapping[str, str], kind: Kind, at: datetime) -> Limit | None:
    whole, left = (_number(headers.get(f"{PREFIX}{kind}-{name}")) for name in ("limit", "remaining"))
    reset = _moment(headers.get(f"{PREFIX}{kind}-reset"))
    if whole is None or left is None or reset is None or whole <= 0:
        return None
    return Limit(whole, min(left, whole), max(0.0, (reset - at).total_seconds()))


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and 0 <= number <= MOST else None


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _date(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
