"""What live calls may cost, before they are made: by what the last ones of the same agent and model did cost.

What came by batch had half the price, a call that primes a cache wants no answer, and one in the shadow judges nothing:
these say nothing of what a live call costs.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from agents.prices import cost
from agents.question import Usage
from app.clock import now
from app.tables import Run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from agents.question import Agent
    from app.models import Choice

# What a call took where nothing is on record yet.
TYPICAL: dict[Agent, Usage] = {
    "triage": Usage(input=400, output=150, cache_read=2_600),
    "qc": Usage(input=900, output=350, cache_read=4_600),
}
LOOKED_AT = 200  # of the last runs, for what a call costs
_LIVE = (Run.batch_id.is_(None), Run.purpose != "prime", Run.purpose.not_like("shadow%"))


def of(session: Session, calls: Mapping[Agent, int], *, choice: Choice) -> Decimal | None:
    """What so many calls of each agent may cost; None where no price is known."""
    if choice.local:
        return Decimal(0)
    each = {agent: cost_of_a_call(session, agent, choice.model) for agent, number in calls.items() if number}
    if not all(price is not None for price in each.values()):
        return None
    return sum((price * calls[agent] for agent, price in each.items() if price is not None), Decimal(0))


def cost_of_a_call(session: Session, agent: Agent, model: str) -> Decimal | None:
    """The average of the last live calls of this agent; a typical one's where there is none yet."""
    last = (
        select(Run.cost_usd)
        .where(Run.agent == agent, Run.model == model, Run.replied, Run.cost_usd.is_not(None), *_LIVE)
        .order_by(Run.id.desc())
        .limit(LOOKED_AT)
        .subquery()
    )
    average = session.scalar(select(func.avg(last.c.cost_usd)))
    return average if average is not None else cost(model, TYPICAL[agent], on=now().date())
