"""One reuse in a hundred is asked again in the shadow: what is compared, what it costs, and that it changes nothing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from sqlalchemy import func, select, text, update

from app import releases, retention, reviewing
from app.audit import COMMAND_LINE
from app.clock import now
from app.periods import last_days
from app.queries import costs
from app.queries.failures import chances
from app.queries.figures import money
from app.runs import RunStore
from app.shadow import shadow
from app.tables import Reuse, Run, Verdict
from tests.cast import reply
from tests.double import Double, running
from tests.double.answers import answer
from tests.double.faults import Fault
from tests.double.prompt import output_schema
from tests.factories import make_connection, make_context, make_ticket, office_ticket
from tests.rescored import version_with
from tests.test_budget import question
from tests.test_gateway import triage_question
from tests.test_rescoring import live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.deps import Deps
    from tests.double.models import Json


@pytest.fixture(autouse=True)
def _all_in_the_shadow(monkeypatch: pytest.MonkeyPatch, _nothing_in_the_shadow: None) -> None:
    monkeypatch.setattr("app.runs.SHADOW_EVERY", 1)
    monkeypatch.setattr("agents.judge.SAMPLED_SHARE", 2**40)


class Mind:
    """A worker that meets every criterion, until it changes its mind about one."""

    changed = False

    def __call__(self, body: Json) -> str:
        schema = output_schema(body)
        assert schema is not None
        said: dict[str, Any] = json.loads(answer(body, schema, kind="all_met"))
        if self.changed and "findings" in said:
            said["findings"]["root_cause"].update(result="absent", quote="", lines=[], reason="Nothing says so.")
        return json.dumps(said)


@pytest.fixture
def mind() -> Mind:
    return Mind()


@pytest.fixture
def double(mind: Mind) -> Iterator[Double]:
    with running() as server:
        server.answer_with(mind)
        yield server


def alike(deps: Deps, session: Session) -> list[int]:
    """Two tickets that read the same, judged; the revision ids."""
    make_context(session)
    desks = (make_connection(session, name=name) for name in ("north", "south"))
    same = office_ticket()
    revisions = [make_ticket(session, text=same, connection=desk).revision_id or 0 for desk in desks]
    session.commit()
    for revision_id in revisions:
        reviewing.review(deps, revision_id=revision_id)
    session.expire_all()
    return revisions


def reuses(session: Session) -> Sequence[Reuse]:
    session.expire_all()
    return session.scalars(select(Reuse).order_by(Reuse.agent)).all()


def asked_for(session: Session) -> Sequence[Any]:
    jobs = "select args->'reuse_id' from procrastinate.procrastinate_jobs where task_name = 'shadow' order by 1"
    return session.scalars(text(jobs)).all()


def test_what_is_reused_is_asked_again_and_no_verdict_knows_of_it(deps: Deps, session: Session, double: Double) -> None:
    first, second = alike(deps, session)
    qc, triage = reuses(session)
    assert [(one.agent, one.revision_id, one.agrees) for one in (qc, triage)] == [
        ("qc", second, None),
        ("triage", second, None),
    ]
    assert asked_for(session) == sorted([qc.id, triage.id])
    before, paid = live(session), len(double.account.calls)
    each = money.cost(session, last_days(now())).per_ticket_usd
    could_fail = chances(session, after=now() - timedelta(hours=1))
    for one in (qc, triage):
        shadow(deps, reuse_id=one.id)
        shadow(deps, reuse_id=one.id)  # a job that is tried again is paid once
    assert [one.agrees for one in reuses(session)] == [True, True]
    assert len(double.account.calls) == paid + 2
    assert len(reuses(session)) == 2, "what the shadow asks is no reuse itself"
    assert live(session) == before
    mine = session.scalars(select(Run).where(Run.purpose == "shadow")).all()
    assert {(run.agent, run.revision_id) for run in mine} == {("qc", second), ("triage", second)}
    spent = money.cost(session, last_days(now()))
    (line,) = (row for row in spent.lines if row.line == "shadow")
    assert (line.calls, line.cost_usd) == (2, sum((run.cost_usd or 0) for run in mine))
    assert spent.per_ticket_usd == each
    assert chances(session, after=now() - timedelta(hours=1)) == could_fail
    agreed = costs.reuse_agreed(session, last_days(now()))
    assert (agreed.hits, agreed.n) == (2, 2)
    assert session.scalar(select(func.count(Verdict.id)).where(Verdict.revision_id.in_((first, second)))) == 2


def test_another_answer_shows_that_reuse_is_not_safe(deps: Deps, session: Session, mind: Mind) -> None:
    alike(deps, session)
    qc, triage = reuses(session)
    mind.changed = True
    for one in (qc, triage):
        shadow(deps, reuse_id=one.id)
    assert [one.agrees for one in reuses(session)] == [False, True]


def test_few_are_drawn_and_only_first_questions_to_a_paid_model(
    engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (replace(question(), purpose=purpose) for purpose in ("review", "second"))
    revisions = [make_ticket(session).revision_id for _ in range(4)]
    version = make_context(session).version
    session.commit()

    def store(number: int, *, demonstration: bool = False) -> RunStore:
        told: dict[str, Any] = {"revision_id": revisions[number], "context_version": version, "today": date.today}
        return RunStore(engine, **told, demonstration=demonstration)

    for asked in (first, second):
        store(0).keep(asked, reply("{}"))
    assert store(1).find(second)
    assert store(1, demonstration=True).find(first)
    monkeypatch.setattr("app.runs.SHADOW_EVERY", 2**40)
    assert store(2).find(first)
    assert (len(reuses(session)), asked_for(session)) == (3, [])
    monkeypatch.setattr("app.runs.SHADOW_EVERY", 1)
    assert store(3).find(first)
    assert (len(reuses(session)), len(asked_for(session))) == (4, 1)


def test_one_in_so_many_is_drawn_of_each_agent_alike(
    engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.runs.SHADOW_EVERY", 4)
    version = make_context(session).version
    revisions = [make_ticket(session).revision_id for _ in range(41)]
    session.commit()
    both = [question(), triage_question()]
    for number, revision_id in enumerate(revisions):
        told: dict[str, Any] = {"context_version": version, "today": date.today, "demonstration": False}
        store = RunStore(engine, revision_id=revision_id, **told)
        for asked in both:
            if number == 0:
                store.keep(asked, reply("{}"))
            assert store.find(asked)
    drawn = Counter(one.agent for one in reuses(session) if one.id in asked_for(session))
    assert drawn == {"qc": 10, "triage": 10}


@pytest.mark.parametrize(
    "case",
    [
        ("superseded", "not in force any more"),
        ("removed", "texts were removed"),
        ("no reply", "the reply is gone"),
        ("budget", "what is left of today's budget"),
        ("no model", "no model of an account"),
    ],
)
def test_where_nothing_can_be_compared_nothing_is_asked(
    deps: Deps, another: Callable[..., Deps], session: Session, double: Double, case: tuple[str, str]
) -> None:
    why, reason = case
    alike(deps, session)
    _, triage = reuses(session)
    if why == "superseded":  # by a text that this agent does not read
        releases.release_version(session, version_with(session), note="better", actor=COMMAND_LINE)
    elif why == "no reply":
        session.execute(update(Run).values(reply=None))
    elif why == "removed":
        retention.remove(deps.engine, moment=now() + timedelta(days=500), deliveries=timedelta(days=500))
    session.commit()
    changes: dict[str, dict[str, object]] = {
        "budget": {"daily_budget_usd": double.account.cost},
        "no model": {"worker_model": "none"},
    }
    asking = another(**changes[why]) if why in changes else deps
    paid = len(double.account.calls)
    with structlog.testing.capture_logs() as logs:
        shadow(asking, reuse_id=triage.id)
    assert reason in next(line["reason"] for line in logs if line["event"] == "shadow.left")
    assert len(double.account.calls) == paid
    assert [one.agrees for one in reuses(session)] == [None, None]


def test_a_call_that_fails_leaves_it_without_comparison(deps: Deps, session: Session, double: Double) -> None:
    alike(deps, session)
    qc, _ = reuses(session)
    double.fault(Fault("invalid_key"))
    shadow(deps, reuse_id=qc.id)
    assert [one.agrees for one in reuses(session)] == [None, None]
    assert deps.models.ready() is None, "nobody else need find out that the key is refused"
