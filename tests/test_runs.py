"""Replies in the `runs` table: found again, counted once as an answer, and priced honestly."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from agents import qc
from agents.gateway import CallFailed
from agents.question import Outcome, Question, Reply, Usage
from app.errors import DatabaseUnavailable
from app.runs import DUPLICATE, RunStore
from app.tables import Run, Spending
from tests.cast import MODEL, nonce_for, reply, revision, shipped_context
from tests.factories import make_context, make_ticket

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    Stores = Callable[..., RunStore]

TODAY = date(2026, 11, 23)


@pytest.fixture
def store(engine: Engine, session: Session) -> Stores:
    """Stores for one revision in the database; every worker has its own."""
    revision_id = make_ticket(session).revision_id
    version = make_context(session).version
    session.commit()

    def made(*, today: date = TODAY, demonstration: bool = False) -> RunStore:
        assert revision_id is not None
        return RunStore(
            engine,
            revision_id=revision_id,
            context_version=version,
            today=lambda: today,
            demonstration=demonstration,
        )

    return made


def question(**changes: Any) -> Question:  # noqa: ANN401  any field of a question
    asked = qc.question(revision(), shipped_context(), model=MODEL, nonce_for=nonce_for, triage=None)
    return replace(asked, **changes)


def runs(session: Session) -> list[Run]:
    session.expire_all()
    return list(session.scalars(select(Run).order_by(Run.id)))


def test_what_was_never_asked_is_not_found(store: Stores) -> None:
    assert store().find(question()) is None


def test_a_kept_reply_is_found_by_another_worker_with_all_its_parts(store: Stores) -> None:
    kept = Reply(
        text='{"findings": "naïve \\u0000 \u2028"}',
        outcome="answered",
        stop_reason="end_turn",
        usage=Usage(input=900, output=350, cache_write_5m=20, cache_write_1h=30, cache_read=5_000),
        model="claude-haiku-5-5-20261001",
        request_id="req_1",
        latency_ms=2_140,
    )
    store().keep(question(), kept)
    assert store().find(question()) == kept


@pytest.mark.parametrize("outcome", ["truncated", "refused", "context_exceeded", "unusable"])
def test_a_paid_reply_that_is_no_answer_is_found_too(store: Stores, outcome: Outcome) -> None:
    store().keep(question(), reply("", outcome=outcome))
    found = store().find(question())
    assert found is not None
    assert (found.outcome, found.text) == (outcome, "")


@pytest.mark.parametrize(
    "changes", [{"repetition": 1}, {"purpose": "second"}, {"model": "claude-haiku-4-5"}, {"revision_hash": "f" * 64}]
)
def test_another_question_is_another_reply(store: Stores, changes: dict[str, Any]) -> None:
    store().keep(question(), reply("{}"))
    assert store().find(question(**changes)) is None


def test_a_run_says_what_was_asked_under_what_and_what_it_cost(store: Stores, session: Session) -> None:
    store().keep(question(), reply("{}"))
    (run,) = runs(session)
    context = make_context(session)
    assert (run.agent, run.purpose, run.repetition, run.model) == ("qc", "review", 0, MODEL)
    assert (run.context_version, run.agent_hash) == (context.version, context.agent_hash("qc"))
    assert run.revision_id is not None
    assert (run.input_tokens, run.output_tokens, run.cache_read_tokens) == (900, 350, 5_000)
    assert run.cost_usd == Decimal("0.000315")


def test_of_two_workers_the_first_ones_answer_counts_and_both_are_paid(store: Stores, session: Session) -> None:
    store().keep(question(), reply('{"first": 1}'))
    store().keep(question(), reply('{"second": 2}'))
    first, second = runs(session)
    assert (first.replied, first.outcome, first.reply) == (True, "answered", '{"first": 1}')
    assert (second.replied, second.outcome, second.reply) == (False, DUPLICATE, None)
    assert first.cost_usd == second.cost_usd == Decimal("0.000315")
    found = store().find(question())
    assert found is not None
    assert found.text == '{"first": 1}'


def test_a_model_that_the_price_book_does_not_list_has_no_cost(store: Stores, session: Session) -> None:
    store().keep(question(model="claude-nonesuch-9"), reply("{}"))
    assert runs(session)[0].cost_usd is None


def test_a_demonstration_model_on_this_machine_costs_nothing(store: Stores, session: Session) -> None:
    store(demonstration=True).keep(question(model="local.gguf"), reply("{}"))
    assert runs(session)[0].cost_usd == 0


@pytest.mark.parametrize(("day", "cost"), [(6, "0.0063"), (7, "0.0058")])
def test_the_price_is_that_of_the_day(store: Stores, session: Session, day: int, cost: str) -> None:
    store(today=date(2026, 10, day)).keep(question(model="claude-sonnet-5-5"), reply("{}"))
    assert runs(session)[0].cost_usd == Decimal(cost)


def test_attempts_without_a_reply_are_rows_that_answer_nothing(store: Stores, session: Session) -> None:
    store().failed(question(), CallFailed("timeout", "no answer within 60 s"))
    store().failed(question(), CallFailed("overloaded", "HTTP 529"))
    assert store().find(question()) is None
    store().keep(question(), reply("{}"))
    assert store().find(question()) is not None
    assert [(run.outcome, run.replied, run.cost_usd is None) for run in runs(session)] == [
        ("timeout", False, True),
        ("overloaded", False, True),
        ("answered", True, False),
    ]


def test_a_reply_that_retention_has_taken_is_asked_for_again_and_kept_again(store: Stores, session: Session) -> None:
    """An intake that machines write is the same for years: each of its tickets must not be paid for."""
    store().keep(question(), reply("{}"))
    session.execute(update(Run).values(reply=None))
    session.commit()
    assert store().find(question()) is None
    assert store().keep(question(), reply('{"again": 1}')).text == '{"again": 1}'
    found = store().find(question())
    assert found is not None
    assert found.text == '{"again": 1}'
    assert [(run.outcome, run.cost_usd) for run in runs(session)] == [("answered", Decimal("0.000315"))] * 2


def test_who_comes_second_goes_by_the_first_ones_answer(store: Stores) -> None:
    store().keep(question(), reply('{"first": 1}'))
    assert store().keep(question(), reply('{"second": 2}')).text == '{"first": 1}'


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The database is away as often as there are words left: before the reply is written, or before it is told."""
    left: list[str] = []
    kept = RunStore._keep  # noqa: SLF001  the step that an outage hits

    def keep(self: RunStore, asked: Question, paid: Reply) -> Reply:
        when = left.pop() if left else ""
        if when == "before":
            raise DatabaseUnavailable("the database cannot be reached")
        counted = kept(self, asked, paid)
        if when == "after":
            raise DatabaseUnavailable("the database cannot be reached")
        return counted

    monkeypatch.setattr(RunStore, "_keep", keep)
    monkeypatch.setattr("app.runs.KEEP_AGAIN", (0.0, 0.0))
    return left


@pytest.mark.parametrize("when", [["before", "before"], ["after"], ["after", "before"]])
def test_a_paid_reply_outlives_a_database_that_restarts(
    store: Stores, session: Session, outage: list[str], when: list[str]
) -> None:
    outage += when
    assert store().keep(question(), reply("{}")).text == "{}"
    assert [(run.outcome, run.replied) for run in runs(session)] == [("answered", True)]
    assert [(row.agent, row.calls) for row in session.scalars(select(Spending))] == [("qc", 1)]


def test_a_database_that_stays_away_is_told(store: Stores, outage: list[str]) -> None:
    outage += ["before"] * 3
    with pytest.raises(DatabaseUnavailable):
        store().keep(question(), reply("{}"))
