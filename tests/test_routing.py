"""How verdicts came about, step by step: in the database, and as the table on /agents."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from pydantic import SecretStr

from agents.prices import cost
from agents.question import Usage
from app.clock import now
from app.queries.routing import by_strong_alone, routing
from app.web.app import create_app
from tests.browsers import signed_in
from tests.factories import make_batch, make_revision, make_run, make_ticket, make_verdict, office_ticket
from tests.test_pages_patterns import page, section

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from app.settings import Settings
    from app.tables import User
    from app.vault import Vault

DAY = timedelta(days=1)
CENT = Decimal("0.01")
SONNET = "claude-sonnet-5-5"


def verdicts(session: Session) -> None:
    """Three by the worker, one of them last month's; one each by checks, a second run, without text, the strong one."""
    routes = [("worker", "pass", 0), ("worker", "escalate", 1), ("worker", "fail", 20), ("worker", "fail", 40)]
    routes += [("checks", "escalate", 0), ("second", "pass", 1), ("masked", "escalate", 2), ("strong", "pass", 3)]
    for number, (route, outcome, back) in enumerate(routes):
        ticket = make_ticket(session, external_id=f"INC-{number}")
        revision = make_revision(session, ticket, text=office_ticket(external_id=f"INC-{number}"))
        make_verdict(session, revision, outcome=outcome, route=route, recorded_at=now() - back * DAY)
    calls = [("review", 0), ("repair", 0), ("second", 1), ("second_repair", 8), ("masked", 2), ("strong", 3)]
    for purpose, back in [*calls, ("review", 20), ("review", 40), ("replay", 0)]:
        make_run(session, purpose=purpose, cost_usd=CENT, recorded_at=now() - back * DAY)
    make_run(session, agent="chief_of_staff", purpose="propose", cost_usd=Decimal(1))
    make_run(session, purpose="strong", replied=False, reply=None, outcome="overloaded", cost_usd=None)
    session.commit()


def test_each_verdict_counts_at_its_last_step_and_each_call_at_its_own(session: Session) -> None:
    verdicts(session)
    week, month = routing(session, week=now() - 7 * DAY, month=now() - 30 * DAY)
    found = {row.step: (row.settled, row.handed, row.cost_usd) for row in week.steps}
    assert found == {
        "checks": (0, 1, 0),
        "worker": (1, 1, 2 * CENT),
        "second": (1, 0, CENT),
        "masked": (0, 1, CENT),
        "strong": (1, 0, CENT),
    }
    assert (week.verdicts, week.handed, week.cost_usd) == (6, 3, 5 * CENT)
    assert week.share(3) == 0.5
    later = {row.step: (row.settled, row.handed, row.cost_usd) for row in month.steps}
    assert later["worker"] == (2, 1, 3 * CENT)
    assert later["second"] == (1, 0, 2 * CENT)


def test_nothing_judged_is_no_share(session: Session) -> None:
    week, _ = routing(session, week=now() - 7 * DAY, month=now() - 30 * DAY)
    assert (week.verdicts, week.share(0)) == (0, None)


def test_the_table_stands_on_the_page_of_agents(pages: TestClient, session: Session) -> None:
    verdicts(session)
    table = section(page(pages, "/agents"), "routing")
    words = [[cell.words for cell in row.all("td")] for row in table.all("tr")]
    rows = {row[0]: row[1:] for row in words if row and not row[0].isdigit()}
    assert rows["Worker model"] == ["1", "1", "33 %", "$0.020", "2", "1", "43 %", "$0.030"]
    assert rows["Strong model"] == ["1", "0", "17 %", "$0.010", "1", "0", "14 %", "$0.010"]
    assert "Checks alone: no model, or the text is too long" in rows
    assert "Together" in table.words


def test_what_the_strong_model_alone_would_have_cost_stands_below_it_with_the_share_for_people(
    engine: Engine, vault: Vault, settings: Settings, session: Session, lead: User
) -> None:
    verdicts(session)
    make_run(session, model="local:qwen", cost_usd=Decimal(0))
    make_run(session, model="no-price", cost_usd=None)
    make_run(session, batch_id=make_batch(session).id, cost_usd=CENT)
    session.commit()
    month = now() - 30 * DAY
    each = cost(SONNET, Usage(input=812, output=348, cache_read=4710), on=now().date())
    assert each is not None
    three_live_and_one_at_half_the_price = each * Decimal("3.5")
    assert by_strong_alone(session, SONNET, after=month) == (8 * CENT, three_live_and_one_at_half_the_price)
    assert by_strong_alone(session, "claude-unheard-of", after=month) is None
    assert by_strong_alone(session, SONNET, after=now()) is None
    keyed = settings.model_copy(update={"anthropic_api_key": SecretStr("sk-test")})
    for there, said in ((keyed, True), (keyed.model_copy(update={"worker_model": SONNET}), False), (settings, False)):
        shown = signed_in(create_app(engine=engine, vault=vault, settings=there), session, lead)
        words = section(page(shown, "/agents"), "routing").words
        assert (f"Had {SONNET} judged what a paid model judged in these 30 days" in words) == said
        if said:
            assert "at least $0.020, 0.2 times the $0.080 that judging did cost." in words
            assert "43 % of all verdicts went to a person." in words
