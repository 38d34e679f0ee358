"""Values in the words of the pages: times, money, counts, and characters that would hide or reorder a text."""

from __future__ import annotations

import json
import re
import unicodedata
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from zoneinfo import ZoneInfo

THIN = "\N{NARROW NO-BREAK SPACE}"
FAR = timedelta(days=30)  # further away a date says more than a number of days
CODED = frozenset({"reason", "findings", "declared", "kind", "decision", "verdict", "state"})  # of an event
_HASH = re.compile(r"[0-9a-f]{64}")
_CODE = re.compile(r"[a-z]+(?:_[a-z]+)+")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:\+00:00|Z)?")
LONGEST_SHOWN = 200  # characters of a setting's value

# A reader cannot see these but a renderer obeys them: formats, bidi marks, controls, line separators, the unassigned.
_UNSEEN = frozenset({"Cf", "Cc", "Co", "Cs", "Cn", "Zl", "Zp"})
_FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # letters and marks by category, blank to the eye
_NEEDED = "\t\u200c\u200d"  # emoji and several scripts need the joiners


def ago(moment: datetime, now: datetime) -> str:
    """How long ago, in one unit: just now, 12 min, 2 h, 3 d, then the date."""
    passed = now - moment
    if passed >= FAR:
        return f"{moment.day} {moment:%b %Y}"
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if (number := int(passed.total_seconds() // seconds)) > 0:
            return f"{number} {unit}"
    return "just now"


def since(moment: datetime, now: datetime) -> str:
    """The same inside a sentence: just now, 12 min ago, on 3 Nov 2026."""
    told = ago(moment, now)
    if now - moment >= FAR:
        return f"on {told}"
    return told if told == "just now" else f"{told} ago"


def exact(moment: datetime, zone: ZoneInfo) -> str:
    """The moment in the install's time zone, to the second."""
    local = moment.astimezone(zone)
    return f"{local.day} {local:%b %Y, %H:%M:%S} {zone.key}"


def clock_time(moment: datetime, zone: ZoneInfo) -> str:
    """The moment in the install's time zone, to the minute, as a thread shows it."""
    local = moment.astimezone(zone)
    return f"{local.day} {local:%b %Y, %H:%M}"


def dollars(amount: Decimal | None) -> str:
    """Two digits that count below a cent, else cents: $0.00041, $0.012, $12.30."""
    if amount is None:
        return "price unknown"
    if amount == 0:
        return "$0"
    if amount >= 1:
        return f"${amount.quantize(Decimal('0.01'), rounding=ROUND_HALF_UP):,}"
    step = Decimal(1).scaleb(amount.adjusted() - 1)
    return f"${amount.quantize(step, rounding=ROUND_HALF_UP):f}"


def thousands(number: int) -> str:
    """Digits in groups of three: 12 345."""
    return f"{number:,}".replace(",", THIN)


def capped(number: int, most: int) -> str:
    """A count that was stopped beyond `most`: 1,000+."""
    return f"{most:,}+" if number > most else f"{number:,}"


def seconds(milliseconds: int) -> str:
    """A latency: 0.3 s, 12 s."""
    value = milliseconds / 1000
    return f"{value:.1f} s" if value < 10 else f"{value:,.0f} s"  # noqa: PLR2004  ten seconds need no tenths


def duration(length: timedelta) -> str:
    """In its two largest units: under 1 min, 12 min, 3 h 20 min, 2 d 4 h."""
    minutes = int(length.total_seconds() // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{minutes} min" if minutes else "under 1 min"


def sentence(message: str) -> str:
    """What a command or a job says begins small and without a stop; on a page it is a sentence."""
    return message[:1].upper() + message[1:].removesuffix(".") + "."


def shown(value: object) -> str:
    """A value of a setting: words as they are, anything else as JSON, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def audited(name: str, value: object, zone: ZoneInfo) -> str:
    """A value of an event for people: codes as words, moments to the minute, hashes short, documents in a line."""
    if isinstance(value, dict):
        return _listed(f"{_coded(one)}: {audited(name, of, zone)}" for one, of in value.items())
    if isinstance(value, list):
        return _listed(audited(name, one, zone) for one in value)
    if not isinstance(value, str):
        return shown(value)
    if _HASH.fullmatch(value):
        return value[:12]
    if _MOMENT.fullmatch(value):
        with suppress(ValueError):  # somebody may be called so
            return clock_time(datetime.fromisoformat(value), zone)
    return _coded(value) if name in CODED else shown(value)


def _listed(said: Iterable[str]) -> str:
    return shown(", ".join(said)) or "nothing"


def _coded(value: str) -> str:
    return value.replace("_", " ") if _CODE.fullmatch(value) else shown(value)


def score(value: Decimal | float | None) -> str:
    """A score without its fraction, rounded down so that 79.6 does not read as the 80 that would pass."""
    return "" if value is None else f"{int(value)}"


def hidden(character: str) -> str:
    """A name for a character that must be shown as such, nothing for one that shows itself."""
    if character.isascii() and character.isprintable():
        return ""
    unseen = unicodedata.category(character) in _UNSEEN or character in _FILLERS
    if not unseen or character in _NEEDED:
        return ""
    return unicodedata.name(character, f"control character U+{ord(character):04X}").lower()
