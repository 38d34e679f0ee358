"""Models that were compared: the list, and one with all its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from app.errors import NotFound
from app.tables import Eval

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

MOST = 100  # on the list


class EvalRow(NamedTuple):
    id: int
    models: tuple[str, ...]
    context_version: str
    figures: Mapping[str, Any]
    recorded_at: datetime


def listed(session: Session) -> tuple[EvalRow, ...]:
    """The newest first."""
    return tuple(map(_row, session.scalars(select(Eval).order_by(Eval.id.desc()).limit(MOST))))


def evaluation(session: Session, eval_id: int) -> EvalRow:
    """Raises NotFound."""
    found = session.get(Eval, eval_id)
    if found is None:
        raise NotFound("there is no such evaluation; the list has those that there are")
    return _row(found)


def _row(row: Eval) -> EvalRow:
    return EvalRow(row.id, tuple(row.models), row.context_version, row.figures, row.recorded_at)
