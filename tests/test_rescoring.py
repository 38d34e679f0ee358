"""Past tickets judged under another version: what changes and why, what it costs, and that nothing live is touched."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, text, update

from agents.gateway import CallFailed
from agents.judge import judge
from app import comparing, releases, rescores, rescoring, reviewing
from app.audit import COMMAND_LINE
from app.clock import now
from app.errors import Conflict, NotFound
from app.periods import last_days
from app.queries import costs
from app.queries.failures import chances
from app.queries.figures import money
from app.queries.ticket import runs as shown_runs
from app.tables import AuditEvent, Rescore, RescoreResult, Reuse, Run, Spending, Ticket, Verdict
from tests.double import Double, running
from tests.proposing import EDIT, Script, make_label, open_pattern
from tests.rescored import begun, finished, reviewed, version_with, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.orm import Session

    from agents.judge import Judgement
    from app.asking import Asked
    from app.deps import Deps
    from app.tables import User

HARM = "Nobody writes anything down that counts as evidence for any criterion of the rubric at all."
LIVE = ("tickets", "revisions", "verdicts", "findings", "triages", "escalations", "observations", "labels", "patterns")


@pytest.fixture(autouse=True)
def _none_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ticket has a second run for its hash alone: which ones do would change with each run of the tests."""
    monkeypatch.setattr("agents.judge.SAMPLED_SHARE", 2**40)


@pytest.fixture
def double() -> Iterator[Double]:
    with running() as server:
        server.answer_with(Script(harm=HARM))
        yield server


def results(session: Session, rescore_id: int) -> Sequence[RescoreResult]:
    session.expire_all()
    found = select(RescoreResult).where(RescoreResult.rescore_id == rescore_id)
    return session.scalars(found.order_by(RescoreResult.revision_id)).all()


def live(session: Session) -> dict[str, str | None]:
    """What stands in the tables that a re-scoring must leave alone."""
    session.rollback()
    whole = "select md5(coalesce(string_agg(t::text, '' order by t::text), '')) from {} t"
    return {name: session.scalar(text(whole.format(name))) for name in LIVE}


def jobs(session: Session) -> Sequence[object]:
    waiting = "select queueing_lock, priority from procrastinate.procrastinate_jobs where task_name = 'rescore'"
    return session.execute(text(waiting)).all()


def saved(session: Session) -> int:
    return session.scalar(select(func.count(Reuse.id))) or 0


def test_what_would_change_is_told_with_the_findings_that_moved_and_nothing_live_changes(
    deps: Deps, session: Session, double: Double, lead: User
) -> None:
    made = reviewed(deps, session)
    make_label(session, lead, ticket=made[0], outcome="pass")
    open_pattern(session)
    before, paid = live(session), len(double.account.calls)
    version = version_with(session, replace(EDIT, text=HARM))
    row = finished(deps, session, begun(session, deps.settings, version).id)
    assert (row.state, row.note, row.model, row.tickets) == ("done", "", "claude-haiku-5-5", 3)
    assert (row.unjudged, row.removed, row.finished_at is None) == (3, 0, False)
    found = results(session, row.id)
    assert [one.verdict_id for one in found] == [ticket.verdict_id for ticket in made]
    old = session.scalars(select(Verdict.outcome)).all()
    assert (old, [one.outcome for one in found]) == (["pass"] * 3, ["fail"] * 3)
    comparison = comparing.read(found[0].comparison or {})
    moves = {move.criterion: (move.old, move.new, move.reason) for move in comparison.moves}
    assert moves["root_cause"] == ("unscored", "not_met", "Nothing says so.")
    assert moves["work_performed"] == ("met", "not_met", "Nothing says so.")
    assert "critical" in comparison.reasons[0]
    assert live(session) == before
    assert len(double.account.calls) - paid == 3 == row.calls  # triage reads nothing that the edit changes
    mine = session.scalars(select(Run).where(Run.rescore_id == row.id)).all()
    assert {(run.agent, run.purpose, run.repetition, run.context_version) for run in mine} == {
        ("qc", "review", 0, row.context_version)
    }


