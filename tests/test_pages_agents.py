"""`/agents`: what each agent did and cost, where it failed, and what it reads."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from sqlalchemy import select

from app.clock import now
from app.patterns import sweep
from app.tables import Label, Pattern, Proposal, Revision, Ticket
from app.web.app import create_app
from tests.browsers import signed_in
from tests.factories import make_context, make_model_state, make_observation, make_run, make_ticket, make_verdict
from tests.sightings import labelled
from tests.test_pages_patterns import facts, page, rows, section

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.settings import Settings
    from app.tables import User
    from app.vault import Vault

DAY = timedelta(days=1)


def test_a_fresh_install_has_a_card_for_each_agent(viewer_pages: TestClient) -> None:
    main = page(viewer_pages, "/agents")
    assert [title.words for title in main.all("h2")] == ["Triage", "Quality control", "Chief of staff"]
    told = facts(section(main, "qc"))
    assert told["Model"] == "none configured"
    assert (told["Last 7 days"], told["Last 30 days"]) == ("0 runs, $0", "0 runs, $0")
    assert (told["Context in force"], told["Open patterns"], told["Last proposals"]) == ("none yet", "none", "none")
    assert "It was not asked anything in this time." in section(main, "qc").words


def test_runs_and_cost_are_of_days_and_replays_are_apart(pages: TestClient, session: Session) -> None:
    make_model_state(session, model="claude-haiku-5-5")
    make_model_state(session, role="strong", model="claude-sonnet-5-5", demonstration=True)
    price = Decimal("0.25")
    for back, number in ((0, 2), (6, 1), (8, 4), (29, 1), (31, 9)):
        for _ in range(number):
            make_run(session, cost_usd=price, recorded_at=now() - back * DAY)
    for back in (0, 8):
        for purpose in ("replay", "replay_repair"):
            make_run(session, cost_usd=price, purpose=purpose, recorded_at=now() - back * DAY)
    make_run(session, replied=False, reply=None, outcome="overloaded", cost_usd=None)
    make_run(session, replied=False, reply=None, outcome="overloaded", cost_usd=None, model="local:tiny")
    make_run(session, replied=False, reply=None, outcome="duplicate", cost_usd=Decimal(1))  # paid, and not needed
    make_run(session, cost_usd=None)
    make_run(session, agent="chief_of_staff", purpose="proposal", cost_usd=Decimal(2))
    session.commit()
    main = page(pages, "/agents")
    told = facts(section(main, "qc"))
    extra = "and 1 without a known price 1 without an answer, possibly billed"
    assert told["Model"] == "claude-haiku-5-5"
    assert told["Last 7 days"] == f"4 runs, $1.75 {extra}"
    assert told["Last 30 days"] == f"9 runs, $3.00 {extra}"
    assert (
        told["In trials, re-scoring and the shadow, 7 days"],
        told["In trials, re-scoring and the shadow, 30 days"],
    ) == (
        "2 runs, $0.50",
        "4 runs, $1.00",
    )
    strong = facts(section(main, "chief_of_staff"))
    assert (strong["Model"], strong["Last 7 days"]) == ("claude-sonnet-5-5 demonstration", "1 run, $2.00")
    assert "In trials and re-scoring, 7 days" not in facts(section(main, "triage"))


def test_failures_are_counted_by_kind_and_day(pages: TestClient, session: Session) -> None:
    for back in (0, 0, 2, 6, 7):
        make_observation(session, make_ticket(session), recorded_at=now() - back * DAY)
    make_observation(session, make_ticket(session), subject="follow_up")  # the same kind, on another criterion
    make_observation(session, make_ticket(session), code="unstable")
    make_observation(session, make_ticket(session), agent="triage", code="wrong_category", observer="qc")
    for purpose in ("review",) * 16 + ("second",) * 4 + ("replay",) * 50:
        make_run(session, purpose=purpose)
    session.commit()
    main = page(pages, "/agents")
    first, second = rows(section(main, "qc"))
    assert first == ["quoted words that are not in the ticket", "", "1", "0", "0", "0", "1", "0", "3", "5", "25.0"]
    assert second == ["said something else when asked again", "", "0", "0", "0", "0", "0", "0", "1", "1", "25.0"]
    together, compared = rows(section(main, "triage"))[0][-2:]
    assert (together, compared[1:]) == ("1", "nothing to compare")
    chart = section(main, "qc").all("svg", cls="sparkline")[0]
    assert chart.attributes["aria-label"] == "quoted words that are not in the ticket, day by day: 1, 0, 0, 0, 1, 0, 3"


def test_imported_history_does_not_make_the_rate_look_better(pages: TestClient, session: Session, lead: User) -> None:
    def overruled(*, live: bool) -> Label:
        revision = session.get_one(Revision, make_ticket(session).revision_id)
        revision.live = live
        make_run(session, revision=revision)
        label = labelled(session, lead, session.get_one(Ticket, revision.ticket_id))
        label.verdict_id = make_verdict(session, revision, outcome="fail").id
        return label

    overruled(live=False)
    label = overruled(live=True)
    one = session.scalars(select(Ticket).where(Ticket.revision_id == label.revision_id)).one()
    make_observation(session, one)
    make_observation(session, one, observer="person", code="overruled", direction="false_fail", label_id=label.id)
    session.commit()
    assert [row[-1] for row in rows(section(page(pages, "/agents"), "qc"))] == ["100.0", "100.0"]


def test_days_begin_where_the_people_are(
    engine: Engine, vault: Vault, settings: Settings, session: Session, lead: User
) -> None:
    zone = ZoneInfo("Pacific/Auckland")
    today = now().astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    week = datetime.combine(today.date() - 6 * DAY, today.timetz())
    for moment in (today, today - timedelta(microseconds=1), week, week - timedelta(microseconds=1)):
        make_observation(session, make_ticket(session), recorded_at=moment)
        make_run(session, recorded_at=moment)
    session.commit()
    there = settings.model_copy(update={"timezone": zone.key})
    pages = signed_in(create_app(engine=engine, vault=vault, settings=there), session, lead)
    card = section(page(pages, "/agents"), "qc")
    assert rows(card)[0][2:] == ["1", "0", "0", "0", "0", "1", "1", "3", "100.0"]
    assert facts(card)["Last 7 days"].startswith("3 runs")


def test_what_it_reads_its_patterns_and_the_last_proposals(pages: TestClient, session: Session) -> None:
    context = make_context(session)
    for _ in range(3):
        make_observation(
            session, make_ticket(session), agent="triage", code="missed_escalation", subject="legal_threat"
        )
    sweep(session, now=now())
    pattern = session.scalars(select(Pattern)).one()
    made = {"pattern_id": pattern.id, "model": "m", "demonstration": False, "why": ""}
    for state in ("rejected", "rejected", "approved", "open"):
        session.add(Proposal(**made, kind="escalation_rule", state=state))
        session.flush()
    session.commit()
    main = page(pages, "/agents")
    card = section(main, "triage")
    links = {link.words: link.attributes["href"] for link in card.all("a")}
    assert links["standards.md"] == f"/context/{context.version}#standards.md"
    assert links["Did not name an escalation rule that applies (Legal threat)"] == f"/patterns/{pattern.id}"
    assert facts(card)["Open patterns"].endswith("3 tickets in 7 days")
    told = facts(card)["Last proposals"]
    assert told.startswith("Change of an escalation rule waits for a person just now Change of")
    assert told.count("Change of an escalation rule") == 3
    assert facts(section(main, "chief_of_staff"))["Last proposals it made"] == told
    assert facts(section(main, "qc"))["Last proposals"] == "none"
