"""Patterns that open with their third observation, and many workers who come at the same moment."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text

from agents.observation import Observation as Seen
from app import patterns
from app.clock import now
from app.db import transaction
from app.deps import Deps
from app.judgements import observe
from app.model_watch import Models
from app.patterns import notice, sweep
from app.tables import Observation, Pattern
from tests.factories import make_context, make_observation
from tests.sightings import DAY, FINGERPRINT, LEE, NOON, OPENED, calls, only, seen, swept, ticket, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.settings import Settings
    from app.tables import Ticket
    from app.vault import Vault


def observed(session: Session, one: Ticket, *failures: Seen) -> None:
    version = make_context(session).version
    assert one.revision_id is not None
    observe(session, failures, revision_id=one.revision_id, context_version=version)


def test_the_third_observation_opens_the_pattern_in_its_own_transaction(engine: Engine, session: Session) -> None:
    failure = Seen("validator", "qc", "quote_not_found", "root_cause")
    with transaction(engine) as arranging:
        tickets = [ticket(arranging, requester=name) for name in ("Ana", "Ben", "Cy")]
        make_context(arranging)
    for one in tickets[:2]:
        with transaction(engine) as writing:
            observed(writing, one, failure, failure)
    assert told(session) == []
    with transaction(engine) as writing:
        observed(writing, tickets[1], failure)  # the same ticket again, which is no news
    assert told(session) == []
    with transaction(engine) as writing:
        observed(writing, tickets[2], failure, Seen("validator", "qc", "refusal"))
    assert told(session) == OPENED
    assert calls(session) == [f"propose:{only(session).id}"]
    assert len(session.scalars(select(Observation)).all()) == 4


def test_a_pattern_and_its_call_are_gone_where_the_third_is_rolled_back(engine: Engine, session: Session) -> None:
    seen(session, NOON, NOON, requester="Ben")
    with pytest.raises(ZeroDivisionError), transaction(engine) as writing:  # noqa: PT012  rolled back in the middle
        make_observation(writing, ticket(writing), recorded_at=NOON)
        notice(writing, [FINGERPRINT], now=NOON)
        assert len(writing.scalars(select(Pattern)).all()) == 1
        raise ZeroDivisionError
    assert told(session) == []
    assert calls(session) == []


def together(engine: Engine, act: Callable[[Session], None], *, number: int = 4) -> None:
    """Several workers do it at the same moment, each in a transaction of its own."""
    ready = threading.Barrier(number)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with transaction(engine) as mine:
                mine.execute(text("select 1"))
                ready.wait()
                act(mine)
        except BaseException as error:  # noqa: BLE001  shown by the test
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_many_who_open_close_and_cool_at_once_write_one_event_each(engine: Engine, session: Session) -> None:
    subjects = [f"criterion_{number}" for number in range(5)]
    fingerprints = [FINGERPRINT._replace(subject=subject) for subject in subjects]
    for subject in subjects:
        for requester in ("Ana", "Ben", "Cy"):
            seen(session, NOON, requester=requester, subject=subject)
    # Half of them are told in another order: whoever takes rows in the order given would deadlock.
    orders = iter([fingerprints, fingerprints[::-1]] * 2)
    together(engine, lambda mine: notice(mine, next(orders), now=NOON))
    assert told(session) == OPENED * 5
    assert len(calls(session)) == 5

    together(engine, lambda mine: sweep(mine, now=NOON + 14 * DAY))
    assert told(session) == [("closed", ["opened", "closed"])] * 5

    for pattern in session.scalars(select(Pattern)).all():
        patterns.decided(session, pattern.id, now=NOON + 14 * DAY, note="", actor=LEE)
    later = NOON + 28 * DAY
    for subject in subjects:
        seen(session, later, later, later, subject=subject)
    together(engine, lambda mine: sweep(mine, now=later))
    assert told(session) == [("open", ["opened", "closed", "decided", "closed", "reopened"])] * 5


def test_whoever_brings_the_second_and_third_at_the_same_moment_opens_it(engine: Engine, session: Session) -> None:
    seen(session, NOON)
    tickets = [ticket(session), ticket(session)]
    session.commit()
    left = iter(tickets)

    def bring(mine: Session) -> None:
        make_observation(mine, mine.merge(next(left), load=False), recorded_at=NOON)
        notice(mine, [FINGERPRINT], now=NOON)

    together(engine, bring, number=2)
    assert told(session) == OPENED
    assert swept(session) == OPENED


def test_a_pattern_decided_between_look_and_write_is_not_opened_again(
    engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(session, NOON, NOON, NOON)
    swept(session)
    swept(session, NOON + 14 * DAY)
    later = NOON + 15 * DAY
    seen(session, later, later, later)
    look = patterns._due  # noqa: SLF001  the moment after it is the point

    def decided_meanwhile(*arguments: object, **named: object) -> object:
        found = look(*arguments, **named)  # type: ignore[arg-type]
        with transaction(engine) as other:
            patterns.decided(other, only(other).id, now=later, note="approved", actor=LEE)
        return found

    monkeypatch.setattr(patterns, "_due", decided_meanwhile)
    notice(session, [FINGERPRINT], now=later)
    session.commit()
    assert told(session) == [("decided", ["opened", "closed", "decided"])]


def test_the_job_sweeps(engine: Engine, settings: Settings, vault: Vault, session: Session) -> None:
    moment = now()
    seen(session, moment, moment, moment)
    patterns.run(Deps(engine, vault, settings, Models(engine, settings)))
    assert told(session) == OPENED
