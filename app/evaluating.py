"""Models beside people, on the tickets that people labelled.

1. T: the context, and the labelled tickets. The sealed split stays sealed.
2. Each model is looked up, and has a price, before anything is paid for any of them.
3. What is on record is not asked again. What the rest will cost is known before it is asked.
4. Each model judges each ticket as a worker begins: triage, then one run of quality control. No second, masked or
   strong run follows: what counts is the model's own first word. Each paid reply is stored before anything may fail
   on it, so that the same command goes on where it was cut short.
5. T: the figures are a row.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select

from agents import qc, triage
from agents.evaluation import Arm, Costs, Said, figures
from agents.gateway import CallFailed
from agents.judge import Panel, judge, too_long
from agents.prices import cost, price_book, price_of, worst
from agents.question import Usage
from agents.tokens import token_estimate
from app.budget import OverBudget
from app.clock import now
from app.db import transaction
from app.errors import BadRequest, ModelError
from app.limiter import Limiter
from app.models import CONCURRENCY, LOCAL, LOCAL_CONCURRENCY, NONE, Choice, open_model
from app.review_file import KEPT, PATIENCE, Stopped
from app.runs import RunStore
from app.tables import Eval, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date
    from typing import Any

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from agents.context import Context
    from agents.judge import Judgement
    from agents.question import Agent, NonceFor, Question, Reply
    from app.asking import Purse
    from app.eval_cases import Chosen
    from app.local_model import LocalState
    from app.models import Ready
    from app.replay_cases import ReplayCase
    from app.settings import Settings

WRITTEN: Mapping[Agent, int] = {"triage": 150, "qc": 350}  # tokens of a usual answer


class Estimate(NamedTuple):
    """What a model will be asked. `about` is for usual answers, all but the first read from the vendor's cache."""

    model: str
    demonstration: bool
    questions: int
    on_record: int
    about: Decimal
    most: Decimal


def check_names(names: Sequence[str], *, on: date) -> None:
    """Raises BadRequest or ModelError where no evaluation of these models can be told: nothing was asked yet."""
    if not names:
        raise BadRequest("--models: name one model or more, with commas between them: claude-haiku-5-5,local")
    if len(set(names)) < len(names):
        raise BadRequest("--models: a model is named twice; there is nothing to compare it with but itself")
    if NONE in names:
        raise BadRequest(f"--models: {NONE} judges nothing, so there is nothing to compare")
    for name in names:
        if name != LOCAL and price_of(name, on=on) is None:
            known = ", ".join(sorted({price.model for price in price_book()}))
            raise ModelError(f"no price is known for {name}, so nothing was asked. Models with a price: {known}")


def open_models(
    settings: Settings, names: Sequence[str], *, local: LocalState | None, purse: Purse | None, sharers: int = 1
) -> Iterator[Ready]:
    """Each model, ready to answer; all of one key share its limits, and `sharers` processes do.

    Raises ModelError at the first that cannot.
    """
    limiter = Limiter(maximum=CONCURRENCY)
    limiter.sharers = sharers
    for name in names:
        try:
            yield open_model(settings, Choice("worker", name), limiter=limiter, local=local, purse=purse)
        except CallFailed as failure:
            raise ModelError(f"{_why(failure, name)} Nothing was spent.") from failure


def _why(failure: CallFailed, model: str) -> str:
    """What a failure means for whoever named this model."""
    known = {
        "no_key": f"{model} needs an API key: set ANTHROPIC_API_KEY.",
        "authentication": "the API key was not accepted: set a valid ANTHROPIC_API_KEY.",
        "billing": "the account cannot be billed: mend billing with the vendor.",
        "permission": f"the API key may not use {model}.",
        "unknown_model": f"the server knows no model {model}.",
    }
    return known.get(failure.code, f"{model} did not answer: {str(failure).rstrip('.')}.")


