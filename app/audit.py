"""Who did what: every decision and every setting is an event, written in the transaction that makes it true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.tables import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Actor:
    """Who acts. `user_id` is None for a command or the machine itself, which have a name only."""

    name: str
    user_id: int | None = None


COMMAND_LINE = Actor("command line")
MACHINE = Actor("ticketqc")


def record(  # noqa: PLR0913  an event has these parts
    session: Session,
    actor: Actor,
    *,
    action: str,
    subject: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    note: str = "",
) -> None:
    """The event is there if the caller's transaction commits. `action` is dotted: what, then what became of it."""
    session.add(
        AuditEvent(
            user_id=actor.user_id,
            actor=actor.name,
            action=action,
            subject=subject,
            before=dict(before) if before is not None else None,
            after=dict(after) if after is not None else None,
            note=note,
        )
    )
