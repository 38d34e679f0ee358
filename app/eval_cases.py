"""Which tickets models are compared on: those that people have labelled, but none of the sealed split.

Labels that were given before the machine's verdict was seen count alone, wherever there is one: whoever saw a model's
word first tends to agree with that model, and so with whichever is most like it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agents.evaluation import Wanted
from app.replay_cases import labelled, standing_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from agents.context import Context
    from app.replay_cases import ReplayCase
    from app.tables import Label


class Chosen(NamedTuple):
    """`blind`: all of these labels were given blind. `available` there were to choose from; `others` do not count."""

    cases: tuple[ReplayCase, ...]
    blind: bool
    available: int
    others: int

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        return tuple(Wanted(case.label or "cannot_tell", case.labelled_findings) for case in self.cases)


def choose(session: Session, *, context: Context, as_of: datetime, most: int | None) -> Chosen:
    """Of each ticket the newest label that counts; at most `most`, the newest."""
    found = [(label, ticket) for label, ticket in session.execute(standing_labels(as_of))]
    every, blind = _by_ticket(found), _by_ticket((label, ticket) for label, ticket in found if label.blind)
    counting = blind or every
    taken = list(counting.items())[:most]
    cases = tuple(labelled(session, label, ticket_id=ticket, base=context) for ticket, label in taken)
    return Chosen(cases, bool(blind), len(counting), len(every) - len(counting))


def _by_ticket(found: Iterable[tuple[Label, int]]) -> Mapping[int, Label]:
    """The first of each, which is the newest."""
    first: dict[int, Label] = {}
    for label, ticket in found:
        first.setdefault(ticket, label)
    return first