@dataclass(frozen=True)
class Evaluation:
    """Everything that is known before the first call."""

    engine: Engine
    nonce_for: NonceFor
    context: Context
    chosen: Chosen
    models: tuple[Ready, ...]

    def estimates(self) -> tuple[Estimate, ...]:
        asked = {ready.model: {one.key: one for one in self._questions(ready)} for ready in self.models}
        keys = list(chain.from_iterable(asked.values()))
        with transaction(self.engine) as session:
            found = select(Run.reply_key).where(Run.reply_key.in_(keys), Run.reply.is_not(None))
            known = frozenset(session.scalars(found))
        return tuple(_estimate(ready, asked[ready.model], known=known) for ready in self.models)

    def arms(self, on_done: Callable[[], None]) -> tuple[Arm, ...]:
        """One model after the other. Raises ModelError where one cannot go on; what was paid is kept."""
        return tuple(self._arm(ready, on_done) for ready in self.models)

    def _questions(self, ready: Ready) -> Iterator[Question]:
        """What will be asked, but for what triage says to quality control, which is no part of a question's key."""
        for case in self.chosen.cases:
            if too_long(case.revision, ready.token_limit):
                continue
            told = (case.revision, self.context)
            yield triage.question(*told, model=ready.model, nonce_for=self.nonce_for, purpose="eval")
            yield qc.question(*told, model=ready.model, nonce_for=self.nonce_for, purpose="eval", triage=None)

    def _arm(self, ready: Ready, on_done: Callable[[], None]) -> Arm:
        pool = ThreadPoolExecutor(LOCAL_CONCURRENCY if ready.demonstration else CONCURRENCY, "eval")
        tickets = [pool.submit(self._said, ready, case) for case in self.chosen.cases]
        try:
            for ticket in as_completed(tickets):
                ticket.result()
                on_done()
        except KeyboardInterrupt:
            _leave(pool, ready, tickets)
            raise Stopped(f"stopped. {KEPT}") from None
        except CallFailed as failure:
            ready.asking.stop()
            pool.shutdown(cancel_futures=True)
            why = str(failure) if isinstance(failure, OverBudget) else _why(failure, ready.model)
            raise ModelError(f"{why.rstrip('.')}. {KEPT} The same command goes on from here.") from failure
        pool.shutdown()
        return Arm(ready.model, ready.demonstration, tuple(ticket.result() for ticket in tickets))

    def _said(self, ready: Ready, case: ReplayCase) -> Said | None:
        """None where the server rejects the question itself: for a worker a person would have to look."""
        keys: list[str] = []
        panel = Panel(ready.model, self._ask(ready, case, keys), self.nonce_for, ready.token_limit, purpose="eval")
        try:
            judgement = judge(case.revision, self.context, supplied=case.supplied, panel=panel)
        except CallFailed as failure:
            if failure.permanent and not failure.stops_all:
                return None
            raise
        return self._taken(judgement, keys)

    def _ask(self, ready: Ready, case: ReplayCase, keys: list[str]) -> Callable[[Question], Reply]:
        """What is on record is looked at, not found again: going on after a stop is no saving."""
        store = RunStore(
            self.engine,
            revision_id=case.revision_id,
            context_version=self.context.version,
            today=lambda: now().date(),
            demonstration=ready.demonstration,
        )

        def ask(question: Question) -> Reply:
            keys.append(question.key)
            return store.look(question) or ready.asking.ask(question, store).reply

        return ask

    def _taken(self, judgement: Judgement, keys: Sequence[str]) -> Said:
        """With what the runs took, whichever evaluation paid for them; all have a price, or nothing was asked."""
        cost_usd = select(func.coalesce(func.sum(Run.cost_usd), Decimal(0)))
        latency = select(func.coalesce(func.sum(Run.latency_ms), 0))
        mine = (Run.reply_key.in_(keys), Run.reply.is_not(None))
        with transaction(self.engine) as session:
            paid, took = session.scalar(cost_usd.where(*mine)), session.scalar(latency.where(*mine))
        findings = {finding.criterion: finding.result for finding in judgement.findings}
        return Said(judgement.verdict.outcome, findings, paid or Decimal(0), int(took or 0))


def _leave(pool: ThreadPoolExecutor, ready: Ready, tickets: Sequence[Future[Said | None]]) -> None:
    """Nothing more is asked; answers that are under way have a moment, because they are paid for."""
    ready.asking.stop()
    pool.shutdown(wait=False, cancel_futures=True)
    with suppress(KeyboardInterrupt):  # a second time: at once
        wait([one for one in tickets if one.running()], timeout=0 if ready.demonstration else PATIENCE)


def _estimate(ready: Ready, asked: Mapping[str, Question], *, known: frozenset[str]) -> Estimate:
    new = [question for key, question in asked.items() if key not in known]
    about = most = Decimal(0)
    if not ready.demonstration:
        on = now().date()
        agents = {question.agent for question in new}
        cold = [next(one for one in new if one.agent == agent) for agent in sorted(agents)]
        about = sum((_price(one, on=on, cold=one in cold) for one in new), Decimal(0))
        most = sum((worst(one, on=on) or Decimal(0) for one in new), Decimal(0))
    return Estimate(ready.model, ready.demonstration, len(asked), len(asked) - len(new), about, most)


def _price(question: Question, *, on: date, cold: bool) -> Decimal:
    """Of a usual answer; `cold`: the first of its agent writes the prefix into the vendor's cache."""
    prefix = sum(map(token_estimate, (*question.system, str(question.schema))))
    own = sum(token_estimate(turn.text) for turn in question.turns)
    cached = {"cache_write_5m": prefix} if cold else {"cache_read": prefix}
    usage = Usage(input=own, output=WRITTEN[question.agent], **cached)
    return cost(question.model, usage, on=on) or Decimal(0)


def document(evaluation: Evaluation, arms: Sequence[Arm], *, costs: Costs) -> dict[str, Any]:
    """What stands in `evals.figures`."""
    chosen = evaluation.chosen
    criteria = [criterion.id for criterion in evaluation.context.rubric.judged]
    labels = {"blind": chosen.blind, "available": chosen.available, "others": chosen.others}
    return {**figures(chosen.wanted, arms, criteria=criteria, costs=costs), **labels}


def record(session: Session, evaluation: Evaluation, figures: Mapping[str, Any]) -> Eval:
    """The row, if the caller's transaction commits."""
    made = Eval(
        context_version=evaluation.context.version,
        models=[ready.model for ready in evaluation.models],
        figures=dict(figures),
    )
    session.add(made)
    session.flush()
    session.refresh(made)
    return made
