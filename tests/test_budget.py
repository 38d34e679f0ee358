"""The day's budget: what is set aside, the warning, the stop that parks work, and that it goes on by itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from sqlalchemy import func, insert, select, text

from agents import qc
from agents.gateway import CallFailed
from app import clock, ledger, reviewing
from app.budget import Budget, Day, OverBudget, standing
from app.deps import Deps
from app.model_watch import Models
from app.runs import RunStore
from app.tables import Reservation, Reuse, Run, Spending, Ticket
from tests.cast import MODEL, nonce_for, reply, revision, shipped_context
from tests.double import running
from tests.factories import make_context, make_ticket, office_ticket

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from agents.question import Question
    from app.settings import Settings
    from app.vault import Vault

BERLIN = ZoneInfo("Europe/Berlin")


def limited(settings: Settings, usd: str | None, **changes: object) -> Settings:
    limit = None if usd is None else Decimal(usd)
    return settings.model_copy(update={"daily_budget_usd": limit, **changes})


def spend(session: Session, usd: str, *, quarter: datetime | None = None) -> None:
    at = quarter or func.date_bin(ledger.QUARTER, func.now(), text("timestamptz 'epoch'"))
    row = {"quarter": at, "agent": f"agent {usd} {quarter}", "calls": 1, "cost_usd": Decimal(usd)}
    session.execute(insert(Spending).values(row))
    session.commit()


def reserved(session: Session) -> Decimal:
    session.rollback()
    return session.scalar(select(func.sum(Reservation.amount_usd))) or Decimal(0)


def question(number: int = 1) -> Question:
    asked = revision(subject=f"VPN drops {number}")
    return qc.question(asked, shipped_context(), model=MODEL, nonce_for=nonce_for, triage=None)


@pytest.mark.parametrize(
    ("moment", "zone", "start", "hours"),
    [
        (datetime(2026, 11, 26, 22, 59, tzinfo=UTC), "Europe/Berlin", datetime(2026, 11, 25, 23, tzinfo=UTC), 24),
        (datetime(2026, 11, 26, 23, 0, tzinfo=UTC), "Europe/Berlin", datetime(2026, 11, 26, 23, tzinfo=UTC), 24),
        (datetime(2026, 10, 25, 12, tzinfo=UTC), "Europe/Berlin", datetime(2026, 10, 24, 22, tzinfo=UTC), 25),
        (datetime(2026, 3, 29, 12, tzinfo=UTC), "Europe/Berlin", datetime(2026, 3, 28, 23, tzinfo=UTC), 23),
        (datetime(2026, 11, 26, 12, tzinfo=UTC), "Asia/Kathmandu", datetime(2026, 11, 25, 18, 15, tzinfo=UTC), 24),
    ],
)
def test_a_day_lasts_from_midnight_to_midnight_where_the_install_is(
    moment: datetime, zone: str, start: datetime, hours: int
) -> None:
    day = Day.of(moment, ZoneInfo(zone))
    assert (day.start, day.end - day.start) == (start, timedelta(hours=hours))
    assert day.start <= moment < day.end


def test_only_what_was_spent_that_day_counts(session: Session) -> None:
    noon = datetime(2026, 11, 26, 12, tzinfo=UTC)
    midnight = datetime(2026, 11, 25, 23, tzinfo=UTC)  # in Berlin
    for usd, quarter in [
        ("8", midnight - ledger.QUARTER), ("1", midnight), ("2", noon), ("16", midnight + timedelta(days=1)),
    ]:  # fmt: skip
        spend(session, usd, quarter=quarter)
    found = standing(session, limit=Decimal(4), now=noon, zone=BERLIN)
    assert (found.day.name, found.spent_usd, found.warning, found.stopped) == (
        date(2026, 11, 26),
        Decimal(3),
        False,
        False,
    )
    assert standing(session, limit=Decimal("3.75"), now=noon, zone=BERLIN).warning, "80 %"
    assert not standing(session, limit=None, now=noon, zone=BERLIN).warning


def test_what_a_call_may_cost_is_set_aside_while_it_lasts_and_given_back_however_it_ends(
    engine: Engine, session: Session, settings: Settings
) -> None:
    budget = Budget(engine, limited(settings, "1"))
    with budget.held(question()):
        most = reserved(session)
        assert Decimal("0.0005") < most < Decimal("0.01")
        with budget.held(question(2)):
            assert reserved(session) == pytest.approx(2 * most, rel=Decimal("0.01"))
    assert reserved(session) == 0
    with pytest.raises(CallFailed), budget.held(question()):
        raise CallFailed("timeout", "no answer")
    assert reserved(session) == 0


def test_without_a_budget_or_a_price_nothing_is_set_aside(engine: Engine, session: Session, settings: Settings) -> None:
    asked = question()
    with Budget(engine, limited(settings, None)).held(asked):
        assert reserved(session) == 0


def test_a_call_that_has_no_room_is_refused_in_words_that_say_when_it_goes_on(
    engine: Engine, session: Session, settings: Settings
) -> None:
    moment = clock.now()
    budget = Budget(engine, limited(settings, "5", timezone="Europe/Berlin"), now=lambda: moment)
    spend(session, "4.999")
    tomorrow = moment.astimezone(BERLIN).date() + timedelta(days=1)
    said = rf"budget of \$5 .* at 00:00 on {tomorrow} \(Europe/Berlin\), or when TICKETQC_DAILY_BUDGET_USD is raised"
    with pytest.raises(OverBudget, match=said) as caught, budget.held(question()):
        pytest.fail("asked all the same")
    assert (caught.value.permanent, caught.value.stops_all, caught.value.possibly_billed) == (False, False, False)
    assert budget.stopped(session)
    assert not Budget(engine, limited(settings, "6")).stopped(session), "raised"
    assert not Budget(engine, limited(settings, None)).stopped(session)
    later = moment + timedelta(days=1)
    assert not Budget(engine, limited(settings, "5"), now=lambda: later).stopped(session), "the next day"
    with Budget(engine, limited(settings, "5"), now=lambda: later).held(question()):
        pass


def test_a_budget_of_nothing_pays_for_nothing(engine: Engine, settings: Settings) -> None:
    with pytest.raises(OverBudget), Budget(engine, limited(settings, "0")).held(question()):
        pytest.fail("asked all the same")


def test_many_workers_together_never_set_more_aside_than_there_is(
    engine: Engine, session: Session, settings: Settings
) -> None:
    workers = [Budget(engine, limited(settings, "1")) for _ in range(8)]
    spend(session, "0.25")

    def take(number: int) -> bool:
        try:
            workers[number % 8].reserve(Decimal("0.1"))
        except OverBudget:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(24))) == 7
    assert reserved(session) == Decimal("0.7")


def test_what_a_dead_worker_had_set_aside_counts_no_longer_after_a_while(
    engine: Engine, session: Session, settings: Settings
) -> None:
    budget = Budget(engine, limited(settings, "1"))
    budget.reserve(Decimal("0.9"))
    with pytest.raises(OverBudget):
        budget.reserve(Decimal("0.2"))
    session.execute(text("update reservations set until = now() - interval '1 second'"))
    session.commit()
    budget.release(budget.reserve(Decimal("0.2")))
    assert reserved(session) == 0


def test_the_ledgers_sums_are_those_of_the_runs_and_reuse_is_counted_as_saved(engine: Engine, session: Session) -> None:
    first, alike = (make_ticket(session).revision_id for _ in range(2))
    version = make_context(session).version
    session.commit()

    def store_of(revision_id: int | None) -> RunStore:
        today = clock.now().date()
        return RunStore(
            engine, revision_id=revision_id, context_version=version, today=lambda: today, demonstration=False
        )

    store = store_of(first)
    for number in range(3):
        assert store.find(question(number)) is None
        store.keep(question(number), reply("{}"))
    store.keep(question(0), reply('{"another": "answer"}'))  # a race: paid, and not the answer that counts
    assert store.find(question(1)) is not None, "a job that is tried again saves nothing"
    for _ in range(2):
        assert store_of(alike).find(question(1)) is not None
    assert store_of(alike).find(question(2)) is not None
    session.rollback()
    found = session.scalars(select(Spending)).all()
    total = session.scalar(select(func.sum(Run.cost_usd)))
    assert sum(row.cost_usd for row in found) == total
    assert total is not None
    assert sum(row.calls for row in found) == 4
    reuses = session.scalars(select(Reuse)).all()
    assert [reuse.revision_id for reuse in reuses] == [alike] * 2, "once for each reply, however often it is tried"
    assert [reuse.saved_usd for reuse in reuses] == [total / 4] * 2


def test_work_is_parked_with_words_and_goes_on_by_itself_when_there_is_room(
    engine: Engine, session: Session, settings: Settings, vault: Vault
) -> None:
    with running() as double:
        key = {"anthropic_api_key": SecretStr(double.key), "anthropic_base_url": double.base_url}
        made = limited(settings, "0.004", **key)
        deps = Deps(engine, vault, made, Models(engine, made))
        deps.models.refresh()
        make_context(session)
        tickets = [make_ticket(session, text=office_ticket(subject=f"VPN drops {number}")) for number in range(8)]
        session.commit()
        for ticket in tickets:
            assert ticket.revision_id is not None
            reviewing.review(deps, revision_id=ticket.revision_id)
        session.expire_all()
        states = [session.get_one(Ticket, ticket.id) for ticket in tickets]
        waiting = [one for one in states if one.review_state == "waiting_model"]
        assert 0 < len(waiting) < 8
        assert "goes on by itself at 00:00" in waiting[0].review_note
        assert double.account.cost <= Decimal("0.004")
        before = len(double.account.calls)

        session.execute(text("delete from procrastinate.procrastinate_jobs"))
        session.commit()
        reviewing.resume(deps)
        assert _jobs(session) == 0, "nobody comes back only to be refused"
        raised = limited(made, "1")
        deps = Deps(engine, vault, raised, Models(engine, raised))
        deps.models.refresh()
        reviewing.resume(deps)
        assert _jobs(session) == len(waiting)
        for ticket in waiting:
            assert ticket.revision_id is not None
            reviewing.review(deps, revision_id=ticket.revision_id)
        session.expire_all()
        assert {session.get_one(Ticket, ticket.id).review_state for ticket in tickets} == {"done"}
        assert len(double.account.calls) <= before + 2 * len(waiting), "what was paid before the stop is not paid again"


def _jobs(session: Session) -> int:
    session.rollback()
    counted = "select count(*) from procrastinate.procrastinate_jobs where task_name in ('review', 'triage')"
    return session.scalar(text(counted)) or 0


@pytest.mark.parametrize(
    ("spent", "stopped", "said"),
    [("3.99", False, None), ("4", False, "80 %"), ("4.999", True, "is used up ("), ("6", False, "80 %")],
)
def test_every_page_says_how_the_budget_stands(  # noqa: PLR0913  what a page depends on
    engine: Engine, session: Session, settings: Settings, pages: TestClient, *, spent: str, stopped: bool, said: str
) -> None:
    pages.app.state.settings = limited(settings, "5")  # type: ignore[attr-defined]  # Starlette's
    spend(session, spent)
    if stopped:
        with pytest.raises(OverBudget):
            Budget(engine, limited(settings, "5")).reserve(Decimal("0.01"))
    page = pages.get("/operations").text
    for words in ("80 %", "is used up ("):
        assert (words in page) is (words == said)
