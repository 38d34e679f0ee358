"""What calls cost, by agent, verdict, version and criterion; what reuse saved; and why the cache is read seldom."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from app import budget, diagnosis
from app.budget import Day
from app.clock import now
from app.periods import last_days
from app.queries import costs
from app.queries.figures import money
from app.report_text import LINES
from tests.factories import (
    finding,
    make_batch,
    make_connection,
    make_rescore,
    make_reuse,
    make_run,
    make_ticket,
    make_verdict,
)
from tests.test_budget import BERLIN
from tests.test_pages_patterns import facts, page, rows, section

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.queries.costs import CacheRow

CENT = Decimal("0.01")


def judged(session: Session, *, outcome: str, cost: Decimal | None, criteria: tuple[str, ...], **columns: Any) -> None:  # noqa: ANN401  columns of the verdict
    """A ticket with its verdict and the call of quality control that led to it."""
    ticket = make_ticket(session, connection=make_connection(session))
    revision = session.get_one(_revision(), ticket.revision_id)
    make_run(session, revision=revision, cost_usd=cost)
    found = [finding(name) for name in criteria]
    make_verdict(session, revision, outcome=outcome, findings=found, cost_usd=cost, **columns)


def _revision() -> Any:  # noqa: ANN401  the table
    from app.tables import Revision  # noqa: PLC0415  only its rows are wanted

    return Revision


def test_costs_by_verdict_and_by_criterion_add_up(session: Session) -> None:
    judged(session, outcome="pass", cost=CENT, criteria=("clear_problem", "work_performed"))
    judged(session, outcome="fail", cost=3 * CENT, criteria=("clear_problem", "work_performed"))
    judged(session, outcome="fail", cost=None, criteria=("clear_problem",))
    make_run(session, agent="triage", cost_usd=CENT)
    make_run(session, purpose="replay", cost_usd=CENT)
    session.flush()
    week = last_days(now() + timedelta(seconds=1))
    outcomes = {row.name: (row.verdicts, row.unpriced, row.each_usd) for row in costs.by_outcome(session, week)}
    assert outcomes == {"pass": (1, 0, CENT), "fail": (2, 1, 3 * CENT)}
    (version,) = costs.by_version(session, week)
    assert (version.verdicts, version.cost_usd) == (3, 4 * CENT)
    shares = {row.criterion: (row.findings, round(row.cost_usd, 9)) for row in costs.by_criterion(session, week)}
    assert shares == {"clear_problem": (3, 4 * CENT * 3 / 5), "work_performed": (2, 4 * CENT * 2 / 5)}
    agents = {row.agent: (row.calls, row.unpriced, row.cost_usd) for row in costs.by_agent(session, week)}
    assert agents == {"qc": (4, 1, 5 * CENT), "triage": (1, 0, CENT)}
    assert costs.by_agent(session, last_days(now() - timedelta(days=1))) == ()


def test_what_was_not_paid_again_stands_beside_what_was(session: Session, pages: TestClient) -> None:
    judged(session, outcome="pass", cost=CENT, criteria=("clear_problem",))
    for number in range(3):
        make_reuse(session, agent="qc", reply_key=str(number), saved_usd=CENT)
    session.commit()
    main = page(pages, "/costs")
    assert rows(section(main, "agents"))[-1][-2:] == ["3", "$0.030"]
    assert rows(section(main, "outcomes"))[-1] == ["Pass", "1", "$0.010", "$0.010"]
    assert rows(section(main, "criteria"))[-1][1:] == ["1", "$0.010"]
    assert "equal share" in section(main, "criteria").words
    assert facts(section(main, "month"))["Spent so far"] == "$0.010"
    assert "in the last 30 days none was" in section(main, "agents").words
    for agrees in (True, False, None):
        make_reuse(session, agent="triage", reply_key=str(agrees), saved_usd=CENT / 3, agrees=agrees)
    session.commit()
    (_, triage) = costs.by_agent(session, last_days(now()))
    assert (triage.agent, triage.calls, triage.reused, round(triage.saved_usd, 9)) == ("triage", 0, 3, CENT)
    assert "in the last 30 days 1 of 2 did." in section(page(pages, "/costs"), "agents").words
    for number in range(18):
        make_reuse(session, agent="triage", reply_key=f"more {number}", saved_usd=None, agrees=True)
    session.commit()
    assert "19 of 20 did (95 % interval 76 % to 99 %)" in section(page(pages, "/costs"), "agents").words


def test_every_kind_of_call_has_words_on_the_page(session: Session, pages: TestClient) -> None:
    """A probe after a bill that was not paid, for instance, must not take the page away for a week."""
    assert list(LINES) == list(money.LINES)
    for purpose in ("prime", "second", "masked", "strong", "replay", "eval", "shadow"):
        make_run(session, agent="qc", purpose=purpose, cost_usd=CENT)
    make_run(session, agent="qc", rescore_id=make_rescore(session).id, cost_usd=CENT)
    make_run(session, agent="probe", purpose="probe", cost_usd=CENT)
    make_run(session, agent="chief_of_staff", purpose="propose", cost_usd=CENT)
    make_run(session, model="local:qwen", cost_usd=Decimal(0))
    session.commit()
    shown = [row[0] for row in rows(section(page(pages, "/costs"), "lines"))]
    assert shown == [words.capitalize() for words in LINES.values()]


def test_a_fresh_install_has_a_page_of_costs_and_everybody_sees_it(viewer_pages: TestClient) -> None:
    main = page(viewer_pages, "/costs")
    assert "No calls in the last seven days" in main.words
    assert facts(section(main, "today"))["Spent"] == "$0"
    assert "TICKETQC_DAILY_BUDGET_USD" in facts(section(main, "today"))["Budget"]
    assert "batches, re-scoring and models compared" in facts(section(main, "month"))["Expected"]


def calls(session: Session, *minutes: float, start: datetime, **columns: Any) -> None:  # noqa: ANN401  columns of a run
    for minute in minutes:
        make_run(session, recorded_at=start + timedelta(minutes=minute), **columns)


def cached(session: Session) -> CacheRow:
    session.flush()
    (row,) = costs.cache(session, since=now() - timedelta(days=1))
    return row


WRITTEN: dict[str, Any] = {"cache_read_tokens": 0, "cache_write_5m_tokens": 4_700}


def test_a_cache_that_is_read_is_well(session: Session) -> None:
    start = now() - timedelta(hours=3)
    calls(session, 0, start=start, **WRITTEN)
    calls(session, *range(1, 20), start=start)
    calls(session, *range(50), start=start - timedelta(days=2), **WRITTEN)
    calls(session, *range(50), start=start, model="local:tiny", agent="triage", cache_read_tokens=0)
    row = cached(session)
    assert (row.calls, row.reads, row.late) == (20, 19, 0)
    line = diagnosis.cache(row)
    assert (line.mark, line.subject) == ("ok", "cache of qc")
    assert line.text.startswith("95% of 20 calls of the last day read it, for 8")


def test_why_a_cache_is_read_seldom(session: Session) -> None:
    start = now() - timedelta(hours=3)
    calls(session, *range(0, 120, 10), start=start, **WRITTEN)
    late = diagnosis.cache(cached(session))
    assert late.mark == "warning"
    assert "11 came more than 5 minutes after the call before" in late.text
    calls(session, *range(120, 124), start=start, agent_hash="b" * 64, **WRITTEN)
    calls(session, *range(124, 128), start=start, model="claude-haiku-4-5", **WRITTEN)
    many = diagnosis.cache(cached(session)).text
    assert "2 versions of its instructions" in many
    assert "2 models were asked" in many


def test_what_was_written_for_an_hour_lives_for_one_from_its_last_use(session: Session) -> None:
    start = now() - timedelta(hours=6)
    hour: dict[str, Any] = {"cache_read_tokens": 0, "cache_write_1h_tokens": 4_700}
    calls(session, 0, start=start, purpose="prime", batch_id=make_batch(session).id, **hour)
    calls(session, 20, 70, 120, start=start)
    calls(session, 150, start=start, **WRITTEN)
    assert cached(session).late == 0, "it was there, and missed all the same"
    calls(session, 160, start=start, **WRITTEN)
    assert cached(session).late == 1, "the last was written for five minutes"
    calls(session, 165, start=start, **hour)
    calls(session, 230, start=start, **WRITTEN)
    assert cached(session).late == 2


def test_a_prefix_under_the_minimum_is_named(session: Session) -> None:
    calls(session, *range(12), start=now() - timedelta(hours=1), cache_read_tokens=0)
    line = diagnosis.cache(cached(session))
    assert line.mark == "warning"
    assert "under the model's minimum" in line.text
    assert "4,096" in line.text


def test_of_a_few_calls_nothing_is_said(session: Session) -> None:
    calls(session, *range(5), start=now() - timedelta(hours=1), **WRITTEN)
    assert diagnosis.cache(cached(session)).mark == "ok"


@pytest.mark.parametrize(
    ("limit", "spent", "needed", "mark", "about"),
    [
        (None, "1", None, "ok", "no limit"),
        ("5", "1", None, "ok", "$1.00 spent today of $5"),
        ("5", "4", None, "warning", "$4.00 spent today of $5"),
        ("5", "4.99", "0.02", "warning", "used up, work goes on at 00:00"),
    ],
)
def test_the_doctor_says_how_the_budget_stands(
    limit: str | None, spent: str, needed: str | None, mark: str, about: str
) -> None:
    day = Day.of(now(), BERLIN)
    known = [None if value is None else Decimal(value) for value in (limit, needed)]
    line = diagnosis.spending(budget.Standing(day, known[0], Decimal(spent), Decimal(0), known[1]))
    assert (line.mark, about in line.text) == (mark, True)
