"""What calls may cost, before they are made: which runs on record say so."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from agents.prices import cost
from agents.question import Usage
from app.clock import now
from app.estimates import TYPICAL, cost_of_a_call
from tests.cast import MODEL
from tests.factories import make_batch, make_run

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def test_the_last_live_calls_of_the_agent_and_model_count(session: Session) -> None:
    for usd in ("0.0003", "0.0005"):
        make_run(session, cost_usd=Decimal(usd))
    make_run(session, purpose="second", cost_usd=Decimal("0.0004"))
    make_run(session, agent="triage", cost_usd=Decimal(1))
    make_run(session, model="claude-opus-5-5", cost_usd=Decimal(1))
    make_run(session, replied=False, reply=None, cost_usd=Decimal(1))
    assert cost_of_a_call(session, "qc", MODEL) == Decimal("0.0004")


def test_a_model_that_was_not_asked_yet_is_priced_by_the_tokens_of_another(session: Session) -> None:
    strong, typical = "claude-sonnet-5-5", TYPICAL["qc"]
    today = now().date()
    assert cost_of_a_call(session, "qc", strong, like=MODEL) == cost(strong, typical, on=today)
    make_run(session, input_tokens=100, output_tokens=300, cache_read_tokens=1000)
    make_run(session, input_tokens=200, output_tokens=500, cache_read_tokens=3000)
    taken = Usage(input=150, output=400, cache_read=2000)
    assert cost_of_a_call(session, "qc", strong, like=MODEL) == cost(strong, taken, on=today)
    make_run(session, model=strong, purpose="strong", cost_usd=Decimal("0.005"))
    assert cost_of_a_call(session, "qc", strong, like=MODEL) == Decimal("0.005"), "its own say more"


@pytest.mark.parametrize("purpose", ["review", "prime", "shadow", "shadow_repair"])
def test_what_came_by_batch_primed_a_cache_or_was_asked_in_the_shadow_does_not(session: Session, purpose: str) -> None:
    batch_id = make_batch(session, state="ended").id if purpose == "review" else None
    make_run(session, purpose=purpose, batch_id=batch_id, cost_usd=Decimal("0.0001"))
    assert cost_of_a_call(session, "qc", MODEL) == cost(MODEL, TYPICAL["qc"], on=now().date()), "nothing is on record"
    make_run(session, cost_usd=Decimal("0.0004"))
    make_run(session, purpose=purpose, batch_id=batch_id, cost_usd=Decimal("0.0001"))
    assert cost_of_a_call(session, "qc", MODEL) == Decimal("0.0004")
