"""A re-scoring that is over, in the demonstration: some verdicts would change, one ticket could not be judged."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from app import comparing, rescores
from app.audit import COMMAND_LINE
from app.clock import now
from app.comparing import Comparison, Move
from app.settings import Settings
from app.tables import Draft, Rescore, RescoreResult, Verdict

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MOVES = (
    Move("root_cause", "Root cause", "not_met", "met", "", reworded=True),
    Move("tone", "Tone", None, "partly", "The closing note is curt.", reworded=False),
    Move("follow_up", "Follow-up", "met", None, "", reworded=False),
)


def fill(session: Session) -> Rescore:
    """After the proposal's wording is there: it is judged by."""
    version = session.scalars(select(Draft.candidate_version)).one()
    moment = now()
    wanted = rescores.Order(version, moment - timedelta(days=30), moment)
    row = rescores.begin(session, rescores.plan(session, wanted, settings=Settings(_env_file=None)), actor=COMMAND_LINE)
    first, *others = session.scalars(select(RescoreResult).where(RescoreResult.rescore_id == row.id))
    first.note = "the model's server rejected the question: too many words"
    for number, result in enumerate(others):
        old = session.get_one(Verdict, result.verdict_id).outcome
        result.outcome, result.moved = ("pass" if number % 3 else old), bool(number % 3)
        moves = MOVES[: number % 4] if result.moved else ()
        result.comparison = comparing.document(Comparison(("everything that applies is met",), moves))
    row.state, row.model, row.finished_at = "done", "claude-haiku-5-5", moment
    session.flush()
    return row
