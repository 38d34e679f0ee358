"""`ticketqc review FILE --budget`: no run costs more, what is left is told, and another run goes on with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from threading import Barrier

import pytest

from agents import prices
from agents.prices import worst
from app.spending import NoRoom, RunBudget
from tests.cast import reply
from tests.desk import PRIMING, Desk, ticket
from tests.double import Double, Fault
from tests.test_journal import question

TODAY = date(2026, 11, 26)


def test_it_stops_within_the_budget_and_other_runs_go_on_until_all_is_done(desk: Desk, double: Double) -> None:
    double.fault(Fault("slow", seconds=0.01))  # so that many calls are under way when the money ends
    desk.write(*(ticket(number) for number in range(40)))
    before, left, runs = Decimal(0), 40, 0
    while left:
        done = desk.review("--json", "--budget", "0.0075", "--concurrency", "8")
        paid, before = double.account.totals.cost - before, double.account.totals.cost
        assert paid <= Decimal("0.0075")
        totals = done.report["totals"]
        assert totals["cost_usd"] == pytest.approx(float(paid), abs=1e-9)
        assert totals["budget_usd"] == 0.0075
        assert totals["left_by_budget"] == totals["not_judged"] == done.verdicts.count(None) < left
        left, runs = totals["left_by_budget"], runs + 1
        assert done.code == (1 if left else 0)
        told = f"stopped by the budget of $0.0075: {left} of 40 tickets are left. Run again to go on"
        assert (told in done.err) == bool(left)
        for one in done.report["tickets"]:
            if one["verdict"] is None:
                assert one["reasons"] == ["not judged: the budget of $0.0075 for this run has no room for another call"]
    assert runs > 1
    assert len(desk.replies()) == len(set(desk.replies()))


def test_where_there_is_no_room_for_a_single_call_nothing_is_asked(desk: Desk, double: Double) -> None:
    desk.write(ticket(1), ticket(2))
    done = desk.review("--budget", "0.000001")
    assert done.code == 1
    assert double.account.calls == []
    assert done.out.count("- not judged") == 2
    assert "stopped by the budget of $0.000001: 2 of 2 tickets are left" in " ".join(done.out.split())


def test_what_is_on_record_needs_no_budget(desk: Desk, double: Double) -> None:
    desk.write(ticket(1), ticket(2))
    first = desk.review("--json")
    calls = len(double.account.calls)
    desk.write(ticket(1), ticket(3), ticket(2))
    done = desk.review("--json", "--budget", "0.000001")
    assert (done.code, len(double.account.calls)) == (1, calls)
    before = first.verdicts
    assert done.verdicts == [before[0], None, before[1]]
    assert done.report["totals"]["left_by_budget"] == 1


def test_a_budget_that_is_enough_changes_nothing(desk: Desk, double: Double) -> None:
    done = desk.review("--json", "--budget", "5")
    assert done.code == 0
    assert len(double.account.calls) == PRIMING + 2
    totals = done.report["totals"]
    assert (totals["budget_usd"], totals["left_by_budget"]) == (5.0, 0)
    assert "stopped by" not in done.err
    totals = desk.review("--json").report["totals"]
    assert (totals["budget_usd"], totals["left_by_budget"]) == (None, 0)


@pytest.mark.parametrize("usd", ["0", "-1", "nan", "inf", "ten", ""])
def test_a_budget_that_is_no_sum_is_refused(desk: Desk, double: Double, usd: str) -> None:
    done = desk.review("--budget", usd)
    assert (done.code, done.out) == (2, "")
    assert "give US$ as a number above 0" in " ".join(done.err.split())
    assert double.account.calls == []


def test_a_model_without_a_price_cannot_be_held(desk: Desk, double: Double) -> None:
    desk.monkeypatch.setattr(prices, "price_of", lambda *_, **__: None)  # the book knows every model the double does
    done = desk.review("--budget", "1")
    assert (done.code, done.out) == (1, "")
    assert "the price of claude-haiku-5-5 is not known, so no budget can hold it" in done.err
    assert double.account.calls == []


def test_without_a_model_there_is_nothing_to_hold(desk: Desk) -> None:
    done = desk.review("--json", "--budget", "1", TICKETQC_WORKER_MODEL="none")
    assert (done.code, done.report["totals"]["left_by_budget"]) == (0, 0)


def test_the_last_room_is_not_given_twice() -> None:
    """Sixteen ask at once where there is room for three at the dearest; what calls cost less is room for others."""
    needed = worst(question(), on=TODAY)
    assert needed is not None
    budget, start = RunBudget(3 * needed, today=TODAY), Barrier(16)
    answer = reply("{}")
    price = prices.cost("claude-haiku-5-5", answer.usage, on=TODAY)
    assert price is not None

    def call(_number: int) -> bool:
        start.wait()
        try:
            with budget.held(question()):
                budget.book(question(), answer)
        except NoRoom:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        answered = sum(pool.map(call, range(16)))
    assert answered >= 3
    most = answered * price
    assert most <= budget.limit
    assert most + price + needed > budget.limit or answered == 16


def test_once_refused_nothing_more_is_paid() -> None:
    """Else a run would go on for ever with whatever happens to be small."""
    needed = worst(question(), on=TODAY)
    assert needed is not None
    budget = RunBudget(needed, today=TODAY)
    with budget.held(question()):
        budget.book(question(), reply("{}"))
    for _ in range(2):
        with pytest.raises(NoRoom, match="has no room"), budget.held(question()):
            pass
    assert budget.knows("claude-haiku-5-5")
    assert not budget.knows("claude-nonesuch-9")
