"""Judging by batch, against a real database and the double's batch endpoints: asked once, paid once, half the price."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, NoReturn

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import func, select, text, update

from agents import prices
from agents.gateway import CallFailed
from agents.message_batches import UNREADABLE, MessageBatches
from agents.prices import price_of, worst
from app import batch_results, batch_rounds, batches, reviewing, tables
from app.audit import Actor
from app.batch_results import collect
from app.batch_rounds import submit
from app.batches import lose
from app.clock import now
from app.db import transaction
from app.errors import Conflict, NotFound
from app.estimates import cost_of_a_call
from app.handlers import HANDLERS
from app.intake.recording import NEXT_BATCH, Arrival, record_all
from app.queries import batches as queries
from tests.cast import MODEL
from tests.double import BatchPlan, Double, Fault, running
from tests.double import service as double_service
from tests.double.messages import invalid
from tests.double.rules import check_message
from tests.factories import make_connection, make_context, office_ticket
from tests.test_gateway import triage_question
from tests.test_reviewing import runs, started, verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from agents.message_batches import BatchResult
    from agents.question import Question
    from app.deps import Deps
    from app.settings import Settings
    from app.vault import Vault

HOUR = BatchPlan(seconds=3600)


@pytest.fixture(scope="module")
def shared() -> Iterator[Double]:
    with running() as server:
        yield server


@pytest.fixture
def double(shared: Double) -> Double:
    shared.reset()
    shared.answer_with(None)
    shared.fault(Fault("all_met"))
    return shared


@pytest.fixture
def deps(engine: Engine, settings: Settings, vault: Vault, double: Double) -> Deps:
    return started(engine, settings, vault, anthropic_api_key=SecretStr(double.key), anthropic_base_url=double.base_url)


def arrive(session: Session, *numbers: int, **changes: object) -> list[int]:
    """Tickets of a file that is imported with --batch; the ids of their revisions."""
    make_context(session)
    texts = [office_ticket(external_id=f"INC-{number}", subject=f"VPN drops {number}", **changes) for number in numbers]
    arrival = Arrival(received_at=now(), batch=True)
    recorded = record_all(session, connection=make_connection(session), tickets=texts, arrival=arrival)
    session.commit()
    return [one.revision_id for one in recorded]


def send_without_answer(deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of one ticket of which nobody knows whether the vendor has it, and which is looked for at once."""
    monkeypatch.setattr(batch_results, "UNDER_WAY", timedelta(0))
    double.fault(Fault("server_error", agent="batch", times=1), Fault("all_met"))
    arrive(session, 1)
    submit(deps)


def work(deps: Deps, session: Session) -> None:
    """What waits in the queue is worked off, in order, as workers would."""
    while jobs := jobs_of(session):
        session.execute(text("delete from procrastinate.procrastinate_jobs"))
        session.commit()
        for task, arguments in jobs:
            HANDLERS[task].run(deps, **arguments)


def jobs_of(session: Session) -> list[tuple[str, dict[str, int]]]:
    session.rollback()
    found = session.execute(text("select task_name, args from procrastinate.procrastinate_jobs order by id"))
    return [(row.task_name, row.args) for row in found]


def minutes(deps: Deps, session: Session, count: int = 4) -> None:
    """So many ticks of the clock, with everything that follows from each."""
    for _ in range(count):
        collect(deps)
        work(deps, session)


def rows(session: Session) -> list[tables.Batch]:
    session.rollback()
    session.expire_all()
    return list(session.scalars(select(tables.Batch).order_by(tables.Batch.id)))


def tickets(session: Session) -> list[tables.Ticket]:
    session.rollback()
    session.expire_all()
    return list(session.scalars(select(tables.Ticket).order_by(tables.Ticket.id)))


def held(session: Session) -> int:
    session.rollback()
    return queries.waiting_tickets(session)


def live_calls(double: Double) -> list[str]:
    return [call.kind for call in double.account.calls if not call.batch and call.output > 1]


# --- rounds


