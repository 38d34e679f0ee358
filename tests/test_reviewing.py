"""Reviews in the service, against a real database and the double: one verdict, paid once, whatever goes wrong."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from agents.gateway import CallFailed
from agents.judge import Judgement, judge
from app import reviewing, tables
from app.asking import TRIES
from app.cases import read_case
from app.clock import now
from app.deps import Deps
from app.intake.recording import record
from app.judgements import record as record_judgement
from app.model_watch import Models
from app.models import TICKETS_AT_ONCE
from app.releases import release
from app.retention import remove
from app.reviewing import MOST_UNANSWERED
from tests.cast import MODEL, TRIAGED, judged, said
from tests.double import Double, Fault, running
from tests.factories import make_connection, make_context, office_ticket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from agents.context import Context
    from agents.ticket import Revision
    from app.settings import Settings
    from app.vault import Vault


@pytest.fixture
def double() -> Iterator[Double]:
    with running() as server:
        server.fault(Fault("all_met"))
        yield server


@pytest.fixture
def deps(engine: Engine, settings: Settings, vault: Vault, double: Double) -> Deps:
    """A service whose worker model is the double, looked up and ready."""
    return started(engine, settings, vault, anthropic_api_key=SecretStr(double.key), anthropic_base_url=double.base_url)


def started(engine: Engine, settings: Settings, vault: Vault, **changes: object) -> Deps:
    changed = settings.model_copy(update={"strong_model": "none", **changes})
    deps = Deps(engine, vault, changed, Models(engine, changed))
    deps.models.refresh()
    return deps


def arrive(session: Session, *, external_id: str = "INC-1", live: bool = True, **changes: object) -> int:
    """A ticket enters; the id of its revision."""
    make_context(session)
    ticket = office_ticket(external_id=external_id, **changes)
    recorded = record(session, connection=make_connection(session), ticket=ticket, live=live)
    session.commit()
    return recorded.revision_id


def ticket_of(session: Session, revision_id: int) -> tables.Ticket:
    session.expire_all()
    revision = session.get_one(tables.Revision, revision_id)
    return session.get_one(tables.Ticket, revision.ticket_id)


def verdicts(session: Session) -> list[tables.Verdict]:
    session.expire_all()
    return list(session.scalars(select(tables.Verdict).order_by(tables.Verdict.id)))


def runs(session: Session) -> list[tables.Run]:
    session.expire_all()
    return list(session.scalars(select(tables.Run).order_by(tables.Run.id)))


def test_a_finished_ticket_gets_its_verdict_with_everything_it_rests_on(deps: Deps, session: Session) -> None:
    revision_id = arrive(session)
    reviewing.review(deps, revision_id=revision_id)
    (verdict,) = verdicts(session)
    context = make_context(session)
    assert (verdict.revision_id, verdict.context_version, verdict.panel) == (revision_id, context.version, MODEL)
    findings = list(session.scalars(select(tables.Finding).where(tables.Finding.verdict_id == verdict.id)))
    assert {found.criterion for found in findings} == {c.id for c in context.rubric.criteria}
    assert [run.agent for run in runs(session)] == ["triage", "qc"]
    assert verdict.cost_usd == sum((run.cost_usd or Decimal(0) for run in runs(session)), Decimal(0)) > 0
    ticket = ticket_of(session, revision_id)
    assert (ticket.review_state, ticket.verdict_id, ticket.outcome) == ("done", verdict.id, verdict.outcome)
    triage = session.scalars(select(tables.Triage)).one()
    assert (triage.revision_id, triage.model, triage.agent_hash) == (revision_id, MODEL, context.agent_hash("triage"))


def test_a_second_review_of_the_same_is_a_no_op(deps: Deps, double: Double, session: Session) -> None:
    revision_id = arrive(session)
    reviewing.review(deps, revision_id=revision_id)
    reviewing.review(deps, revision_id=revision_id)
    assert len(verdicts(session)) == 1
    assert len(double.account.calls) == 2


def test_two_workers_on_one_review_leave_one_verdict(deps: Deps, session: Session) -> None:
    revision_id = arrive(session)
    other = started(deps.engine, deps.settings, deps.vault)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: reviewing.review(one, revision_id=revision_id), (deps, other)))
    assert len(verdicts(session)) == 1
    assert len(list(session.scalars(select(tables.Finding)))) == len(make_context(session).rubric.criteria)
    replied = [run.reply_key for run in runs(session) if run.replied]
    assert len(replied) == len(set(replied)) == 2
    assert {run.outcome for run in runs(session)} <= {"answered", "duplicate"}


def test_a_crash_between_reply_and_verdict_pays_nothing_again(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision_id = arrive(session)

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("the process died here")

    with monkeypatch.context() as patched:
        patched.setattr(reviewing, "record", crash)
        with pytest.raises(RuntimeError):
            reviewing.review(deps, revision_id=revision_id)
    assert verdicts(session) == []
    paid = len(double.account.calls)
    reviewing.review(deps, revision_id=revision_id)
    assert len(verdicts(session)) == 1
    assert len(double.account.calls) == paid


def test_a_superseded_revision_is_left_alone(deps: Deps, double: Double, session: Session) -> None:
    first = arrive(session, external_id="INC-9")
    second = arrive(session, external_id="INC-9", description="It is the whole floor now.")
    reviewing.review(deps, revision_id=first)
    assert double.account.calls == []
    reviewing.review(deps, revision_id=second)
    assert [verdict.revision_id for verdict in verdicts(session)] == [second]


def test_a_ticket_that_changed_while_it_was_judged_keeps_its_newest_state(
    deps: Deps, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = arrive(session, external_id="INC-9")

    def changed_meanwhile(revision: Revision, context: Context, **rest: Any) -> Judgement:  # noqa: ANN401  passed on
        judgement = judge(revision, context, **rest)
        arrive(session, external_id="INC-9", description="It is the whole floor now.")
        return judgement

    monkeypatch.setattr(reviewing, "judge", changed_meanwhile)
    reviewing.review(deps, revision_id=first)
    assert [verdict.revision_id for verdict in verdicts(session)] == [first]
    ticket = ticket_of(session, first)
    assert (ticket.verdict_id, ticket.review_state) == (None, "waiting_model")


def test_the_same_intake_is_triaged_once(deps: Deps, double: Double, session: Session) -> None:
    reviewing.review(deps, revision_id=arrive(session, external_id="INC-9"))
    reviewing.review(deps, revision_id=arrive(session, external_id="INC-9", resolution="Fixed properly now."))
    assert [call.kind for call in double.account.calls] == ["triage", "qc", "qc"]
    assert len(verdicts(session)) == 2


def test_an_open_ticket_is_triaged_and_nothing_more(deps: Deps, double: Double, session: Session) -> None:
    revision_id = arrive(session, status="open", closed_at=None)
    reviewing.triage(deps, revision_id=revision_id)
    reviewing.triage(deps, revision_id=revision_id)
    assert [call.kind for call in double.account.calls] == ["triage"]
    assert verdicts(session) == []
    assert ticket_of(session, revision_id).review_state == "open"


def test_an_escalation_rule_on_an_open_ticket_brings_it_to_people(deps: Deps, double: Double, session: Session) -> None:
    rule = make_context(session).rules[0].id
    answer = (
        '{"category":"network","priority":"p1","problem":{"line":1,"quote":"VPN drops every ten"},'
        '"affected":{"line":0,"quote":""},"impact":{"line":0,"quote":""},"contact":{"line":0,"quote":""},'
        f'"rules":[{{"rule":"{rule}","line":1,"quote":"VPN drops every ten minutes"}}],"ask":[]}}'
    )
    double.fault()
    double.answer_with(lambda _body: answer)
    revision_id = arrive(session, status="open", closed_at=None)
    reviewing.triage(deps, revision_id=revision_id)
    escalation = session.scalars(select(tables.Escalation)).one()
    assert (escalation.rule, escalation.agent, escalation.evidence[0]["line"]) == (rule, "triage", 1)
    assert ticket_of(session, revision_id).escalated


def test_without_a_model_the_checks_decide_or_a_person_does(
    engine: Engine, settings: Settings, vault: Vault, session: Session
) -> None:
    deps = started(engine, settings, vault, worker_model="none")
    reviewing.review(deps, revision_id=arrive(session))
    (verdict,) = verdicts(session)
    assert (verdict.outcome, verdict.panel, verdict.cost_usd) == ("escalate", "none", Decimal(0))
    assert runs(session) == []


def test_a_model_that_comes_later_judges_what_was_reviewed_without_one(deps: Deps, session: Session) -> None:
    revision_id = arrive(session)
    reviewing.review(started(deps.engine, deps.settings, deps.vault, worker_model="none"), revision_id=revision_id)
    reviewing.review(deps, revision_id=revision_id)
    assert [verdict.panel for verdict in verdicts(session)] == ["none", MODEL]
    assert ticket_of(session, revision_id).verdict_id == verdicts(session)[-1].id


def test_while_the_model_cannot_answer_a_ticket_waits_and_is_resumed(deps: Deps, session: Session) -> None:
    waiting = Deps(deps.engine, deps.vault, deps.settings, Models(deps.engine, deps.settings))
    revision_id = arrive(session)
    reviewing.review(waiting, revision_id=revision_id)
    assert ticket_of(session, revision_id).review_state == "waiting_model"
    assert verdicts(session) == []
    reviewing.resume(deps)
    reviewing.review(deps, revision_id=revision_id)
    assert ticket_of(session, revision_id).review_state == "done"


def test_a_key_that_is_refused_stops_all_work_and_says_so(deps: Deps, double: Double, session: Session) -> None:
    double.fault(Fault("invalid_key"))
    first, second = arrive(session), arrive(session, external_id="INC-2")
    reviewing.review(deps, revision_id=first)
    calls = len(double.account.calls)
    reviewing.review(deps, revision_id=second)
    assert len(double.account.calls) == calls
    assert {ticket_of(session, one).review_state for one in (first, second)} == {"waiting_model"}
    state = session.get_one(tables.ModelState, "worker")
    assert state.state == "failed"
    assert "ANTHROPIC_API_KEY" in state.detail


def test_attempts_without_a_reply_are_on_record(deps: Deps, double: Double, session: Session) -> None:
    double.fault(Fault("overloaded", times=1))
    reviewing.review(deps, revision_id=arrive(session))
    assert [(run.outcome, run.replied) for run in runs(session)] == [
        ("overloaded", False),
        ("answered", True),
        ("answered", True),
    ]


def test_an_unreachable_model_leaves_the_ticket_waiting(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.asking.FIRST_WAIT", 0.01)
    double.fault(Fault("overloaded"))
    revision_id = arrive(session)
    reviewing.review(deps, revision_id=revision_id)
    ticket = ticket_of(session, revision_id)
    assert ticket.review_state == "waiting_model"
    assert "overloaded" in ticket.review_note


def test_false_quotes_are_observed_but_not_for_imported_history(deps: Deps, double: Double, session: Session) -> None:
    double.fault(Fault("false_quote"))
    reviewing.review(deps, revision_id=arrive(session, live=False, closed_at="2020-01-01T00:00:00Z"))
    assert list(session.scalars(select(tables.Observation))) == []
    reviewing.review(deps, revision_id=arrive(session, external_id="INC-2"))
    codes = {(seen.observer, seen.code) for seen in session.scalars(select(tables.Observation))}
    assert codes == {("validator", "quote_not_found")}


def test_a_job_given_up_leaves_its_ticket_parked_in_sight(deps: Deps, session: Session) -> None:
    revision_id = arrive(session)
    reviewing.give_up(deps, "RuntimeError; see the log of job 7", revision_id=revision_id)
    ticket = ticket_of(session, revision_id)
    assert ticket.review_state == "parked"
    assert "job 7" in ticket.review_note


def test_a_new_context_version_is_judged_anew_and_the_old_verdict_stays(deps: Deps, session: Session) -> None:
    revision_id = arrive(session)
    reviewing.review(deps, revision_id=revision_id)
    files = dict(make_context(session).files)
    files["known_patterns.md"] += "\n"
    context = release(session, files, note="a blank line")
    session.commit()
    reviewing.review(deps, revision_id=revision_id)
    assert [verdict.context_version for verdict in verdicts(session)][1] == context.version
    assert len(verdicts(session)) == 2


def jobs(session: Session) -> list[str]:
    """The waiting jobs' keys."""
    found = "select queueing_lock from procrastinate.procrastinate_jobs where status = 'todo' order by id"
    return list(session.scalars(text(found)))