def test_under_the_version_in_force_all_is_on_record_and_nothing_moves(
    deps: Deps, session: Session, double: Double
) -> None:
    reviewed(deps, session)
    version = releases.in_force(session).version
    plan = rescores.plan(session, window(version), settings=deps.settings)
    assert (plan.calls, plan.known, plan.estimate_usd, plan.seconds_usd) == (0, 6, Decimal(0), Decimal(0))
    paid, reused = len(double.account.calls), saved(session)
    row = finished(deps, session, begun(session, deps.settings, version).id)
    assert [(one.outcome, one.moved) for one in results(session, row.id)] == [("pass", False)] * 3
    assert (len(double.account.calls), saved(session)) == (paid, reused)  # it would not have been paid otherwise


def test_an_answer_is_paid_once_whoever_asks_first(deps: Deps, session: Session, double: Double) -> None:
    """A second re-scoring finds the first one's answers, and so does a review once the version is in force."""
    made = reviewed(deps, session)
    version = version_with(session)
    first = finished(deps, session, begun(session, deps.settings, version).id)
    assert [(one.outcome, one.moved) for one in results(session, first.id)] == [("pass", True)] * 3
    paid = len(double.account.calls)
    second = begun(session, deps.settings, version)
    assert (second.calls, second.estimate_usd) == (0, Decimal(0))
    assert finished(deps, session, second.id).state == "done"
    told = [[(one.outcome, one.comparison) for one in results(session, key)] for key in (first.id, second.id)]
    assert told[0] == told[1]
    releases.release_version(session, version, note="it is better", actor=COMMAND_LINE)
    session.commit()
    reviewing.review(deps, revision_id=made[0].revision_id or 0)
    session.expire_all()
    assert len(double.account.calls) == paid
    verdict = session.get_one(Verdict, session.get_one(Ticket, made[0].id).verdict_id)
    assert verdict.cost_usd == 0  # the re-scoring has paid
    assert [run.rescore_id for run in shown_runs(session, made[0].id)] == [None, None, first.id]
    assert [run.rescore_id for run in shown_runs(session, made[1].id)] == [None, None]


def test_what_it_costs_is_estimated_from_real_runs_and_has_a_line_of_its_own(deps: Deps, session: Session) -> None:
    reviewed(deps, session)
    version = version_with(session)
    made = rescores.plan(session, window(version), settings=deps.settings)
    each = session.scalars(select(func.avg(Run.cost_usd)).where(Run.agent == "qc")).one()
    assert each is not None
    assert made.estimate_usd == pytest.approx(3 * each)
    assert (made.seconds, made.seconds_usd) == (0, Decimal(0))
    period = last_days(now())
    judging = money.cost(session, period).per_ticket_usd
    by_criterion, possible = costs.by_criterion(session, period), chances(session, after=period.start)
    row = finished(deps, session, begun(session, deps.settings, version).id)
    spent = money.cost(session, last_days(now()))
    (line,) = (one for one in spent.lines if one.line == "rescore")
    assert (line.calls, line.cost_usd > 0) == (3, True)
    assert line.cost_usd == session.scalar(select(func.sum(Run.cost_usd)).where(Run.rescore_id == row.id))
    assert spent.per_ticket_usd == judging
    assert costs.by_criterion(session, last_days(now())) == by_criterion
    assert chances(session, after=period.start) == possible