def test_a_triage_round_then_a_qc_round_then_the_verdicts(deps: Deps, double: Double, session: Session) -> None:
    arrive(session, 1, 2, 3)
    double.batching(HOUR)
    minutes(deps, session, 1)
    (first,) = rows(session)
    assert (first.state, first.requests, first.vendor_id) == ("waiting", 3, double.batch_ids[0])
    for ticket in tickets(session):
        assert ticket.review_state == "waiting_model"
        assert ticket.review_note.startswith(f"waiting for batch {first.id} of {first.created_at:%Y-%m-%d %H:%M} UTC")
    minutes(deps, session, 2)
    assert len(rows(session)) == 1, "nothing is sent again while it is under way"
    double.advance(3600)
    minutes(deps, session, 1)
    first, second = rows(session)
    assert (first.state, first.succeeded, second.state) == ("ended", 3, "waiting")
    assert [request.agent for request in session.scalars(select(tables.BatchRequest))] == ["triage"] * 3 + ["qc"] * 3
    assert verdicts(session) == []
    double.advance(3600)
    minutes(deps, session, 1)
    assert len(verdicts(session)) == 3
    assert {ticket.review_state for ticket in tickets(session)} == {"done"}
    assert held(session) == 0
    assert live_calls(double) == [], "but for one priming call a round"
    assert Counter(run.purpose for run in runs(session)) == {"review": 6, "prime": 2}


def test_the_verdict_is_the_one_of_a_live_review(deps: Deps, double: Double, session: Session) -> None:
    double.fault(Fault("three_not_met"))
    (by_batch,) = arrive(session, 1)
    minutes(deps, session)
    (verdict,) = verdicts(session)
    first = (verdict.outcome, verdict.score, verdict.reasons)
    asked_by_batch = {run.reply_key: run.reply for run in runs(session) if run.purpose == "review"}
    session.execute(text("delete from findings"))
    for table in ("verdicts", "runs"):
        session.execute(text(f"delete from {table}"))  # noqa: S608  our own names
    session.execute(text("delete from triages"))
    session.execute(update(tables.Ticket).values(review_state="waiting_model", verdict_id=None))
    session.commit()
    reviewing.review(deps, revision_id=by_batch)
    (live,) = verdicts(session)
    assert (live.outcome, live.score, live.reasons) == first
    assert {run.reply_key: run.reply for run in runs(session) if run.purpose == "review"} == asked_by_batch


def test_runs_are_booked_at_half_the_price_as_the_double_bills_them(
    deps: Deps, double: Double, session: Session
) -> None:
    arrive(session, 1, 2, 3, 4)
    minutes(deps, session)
    booked = runs(session)
    assert sum((run.cost_usd or Decimal(0) for run in booked), Decimal(0)) == double.account.cost
    of_batch = sum((call.cost for call in double.account.calls if call.batch), Decimal(0))
    assert sum((run.cost_usd or Decimal(0) for run in booked if run.purpose == "review"), Decimal(0)) == of_batch
    reads = [run.cache_read_tokens for run in booked if run.purpose == "review"]
    assert min(reads) > 1000, "every request reads the prefix that was primed for an hour"
    (qc,) = {run.cost_usd for run in booked if run.purpose == "prime" and run.agent == "qc"}
    shown = queries.listed(session)
    assert sum((row.cost or Decimal(0) for row in shown), Decimal(0)) == double.account.cost
    assert qc is not None
    booked_sums = session.scalars(select(tables.Spending)).all()
    assert sum((one.cost_usd for one in booked_sums), Decimal(0)) == double.account.cost
    assert sum(one.calls for one in booked_sums) == len(booked)
    assert session.scalars(select(tables.Reuse)).all() == [], "a batch's reply that is put to use saves nothing"


def test_a_live_call_is_expected_to_cost_what_live_ones_did_not_half_of_it(
    deps: Deps, double: Double, session: Session
) -> None:
    arrive(session, 1, 2)
    session.execute(text("delete from batch_tickets"))
    session.commit()
    work(deps, session)
    live = [call.cost for call in double.account.calls if call.kind == "qc"]
    arrive(session, *range(10, 14))
    minutes(deps, session)
    by_batch = [call.cost for call in double.account.calls if call.kind == "qc" and call.batch]
    assert (len(live), len(by_batch)) == (2, 4)
    assert max(by_batch) < min(live)
    assert cost_of_a_call(session, "qc", MODEL) == sum(live, Decimal(0)) / 2


