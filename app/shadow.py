"""The job that asks a question again whose reply was reused: is what was not paid again still what the model says?

Touches no verdict. A failure leaves the reuse without comparison, and is not tried again: others will be drawn.
1. T: the reuse and its case; nothing is done where that is not in force any more, or today's budget is nearly spent.
2. What the reply on record says, and what the model says now, to the same agent about the same case.
3. T: whether they agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Never

import structlog
from sqlalchemy import update

from agents import qc, triage
from agents.answer import Failed
from agents.gateway import CallFailed
from app.cases import case_of
from app.db import transaction
from app.releases import in_force
from app.reviewing import store_for
from app.tables import Reuse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agents.qc import Qc
    from agents.question import Ask, Purpose, Question, Reply
    from agents.triage import Triage
    from app.deps import Deps
    from app.judgements import Case
    from app.models import Ready

log = structlog.get_logger()


class _Left(Exception):  # noqa: N818  a signal
    """There is nothing to compare; the message says why."""


class _Said(NamedTuple):
    """What verdicts are made of, without quotes and words: two good answers seldom cite the same place."""

    results: Mapping[str, str]
    rules: frozenset[str]


def shadow(deps: Deps, *, reuse_id: int) -> None:
    ready = deps.models.ready()
    try:
        if ready is None or ready.demonstration:
            _leave("no model of an account answers now")
        agrees = _compared(deps, ready, reuse_id)
    except _Left as why:
        log.info("shadow.left", reuse_id=reuse_id, reason=str(why))
        return
    with transaction(deps.engine) as session:
        session.execute(update(Reuse).where(Reuse.id == reuse_id).values(agrees=agrees))
    log.info("shadow.done", reuse_id=reuse_id, agrees=agrees)


def _leave(why: str) -> Never:
    raise _Left(why)


def _compared(deps: Deps, ready: Ready, reuse_id: int) -> bool:
    reuse, case = _read(deps, ready, reuse_id)
    store = store_for(deps, case, ready)

    def on_record(question: Question) -> Reply:
        return store.look(question) or _leave("the reply is gone, or was another model's")

    def once_more(question: Question) -> Reply:
        try:
            return ready.asking.ask(question, store).reply
        except CallFailed as failure:
            if failure.stops_all:
                deps.models.failed(failure, asked=ready)
            _leave(str(failure))

    answers = _Answers(deps, ready, case, on_record)
    before = answers.of(reuse.agent, on_record, "review")
    return before == answers.of(reuse.agent, once_more, "shadow", repetition=reuse_id)


def _read(deps: Deps, ready: Ready, reuse_id: int) -> tuple[Reuse, Case]:
    with transaction(deps.engine) as session:
        if deps.models.budget.warning(session) is not None:
            _leave("what is left of today's budget is for tickets that come in")
        reuse = session.get_one(Reuse, reuse_id)
        context = in_force(session)
        case = case_of(session, reuse.revision_id, context, ready) if context.version == reuse.context_version else None
        return reuse, case or _leave("its context is not in force any more, or its texts were removed")


class _Answers(NamedTuple):
    """Asks the agents about one case."""

    deps: Deps
    ready: Ready
    case: Case
    on_record: Ask

    def of(self, agent: str, ask: Ask, purpose: Purpose, *, repetition: int = 0) -> _Said:
        if agent == "triage":
            return _triage_said(self._triage(ask, purpose, repetition=repetition))
        told = self.case.triage or self._triage(self.on_record, "review")
        answer, _ = qc.qc(
            self.case.revision,
            self.case.context,
            ask=ask,
            model=self.ready.model,
            nonce_for=self.deps.vault.nonce,
            triage=None if isinstance(told, Failed) else told,
            purpose=purpose,
            repetition=repetition,
        )
        return _qc_said(answer)

    def _triage(self, ask: Ask, purpose: Purpose, *, repetition: int = 0) -> Triage | Failed:
        answer, _ = triage.triage(
            self.case.revision,
            self.case.context,
            ask=ask,
            model=self.ready.model,
            nonce_for=self.deps.vault.nonce,
            purpose=purpose,
            repetition=repetition,
        )
        return answer


def _triage_said(answer: Triage | Failed) -> _Said:
    if isinstance(answer, Failed):
        return _Said({"failed": answer.code}, frozenset())
    states = {name: field.state for name, field in answer.fields.items()}
    words = {"category": answer.category, "priority": answer.priority}
    return _Said({**words, **states}, frozenset(hit.rule for hit in answer.rules))


def _qc_said(answer: Qc | Failed) -> _Said:
    if isinstance(answer, Failed):
        return _Said({"failed": answer.code}, frozenset())
    return _Said({f.criterion: f.result for f in answer.findings}, frozenset(answer.missed_rules))
