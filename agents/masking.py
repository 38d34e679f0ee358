"""A ticket with its secrets masked: same lengths, same lines, and where they stood. The values are kept nowhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from agents.credentials import Secret, find_secrets
from agents.ticket import Masked, Revision, Ticket, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Secret", "find_secrets", "revise"]

_Model = TypeVar("_Model", bound=BaseModel)
_NOT_A_BREAK = re.compile("[^\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")  # lines keep their numbers


def revise(ticket: Ticket) -> Revision:
    """The ticket as an immutable revision: every text that agents, checks or people read is masked first.

    Secrets outside the citable lines (authors, `extra`, the address) are masked too but leave no span.
    """
    masked = _masked_ticket(ticket)
    return Revision(ticket=masked, masked=tuple(_spans(ticket, masked)))


def _spans(ticket: Ticket, masked: Ticket) -> Iterator[Masked]:
    """Walks the pieces as `Revision.lines` does: masking moves no character, so positions hold on both sides."""
    number = 0
    for before, after in zip(pieces(ticket), pieces(masked), strict=True):
        secrets = find_secrets(before.text) if before.text != after.text else ()
        for start, text in after.lines():
            if text.strip():
                number += 1
                yield from _on_line(secrets, number=number, start=start, text=text)


def _on_line(secrets: Sequence[Secret], *, number: int, start: int, text: str) -> Iterator[Masked]:
    for secret in secrets:
        first, last = max(secret.start - start, 0), min(secret.end - start, len(text))
        if first < last:
            yield Masked(number, first, last, secret.kind)


def _mask(text: str) -> str:
    parts, position = [], 0
    for secret in find_secrets(text):
        parts += [text[position : secret.start], _NOT_A_BREAK.sub("*", text[secret.start : secret.end])]
        position = secret.end
    return "".join(parts) + text[position:] if parts else text


def _masked_ticket(ticket: Ticket) -> Ticket:
    entries = tuple(_masked_fields(entry, "author", "body") for entry in ticket.entries)
    events = tuple(_masked_fields(event, "from_", "to") for event in ticket.events)
    resolution = ticket.resolution and _masked_fields(ticket.resolution, "code", "note")
    names = ("subject", "description", "requester", "assignee", "team", "queue", "priority", "category", "url")
    inner = {"entries": entries, "events": events, "resolution": resolution, "extra": _masked_extra(ticket.extra)}
    return _masked_fields(ticket, *names).model_copy(update=inner)


def _masked_fields(model: _Model, *names: str) -> _Model:
    """`model_copy` validates nothing again, and nothing here needs it: text stays text of the same length."""
    return model.model_copy(update={name: _mask(getattr(model, name)) for name in names})


def _masked_extra(value: object, *, key: str = "") -> object:
    """Strings and numbers at any depth; the key counts as the words before them, so `{"password": "x"}` is found."""
    if isinstance(value, dict):
        return {name: _masked_extra(inner, key=name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_masked_extra(inner, key=key) for inner in value]
    if isinstance(value, str):
        return _mask(f"{key}: {value}")[len(key) + 2 :]
    if isinstance(value, int | float) and not isinstance(value, bool):
        masked = _mask(f"{key}: {value}")[len(key) + 2 :]
        return value if masked == str(value) else masked
    return value
