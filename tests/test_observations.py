"""From an agent's failure to its row: every code of the closed list, once each, and the pattern that three make."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from agents.judge import Panel, judge
from agents.observation import Observation as Seen
from app import documents, reviewing
from app.db import transaction
from app.judgements import Case, observe, record
from app.tables import Observation, Pattern, Revision
from tests.cast import MODEL, TRIAGED, Model, judged, nonce_for, reply, revision, said, shipped_context
from tests.double import Fault, running
from tests.factories import make_context, make_ticket
from tests.sightings import calls, labelled, told
from tests.test_reviewing import arrive, started

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from agents.question import Outcome
    from app.settings import Settings
    from app.tables import User
    from app.vault import Vault

_serial = itertools.count(1)
NOWHERE = "words that nobody wrote anywhere"
IN_INTAKE = {"line": 8, "quote": "I cannot work from home"}


def remarked(code: str, subject: str) -> str:
    """An answer of qc in which all is met and triage is blamed."""
    return json.dumps({**json.loads(judged()), "triage": [{"code": code, "subject": subject, **IN_INTAKE}]})


def reviewed(engine: Engine, model: Model, *, live: bool = True) -> list[tuple[str, ...]]:
    """A ticket judged by a scripted model, recorded twice, as two workers do; what was observed on it."""
    with transaction(engine) as session:
        context = make_context(session)
        ticket = make_ticket(session, text=revision(external_id=f"INC-{next(_serial)}").ticket)
        row = session.get_one(Revision, ticket.revision_id)
    state = documents.revision(row.document)
    judgement = judge(state, context, supplied=frozenset(), panel=Panel(MODEL, model, nonce_for))
    case = Case(row.id, ticket.id, state, live, frozenset(), context, None)
    for _ in range(2):
        with transaction(engine) as session:
            record(session, case, judgement, panel=MODEL, demonstration=False)
            if live:
                observe(session, judgement.observations, revision_id=row.id, context_version=context.version)
    with transaction(engine) as session:
        found = session.scalars(
            select(Observation).where(Observation.revision_id == row.id).order_by(Observation.id)
        ).all()
        assert {one.context_version for one in found} <= {context.version}
        return [(one.observer, one.agent, one.code, one.subject, one.direction) for one in found]


FALSE = said("not_met", line=9, quote=NOWHERE, reason="x")
RULE = shipped_context().rules[0].id
ANSWERS: tuple[tuple[Outcome, str], ...] = (
    ("refused", "refusal"), ("truncated", "truncated"), ("context_exceeded", "context_exceeded"),
    ("unusable", "invalid_answer"),
)  # fmt: skip


@pytest.mark.parametrize("agent", ["triage", "qc"])
def test_an_answer_that_is_none_is_one_failure_of_its_agent(engine: Engine, agent: str) -> None:
    for outcome, code in ANSWERS:
        silent: Any = {agent: reply("", outcome=outcome)}
        assert reviewed(engine, Model(**silent)) == [("validator", agent, code, "", "")]
    script: Any = {agent: "{not json"}
    broken = Model(**script)
    assert reviewed(engine, broken) == [("validator", agent, "invalid_answer", "", "")]
    assert sum(question.agent == agent for question in broken.asked) == 2  # the answer, and its repair
    mended: Any = {agent: ["{not json", getattr(Model(), agent)]}
    assert reviewed(engine, Model(**mended)) == []


def test_false_quotes_and_what_qc_says_of_triage_are_one_failure_each(engine: Engine) -> None:
    twice = Model(qc=judged(root_cause=FALSE, follow_up=FALSE))
    assert reviewed(engine, twice) == [
        ("validator", "qc", "quote_not_found", "root_cause", ""),
        ("validator", "qc", "quote_not_found", "follow_up", ""),
    ]
    invented = Model(triage=json.dumps({**TRIAGED, "impact": {"line": 8, "quote": NOWHERE}}))
    assert reviewed(engine, invented) == [("validator", "triage", "quote_not_found", "impact", "")]
    for code, subject in (
        ("missed_information", "impact"),
        ("wrong_category", "category"),
        ("wrong_priority", "priority"),
        ("missed_escalation", RULE),
    ):
        assert reviewed(engine, Model(qc=remarked(code, subject))) == [("qc", "triage", code, subject, "")]


def test_an_answer_that_changes_when_asked_again_is_unstable(engine: Engine) -> None:
    partly = said("partly", line=8, quote="I cannot work from home")
    first = judged(work_performed=partly)
    again = judged(work_performed=said("not_met", line=8, quote="I cannot work from home"))
    assert reviewed(engine, Model(qc=[first, again])) == [("validator", "qc", "unstable", "work_performed", "")]


def test_imported_history_is_nobody_s_failure(engine: Engine, session: Session) -> None:
    for _ in range(3):
        assert reviewed(engine, Model(qc=reply("", outcome="refused")), live=False) == []
    assert session.scalars(select(Pattern)).all() == []


def test_a_failure_is_one_row_for_each_decision_that_shows_it(engine: Engine, session: Session, lead: User) -> None:
    ticket = make_ticket(session)
    version = make_context(session).version
    labels = [labelled(session, lead, ticket).id for _ in range(2)]
    session.commit()
    failure = Seen("person", "qc", "overruled", "root_cause", direction="false_fail")
    assert ticket.revision_id is not None
    for label_id in (*labels, *labels):
        with transaction(engine) as writing:
            pinned = {"revision_id": ticket.revision_id, "label_id": label_id}
            observe(writing, [failure, failure], context_version=version, **pinned)
            observe(writing, [], context_version=version, **pinned)
    found = session.scalars(select(Observation).order_by(Observation.id)).all()
    assert [(one.direction, one.label_id) for one in found] == [("false_fail", label_id) for label_id in labels]


def test_a_model_that_fails_alike_on_three_tickets_brings_in_the_chief_of_staff(
    engine: Engine, session: Session, settings: Settings, vault: Vault
) -> None:
    with running() as double:
        double.fault(Fault("false_quote", agent="qc"))
        key = {"anthropic_api_key": SecretStr(double.key), "anthropic_base_url": double.base_url}
        deps = started(engine, settings, vault, **key)
        for number, requester in enumerate(("Ana Ruiz", "Ben Ito", "Ana Ruiz")):
            assert told(session) == []
            reviewing.review(deps, revision_id=arrive(session, external_id=f"INC-{number}", requester=requester))
    opened = session.scalars(select(Pattern).order_by(Pattern.id)).all()
    assert {(one.agent, one.code, one.state) for one in opened} == {("qc", "quote_not_found", "open")}
    assert sorted(calls(session)) == sorted(f"propose:{one.id}" for one in opened)