def without_jobs(session: Session) -> None:
    session.execute(text("delete from procrastinate.procrastinate_jobs"))
    session.commit()


def test_what_was_judged_without_a_model_is_taken_up_by_a_later_one(deps: Deps, session: Session) -> None:
    none = started(deps.engine, deps.settings, deps.vault, worker_model="none")
    revision_id = arrive(session)
    reviewing.review(none, revision_id=revision_id)
    without_jobs(session)
    reviewing.resume(none)
    assert jobs(session) == []
    reviewing.resume(deps)
    assert jobs(session) == [f"review:{revision_id}"]
    reviewing.review(deps, revision_id=revision_id)
    without_jobs(session)
    reviewing.resume(deps)
    assert jobs(session) == []


def test_a_ticket_whose_texts_retention_has_taken_is_not_judged_by_what_is_left(deps: Deps, session: Session) -> None:
    revision_id = arrive(session)
    reviewing.review(started(deps.engine, deps.settings, deps.vault, worker_model="none"), revision_id=revision_id)
    remove(deps.engine, moment=now() + timedelta(days=500), deliveries=timedelta(days=1))
    without_jobs(session)
    reviewing.resume(deps)
    assert jobs(session) == []


def test_a_ticket_that_has_a_job_keeps_that_one(deps: Deps, session: Session) -> None:
    """A hundred thousand waiting jobs, locked and written again each minute, would hold up who works on them."""
    arrive(session)
    waiting = "select id, xmin::text from procrastinate.procrastinate_jobs"
    before = session.execute(text(waiting)).all()
    session.rollback()
    reviewing.resume(deps)
    assert session.execute(text(waiting)).all() == before