@pytest.mark.parametrize("status", ["closed", "open"])
def test_what_code_escalates_does_not_wait_for_the_batch(
    deps: Deps, double: Double, session: Session, status: str
) -> None:
    still: dict[str, object] = {} if status == "closed" else {"status": "open", "closed_at": None}
    threat, calm = (
        arrive(session, number, description=text, **still)[0]
        for number, text in ((1, "My lawyer will sue you if the VPN drops again."), (2, "It drops."))
    )
    jobs = "select task_name, args from procrastinate.procrastinate_jobs where lock is not null order by id"
    for task, arguments in session.execute(text(jobs)).all():
        HANDLERS[task].run(deps, **arguments)
    session.expire_all()
    rows = session.scalars(select(tables.Ticket).order_by(tables.Ticket.id)).all()
    assert [(row.revision_id, row.escalated, row.review_note) for row in rows] == [
        (threat, True, NEXT_BATCH),
        (calm, False, NEXT_BATCH),
    ]
    assert {row.review_state for row in rows} == {"waiting_model" if status == "closed" else "open"}
    assert double.account.calls == [], "all that costs is left to the batch"


def test_a_ticket_of_a_batch_goes_on_saying_so_while_the_model_is_away(
    deps: Deps, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    (finished,) = arrive(session, 1)
    (still_open,) = arrive(session, 2, status="open", closed_at=None)
    monkeypatch.setattr(deps.models, "ready", lambda *_: None)
    reviewing.review(deps, revision_id=finished)
    reviewing.triage(deps, revision_id=still_open)
    assert [(row.review_state, row.review_note) for row in tickets(session)] == [
        ("waiting_model", NEXT_BATCH),
        ("open", NEXT_BATCH),
    ]


def test_one_batch_that_cannot_be_kept_keeps_no_other_waiting(
    deps: Deps, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    (waiting,) = arrive(session, 1)
    submit(deps)
    arrive(session, 2)
    submit(deps)
    first, _ = rows(session)
    keep = batch_results._keep_all  # noqa: SLF001

    def broken(deps: Deps, batch: tables.Batch, results: Iterator[BatchResult]) -> None:
        if batch.id == first.id:
            raise ArithmeticError
        keep(deps, batch, results)

    monkeypatch.setattr(batch_results, "_keep_all", broken)
    for _ in range(2):
        collect(deps)
        session.expire_all()
        assert [(row.state, row.note) for row in rows(session)] == [("waiting", batch_results.NOT_KEPT), ("ended", "")]
    over(session, first.id)
    collect(deps)
    session.expire_all()
    assert [(row.state, row.note) for row in rows(session)] == [("lost", batch_results.GIVEN_UP), ("ended", "")]
    work(deps, session)
    assert [verdict.revision_id for verdict in verdicts(session)] == [waiting], "its day is over: judged by itself"


def test_one_failure_gives_up_no_batch_though_its_day_is_over(
    deps: Deps, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers were away for a day, and the answers are there and paid."""
    arrive(session, 1)
    submit(deps)
    (only,) = rows(session)
    over(session, only.id)
    with monkeypatch.context() as patched:
        patched.setattr(batch_results, "_keep_all", lambda *_: 1 / 0)
        collect(deps)
    session.expire_all()
    assert (only.state, only.note) == ("waiting", batch_results.NOT_KEPT)
    collect(deps)
    session.expire_all()
    assert (only.state, only.note, only.succeeded) == ("ended", "", 1)


def test_a_good_look_between_two_failures_counts(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.batching(HOUR)
    arrive(session, 1)
    submit(deps)
    (only,) = rows(session)

    def fail() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(batch_results, "_look", lambda *_: 1 / 0)
            collect(deps)
        session.expire_all()

    fail()
    collect(deps)
    session.expire_all()
    assert (only.state, only.note) == ("waiting", "")
    over(session, only.id)
    fail()
    assert (only.state, only.note) == ("waiting", batch_results.NOT_KEPT)


def test_a_batch_that_is_over_is_not_lost_any_more(deps: Deps, session: Session) -> None:
    arrive(session, 1)
    submit(deps)
    collect(deps)
    session.expire_all()
    (only,) = rows(session)
    with transaction(deps.engine) as other:
        lose(other, other.get_one(tables.Batch, only.id), "too late")
    session.expire_all()
    assert (only.state, only.note, only.succeeded) == ("ended", "", 1)


def over(session: Session, batch_id: int) -> None:
    """The batch's day is over."""
    mine = update(tables.Batch).where(tables.Batch.id == batch_id)
    session.execute(mine.values(expires_at=func.now() - text("interval '2 hours'")))
    session.commit()


def test_second_runs_and_repairs_go_live(deps: Deps, double: Double, session: Session) -> None:
    double.fault(Fault("invalid_json", agent="qc", match="VPN drops 1", times=1), Fault("all_met"))
    arrive(session, 1)
    minutes(deps, session)
    assert live_calls(double) == ["qc"]
    assert [run.purpose for run in runs(session) if run.batch_id is None] == ["repair"]
    assert len(verdicts(session)) == 1


def test_an_open_ticket_is_only_triaged(deps: Deps, double: Double, session: Session) -> None:
    arrive(session, 1, status="open", resolution=None, closed_at=None)
    minutes(deps, session)
    assert [run.agent for run in runs(session) if run.purpose == "review"] == ["triage"]
    assert len(rows(session)) == 1
    assert tickets(session)[0].review_state == "open"
    assert live_calls(double) == []


def test_what_is_answered_already_is_not_asked(deps: Deps, double: Double, session: Session) -> None:
    (revision_id,) = arrive(session, 1)
    session.execute(text("delete from batch_tickets"))
    session.commit()
    reviewing.review(deps, revision_id=revision_id)
    session.execute(text("delete from findings"))
    session.execute(text("delete from verdicts"))
    session.execute(update(tables.Ticket).values(review_state="waiting_model", verdict_id=None))
    session.add(tables.BatchTicket(revision_id=revision_id))
    session.commit()
    calls = len(double.account.calls)
    minutes(deps, session)
    assert len(verdicts(session)) == 1
    assert (len(double.account.calls), rows(session)) == (calls, [])


# --- nobody else takes them


def test_no_other_job_takes_a_ticket_while_it_waits_for_a_batch(deps: Deps, double: Double, session: Session) -> None:
    double.batching(HOUR)
    (revision_id,) = arrive(session, 1)
    minutes(deps, session, 1)
    reviewing.resume(deps)
    assert jobs_of(session) == []
    reviewing.review(deps, revision_id=revision_id)
    assert live_calls(double) == []
    assert tickets(session)[0].review_note.startswith("waiting for batch")


def test_a_ticket_that_changed_meanwhile_is_judged_as_it_is_now(deps: Deps, double: Double, session: Session) -> None:
    double.batching(HOUR)
    arrive(session, 1)
    minutes(deps, session, 1)
    newer = office_ticket(external_id="INC-1", subject="VPN drops, and so does the printer")
    record_all(session, connection=make_connection(session), tickets=[newer], arrival=Arrival(received_at=now()))
    session.commit()
    work(deps, session)
    double.advance(3600)
    minutes(deps, session)
    (verdict,) = verdicts(session)
    assert verdict.revision_id == tickets(session)[0].revision_id
    assert (held(session), tickets(session)[0].review_state, len(rows(session))) == (0, "done", 1)


# --- sending, once


def test_a_round_is_split_by_count_and_by_size(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_rounds, "MOST_ASKED", 3)
    arrive(session, *range(7))
    double.batching(HOUR)
    minutes(deps, session, 1)
    assert [row.requests for row in rows(session)] == [3, 3, 1]
    double.advance(3600)
    monkeypatch.setattr(batch_rounds, "MOST_ASKED", 1000)
    monkeypatch.setattr(batch_rounds, "MOST_BYTES", 60_000)
    minutes(deps, session, 1)
    sizes = [row.requests for row in rows(session)[3:]]
    assert sum(sizes) == 7
    assert 1 < len(sizes) < 7
    double.advance(3600)
    minutes(deps, session, 1)
    assert len(verdicts(session)) == 7


def test_two_workers_that_send_at_the_same_time_ask_everything_once(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one gathers the same round and claims it first."""
    double.batching(HOUR)
    arrive(session, 1, 2)
    claim, other = batch_rounds._claim, list[bool]()  # noqa: SLF001  the moment of the race

    def late(*arguments: object, **named: object) -> object:
        if not other:
            other.append(True)
            submit(deps)
        return claim(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(batch_rounds, "_claim", late)
    submit(deps)
    assert [row.requests for row in rows(session)] == [2]
    assert len(double.batch_ids) == 1


def test_killed_between_sending_and_the_vendors_id_it_is_found_again(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(session, 1, 2)
    with monkeypatch.context() as patched:
        patched.setattr(batch_rounds, "sent", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            submit(deps)
    (batch,) = rows(session)
    assert (batch.state, batch.vendor_id) == ("submitting", None)
    minutes(deps, session)
    assert rows(session)[0].state == "submitting", "somebody may be sending it this moment"
    monkeypatch.setattr(batch_results, "UNDER_WAY", timedelta(0))
    minutes(deps, session)
    assert [row.vendor_id for row in rows(session)] == double.batch_ids
    assert [row.state for row in rows(session)] == ["ended", "ended"]
    assert len(verdicts(session)) == 2
    assert sum(call.batch for call in double.account.calls) == 4


def test_an_answer_that_was_cut_off_is_no_reason_to_send_twice(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_results, "UNDER_WAY", timedelta(0))
    double.batching(HOUR)
    double.fault(Fault("cut_before", agent="batch", times=1), Fault("all_met"))
    arrive(session, 1, 2)
    submit(deps)
    minutes(deps, session, 2)
    (batch,) = rows(session)
    assert (batch.state, batch.note) == ("submitting", batch_results.MAY_BE_THERE)
    assert len(double.batch_ids) == 1
    double.advance(3600)
    minutes(deps, session, 2)
    assert [row.state for row in rows(session)] == ["ended", "waiting"]


def test_what_never_arrived_is_sent_again(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's batch of the same size and time is none of ours."""
    send_without_answer(deps, double, session, monkeypatch)
    ready = deps.models.ready()
    assert ready is not None
    assert ready.asking.batches is not None
    foreign = tables.BatchRequest
    assert session.scalar(select(func.count()).select_from(foreign)) == 1
    double.batching(BatchPlan())
    stranger(ready.asking.batches)
    minutes(deps, session)
    lost, *_ = rows(session)
    assert (lost.state, lost.note) == ("lost", batch_results.NEVER_ARRIVED)
    assert len(verdicts(session)) == 1
    assert held(session) == 0


def test_a_batch_that_is_given_up_while_its_prefix_is_primed_is_not_sent(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tickets are free again, and so would be asked, and paid, twice."""

    def slow(*_: object) -> None:
        with transaction(deps.engine) as mine:
            lose(mine, mine.scalars(select(tables.Batch)).one(), "nobody knows it", tries=1)

    with monkeypatch.context() as patched:
        patched.setattr(batch_rounds, "_prime", slow)
        arrive(session, 1)
        submit(deps)
    assert double.batch_ids == []
    minutes(deps, session)
    assert (len(verdicts(session)), rows(session)[0].state) == (1, "lost")


def test_a_server_that_never_takes_a_batch_does_not_keep_the_tickets(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise CallFailed("server_error", "HTTP 500")

    monkeypatch.setattr(batch_results, "UNDER_WAY", timedelta(0))
    monkeypatch.setattr(MessageBatches, "submit", refuse)
    double.fault(Fault("all_met"))
    arrive(session, 1, 2)
    submit(deps)
    minutes(deps, session, 3)
    assert [row.state for row in rows(session)] == ["lost", "lost"]
    assert len(verdicts(session)) == 2
    assert (double.batch_ids, held(session)) == ([], 0)


def test_what_is_set_aside_for_a_batch_outlives_its_worker_and_holds_what_prepares_it(
    deps: Deps, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Question] = []

    def die(_: MessageBatches, questions: Sequence[Question]) -> NoReturn:
        asked.extend(questions)
        raise KeyboardInterrupt

    monkeypatch.setattr(MessageBatches, "submit", die)
    arrive(session, 1)
    with pytest.raises(KeyboardInterrupt):
        submit(started(deps.engine, deps.settings, deps.vault, daily_budget_usd=Decimal(1)))
    aside = session.scalars(select(tables.Reservation)).one()
    assert aside.until > now() + timedelta(hours=24), "it may be answered for a day"
    (prepared,) = (run.cost_usd or Decimal(0) for run in runs(session))
    alone = worst(asked[0], on=now().date(), batch=True) or Decimal(0)
    assert aside.amount_usd >= alone + prepared > alone > 0


def stranger(api: MessageBatches) -> None:
    """Somebody else uses the same key, and batches too."""
    api.submit([triage_question()])


@pytest.mark.parametrize("kind", ["rate_limit", "overloaded"])
def test_a_refusal_for_now_is_tried_again_by_the_next_minute(
    deps: Deps, double: Double, session: Session, kind: str
) -> None:
    double.fault(Fault(kind, agent="batch", times=1), Fault("all_met"))  # type: ignore[arg-type]
    arrive(session, 1)
    submit(deps)
    assert [row.state for row in rows(session)] == ["lost"]
    assert "batch_submit" not in [task for task, _ in jobs_of(session)], "not at once"
    minutes(deps, session)
    assert len(verdicts(session)) == 1


def test_a_server_without_batches_is_asked_one_by_one(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise CallFailed("bad_request", "HTTP 404: no such thing")

    monkeypatch.setattr(MessageBatches, "submit", refuse)
    arrive(session, 1, 2)
    submit(deps)
    assert [row.state for row in rows(session)] == ["lost"]
    work(deps, session)
    assert len(verdicts(session)) == 2
    assert sorted(live_calls(double)) == ["qc", "qc", "triage", "triage"]


def test_a_bill_that_is_not_paid_stops_all_and_loses_nothing(deps: Deps, double: Double, session: Session) -> None:
    double.fault(Fault("billing", agent="batch"), Fault("all_met"))
    arrive(session, 1)
    submit(deps)
    assert deps.models.ready() is None
    minutes(deps, session, 2)
    assert (held(session), len(double.batch_ids)) == (1, 0)


def test_without_any_model_the_checks_decide(
    engine: Engine, settings: Settings, vault: Vault, session: Session
) -> None:
    none = started(engine, settings, vault, worker_model="none")
    arrive(session, 1)
    minutes(none, session, 1)
    (verdict,) = verdicts(session)
    assert verdict.panel == "none"


def test_a_batch_is_cut_to_the_day_s_budget_and_the_rest_waits(
    engine: Engine, settings: Settings, vault: Vault, double: Double, session: Session
) -> None:
    """What is set aside for it counts until it has ended; then what it cost."""
    limit = Decimal("0.004")
    access = {"anthropic_api_key": SecretStr(double.key), "anthropic_base_url": double.base_url}
    deps = started(engine, settings, vault, daily_budget_usd=limit, **access)
    double.batching(HOUR)
    arrive(session, *range(12))
    minutes(deps, session, 1)
    assert 0 < rows(session)[0].requests < 12
    minutes(deps, session, 3)
    assert sum(row.requests for row in rows(session)) < 12
    aside = session.scalar(select(func.sum(tables.Reservation.amount_usd))) or Decimal(0)
    assert 0 < aside <= limit
    waiting = [one.review_note for one in tickets(session) if "waiting for batch" not in one.review_note]
    assert waiting
    assert all("today's budget of $0.004 has no room" in note for note in waiting)
    for _ in range(4):
        double.advance(3600)
        minutes(deps, session, 2)
    assert sum((run.cost_usd or Decimal(0) for run in runs(session)), Decimal(0)) <= limit
    rich = started(engine, settings, vault, **access)
    for _ in range(3):
        double.advance(3600)
        minutes(rich, session, 2)
    assert len(verdicts(session)) == 12
    assert session.scalars(select(tables.Reservation)).all() == []


# --- results, once


def test_restarted_in_the_middle_of_the_results_each_is_kept_once(
    deps: Deps, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_results, "KEPT_AT_ONCE", 2)
    arrive(session, *range(5))
    submit(deps)
    keep = batch_results._keep  # noqa: SLF001  the moment of the crash
    left = iter((True, True))

    def die(*arguments: object) -> None:
        if not next(left, False):
            raise KeyboardInterrupt
        keep(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(batch_results, "_keep", die)
        with pytest.raises(KeyboardInterrupt):
            collect(deps)
    assert len([run for run in runs(session) if run.purpose == "review"]) == 4
    collect(deps)
    collect(deps)
    assert len([run for run in runs(session) if run.purpose == "review"]) == 5
    assert {run.outcome for run in runs(session)} == {"answered"}
    minutes(deps, session)
    assert len(verdicts(session)) == 5


@pytest.fixture
def dearer_tomorrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """From tomorrow on, by UTC, everything costs ten times as much; what this gives makes it tomorrow."""
    tomorrow = now() + timedelta(days=1)
    price = price_of(MODEL, on=now().date())
    assert price is not None
    dearer = {kind: 10 * getattr(price, kind) for kind in prices.TOKEN_KINDS}
    book = (*prices.price_book(), price.model_copy(update={"since": tomorrow.date(), **dearer}))
    price_of.cache_clear()
    monkeypatch.setattr(prices, "price_book", lambda: book)

    def comes() -> None:
        for module in (batch_results, batches):
            monkeypatch.setattr(module, "now", lambda: tomorrow)

    yield comes
    price_of.cache_clear()


@pytest.mark.parametrize("found_again", [False, True])
def test_the_prices_are_those_of_the_day_on_which_it_was_sent(
    deps: Deps, double: Double, session: Session, dearer_tomorrow: Callable[[], None], *, found_again: bool
) -> None:
    arrive(session, 1)
    if found_again:
        double.fault(Fault("cut_before", agent="batch", times=1), Fault("all_met"))
    submit(deps)
    dearer_tomorrow()
    collect(deps)
    collect(deps)
    assert [row.state for row in rows(session)] == ["ended"]
    (answer,) = (run for run in runs(session) if run.purpose == "review")
    (billed,) = (call.cost for call in double.account.calls if call.batch)
    assert answer.cost_usd == billed
    booked = session.scalars(select(tables.Spending)).all()
    assert sum((one.cost_usd for one in booked), Decimal(0)) == double.account.cost


def test_results_that_are_cut_off_are_read_again(deps: Deps, double: Double, session: Session) -> None:
    arrive(session, 1, 2)
    submit(deps)
    double.fault(
        Fault("cut_middle", agent="batch", at=(3,)), Fault("all_met")
    )  # create, look, look of results, results
    collect(deps)
    assert rows(session)[0].state == "waiting"
    double.fault(Fault("all_met"))
    minutes(deps, session)
    assert len(verdicts(session)) == 2
    assert sum(call.batch for call in double.account.calls) == 4


def test_lines_that_cannot_be_read_cost_only_their_own_requests_an_answer(
    deps: Deps, double: Double, session: Session
) -> None:
    strange = ("<html>", '{"custom_id":7}', '{"custom_id":"ID","result":{"type":"postponed"}}')
    double.batching(BatchPlan(spoilt=strange))
    arrive(session, *range(5))
    submit(deps)
    double.batching(BatchPlan())
    with structlog.testing.capture_logs() as logs:
        minutes(deps, session, 1)
    first = rows(session)[0]
    assert (first.state, first.succeeded, first.errored, first.expired) == ("ended", 2, 1, 2)
    notes = sorted(session.scalars(select(tables.BatchRequest.note).where(tables.BatchRequest.batch_id == first.id)))
    assert notes == ["", "", UNREADABLE, *["the results say nothing of it"] * 2]
    assert [one["lines"] for one in logs if one["event"] == "batch.lines_not_read"] == [2]
    minutes(deps, session)
    assert len(verdicts(session)) == 5


def test_a_batch_is_known_by_the_first_line_that_says_whose_it_is(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_results, "UNDER_WAY", timedelta(0))
    double.batching(BatchPlan(spoilt=("<html>",)))
    double.fault(Fault("cut_before", agent="batch", times=1), Fault("all_met"))
    arrive(session, 1, 2)
    submit(deps)
    collect(deps)
    assert [row.vendor_id for row in rows(session)] == double.batch_ids


def test_errors_and_expiry_are_asked_again_and_in_the_end_one_by_one(
    deps: Deps, double: Double, session: Session
) -> None:
    double.batching(BatchPlan(errored=0.5, expired=0.5))
    arrive(session, *range(6))
    minutes(deps, session, 3)
    states = [row.state for row in rows(session)]
    assert states[:2] == ["ended", "ended"]
    first = rows(session)[0]
    assert first.succeeded + first.errored + first.expired == 6
    assert first.errored > 0 < first.expired
    double.batching(BatchPlan(expired=1.0))
    minutes(deps, session, 6)
    assert len(verdicts(session)) == 6
    assert held(session) == 0
    replies = [run.reply_key for run in runs(session) if run.replied and run.purpose == "review"]
    assert len(replies) == len(set(replies)) == 12


def test_a_request_at_fault_goes_to_its_own_job_and_is_parked_there(
    deps: Deps, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The double refuses a ticket's first question; whoever asks it live is refused as well."""

    def picky(body: dict[str, object], *rest: object) -> None:
        if "VPN drops 2" in str(body["messages"]):
            raise invalid("messages: this text is not wanted")
        check_message(body, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(double_service, "check_message", picky)
    arrive(session, 1, 2, 3)
    minutes(deps, session)
    assert [ticket.review_state for ticket in tickets(session)] == ["done", "parked", "done"]
    assert "not wanted" in tickets(session)[1].review_note
    assert [row.errored for row in rows(session)] == [1, 0]


def test_a_batch_that_nobody_knows_any_more_is_given_up_after_its_day(
    deps: Deps, double: Double, session: Session
) -> None:
    double.batching(HOUR)
    arrive(session, 1)
    minutes(deps, session, 1)
    double.forget_batches()
    minutes(deps, session, 1)
    assert rows(session)[0].state == "waiting"
    session.execute(update(tables.Batch).values(expires_at=func.now() - text("interval '2 hours'")))
    session.commit()
    minutes(deps, session, 2)
    assert rows(session)[0].state == "lost"
    assert len(verdicts(session)) == 1
    assert sorted(live_calls(double)) == ["qc", "triage"]


# --- cancelled by a person


def test_cancelled_what_is_answered_counts_and_the_rest_goes_live(deps: Deps, double: Double, session: Session) -> None:
    double.batching(HOUR)
    arrive(session, *range(4))
    minutes(deps, session, 1)
    double.advance(1800)
    (batch,) = rows(session)
    batch_results.cancel(session, batch.id, actor=Actor("command line"))
    batch_results.cancel(session, batch.id, actor=Actor("command line"))
    session.commit()
    double.batching(BatchPlan())
    work(deps, session)
    minutes(deps, session)
    first = rows(session)[0]
    assert (first.state, first.succeeded, first.canceled) == ("ended", 2, 2)
    assert len(verdicts(session)) == 4
    assert Counter(live_calls(double)) == {"triage": 2, "qc": 2}
    (event,) = session.scalars(select(tables.AuditEvent))
    assert (event.action, event.subject) == ("batch.cancelled", f"batch:{first.id}")
    with pytest.raises(Conflict, match="over"):
        batch_results.cancel(session, first.id, actor=Actor("command line"))
    with pytest.raises(NotFound):
        batch_results.cancel(session, first.id + 99, actor=Actor("command line"))


@pytest.mark.parametrize("moment", ["while it is primed", "while it is refused"])
def test_cancelled_before_the_vendor_has_it_it_is_not_sent_and_its_tickets_go_live(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def cancelled(*_: object) -> None:
        with transaction(deps.engine) as other:
            (batch,) = other.scalars(select(tables.Batch))
            batch_results.cancel(other, batch.id, actor=Actor("command line"))

    def refuse(*_: object) -> NoReturn:
        cancelled()
        raise CallFailed("overloaded", "HTTP 529")

    arrive(session, 1, 2)
    with monkeypatch.context() as patched:
        if moment == "while it is primed":
            patched.setattr(batch_rounds, "_prime", cancelled)
        else:
            patched.setattr(MessageBatches, "submit", refuse)
        submit(deps)
    minutes(deps, session)
    (batch,) = rows(session)
    said = "it was cancelled before it was sent" if moment == "while it is primed" else "it was not sent: HTTP 529"
    assert (batch.state, batch.note, double.batch_ids) == ("lost", said, [])
    assert (len(verdicts(session)), held(session)) == (2, 0)
    assert sorted(live_calls(double)) == ["qc", "qc", "triage", "triage"]
    assert session.scalars(select(tables.Reservation)).all() == []


def test_cancelled_where_its_sending_got_no_answer_it_is_not_sent_again(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_without_answer(deps, double, session, monkeypatch)
    (batch,) = rows(session)
    assert batch.state == "submitting"
    batch_results.cancel(session, batch.id, actor=Actor("command line"))
    session.commit()
    minutes(deps, session)
    (batch,) = rows(session)
    assert (batch.state, batch.note, double.batch_ids) == ("lost", batch_results.NEVER_ARRIVED, [])
    assert (len(verdicts(session)), sorted(live_calls(double))) == (1, ["qc", "triage"])


# --- whether it pays


def test_where_the_cache_is_missed_so_often_that_live_is_cheaper_live_it_is(
    deps: Deps, double: Double, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "ENOUGH", 16)
    double.batching(BatchPlan(hits=0.0))
    arrive(session, *range(8))
    minutes(deps, session, 3)
    seen = queries.measured(session, model=MODEL, since=now() - timedelta(days=7), today=now().date())
    assert seen is not None
    assert (seen.answers, seen.read_share, seen.dearer) == (16, 0.0, True)
    sent = len(double.batch_ids)
    arrive(session, 100)
    minutes(deps, session, 1)
    assert len(double.batch_ids) == sent
    assert "dearer than live calls" in batches.live_instead(session, model=MODEL, moment=now())
    assert batches.live_instead(session, model=MODEL, moment=now() + timedelta(days=8)) == ""
    assert len(verdicts(session)) == 9


def test_a_well_hit_cache_is_half_the_price_of_live_calls(deps: Deps, session: Session) -> None:
    arrive(session, *range(6))
    minutes(deps, session, 3)
    seen = queries.measured(session, model=MODEL, since=now() - timedelta(days=7), today=now().date())
    assert seen is not None
    assert (seen.answers, seen.read_share, seen.dearer) == (12, 1.0, False)
    reviews = sum((run.cost_usd or Decimal(0) for run in runs(session) if run.purpose == "review"), Decimal(0))
    assert reviews * 2 == seen.live_cost
