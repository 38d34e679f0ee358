"""A key that no call can succeed with: every process stops, one probes after a while, and a success is everybody's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text, update

from agents.gateway import CallFailed, Gateway
from app.breaker import FIRST_PROBE, LONGEST_PROBE, Breaker, scope_of
from app.model_watch import Models
from app.tables import Breaker as Row
from app.tables import ModelState, Run, Spending
from tests.double import Double, Fault
from tests.factories import make_context
from tests.test_permissions import LEAST

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session
    from starlette.testclient import TestClient

    from agents.gateway import Ttl
    from agents.question import Reply
    from app.models import Ready
    from app.settings import Settings

BILLING = CallFailed("billing", "HTTP 402: Your credit balance is too low")


def looked_up(engine: Engine, settings: Settings) -> Models:
    models = Models(engine, settings)
    models.refresh()
    return models


def ready(models: Models) -> Ready:
    found = models.ready()
    assert found is not None
    return found


def row(session: Session) -> Row | None:
    session.expire_all()
    return session.scalar(select(Row))


def state(session: Session) -> ModelState:
    session.expire_all()
    return session.scalars(select(ModelState).where(ModelState.role == "worker")).one()


def pass_time(session: Session) -> None:
    """The next probe is due."""
    session.execute(update(Row).values(probe_at=text("now() - interval '1 second'")))
    session.commit()


def test_one_call_stops_every_role_of_every_process_and_one_probe_starts_them_again(
    engine: Engine, session: Session, keyed: Settings, double: Double
) -> None:
    make_context(session)
    session.commit()
    here, there = looked_up(engine, keyed), looked_up(engine, keyed)
    before = ready(there)
    here.failed(BILLING, asked=ready(here))
    for models in (here, there):
        models.refresh()
        assert models.ready() is models.ready("strong") is None
    assert state(session).state == "failed"
    assert "Mend billing with the vendor" in state(session).detail
    assert "tried again by itself" in state(session).detail

    def asked(_ttl: Ttl) -> Reply:
        pytest.fail("asked")

    with pytest.raises(CallFailed):  # what a job there holds still asks nothing more
        before.asking._pace.attempt(asked, model="m", around=lambda: nullcontext("5m"), on_failure=print)  # noqa: SLF001
    assert double.account.calls == [], "and nobody tried"

    pass_time(session)
    double.fault(Fault("billing", times=1))
    there.refresh()
    assert there.ready() is None
    assert len(double.account.calls) == 1
    pass_time(session)
    here.refresh()
    assert here.ready() is not None
    there.refresh()
    assert there.ready() is not None
    assert there.ready("strong") is not None
    assert (row(session), state(session).state, state(session).detail) == (None, "ready", "")
    assert len(double.account.calls) == 2, "one probe that failed, one that succeeded"
    run = session.scalars(select(Run)).one()
    assert (run.agent, run.purpose, run.replied, run.output_tokens) == ("probe", "probe", True, 1)
    assert session.scalars(select(Spending.cost_usd)).one() == run.cost_usd == double.account.cost > Decimal(0)


def test_a_probe_that_fails_leaves_no_connection_behind(
    engine: Engine, session: Session, keyed: Settings, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = looked_up(engine, keyed)
    models.failed(BILLING, asked=ready(models))
    models.refresh()
    closed: list[Gateway] = []
    close = Gateway.close

    def noted(gateway: Gateway) -> None:
        closed.append(gateway)
        close(gateway)

    monkeypatch.setattr(Gateway, "close", noted)
    for probes in (1, 2):
        pass_time(session)
        double.fault(Fault("billing", times=1))
        models.refresh()
        assert len(set(closed)) == len(double.account.calls) == probes
    pass_time(session)
    models.refresh()
    assert models.ready() is not None
    assert len(closed) == 2, "the one that succeeded is in use"


def test_a_model_that_is_gone_meanwhile_does_not_keep_the_breaker_open(
    engine: Engine, session: Session, keyed: Settings
) -> None:
    models = looked_up(engine, keyed)
    models.failed(BILLING, asked=ready(models))
    pass_time(session)
    gone = looked_up(engine, keyed.model_copy(update={"worker_model": "claude-gone-1"}))
    assert row(session) is None
    assert gone.ready() is None
    assert "Set TICKETQC_WORKER_MODEL to one that exists" in state(session).detail
    assert gone.ready("strong") is not None
    models.refresh()
    assert models.ready() is not None


def test_another_key_is_not_barred(engine: Engine, session: Session, keyed: Settings, double: Double) -> None:
    double.accept_keys(double.key, "mended")
    models = looked_up(engine, keyed)
    models.failed(BILLING, asked=ready(models))
    mended = keyed.model_copy(update={"anthropic_api_key": SecretStr("mended")})
    assert looked_up(engine, mended).ready() is not None
    found = row(session)
    assert found is not None
    assert found.scope == scope_of(keyed) != scope_of(mended)
    assert double.key not in f"{found.scope}{found.detail}"


def test_a_process_that_starts_while_it_is_open_asks_nothing(engine: Engine, keyed: Settings, double: Double) -> None:
    models = looked_up(engine, keyed)
    models.failed(BILLING, asked=ready(models))
    assert looked_up(engine, keyed).ready() is None
    assert double.account.calls == []


def _seconds(session: Session) -> float:
    """Until the next probe."""
    left = session.scalar(select(Row.probe_at - text("now()")))
    session.rollback()
    assert left is not None
    found: float = left.total_seconds()
    return found


def test_probes_come_ever_more_rarely_and_many_failures_at_once_count_once(
    engine: Engine, session: Session, keyed: Settings
) -> None:
    breaker = Breaker(engine, keyed)
    for _ in range(16):
        breaker.open(BILLING, detail="unpaid")
    waits = [_seconds(session)]
    for _ in range(7):
        pass_time(session)
        assert breaker.claim()
        assert not breaker.claim(), "the next one is not due"
        waits.append(_seconds(session))
    expected = [FIRST_PROBE, 60, 120, 240, 480, LONGEST_PROBE, LONGEST_PROBE, LONGEST_PROBE]
    assert waits == pytest.approx(expected, abs=5)


def test_of_many_processes_one_probes(engine: Engine, session: Session, keyed: Settings) -> None:
    breakers = [Breaker(engine, keyed) for _ in range(8)]
    breakers[0].open(BILLING, detail="unpaid")
    pass_time(session)
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(Breaker.claim, breakers)) == [False] * 7 + [True]


@pytest.mark.parametrize("code", ["permission", "unknown_model"])
def test_what_holds_for_one_model_is_no_matter_of_the_key(
    engine: Engine, session: Session, keyed: Settings, code: str
) -> None:
    models = looked_up(engine, keyed)
    models.failed(CallFailed(code, "HTTP 4xx"), asked=ready(models))  # type: ignore[arg-type]  # a parameter is a str
    assert row(session) is None
    assert models.ready("strong") is not None


def test_every_page_says_so(engine: Engine, keyed: Settings, pages: TestClient) -> None:
    models = looked_up(engine, keyed)
    models.failed(CallFailed("authentication", "HTTP 401: invalid bearer token"), asked=ready(models))
    named = [name.removeprefix("GET ") for name, least in LEAST.items() if name.startswith("GET ") and least]
    whole = [address for address in named if "{" not in address]
    missing = ["/tickets/999999", "/patterns/999999", "/context/unheard-of", "/settings"]  # a lead is no admin
    shown = 0
    for address in [*whole, *missing]:
        text = pages.get(address, headers={"accept": "text/html"}).text
        if "<main" in text:
            assert "the API key was not accepted" in text, address
            shown += 1
    assert shown >= 12 + len(missing)


def test_every_page_says_so_of_the_strong_model_too(engine: Engine, keyed: Settings, viewer_pages: TestClient) -> None:
    models = looked_up(engine, keyed)
    strong = models.ready("strong")
    assert strong is not None
    models.failed(CallFailed("unknown_model", "HTTP 404"), asked=strong, role="strong")
    for address in ("/", "/account"):
        text = viewer_pages.get(address).text
        assert "The model claude-sonnet-5-5, which proposes improvements, cannot be used" in text
        assert "Tickets are judged all the same" in text


def test_live_workers_share_the_keys_limits(engine: Engine, session: Session, keyed: Settings) -> None:
    alive, dead = "now()", "now() - interval '1 minute'"
    insert = "insert into procrastinate.procrastinate_workers (last_heartbeat) values ({})"
    for moment in [alive] * 6 + [dead] * 4:  # two lanes a process
        session.execute(text(insert.format(moment)))
    session.commit()
    models = looked_up(engine, keyed)
    assert models._limiter.sharers == 3  # noqa: SLF001
