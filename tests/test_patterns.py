"""Three tickets in seven days: when a pattern opens, and when exactly it does not; cool-downs and mutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text, update

from agents.observation import Fingerprint
from app import patterns
from app.audit import Actor
from app.errors import Conflict, NotFound
from app.patterns import notice, sweep
from app.tables import AuditEvent, Pattern, PatternEvent, Proposal, User
from tests.factories import make_context, make_observation
from tests.sightings import (
    DAY,
    FINGERPRINT,
    INSTANT,
    LEE,
    NOON,
    OPENED,
    WEEK,
    calls,
    labelled,
    only,
    seen,
    swept,
    ticket,
    told,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def test_three_tickets_open_a_pattern_and_two_do_not(session: Session) -> None:
    seen(session, NOON - 2 * DAY, NOON - DAY)
    assert swept(session) == []
    seen(session, NOON)
    assert swept(session) == OPENED
    assert swept(session) == OPENED  # and once only
    pattern = only(session)
    assert (pattern.agent, pattern.code, pattern.subject, pattern.direction) == (*FINGERPRINT[:3], "")
    assert pattern.opened_at == NOON


def test_three_failures_on_one_ticket_are_one(session: Session) -> None:
    make_context(session)
    one = ticket(session)
    for hours in range(3):
        make_observation(session, one, observer=f"observer {hours}", recorded_at=NOON - timedelta(hours=hours))
    make_observation(session, ticket(session), recorded_at=NOON)
    session.commit()
    assert swept(session) == []


@pytest.mark.parametrize(
    ("back", "expected"),
    [(WEEK - INSTANT, OPENED), (WEEK, []), (WEEK + INSTANT, [])],
    ids=["167:59:59.999999", "168:00:00", "a moment more"],
)
def test_a_window_is_exactly_a_week_and_half_open(
    session: Session, back: timedelta, expected: list[tuple[str, list[str]]]
) -> None:
    seen(session, NOON - back, NOON - DAY, NOON)
    assert swept(session) == expected


def test_two_and_one_after_seven_days_are_no_pattern_but_any_three_in_between_are(session: Session) -> None:
    seen(session, NOON - 8 * DAY, NOON - 8 * DAY, NOON)
    assert swept(session) == []
    seen(session, NOON - 4 * DAY)  # came late: with the first two it was a week, days ago
    assert swept(session) == OPENED
    assert only(session).opened_at == NOON - 4 * DAY


def test_what_differs_is_another_failure(session: Session) -> None:
    different: list[dict[str, str]] = [
        {"subject": "follow_up"}, {"code": "unstable"}, {"agent": "triage"}, {"direction": "false_fail"}, {},
    ]  # fmt: skip
    for columns in different:
        seen(session, NOON, **columns)
    assert swept(session) == []
    seen(session, NOON, NOON, observer="person")  # whoever saw it
    assert swept(session) == OPENED


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC"])
@pytest.mark.parametrize(("back", "number"), [(WEEK - INSTANT, 1), (WEEK, 0)])
def test_neither_the_zone_nor_a_change_of_clocks_moves_the_edge(
    session: Session, zone: str, back: timedelta, number: int
) -> None:
    session.execute(text("select set_config('timezone', :zone, false)"), {"zone": zone})
    after = datetime(2026, 11, 3, 9, tzinfo=UTC)  # clocks went back in Europe on 25 October, in America on 1 November
    for moment in (after - back, after - 3 * DAY, after):
        make_observation(session, ticket(session), recorded_at=moment)
    sweep(session, now=after)
    assert len(session.scalars(select(Pattern)).all()) == number


def test_a_tick_that_comes_days_late_still_finds_it_unless_it_would_be_quiet_by_now(session: Session) -> None:
    seen(session, NOON, NOON + DAY, NOON + 2 * DAY)
    assert swept(session, NOON + 16 * DAY) == []  # the last was 14 days ago: it would close at once
    assert swept(session, NOON + 16 * DAY - INSTANT) == OPENED


def test_an_open_pattern_closes_after_14_quiet_days_and_not_while_a_proposal_waits(session: Session) -> None:
    seen(session, NOON - 2 * DAY, NOON - DAY, NOON)
    swept(session)
    pattern_id = only(session).id
    assert swept(session, NOON + 14 * DAY - INSTANT) == OPENED
    proposal = Proposal(pattern_id=pattern_id, kind="noise", why="", model="m", demonstration=False)
    session.add(proposal)
    assert swept(session, NOON + 14 * DAY) == OPENED
    proposal.state = "rejected"
    assert swept(session, NOON + 14 * DAY) == [("closed", ["opened", "closed"])]
    seen(session, NOON + 15 * DAY, NOON + 16 * DAY)
    assert swept(session, NOON + 16 * DAY) == [("closed", ["opened", "closed"])]
    seen(session, NOON + 17 * DAY)
    assert swept(session, NOON + 17 * DAY) == [("open", ["opened", "closed", "reopened"])]
    assert only(session).id == pattern_id


def test_a_decision_cools_down_for_exactly_14_days(session: Session) -> None:
    seen(session, NOON, NOON, NOON)
    swept(session)
    patterns.decided(session, only(session).id, now=NOON, note="approved", actor=LEE)
    seen(session, NOON + DAY, NOON + 12 * DAY, NOON + 13 * DAY, NOON + 14 * DAY - INSTANT)
    cooling = ("decided", ["opened", "decided"])
    assert swept(session, NOON + 14 * DAY - INSTANT) == [cooling]
    assert only(session).cool_until == NOON + 14 * DAY
    seen(session, NOON + 14 * DAY, NOON + 14 * DAY)  # these two count, those before them do not
    assert swept(session, NOON + 14 * DAY) == [("closed", ["opened", "decided", "closed"])]
    seen(session, NOON + 20 * DAY)
    assert swept(session, NOON + 20 * DAY) == [("open", ["opened", "decided", "closed", "reopened"])]


def test_a_regression_is_noticed_at_once_where_nobody_has_ended_the_cool_down_yet(session: Session) -> None:
    seen(session, NOON, NOON, NOON)
    swept(session)
    patterns.decided(session, only(session).id, now=NOON, note="", actor=LEE)
    later = NOON + 15 * DAY
    seen(session, later, later, later)
    notice(session, [FINGERPRINT], now=later)
    assert told(session) == [("open", ["opened", "decided", "reopened"])]


def test_only_what_is_noticed_is_looked_at(session: Session) -> None:
    seen(session, NOON, NOON, NOON)
    notice(session, [], now=NOON)
    notice(session, [Fingerprint("qc", "quote_not_found", "follow_up")], now=NOON)
    assert told(session) == []
    notice(session, [FINGERPRINT], now=NOON)
    assert told(session) == OPENED


def test_a_muted_pattern_stays_so_and_comes_back_as_it_would_be(session: Session, lead: User) -> None:
    actor = Actor(lead.email, lead.id)
    seen(session, NOON, NOON, NOON)
    swept(session)
    pattern_id = only(session).id
    patterns.mute(session, pattern_id, reason="a known fault of the form", actor=actor)
    with pytest.raises(Conflict):
        patterns.mute(session, pattern_id, reason="again", actor=actor)
    seen(session, NOON + DAY, NOON + DAY, NOON + DAY)
    notice(session, [FINGERPRINT], now=NOON + DAY)
    assert swept(session, NOON + DAY) == [("muted", ["opened", "muted"])]

    patterns.unmute(session, pattern_id, actor=actor, now=NOON + DAY)
    assert told(session) == [("open", ["opened", "muted", "unmuted"])]
    with pytest.raises(Conflict):
        patterns.unmute(session, pattern_id, actor=actor, now=NOON + DAY)

    patterns.mute(session, pattern_id, reason="once more", actor=actor)
    patterns.decided(session, pattern_id, now=NOON + DAY, note="rejected", actor=actor)
    assert only(session).state == "muted"
    patterns.unmute(session, pattern_id, actor=actor, now=NOON + 2 * DAY)
    assert only(session).state == "decided"
    patterns.mute(session, pattern_id, reason="for long", actor=actor)
    patterns.unmute(session, pattern_id, actor=actor, now=NOON + 30 * DAY)
    assert only(session).state == "closed"

    changes = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
    assert {change.action for change in changes} == {"pattern.muted", "pattern.unmuted"}
    first = changes[0]
    assert (first.subject, first.before, first.after) == (
        f"pattern:{pattern_id}",
        {"state": "open"},
        {"state": "muted"},
    )
    assert (first.user_id, first.note) == (lead.id, "a known fault of the form")
    muted = session.scalars(select(PatternEvent).where(PatternEvent.kind == "muted").order_by(PatternEvent.id)).all()
    assert (muted[0].note, muted[0].user_id) == ("a known fault of the form", lead.id)


def test_there_is_no_such_pattern(session: Session) -> None:
    with pytest.raises(NotFound):
        patterns.mute(session, 7, reason="x", actor=LEE)
    with pytest.raises(NotFound):
        patterns.unmute(session, 7, actor=LEE, now=NOON)
    with pytest.raises(NotFound):
        patterns.decided(session, 7, now=NOON, note="", actor=LEE)


def test_what_a_later_decision_took_back_does_not_count(session: Session, lead: User) -> None:
    overruled = {"observer": "person", "code": "overruled", "direction": "false_fail", "recorded_at": NOON}
    tickets = [ticket(session) for _ in range(3)]
    for one in tickets:
        make_observation(session, one, label_id=labelled(session, lead, one).id, **overruled)
    second = labelled(session, lead, tickets[0])
    assert swept(session) == []
    make_observation(session, tickets[0], label_id=second.id, **overruled)
    assert swept(session) == OPENED
    labelled(session, lead, tickets[0])
    assert swept(session) == OPENED  # it stays open until it is quiet ...
    for one in tickets:
        labelled(session, lead, one)
    assert swept(session) == [("closed", ["opened", "closed"])]  # ... which it is where nothing of it stands


def test_the_chief_of_staff_is_called_about_two_requesters_and_not_about_one(session: Session) -> None:
    names = ["Ana Ruiz", "ANA  RUIZ ", "\uff21na R\u200buiz"]  # one person, however written
    for name in names:
        seen(session, NOON, requester=name)
    assert swept(session) == OPENED
    assert calls(session) == []
    seen(session, NOON + DAY, requester="")  # nobody in particular, but not Ana
    swept(session, NOON + DAY)
    once = f"propose:{only(session).id}"
    assert calls(session) == [once]
    swept(session, NOON + DAY)
    assert calls(session) == [once]  # one waits already


def test_no_requester_at_all_is_one_source(session: Session) -> None:
    seen(session, NOON, NOON, NOON, requester="")
    assert swept(session) == OPENED
    assert calls(session) == []


@pytest.mark.parametrize("kind", ["called", "no_answer"])
def test_it_is_called_again_after_a_day_unless_a_proposal_waits(session: Session, kind: str) -> None:
    for requester in ("Ana", "Ben", "Cy"):
        seen(session, NOON, requester=requester)
    swept(session)
    pattern_id = only(session).id
    session.execute(text("delete from procrastinate.procrastinate_jobs"))
    patterns.event(session, pattern_id, kind)
    session.execute(update(PatternEvent).where(PatternEvent.kind == kind).values(recorded_at=NOON))
    swept(session, NOON + DAY - INSTANT)
    assert calls(session) == []
    proposal = Proposal(pattern_id=pattern_id, kind="noise", why="", model="m", demonstration=False)
    session.add(proposal)
    swept(session, NOON + DAY)
    assert calls(session) == []
    proposal.state = "rejected"
    swept(session, NOON + DAY)
    assert calls(session) == [f"propose:{pattern_id}"]


def test_about_itself_the_chief_of_staff_is_called_once(session: Session) -> None:
    for requester in ("Ana", "Ben", "Cy"):
        seen(session, NOON, requester=requester, agent="chief_of_staff", code="refusal", subject="")
    swept(session)
    assert calls(session) == [f"propose:{only(session).id}"]
    session.execute(text("delete from procrastinate.procrastinate_jobs"))
    assert swept(session, NOON + DAY) == OPENED
    assert calls(session) == []


def test_an_older_spell_lends_it_no_requesters(session: Session) -> None:
    seen(session, NOON, NOON, requester="Ben")
    seen(session, NOON)
    swept(session)
    assert len(calls(session)) == 1
    swept(session, NOON + 14 * DAY)
    session.execute(text("delete from procrastinate.procrastinate_jobs"))
    seen(session, *[NOON + 15 * DAY] * 3)
    assert swept(session, NOON + 15 * DAY)[0][0] == "open"
    assert calls(session) == []
