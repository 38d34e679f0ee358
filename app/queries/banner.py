"""What every page says about the models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from app.tables import ModelState

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class ModelRow:
    """`state` is none, checking, downloading, loading, ready or failed; `progress` is 0..1 where known."""

    role: str
    model: str
    state: str
    demonstration: bool
    progress: float | None
    detail: str
    changed_at: datetime

    @property
    def moving(self) -> bool:
        """True while the state will change by itself, so that a page should look again."""
        return self.state in {"checking", "downloading", "loading"}


def model_states(session: Session) -> dict[str, ModelRow]:
    """By role; a role nobody has looked up yet is not in it."""
    rows = session.execute(
        select(
            ModelState.role,
            ModelState.model,
            ModelState.state,
            ModelState.demonstration,
            ModelState.progress,
            ModelState.detail,
            ModelState.changed_at,
        )
    )
    return {row.role: ModelRow(*row) for row in rows}
