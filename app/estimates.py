"""What live calls may cost, before they are made: by what the last ones of the same agent and model did cost.

What came by batch had half the price, a call that primes a cache wants no answer, and one in the shadow judges nothing:
these say nothing of what a live call costs.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from agents.prices import TOKEN_KINDS, cost
from agents.question import Usage
from app.clock import now
from app.tables import Run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Subquery
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


def of(session: Session, calls: Mapping[Agent, int], *, choice: Choice, like: str = "") -> Decimal | None:
    """What so many calls of each agent may cost; None where no price is known. `like`: as for one call."""
    if choice.local:
        return Decimal(0)
    each = {agent: cost_of_a_call(session, agent, choice.model, like=like) for agent, number in calls.items() if number}
    if not all(price is not None for price in each.values()):
        return None
    return sum((price * calls[agent] for agent, price in each.items() if price is not None), Decimal(0))


def cost_of_a_call(session: Session, agent: Agent, model: str, *, like: str = "") -> Decimal | None:
    """The average of the last live calls of this agent.

    Where there is none yet, this model's price for what those of the model `like` took; else for what is typical.
    """
    average: Decimal | None = session.scalar(select(func.avg(_last(agent, model).c.cost_usd)))
    if average is not None:
        return average
    return cost(model, _taken(session, agent, like) or TYPICAL[agent], on=now().date())


def _taken(session: Session, agent: Agent, model: str) -> Usage | None:
    """Tokens of the average call; None where there is none yet."""
    last = _last(agent, model).c
    kinds = [func.round(func.avg(last[f"{kind}_tokens"])) for kind in TOKEN_KINDS]
    tokens = session.execute(select(*kinds)).one()
    if tokens[0] is None:
        return None
    return Usage(**{kind: int(number) for kind, number in zip(TOKEN_KINDS, tokens, strict=True)})


def _last(agent: Agent, model: str) -> Subquery:
    return (
        select(Run.cost_usd, *(getattr(Run, f"{kind}_tokens") for kind in TOKEN_KINDS))
        .where(Run.agent == agent, Run.model == model, Run.replied, Run.cost_usd.is_not(None), *_LIVE)
        .order_by(Run.id.desc())
        .limit(LOOKED_AT)
        .subquery()
    )
