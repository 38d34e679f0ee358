"""Which room does which task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import patterns, retention, reviewing
from app.intake import reading
from app.jobs import Handler

if TYPE_CHECKING:
    from collections.abc import Mapping

HANDLERS: Mapping[str, Handler] = {
    "intake": Handler(reading.read_delivery, reading.give_up),
    "triage": Handler(reviewing.triage, reviewing.give_up),
    "review": Handler(reviewing.review, reviewing.give_up),
    "resume": Handler(reviewing.resume),
    "retention": Handler(retention.run),
    "patterns": Handler(patterns.run),
}