def test_second_runs_keep_to_their_share_and_take_nothing_of_that_of_reviews(
    deps: Deps, session: Session, double: Double
) -> None:
    """Every ticket deserves one under this version; a second re-scoring adds none to what the first one got."""
    made = reviewed(deps, session, number=5)
    version = version_with(session, replace(EDIT, text=HARM))
    assert rescores.plan(session, window(version), settings=deps.settings).seconds == 1
    first = finished(deps, session, begun(session, deps.settings, version).id)
    asked = session.execute(select(Run.purpose, Run.revision_id).where(Run.rescore_id == first.id)).all()
    assert Counter(purpose for purpose, _ in asked) == {"review": 5, "second": 1}
    paid = len(double.account.calls)
    second = finished(deps, session, begun(session, deps.settings, version).id)
    told = [[(one.outcome, one.comparison) for one in results(session, key)] for key in (first.id, second.id)]
    assert told[0] == told[1]
    assert len(double.account.calls) == paid
    releases.release_version(session, version, note="stricter", actor=COMMAND_LINE)
    session.commit()
    (twice,) = (revision for purpose, revision in asked if purpose == "second")
    other = next(ticket.revision_id for ticket in made if ticket.revision_id not in {twice, None})
    reviewing.review(deps, revision_id=other or 0)
    session.expire_all()
    live = select(Run.rescore_id).where(Run.revision_id == other, Run.purpose == "second")
    assert session.scalars(live).all() == [None]