def test_stopped_without_a_model_what_a_model_judged_stays(deps: Deps, session: Session) -> None:
    revision_id = arrive(session)
    reviewing.review(deps, revision_id=revision_id)
    without = started(deps.engine, deps.settings, deps.vault, worker_model="none")
    reviewing.review(without, revision_id=revision_id)
    assert [verdict.panel for verdict in verdicts(session)] == [MODEL]
    assert ticket_of(session, revision_id).review_state == "done"


def test_an_open_ticket_that_waited_is_let_go_where_no_model_is_configured(deps: Deps, session: Session) -> None:
    revision_id = arrive(session, status="open", closed_at=None)
    waiting = Deps(deps.engine, deps.vault, deps.settings, Models(deps.engine, deps.settings))
    reviewing.triage(waiting, revision_id=revision_id)
    assert ticket_of(session, revision_id).review_state == "waiting_model"
    reviewing.triage(started(deps.engine, deps.settings, deps.vault, worker_model="none"), revision_id=revision_id)
    assert ticket_of(session, revision_id).review_state == "open"


def test_a_job_that_comes_late_takes_no_verdict_out_of_sight(deps: Deps, session: Session) -> None:
    """A second job of a judged ticket: while the model is away, and when it is given up."""
    revision_id = arrive(session)
    reviewing.review(deps, revision_id=revision_id)
    waiting = Deps(deps.engine, deps.vault, deps.settings, Models(deps.engine, deps.settings))
    reviewing.review(waiting, revision_id=revision_id)
    assert ticket_of(session, revision_id).review_state == "done"
    reviewing.give_up(deps, "the worker died 6 times while at it", revision_id=revision_id)
    assert ticket_of(session, revision_id).review_state == "done"


