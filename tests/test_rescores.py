"""What can be re-scored: windows in people's words, versions by their beginning, what is left out, and the estimate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, text, update

from app import rescores
from app.audit import COMMAND_LINE
from app.clock import now
from app.errors import BadRequest, NotFound, TicketqcError
from app.periods import moment_of
from app.tables import RescoreResult, Revision, Ticket
from tests.factories import (
    finding,
    make_context,
    make_escalation,
    make_model_state,
    make_revision,
    make_run,
    make_ticket,
    make_triage,
    make_verdict,
    office_ticket,
    shipped_context,
)
from tests.rescored import begun, window

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.settings import Settings

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def judged(session: Session, **verdict: Any) -> Ticket:  # noqa: ANN401  columns of the verdict
    """A finished ticket with its verdict."""
    ticket = make_ticket(session)
    make_verdict(session, session.get_one(Revision, ticket.revision_id), **verdict)
    return ticket


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("30d", NOON - timedelta(days=30)),
        (" 12H ", NOON - timedelta(hours=12)),
        ("2w", NOON - timedelta(days=14)),
        ("2026-11-01", datetime(2026, 10, 31, 23, tzinfo=UTC)),
        ("2026-11-01T06:30", datetime(2026, 11, 1, 5, 30, tzinfo=UTC)),
        ("2026-11-01T06:30:00+00:00", datetime(2026, 11, 1, 6, 30, tzinfo=UTC)),
        *((nonsense, None) for nonsense in ("", "d", "30", "30 days ago", "-3d", "99999w", "2026-13-01", "\0", "٣d")),
    ],
)
def test_a_moment_in_the_words_of_people(said: str, meant: datetime | None) -> None:
    assert moment_of(said, now=NOON, zone=BERLIN) == meant


def test_what_cannot_be_wanted_is_one_clear_line(session: Session) -> None:
    version = make_context(session).version

    def told(since: str = "30d", until: str = "", named: str = version) -> str:
        with pytest.raises(TicketqcError) as refused:
            rescores.order(session, since=since, until=until, version=named, now=NOON, zone=BERLIN)
        return str(refused.value)

    assert told(since="soon") == f"since: 'soon' is no time; {rescores.TIMES}"
    assert told(until="then") == f"until: 'then' is no time; {rescores.TIMES}"
    assert told(until="40d") == ("the window is empty: it would begin at 2026-10-27 13:00 and end at 2026-10-17 14:00")
    assert "the window is empty" in told(since="2027-01-01")
    assert told(named="0" * 12) == "there is no context version '000000000000'; ticketqc context history lists them"
    assert "give at least 6 characters" in told(named="ab")
    wanted = rescores.order(session, since="30d", until="2027-01-01", version=version[:8], now=NOON, zone=BERLIN)
    assert wanted == rescores.Order(version, NOON - timedelta(days=30), NOON)


def test_a_window_with_nothing_to_compare_says_what_is_in_it(session: Session, settings: Settings) -> None:
    wanted = window(make_context(session).version)
    with pytest.raises(BadRequest, match=r"^no finished ticket with a verdict came in between .* UTC$"):
        rescores.plan(session, wanted, settings=settings)
    make_ticket(session, review_state="waiting_model")
    with pytest.raises(BadRequest, match=r"\(there are 1 without a verdict\)$"):
        rescores.plan(session, window(wanted.version), settings=settings)


def test_which_tickets_are_in_it_and_what_is_pinned(session: Session, settings: Settings) -> None:
    taken = judged(session)
    reopened = judged(session)
    make_revision(session, reopened, text=office_ticket(external_id=reopened.external_id, subject="It drops again"))
    reopened.review_state = "waiting_model"
    open_ticket = make_ticket(session, text=office_ticket(status="open", closed_at=None))
    removed = judged(session)
    session.execute(
        text("""update revisions set document = document || '{"removed": true}' where id = :one"""),
        {"one": removed.revision_id},
    )
    early, late = judged(session), judged(session)
    for ticket, hours in ((early, 2), (late, -2)):
        at = now() - timedelta(hours=hours)
        session.execute(update(Revision).where(Revision.id == ticket.revision_id).values(recorded_at=at))
    session.commit()
    row = begun(session, settings, make_context(session).version)
    assert (row.tickets, row.unjudged, row.removed, row.actor) == (1, 1, 1, "command line")
    (result,) = session.scalars(select(RescoreResult))
    assert (result.ticket_id, result.revision_id, result.verdict_id) == (taken.id, taken.revision_id, taken.verdict_id)
    assert open_ticket.id != taken.id


def test_answers_on_record_are_not_in_the_estimate(session: Session, settings: Settings) -> None:
    """By the exact agent hash, model, purpose and repetition; triage also where another state shares the intake."""
    context = shipped_context()
    hashes = {agent: context.agent_hash(agent) for agent in ("triage", "qc")}
    make_model_state(session)
    tickets = [judged(session) for _ in range(12)]
    states = [session.get_one(Revision, ticket.revision_id) for ticket in tickets]
    make_run(session, revision=states[0], agent_hash=hashes["qc"], cost_usd=Decimal("0.0004"))
    make_triage(session, states[0], agent_hash=hashes["triage"])
    make_run(session, revision=states[1], agent="triage", agent_hash=hashes["triage"], cost_usd=Decimal("0.0001"))
    for spoiled in (
        {"reply": None},
        {"agent_hash": "b" * 64},
        {"model": "claude-opus-4"},
        {"purpose": "second"},
        {"purpose": "replay"},
        {"repetition": 1},
    ):
        make_run(session, revision=states[2], **{"agent_hash": hashes["qc"], "cost_usd": None, **spoiled})
    session.commit()
    made = rescores.plan(session, window(context.version), settings=settings)
    assert (made.calls, made.known) == (11 + 10, 1 + 2)
    assert made.estimate_usd == 11 * Decimal("0.0004") + 10 * Decimal("0.0001")
    assert (made.seconds, made.seconds_usd) == (2, 2 * Decimal("0.0004"))
    make_model_state(session, model="unheard-of")
    assert rescores.plan(session, window(context.version), settings=settings).estimate_usd is None
    make_model_state(session, model="tiny", demonstration=True)
    local = rescores.plan(session, window(context.version), settings=settings)
    assert (local.calls, local.estimate_usd, local.judge.demonstration) == (24, Decimal(0), True)
    make_model_state(session, state="none", model="")
    bare = rescores.plan(session, window(context.version), settings=settings)
    assert (bare.judge.model, bare.calls, bare.known, bare.seconds) == ("none", 0, 0, 0)


def test_what_the_strong_model_may_be_asked_is_in_it(session: Session, settings: Settings) -> None:
    """At the most all tickets without its answer on record; those that were left open are told apart."""
    context, strong = shipped_context(), "claude-sonnet-5-5"
    unscored = [finding("root_cause", "unscored")]
    settings = settings.model_copy(update={"strong_on_abstention": True})
    make_model_state(session)
    make_model_state(session, role="strong", model=strong)
    judged(session)
    judged(session, outcome="fail", findings=unscored)
    judged(session, outcome="escalate", findings=unscored, panel="none")
    judged(session, outcome="escalate")
    ruled = judged(session, outcome="escalate", findings=unscored)
    make_escalation(session, session.get_one(Revision, ruled.revision_id))
    judged(session, outcome="escalate", findings=unscored)
    judged(session, route="strong")
    known = judged(session, route="strong")
    on_record = {"agent_hash": context.agent_hash("qc"), "purpose": "strong", "model": strong}
    revision = session.get_one(Revision, known.revision_id)
    make_run(session, revision=revision, **on_record, cost_usd=Decimal("0.005"))
    session.commit()

    def told(**changes: object) -> rescores.Strong | None:
        changed = settings.model_copy(update=changes)
        return rescores.plan(session, window(context.version), settings=changed).strong

    assert told() == rescores.Strong(strong, 7, 7 * Decimal("0.005"), 2, 2 * Decimal("0.005"))
    assert told(strong_on_abstention=False) is None
    for none_to_ask in ({"model": "claude-haiku-5-5"}, {"model": "", "state": "none"}):
        make_model_state(session, role="strong", **none_to_ask)
        assert told() is None
    make_model_state(session, role="strong", model="unheard-of")
    assert told() == rescores.Strong("unheard-of", 8, None, 3, None)


def test_an_unknown_one_cannot_be_cancelled(session: Session) -> None:
    with pytest.raises(NotFound):
        rescores.cancel(session, 10**9, actor=COMMAND_LINE, now=now())