def test_a_worker_that_dies_in_the_middle_pays_nothing_twice(
    deps: Deps, another: Callable[..., Deps], session: Session, double: Double,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    reviewed(deps, session, number=5)
    row = begun(session, deps.settings, version_with(session))
    paid = len(double.account.calls)
    judged = Counter[str]()

    def dies(*arguments: Any, **named: Any) -> Judgement:  # noqa: ANN401  passed on
        found = judge(*arguments, **named)
        judged["so far"] += 1
        if judged["so far"] > 2:
            raise RuntimeError("the process died here, its answer paid")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(reviewing, "judge", dies)
        with pytest.raises(RuntimeError):
            rescoring.run(deps, rescore_id=row.id)
    assert session.scalars(select(Rescore.state)).one() == "running"
    assert finished(another(), session, row.id).state == "done"
    assert [one.outcome for one in results(session, row.id)] == ["pass"] * 5
    assert len(double.account.calls) - paid == 5


def test_it_is_done_in_parts_and_stops_where_it_is_cancelled(
    deps: Deps, session: Session, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescoring, "TICKETS", 2)
    reviewed(deps, session, number=5)
    row = begun(session, deps.settings, version_with(session))
    session.execute(text("delete from procrastinate.procrastinate_jobs"))
    session.commit()
    rescoring.run(deps, rescore_id=row.id)
    assert [one.outcome for one in results(session, row.id)] == ["pass", "pass", None, None, None]
    assert jobs(session) == [(f"rescore:{row.id}", -1)]
    paid = len(double.account.calls)
    rescores.cancel(session, row.id, actor=COMMAND_LINE, now=now())
    session.commit()
    rescoring.run(deps, rescore_id=row.id)
    row = finished(deps, session, row.id)
    assert (row.state, row.finished_at is None, len(double.account.calls)) == ("cancelled", False, paid)
    assert [one.outcome for one in results(session, row.id)] == ["pass", "pass", None, None, None]
    with pytest.raises(Conflict, match="over already"):
        rescores.cancel(session, row.id, actor=COMMAND_LINE, now=now())
    with pytest.raises(NotFound):
        rescores.cancel(session, 10**9, actor=COMMAND_LINE, now=now())
    told = select(AuditEvent.action).where(AuditEvent.subject == f"rescore:{row.id}").order_by(AuditEvent.id)
    assert session.scalars(told).all() == ["rescore.begun", "rescore.cancelled"]


def test_it_leaves_the_last_fifth_of_the_day_s_budget_to_tickets_of_today(
    deps: Deps, another: Callable[..., Deps], session: Session, double: Double
) -> None:
    reviewed(deps, session)
    row = begun(session, deps.settings, version_with(session))
    spent = session.scalar(select(func.sum(Spending.cost_usd))) or Decimal(0)
    paid = len(double.account.calls)
    short = another(daily_budget_usd=spent * Decimal("1.2"))
    row = finished(short, session, row.id)
    assert (row.state, row.note[:52]) == ("waiting", "four fifths of today's budget are spent, and the res")
    session.execute(text("delete from procrastinate.procrastinate_jobs"))
    session.commit()
    rescoring.resume(short)
    assert jobs(session) == []
    tight = another(daily_budget_usd=spent * 2)
    tight.models.budget.limit = spent * Decimal("1.26")  # no room for a call, and not yet four fifths
    assert finished(tight, session, row.id).note.startswith("today's budget of")
    assert len(double.account.calls) == paid
    rescoring.resume(deps)
    rescoring.resume(deps)
    assert jobs(session) == [(f"rescore:{row.id}", -1)]
    assert finished(deps, session, row.id).state == "done"


def test_without_a_model_the_checks_alone_are_compared(
    deps: Deps, another: Callable[..., Deps], session: Session, double: Double
) -> None:
    reviewed(deps, session)
    bare = another(worker_model="none")
    made = rescores.plan(session, window(version_with(session)), settings=bare.settings)
    assert (made.calls, made.known, made.estimate_usd) == (0, 0, Decimal(0))
    row = rescores.begin(session, made, actor=COMMAND_LINE)
    session.commit()
    paid = len(double.account.calls)
    row = finished(bare, session, row.id)
    assert (row.state, row.model) == ("done", "none")
    assert [(one.outcome, one.moved) for one in results(session, row.id)] == [("escalate", False)] * 3
    assert len(double.account.calls) == paid


def test_a_model_that_is_away_is_waited_for(
    deps: Deps, another: Callable[..., Deps], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    reviewed(deps, session)
    row = begun(session, deps.settings, version_with(session))
    ready = deps.models.ready()
    assert ready is not None

    def failing(failure: CallFailed) -> None:
        def ask(*_: object) -> Asked:
            raise failure

        monkeypatch.setattr(ready.asking, "ask", ask)

    failing(CallFailed("timeout", "no answer"))
    row = finished(deps, session, row.id)
    assert (row.state, row.note) == ("waiting", "the model did not answer; tried again in a minute (timeout)")
    failing(CallFailed("billing", "unpaid"))
    assert finished(deps, session, row.id).note == "the model cannot be used; see the banner"
    assert finished(deps, session, row.id).note == rescoring.WAITS
    monkeypatch.setattr(rescoring, "MOST_UNANSWERED", 0)
    other = another()
    monkeypatch.setattr(deps.models, "ready", lambda *_: ready)
    failing(CallFailed("timeout", "no answer"))
    row = finished(deps, session, row.id)
    assert (row.state, "time and again" in row.note) == ("failed", True)
    assert finished(other, session, row.id).state == "failed"


def test_a_ticket_that_the_server_rejects_keeps_none_of_the_others_from_being_judged(
    deps: Deps, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = reviewed(deps, session)
    version = version_with(session)
    row = begun(session, deps.settings, version)
    ready = deps.models.ready()
    assert ready is not None
    asking, refused = ready.asking.ask, iter([True])

    def ask(*arguments: Any) -> Asked:  # noqa: ANN401  passed on
        if next(refused, False):
            raise CallFailed("bad_request", "too many words")
        return asking(*arguments)

    monkeypatch.setattr(ready.asking, "ask", ask)
    session.execute(
        text("""update revisions set document = document || '{"removed": true}' where id = :one"""),
        {"one": made[2].revision_id},
    )
    session.commit()
    row = finished(deps, session, row.id)
    told = sorted((one.outcome or "", one.note) for one in results(session, row.id))
    assert row.state == "done"
    assert told == [
        ("", rescoring.REMOVED),
        ("", "the model's server rejected the question: too many words"),
        ("pass", ""),
    ]


def test_another_model_does_not_go_on_with_it(deps: Deps, session: Session) -> None:
    reviewed(deps, session)
    row = begun(session, deps.settings, version_with(session))
    session.execute(update(Rescore).values(model="claude-opus-4", state="running"))
    session.commit()
    row = finished(deps, session, row.id)
    assert (row.state, "not to be mixed" in row.note) == ("failed", True)
    rescoring.give_up(deps, "it died", rescore_id=row.id)
    session.expire_all()
    assert "not to be mixed" in session.get_one(Rescore, row.id).note
    with pytest.raises(NotFound):
        rescoring.run(deps, rescore_id=10**9)