def test_a_slow_review_under_an_older_context_hides_no_newer_verdict(
    deps: Deps, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Released and judged anew by another worker while ours was still thinking."""
    revision_id = arrive(session)

    def overtaken(revision: Revision, context: Context, **rest: Any) -> Judgement:  # noqa: ANN401  passed on
        judgement = judge(revision, context, **rest)
        monkeypatch.setattr(reviewing, "judge", judge)
        files = dict(make_context(session).files)
        files["known_patterns.md"] += "\n"
        release(session, files, note="a blank line")
        session.commit()
        reviewing.review(deps, revision_id=revision_id)
        return judgement

    monkeypatch.setattr(reviewing, "judge", overtaken)
    reviewing.review(deps, revision_id=revision_id)
    newer, older = verdicts(session)
    assert older.context_version == make_context(session).version
    assert ticket_of(session, revision_id).verdict_id == newer.id


def test_a_verdict_costs_what_its_own_panel_was_paid(deps: Deps, session: Session) -> None:
    revision_id = arrive(session)
    reviewing.review(deps, revision_id=revision_id)
    other = started(deps.engine, deps.settings, deps.vault, worker_model="claude-haiku-4-5")
    reviewing.review(other, revision_id=revision_id)
    for verdict in verdicts(session):
        mine = [run.cost_usd or Decimal(0) for run in runs(session) if run.model == verdict.panel]
        assert verdict.cost_usd == sum(mine, Decimal(0)) > 0
    assert len(verdicts(session)) == 2


@pytest.mark.parametrize(("left", "cost"), [("unpriced", None), ("unanswered", "0"), ("nothing", "0")])
def test_a_verdict_whose_runs_have_no_price_costs_an_unknown_sum(
    deps: Deps, session: Session, left: str, cost: str | None
) -> None:
    revision_id = arrive(session)
    reviewing.review(deps, revision_id=revision_id)
    session.execute(text("delete from findings"))
    session.execute(text("update tickets set verdict_id = null, review_state = 'running'"))
    session.execute(text("delete from verdicts"))
    if left == "nothing":
        session.execute(text("update runs set purpose = 'replay'"))
    else:
        session.execute(text("update runs set cost_usd = null, replied = :replied"), {"replied": left == "unpriced"})
    session.commit()
    case = read_case(session, revision_id, deps.models.ready())
    assert case is not None
    judgement = judge(case.revision, case.context, supplied=case.supplied, panel=None)
    record_judgement(session, case, judgement, panel=MODEL, demonstration=False)
    (verdict,) = verdicts(session)
    assert verdict.cost_usd == (None if cost is None else Decimal(cost))


def deserve_a_second(double: Double) -> None:
    """QC says of every ticket that the work performed, which is critical, is told in part."""
    cited = said("partly", line=9, quote="client certificate of LT-204 expired")
    qc, triage = judged(work_performed=cited), json.dumps(TRIAGED)
    double.fault()
    double.answer_with(lambda body: qc if "findings" in json.dumps(body["output_config"]) else triage)


def seconds(session: Session) -> int:
    return len({run.revision_id for run in runs(session) if run.purpose == "second"})


def test_at_most_a_fifth_of_the_tickets_gets_a_second_run_however_many_ask_at_once(
    deps: Deps, double: Double, session: Session
) -> None:
    deserve_a_second(double)
    double.fault(Fault("slow", seconds=0.2))
    asked = [arrive(session, external_id=f"INC-{number}") for number in range(12)]
    for revision_id in asked[:4]:
        reviewing.review(deps, revision_id=revision_id)
    assert seconds(session) == 0, "a fifth of four is none"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda revision_id: reviewing.review(deps, revision_id=revision_id), asked[4:]))
    assert 1 <= seconds(session) <= 2, "all eight deserve one"
    assert len(verdicts(session)) == 12


def test_a_second_run_on_record_is_gone_by_again_after_a_crash(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    deserve_a_second(double)
    for number in range(4):
        reviewing.review(deps, revision_id=arrive(session, external_id=f"INC-{number}"))
    revision_id = arrive(session, external_id="INC-9")

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("the process died here")

    with monkeypatch.context() as patched:
        patched.setattr(reviewing, "record", crash)
        with pytest.raises(RuntimeError):
            reviewing.review(deps, revision_id=revision_id)
    assert seconds(session) == 1
    paid = len(double.account.calls)
    judged_by_two: list[bool] = []

    def noted(*args: Any, **rest: Any) -> Judgement:  # noqa: ANN401  passed on
        judgement = judge(*args, **rest)
        judged_by_two.append(judgement.second_run)
        return judgement

    monkeypatch.setattr(reviewing, "judge", noted)
    reviewing.review(deps, revision_id=revision_id)
    assert judged_by_two == [True]
    assert len(double.account.calls) == paid


def test_a_slow_model_finishes_one_ticket_before_it_takes_the_next(
    deps: Deps, double: Double, session: Session
) -> None:
    ready = deps.models.ready()
    assert ready is not None
    deps.models._ready["worker"] = replace(ready, turns=threading.Semaphore(1))  # noqa: SLF001  as for the local model
    revisions = [arrive(session, external_id=f"INC-{one}", description=f"Desk {one} is dark.") for one in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda one: reviewing.review(deps, revision_id=one), revisions))
    assert [call.kind for call in double.account.calls] == ["triage", "qc"] * 3


def test_who_waited_for_its_turn_asks_no_model_that_went_away_meanwhile(
    deps: Deps, double: Double, session: Session
) -> None:
    ready = deps.models.ready()
    assert ready is not None
    revision_id = arrive(session)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(TICKETS_AT_ONCE):
            ready.turns.acquire()
        waiting = pool.submit(reviewing.review, deps, revision_id=revision_id)
        time.sleep(0.1)
        deps.models.failed(CallFailed("billing", "HTTP 402"), asked=ready)
        ready.turns.release()
        waiting.result(timeout=10)
    assert double.account.calls == []
    assert ticket_of(session, revision_id).review_state == "waiting_model"


def test_a_ticket_that_alone_gets_no_answer_is_parked_in_the_end(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its attempts may be billed, and there would be no end to them."""
    monkeypatch.setattr("app.asking.FIRST_WAIT", 0.001)
    monkeypatch.setattr("app.asking.LONGEST_WAIT", 0.001)
    double.fault(Fault("server_error", match="LT-666"))
    revision_id = arrive(session, external_id="INC-666", description="My laptop LT-666 is on fire.")
    jobs = MOST_UNANSWERED // TRIES
    for _ in range(2 * jobs):  # an outage: nobody is answered
        reviewing.review(deps, revision_id=revision_id)
        assert ticket_of(session, revision_id).review_state == "waiting_model"
    reviewing.review(deps, revision_id=arrive(session, external_id="INC-1"))
    for number in range(jobs):
        assert ticket_of(session, revision_id).review_state == "waiting_model", number
        reviewing.review(deps, revision_id=revision_id)
    ticket = ticket_of(session, revision_id)
    assert ticket.review_state == "parked"
    assert "answers about other tickets, but not about this one: HTTP 500" in ticket.review_note
