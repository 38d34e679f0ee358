"""The figures, each against rows made by hand: what is counted, what is not, and the very edges of a week."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from agents.context import parse
from agents.observation import Fingerprint
from app.periods import Period, week, weeks_before
from app.queries import figures
from app.queries.figures import decisions, improving, money, service, trend, verdicts
from app.queries.figures.tickets import volume
from app.shares import Share, percent
from app.tables import (
    Label,
    Pattern,
    PatternEvent,
    Proposal,
    Release,
    Revision,
    Ticket,
)
from tests.factories import (
    finding,
    make_batch,
    make_context,
    make_delivery,
    make_escalation,
    make_observation,
    make_rescore,
    make_revision,
    make_run,
    make_ticket,
    make_user,
    make_verdict,
    office_ticket,
    shipped_context,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from agents.verdict import Result
    from app.tables import Base, Verdict

ZONE = ZoneInfo("Europe/Berlin")
MONDAY = date(2026, 10, 19)  # its Sunday has 25 hours
WEEK = week(MONDAY, ZONE)
BEFORE = weeks_before(MONDAY, ZONE)
NOW = WEEK.end + timedelta(hours=7)
INSTANT = timedelta(microseconds=1)
EDGES = (WEEK.start - INSTANT, WEEK.start, WEEK.end - INSTANT, WEEK.end)  # the two in the middle are in it
INSIDE = WEEK.start + timedelta(days=2)


def moved(session: Session, row: Base, at: datetime, column: str = "recorded_at") -> None:
    """The row was recorded then."""
    setattr(row, column, at)
    session.flush()


def came(session: Session, at: datetime, *, live: bool = True, **columns: Any) -> tuple[Ticket, Revision]:  # noqa: ANN401  columns of any table
    """A ticket whose first state came then."""
    text_ = columns.pop("text", None) or office_ticket(**columns.pop("said", {}))
    ticket = make_ticket(session, text=text_, **columns)
    revision = session.get_one(Revision, ticket.revision_id)
    revision.recorded_at, revision.live = at, live
    session.flush()
    return ticket, revision


def judged(session: Session, at: datetime, outcome: str = "pass", **columns: Any) -> tuple[Ticket, Revision, Verdict]:  # noqa: ANN401  columns of any table
    """A ticket that came and was judged then."""
    ticket, revision = came(session, at, live=columns.pop("live", True))
    verdict = make_verdict(session, revision, outcome=outcome, **columns)
    moved(session, verdict, at)
    return ticket, revision, verdict


def label(session: Session, verdict: Verdict, outcome: str, at: datetime, **columns: Any) -> Label:  # noqa: ANN401  columns of any table
    columns.setdefault("user_id", make_user(session).id)
    kind = "decide" if verdict.outcome == "escalate" else "confirm" if verdict.outcome == outcome else "overrule"
    row = Label(
        revision_id=verdict.revision_id,
        verdict_id=verdict.id,
        context_version=verdict.context_version,
        kind=kind,
        outcome=outcome,
        blind=columns.pop("blind", False),
        split="dev",
        recorded_at=at,
        **columns,
    )
    session.add(row)
    session.flush()
    return row


def test_volume_has_a_reason_for_every_ticket_that_was_not_judged(session: Session) -> None:
    for at in EDGES:
        judged(session, at)  # two of four
    judged(session, INSIDE, panel="none", outcome="escalate")
    judged(session, INSIDE, outcome="escalate", reasons=["too long to judge: about 31,000 tokens, the limit is 30,000"])
    came(session, INSIDE, review_state="waiting_model")
    came(session, INSIDE, review_state="running")
    came(session, INSIDE, review_state="parked")
    came(session, INSIDE, said={"status": "open", "resolution": None})  # came, and has not been finished
    judged(session, INSIDE, live=False)
    make_delivery(session, state="parked", received_at=INSIDE)
    make_delivery(session, state="read", received_at=INSIDE)
    found = volume(session, WEEK)
    assert found == volume_of(
        came=8, finished=7, judged=2, too_long=1, no_model=1, waiting=2, parked=1, unread=1, imported=1
    )
    assert sum(found.skipped.values()) + found.judged == found.finished
    assert volume(session, WEEK, history=True).came == 9


def volume_of(**counts: int) -> figures.Volume:
    names = (
        "came",
        "finished",
        "judged",
        "too_long",
        "no_model",
        "waiting",
        "parked",
        "superseded",
        "unread",
        "imported",
    )
    return figures.Volume(**{name: counts.get(name, 0) for name in names})


def test_a_ticket_counts_once_in_its_newest_finished_state(session: Session) -> None:
    ticket, first = came(session, INSIDE - timedelta(days=30))
    second = make_revision(session, ticket, text=office_ticket(external_id=ticket.external_id, subject="two"))
    third = make_revision(session, ticket, text=office_ticket(external_id=ticket.external_id, subject="three"))
    for number, revision in enumerate((second, third)):
        moved(session, revision, INSIDE + timedelta(hours=number))
    moved(session, make_verdict(session, second), INSIDE)
    ticket.review_state = "waiting_model"
    session.flush()
    assert volume(session, WEEK) == volume_of(finished=1, waiting=1)
    fourth = make_revision(session, ticket, text=office_ticket(external_id=ticket.external_id, subject="four"))
    moved(session, fourth, WEEK.end)
    assert volume(session, WEEK) == volume_of(finished=1, superseded=1)
    assert first.recorded_at < WEEK.start


def test_one_verdict_a_revision_counts_and_a_models_before_one_of_checks(session: Session) -> None:
    for at, outcome in zip(EDGES, ("fail", "fail", "escalate", "pass"), strict=True):
        judged(session, at, outcome)
    _, revision, _ = judged(session, INSIDE, "pass")
    moved(session, make_verdict(session, revision, outcome="fail", engine_version=2), INSIDE)
    moved(session, make_verdict(session, revision, outcome="escalate", panel="none", engine_version=2), INSIDE)
    judged(session, INSIDE, "pass", panel="local:qwen", demonstration=True)
    judged(session, INSIDE, "fail", live=False)
    found = verdicts.outcomes(session, WEEK)
    assert found == verdicts.Outcomes(passed=1, failed=2, escalated=1, demonstration=1)
    assert (found.total, found.fail.words) == (4, "2 of 3, too few to say")
    assert verdicts.outcomes(session, WEEK, history=True).failed == 3
    assert verdicts.outcomes(session, Period(NOW, NOW)) == verdicts.Outcomes()


def test_verdicts_are_counted_by_the_texts_they_were_judged_by(session: Session) -> None:
    shipped = make_context(session)
    changed = parse({**shipped.files, "standards.md": shipped.files["standards.md"] + "\nBe kind.\n"})
    make_context(session, context=changed)
    judged(session, INSIDE, "pass")
    for outcome in ("pass", "fail", "fail"):
        judged(session, INSIDE, outcome, context_version=changed.version)
    assert verdicts.by_version(session, WEEK) == (
        verdicts.VersionRow(shipped.version, verdicts.Outcomes(passed=1)),
        verdicts.VersionRow(changed.version, verdicts.Outcomes(passed=1, failed=2)),
    )


def test_a_criterion_is_compared_under_the_same_words_only(session: Session) -> None:
    cause, follow = (criterion.id for criterion in shipped_context().rubric.criteria[:2])
    bad: tuple[Result, Result] = ("not_met", "met")
    good: tuple[Result, Result] = ("met", "met")
    odd: list[tuple[Result, Result]] = [("met", "unscored"), ("partly", "not_applicable")]
    week, before = [*[bad] * 9, *odd], [bad, *[good] * 19]
    for at, pairs in ((INSIDE, week), (WEEK.start - INSTANT, before)):
        for first_result, second_result in pairs:
            judged(session, at, findings=[finding(cause, first_result), finding(follow, second_result)])
    older = "update findings set text_hash = 'older' from verdicts where verdicts.id = verdict_id"
    only = {"criterion": follow, "start": WEEK.start}
    session.execute(text(f"{older} and criterion = :criterion and recorded_at < :start"), only)
    first, second = verdicts.by_criterion(session, WEEK, before=BEFORE)
    assert first == verdicts.CriterionRow(cause, 1, 1, 9, 0, 0, before_not_met=1, before_scored=20)
    assert first.share.against(first.before) == "9 of 11 (82 %), up from 5 %"
    assert second == verdicts.CriterionRow(follow, 9, 0, 0, 1, 1, reworded=True)
    assert second.share.since(second.before) == "unknown"


def test_escalations_and_how_long_a_decision_took(session: Session) -> None:
    for hours, at in ((1, EDGES[1]), (3, EDGES[2]), (100, EDGES[0])):
        _, _, verdict = judged(session, at, "escalate")
        label(session, verdict, "pass", at + timedelta(hours=hours))
    _, _, twice = judged(session, INSIDE, "escalate")
    label(session, twice, "pass", INSIDE + timedelta(minutes=10), blind=True)  # nobody waited for a blind answer
    label(session, twice, "fail", INSIDE + timedelta(hours=2))
    label(session, twice, "pass", INSIDE + timedelta(hours=50))  # a second thought
    judged(session, INSIDE, "escalate")
    ticket, _, _ = judged(session, INSIDE, "escalate")
    moved(
        session,
        make_revision(session, ticket, text=office_ticket(external_id=ticket.external_id, subject="newer")),
        INSIDE,
    )
    judged(session, INSIDE, "fail")
    _, revision = came(session, INSIDE, said={"status": "open", "resolution": None})
    for rule in ("security_incident", "outage"):
        moved(session, make_escalation(session, revision, rule=rule), INSIDE)
    found = decisions.escalations(session, WEEK)
    assert (found.decided, found.superseded, found.open, found.total, found.ruled) == (3, 1, 1, 5, 1)
    # In the week were decided: after 1 h, after 2 h, and the one of the week before after 100 h; not the one after 3 h.
    assert (found.waits, found.median) == (3, timedelta(hours=2))
    assert found.p90 == timedelta(hours=2) + 0.8 * timedelta(hours=98)
    assert decisions.escalations(session, Period(NOW, NOW)).median is None


def test_agreement_counts_what_stands_and_blind_answers_apart(session: Session) -> None:
    said = [
        ("pass", "pass"),
        ("pass", "pass"),
        ("fail", "pass"),
        ("pass", "fail"),
        ("fail", "cannot_tell"),
        ("escalate", "pass"),
    ]
    for machine, person in said:
        _, _, verdict = judged(session, INSIDE, machine)
        label(session, verdict, person, INSIDE)
    _, _, changed = judged(session, INSIDE, "fail")
    label(session, changed, "pass", INSIDE)
    label(session, changed, "fail", INSIDE + timedelta(hours=1))
    label(session, changed, "pass", INSIDE, blind=True)
    label(session, changed, "cannot_tell", WEEK.end)  # of the next week
    assert decisions.agreement(session, WEEK, blind=False) == decisions.Agreement(3, 1, 1, 1, 1)
    blind = decisions.agreement(session, WEEK, blind=True)
    assert blind == decisions.Agreement(0, 1, 0, 0, 0)
    assert blind.share.words == "0 of 1, too few to say"


@pytest.fixture
def pattern(session: Session) -> Pattern:
    row = Pattern(agent="qc", code="quote_not_found", subject="root_cause", opened_at=INSIDE)
    session.add(row)
    session.flush()
    return row


def test_patterns_and_proposals_by_what_happened_in_the_week(session: Session, pattern: Pattern) -> None:
    for kind, at in (
        ("opened", EDGES[1]),
        ("called", INSIDE),
        ("called", INSIDE),
        ("closed", EDGES[0]),
        ("muted", EDGES[3]),
    ):
        session.add(PatternEvent(pattern_id=pattern.id, kind=kind, recorded_at=at))
    common = {"pattern_id": pattern.id, "why": "", "model": "m", "demonstration": False}
    for kind, state, made, decided in (
        ("noise", "rejected", EDGES[0], EDGES[1]),
        ("rewrite", "approved", EDGES[1], EDGES[2]),
        ("rewrite", "rejected", EDGES[2], EDGES[3]),
        ("rewrite", "open", EDGES[3], None),
    ):
        session.add(Proposal(kind=kind, state=state, recorded_at=made, decided_at=decided, **common))
    session.flush()
    found = improving.patterns(session, WEEK)
    failure = Fingerprint("qc", "quote_not_found", "root_cause")
    assert found == improving.Patterns((improving.PatternRow(pattern.id, failure, ("called", "opened")),), open=1)
    assert (found.count("opened"), found.count("closed")) == (1, 0)
    assert improving.proposals(session, WEEK) == improving.Proposals({"rewrite": 2}, approved=1, rejected=1, open=1)


def test_a_release_is_told_with_its_failures_on_both_sides(session: Session, pattern: Pattern) -> None:
    version = make_context(session).version
    session.execute(text("update releases set released_at = :at"), {"at": BEFORE.start - INSTANT})
    proposal = Proposal(pattern_id=pattern.id, kind="rewrite", why="", model="m", demonstration=False, state="approved")
    session.add(proposal)
    session.flush()
    at = WEEK.end - timedelta(days=2)
    seven = timedelta(days=7)
    session.add(Release(context_version=version, note="quotes", proposal_id=proposal.id, released_at=at))
    session.add(Release(context_version=version, note="by hand", kind="rollback", released_at=WEEK.start - INSTANT))
    for moment, runs, failures in (
        (at - seven - INSTANT, 1, 1),
        (at - seven, 5, 2),
        (at - INSTANT, 5, 1),
        (at, 4, 1),
        (NOW, 9, 3),
    ):
        for _ in range(runs):
            make_run(session, recorded_at=moment)
        for _ in range(failures):
            make_observation(session, make_ticket(session), recorded_at=moment)
    for other in ({"purpose": "replay"}, {"purpose": "repair"}, {"replied": False}, {"agent": "triage"}):
        make_run(session, recorded_at=at, **other)
    make_observation(session, make_ticket(session), recorded_at=at, subject="follow_up")
    newest, by_hand = improving.releases(session, WEEK, now=NOW)
    assert (newest.note, newest.failure) == ("quotes", Fingerprint("qc", "quote_not_found", "root_cause"))
    assert (newest.before, newest.after) == (improving.Failures(3, 10), improving.Failures(1, 4))
    assert newest.watched == NOW - at
    assert (by_hand.kind, by_hand.failure, by_hand.before) == ("rollback", None, None)


def test_what_a_person_took_back_is_no_failure_any_more(session: Session) -> None:
    _, revision, verdict = judged(session, INSIDE, "fail")
    ticket = session.get_one(Ticket, revision.ticket_id)
    first = label(session, verdict, "pass", INSIDE)
    seen = {"code": "overruled", "subject": "verdict", "direction": "false_fail", "observer": "person"}
    make_observation(session, ticket, label_id=first.id, recorded_at=INSIDE, **seen)
    about = Fingerprint("qc", "overruled", "verdict", "false_fail")
    assert improving.failures(session, about, WEEK) == improving.Failures(1, 1)
    label(session, verdict, "fail", INSIDE)
    assert improving.failures(session, about, WEEK) == improving.Failures(0, 1)
    assert service.failures_by_code(session, WEEK) == ()


def test_cost_by_line_and_for_a_ticket(session: Session) -> None:
    one, two = (came(session, INSIDE)[1] for _ in range(2))
    tokens = {
        "input_tokens": 100,
        "output_tokens": 10,
        "cache_read_tokens": 300,
        "cache_write_5m_tokens": 50,
        "cache_write_1h_tokens": 50,
    }

    def run(at: datetime = INSIDE, usd: str | None = "0.10", **columns: Any) -> None:  # noqa: ANN401  columns of any table
        make_run(session, recorded_at=at, cost_usd=None if usd is None else Decimal(usd), **{**tokens, **columns})

    for at in EDGES:
        run(at, revision=one)
    run(revision=two, agent="triage")
    run(revision=two, usd=None, purpose="repair")
    run(revision=two, purpose="second")
    run(revision=two, purpose="replay")
    run(revision=two, purpose="replay_repair")
    run(agent="chief_of_staff", purpose="proposal", usd="0.5")
    run(revision=one, model="local:qwen", usd="0")
    run(revision=one, usd=None, replied=False, reply=None, outcome="timeout")
    run(revision=one, usd="0.10", replied=False, reply=None, outcome="duplicate")
    found = money.cost(session, WEEK)
    by_line = {row.line: (row.calls, row.unanswered, row.unpriced, row.cost_usd) for row in found.lines}
    assert by_line == {
        "tickets": (4, 1, 1, Decimal("0.4")),  # 0.10 of it for the reply that two workers had asked for at once
        "second": (1, 0, 0, Decimal("0.1")),
        "replay": (2, 0, 0, Decimal("0.2")),
        "chief": (1, 0, 0, Decimal("0.5")),
        "local": (1, 0, 0, Decimal(0)),
    }
    assert (found.total_usd, found.tickets, found.per_ticket_usd) == (Decimal("1.2"), 2, Decimal("0.25"))
    assert (found.sum("input_tokens"), found.sum("cache_write_tokens")) == (1100, 1100)
    assert found.cache_hit == 0.6


def test_a_months_forecast_is_what_was_spent_and_the_mean_of_seven_days_for_the_rest(session: Session) -> None:
    end = datetime(2026, 11, 15, 23, tzinfo=UTC)  # midnight in Berlin: half of November is over
    november = datetime(2026, 10, 31, 23, tzinfo=UTC)
    for at, usd in (
        (november - INSTANT, 64),
        (november, 1),
        (end - timedelta(days=7), 7),
        (end - INSTANT, 14),
        (end, 32),
    ):
        make_run(session, recorded_at=at, cost_usd=Decimal(usd))
    found = money.forecast(session, end, ZONE)
    assert (found.month, found.spent_usd, found.expected_usd) == ("November 2026", Decimal(22), Decimal(22 + 3 * 15))
    assert money.forecast(session, november, ZONE).month == "October 2026"


@pytest.mark.parametrize(("hours", "days"), [(3, 1), (36, 1.5), (144, 6), (168, 7), (400, 7)])
def test_on_the_first_days_the_mean_is_of_those_that_there_were(session: Session, hours: int, days: float) -> None:
    end = datetime(2026, 11, 25, 23, tzinfo=UTC)  # five days are left in Berlin
    make_run(session, recorded_at=end - timedelta(hours=hours), cost_usd=Decimal(0))
    make_run(session, recorded_at=end - timedelta(hours=1), cost_usd=Decimal(42))
    found = money.forecast(session, end, ZONE)
    assert (found.spent_usd, found.expected_usd) == (Decimal(42), 42 + 42 / Decimal(days) * 5)


def test_what_somebody_ordered_once_is_spent_but_does_not_come_daily(session: Session) -> None:
    end = datetime(2026, 11, 25, 23, tzinfo=UTC)
    batch_id = make_batch(session, state="ended").id
    rescore_id = make_rescore(session).id
    once: tuple[dict[str, Any], ...] = (
        {"batch_id": batch_id},
        {"batch_id": batch_id, "purpose": "prime"},
        {"rescore_id": rescore_id},
        {"purpose": "eval"},
    )
    for columns in once:
        make_run(session, recorded_at=end - timedelta(days=3), cost_usd=Decimal(10), **columns)
    found = money.forecast(session, end, ZONE)
    assert (found.spent_usd, found.expected_usd) == (Decimal(40), Decimal(40)), "no ticket of today was judged yet"
    make_run(session, recorded_at=end - timedelta(days=2), cost_usd=Decimal(4))
    assert money.forecast(session, end, ZONE).expected_usd == 44 + 2 * 5, "since two days"


def test_health_counts_what_went_wrong_with_the_service(session: Session, put_job: Callable[..., None]) -> None:
    for at in EDGES:
        put_job("review", at)
        make_delivery(session, received_at=at, state="parked")
        make_run(session, recorded_at=at, replied=False, reply=None, outcome="overloaded", latency_ms=9)
        make_observation(session, make_ticket(session), recorded_at=at)
    make_delivery(session, received_at=INSIDE)
    for latency in (1000, 2000, 3000):
        make_run(session, recorded_at=INSIDE, latency_ms=latency)
    make_run(session, recorded_at=INSIDE, latency_ms=90_000, purpose="replay")
    make_run(session, recorded_at=INSIDE, outcome="duplicate", replied=False)
    found = service.health(session, WEEK)
    assert (found.failed_jobs, found.deliveries, found.parked) == ({"review": 2}, 3, 2)
    assert found.outages == (service.CodeRow("", "overloaded", "", 2),)
    assert found.failures == (service.CodeRow("qc", "quote_not_found", "", 2),)
    assert found.latency == (service.LatencyRow("qc", 3, 2000, 2900),)


@pytest.fixture
def put_job(session: Session) -> Callable[..., None]:
    def put(task: str, at: datetime) -> None:
        job = session.scalar(
            text(
                "insert into procrastinate.procrastinate_jobs (queue_name, task_name, status)"
                " values ('q', :t, 'failed') returning id"
            ),
            {"t": task},
        )
        session.execute(
            text("update procrastinate.procrastinate_events set at = :at where job_id = :j"), {"j": job, "at": at}
        )
        session.execute(
            text("insert into procrastinate.procrastinate_events (job_id, type, at) values (:j, 'failed', :at)"),
            {"j": job, "at": at},
        )

    return put


def test_the_weeks_of_a_trend_meet_and_do_not_overlap(session: Session) -> None:
    end = WEEK.end
    seven = timedelta(days=7)
    for back in (0, 1, 8):  # the moment at which a week begins is in it; the end is in none
        judged(session, end - back * seven, "fail")
        judged(session, end - back * seven - INSTANT, "pass")
    make_run(session, recorded_at=end - seven, cost_usd=Decimal(3))
    rows = trend.weeks(session, end)
    counted = [(row.outcomes.failed, row.outcomes.passed) for row in rows]
    assert counted == [(1, 0), *[(0, 0)] * 5, (0, 1), (1, 1)]
    assert [row.cost_usd for row in rows] == [Decimal(0)] * 7 + [Decimal(3)]
    assert rows[-1].period == (end - seven, end)


def test_all_figures_of_an_empty_week_are_there(session: Session) -> None:
    found = figures.read(session, WEEK, compared=BEFORE, now=NOW, zone=ZONE)
    assert found.volume == volume_of()
    kept = figures.document(found)
    assert kept["version"] == 1
    assert kept["forecast"] == {"month": "October 2026", "spent_usd": "0", "expected_usd": "0"}


@pytest.mark.parametrize(
    ("hits", "n", "said"),
    [(0, 211, "0 %"), (1, 211, "0.5 %"), (1, 9_000, "0.01 %"), (2, 211, "1 %"), (210, 211, "99.5 %"), (7, 7, "100 %")],
)
def test_a_few_of_many_are_not_none(hits: int, n: int, said: str) -> None:
    assert Share(hits, n).percent == said
    assert percent(-0.1) == "0 %"
    assert percent(1.2) == "100 %"
