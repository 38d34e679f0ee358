"""What becomes of a stored delivery: its tickets recorded once, or parked with a reason and read again later."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.exc import IntegrityError

from app import clock
from app.audit import Actor
from app.db import transaction
from app.deps import Deps
from app.intake import connections
from app.intake.connections import Wanted
from app.intake.reading import give_up, read_delivery, replay
from app.intake.receiving import receive
from app.intake.signatures import Incoming
from app.tables import AuditEvent, Connection, Delivery, Revision, Ticket
from app.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.settings import Settings

TOKEN = "a-token-for-tests"
OURS: dict[str, Any] = {"external_id": "INC-1", "subject": "VPN drops", "status": "closed"}
MAP = {"external_id": {"path": "id"}, "status": {"path": "state", "values": {"4": "closed"}}}


@pytest.fixture
def deps(engine: Engine, vault: Vault, settings: Settings) -> Deps:
    return Deps(engine, vault, settings, cast("Any", None))


@pytest.fixture
def connection(session: Session, vault: Vault) -> Connection:
    kept = connections.add(session, vault, Wanted("desk", "path", secret=TOKEN))
    session.commit()
    return kept.connection


def mapped(session: Session, vault: Vault, field_map: Mapping[str, Any]) -> None:
    connections.replace(session, vault, Wanted("desk", field_map=field_map))
    session.commit()


def deliver(deps: Deps, body: bytes | Mapping[str, Any] | list[Any], *, minutes: int = 0) -> int:
    """A delivery comes in by the front door; its id."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    now = clock.now() + timedelta(minutes=minutes)
    incoming = Incoming({}, raw, token=TOKEN.encode())
    assert receive(deps.engine, deps.vault, name="desk", incoming=incoming, now=now) == "accepted"
    with transaction(deps.engine) as session:
        return session.scalars(select(func.max(Delivery.id))).one()


def state(session: Session, delivery_id: int) -> tuple[str, str]:
    session.expire_all()
    row = session.get_one(Delivery, delivery_id)
    return row.state, row.reason


def tickets(session: Session) -> list[str]:
    return list(session.scalars(select(Ticket.external_id).order_by(Ticket.external_id)))


def jobs(session: Session, task: str) -> int:
    counted = text("select count(*) from procrastinate.procrastinate_jobs where task_name = :task")
    return int(session.execute(counted, {"task": task}).scalar_one())


def work_off(session: Session) -> None:
    """The jobs that wait are done; a worker would have taken them."""
    session.execute(text("update procrastinate.procrastinate_jobs set status = 'succeeded'"))
    session.commit()


pytestmark = pytest.mark.usefixtures("connection")


def test_a_delivery_becomes_a_revision_and_points_at_it(session: Session, deps: Deps) -> None:
    number = deliver(deps, OURS)
    read_delivery(deps, delivery_id=number)
    assert state(session, number) == ("read", "")
    ticket = session.scalars(select(Ticket)).one()
    delivery = session.get_one(Delivery, number)
    assert delivery.revision_id == ticket.revision_id
    assert ticket.state_received_at == delivery.received_at
    assert jobs(session, "review") == 1


def test_reading_twice_does_nothing_more(session: Session, deps: Deps) -> None:
    number = deliver(deps, OURS)
    for _ in range(2):
        read_delivery(deps, delivery_id=number)
    assert session.scalars(select(func.count()).select_from(Revision)).one() == 1
    assert jobs(session, "review") == 1


def test_two_workers_at_once(session: Session, deps: Deps) -> None:
    numbers = [deliver(deps, {**OURS, "description": f"state {turn}"}) for turn in range(4)]
    together = threading.Barrier(8, timeout=20)

    def one(thread: int) -> None:
        together.wait()
        read_delivery(deps, delivery_id=numbers[thread // 2])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert {state(session, number) for number in numbers} == {("read", "")}
    assert session.scalars(select(func.count()).select_from(Revision)).one() == 4
    newest = session.get_one(Delivery, numbers[-1]).revision_id  # whatever the order in which the workers came
    assert session.scalars(select(Ticket.revision_id)).one() == newest


def test_who_comes_second_waits_and_reads_by_the_settings_of_then(session: Session, deps: Deps) -> None:
    number = deliver(deps, {"ticket": OURS})
    with ThreadPoolExecutor(1) as pool:
        with transaction(deps.engine) as first:
            first.execute(select(Delivery.id).where(Delivery.id == number).with_for_update())
            late = pool.submit(read_delivery, deps, delivery_id=number)
            with pytest.raises(TimeoutError):
                late.result(0.3)
            first.execute(update(Connection).values(field_map={name: {"path": f"ticket.{name}"} for name in OURS}))
        late.result(20)
    assert state(session, number) == ("read", "")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is empty"),
        (b"{", "not valid JSON: Expecting property name enclosed in double quotes at column 2"),
        (b"\xff\xfe\x00", "not UTF-8 at byte 0; save or send it as UTF-8"),
        (b'{"external_id": "a\\u0000b", "status": "closed"}', "the ticket contains a NUL character (\\u0000)"),
        (b"[" * 100_000, "JSON nested too deeply"),
        (b'{"external_id": "1"}', "status: "),
        (
            b'{"external_id": "1", "status": "done"}',
            "status: Input should be 'open', 'pending', 'resolved' or 'closed'",
        ),
        (b'{"external_id": "1", "status": "closed", "entries": [{"at": 1711234567890}]}', "entries.0.at: "),
        (b'{"external_id": "1", "status": "closed", "closed_at": "yesterday"}', "closed_at: "),
        (b'{"external_id": "1", "status": "closed", "closed_at": "0001-01-01T00:00:00+14:00"}', "closed_at: "),
    ],
)
def test_what_cannot_be_read_is_parked_with_its_reason(session: Session, deps: Deps, body: bytes, reason: str) -> None:
    number = deliver(deps, body)
    read_delivery(deps, delivery_id=number)
    parked, why = state(session, number)
    assert parked == "parked"
    assert why.startswith(reason)
    assert tickets(session) == []
    assert jobs(session, "review") == jobs(session, "triage") == 0


def test_a_list_is_recorded_whole_or_parked_whole(session: Session, deps: Deps) -> None:
    bad = deliver(deps, [OURS, {**OURS, "external_id": "INC-2", "status": "?"}])
    read_delivery(deps, delivery_id=bad)
    assert state(session, bad)[1].startswith("ticket 2 of the list: status: ")
    assert tickets(session) == []
    good = deliver(deps, [OURS, {**OURS, "external_id": "INC-2"}])
    read_delivery(deps, delivery_id=good)
    assert tickets(session) == ["INC-1", "INC-2"]
    first = session.scalars(select(Ticket.revision_id).where(Ticket.external_id == "INC-1")).one()
    assert session.get_one(Delivery, good).revision_id == first


def test_replay_after_the_field_map_is_mended(session: Session, deps: Deps) -> None:
    mapped(session, deps.vault, MAP)
    number = deliver(deps, {"id": 7, "state": 5})
    read_delivery(deps, delivery_id=number)
    assert state(session, number) == ("parked", 'status: the value 5 is not in the field map; add it to "values"')
    work_off(session)

    mapped(session, deps.vault, {**MAP, "status": {"path": "state", "values": {"4": "closed", "5": "closed"}}})
    with transaction(deps.engine) as own:
        assert replay(own, delivery_ids=[number]) == 1
    assert state(session, number) == ("received", "")
    assert jobs(session, "intake") == 2
    read_delivery(deps, delivery_id=number)
    assert state(session, number) == ("read", "")
    assert tickets(session) == ["7"]


def test_replay_takes_only_what_is_parked_and_still_has_its_body(session: Session, deps: Deps) -> None:
    parked, gone, read = deliver(deps, b"{"), deliver(deps, b"[{"), deliver(deps, OURS)
    for number in (parked, gone, read):
        read_delivery(deps, delivery_id=number)
    session.execute(update(Delivery).where(Delivery.id == gone).values(body=None))
    session.commit()
    work_off(session)
    with transaction(deps.engine) as own:
        assert replay(own, actor=Actor("lee@example.com")) == 1
        assert replay(own) == 0
    event = session.scalars(select(AuditEvent).where(AuditEvent.action == "deliveries.replayed")).one()
    assert event.actor == "lee@example.com"
    assert event.after == {"number": 1, "first": parked, "last": parked}
    assert [state(session, number)[0] for number in (parked, gone, read)] == ["received", "parked", "read"]


def test_replay_of_one_connection_leaves_others(deps: Deps, connection: Connection) -> None:
    number = deliver(deps, b"{")
    read_delivery(deps, delivery_id=number)
    with transaction(deps.engine) as own:
        assert replay(own, connection_id=connection.id + 1) == 0
        assert replay(own, connection_id=connection.id) == 1


def test_a_replayed_delivery_does_not_pass_for_a_newer_state(session: Session, deps: Deps) -> None:
    """What was parked on Monday says nothing about Tuesday's ticket."""
    mapped(session, deps.vault, MAP)
    monday = deliver(deps, {"id": 7, "state": 5})
    read_delivery(deps, delivery_id=monday)
    mapped(session, deps.vault, {**MAP, "status": {"path": "state", "values": {"4": "closed", "5": "open"}}})
    tuesday = deliver(deps, {"id": 7, "state": 4}, minutes=1)
    read_delivery(deps, delivery_id=tuesday)
    with transaction(deps.engine) as own:
        replay(own)
    read_delivery(deps, delivery_id=monday)
    assert state(session, monday) == ("read", "")
    assert session.scalars(select(Ticket.status)).one() == "closed"
    assert session.scalars(select(Ticket.revision_id)).one() == session.get_one(Delivery, tuesday).revision_id


def test_another_secret_key_parks_and_the_right_one_reads(session: Session, deps: Deps) -> None:
    number = deliver(deps, OURS)
    stranger = Deps(deps.engine, Vault("another key, of at least thirty-two characters"), deps.settings, deps.models)
    read_delivery(stranger, delivery_id=number)
    parked, why = state(session, number)
    assert parked == "parked"
    assert "another secret key" in why
    with transaction(deps.engine) as own:
        replay(own)
    read_delivery(deps, delivery_id=number)
    assert state(session, number) == ("read", "")


def test_a_body_that_retention_took_is_parked(session: Session, deps: Deps) -> None:
    number = deliver(deps, OURS)
    session.execute(update(Delivery).values(body=None))
    session.commit()
    read_delivery(deps, delivery_id=number)
    assert state(session, number) == ("parked", "retention has taken the body; have it sent again")


def test_a_delivery_that_is_gone_is_no_error(session: Session, deps: Deps) -> None:
    number = deliver(deps, OURS)
    session.execute(delete(Delivery))
    session.commit()
    read_delivery(deps, delivery_id=number)
    assert tickets(session) == []


def test_a_crash_half_way_leaves_nothing_and_the_next_try_reads(session: Session, deps: Deps) -> None:
    number = deliver(deps, OURS)
    session.execute(text("alter table revisions add constraint crash check (content_hash = '') not valid"))
    session.commit()
    try:
        with pytest.raises(IntegrityError):
            read_delivery(deps, delivery_id=number)
    finally:
        session.execute(text("alter table revisions drop constraint crash"))
        session.commit()
    assert state(session, number) == ("received", "")
    assert tickets(session) == []
    read_delivery(deps, delivery_id=number)
    assert state(session, number) == ("read", "")


def test_a_job_that_was_given_up_parks_its_delivery(session: Session, deps: Deps) -> None:
    number = deliver(deps, OURS)
    give_up(deps, "the worker died 6 times while at it", delivery_id=number)
    assert state(session, number) == ("parked", "the worker died 6 times while at it")
    read = deliver(deps, {**OURS, "external_id": "2"})
    read_delivery(deps, delivery_id=read)
    give_up(deps, "too late", delivery_id=read)
    assert state(session, read) == ("read", "")


def test_a_200000_character_ticket_is_read(session: Session, deps: Deps) -> None:
    number = deliver(deps, {**OURS, "description": "word " * 40_000, "entries": []})
    read_delivery(deps, delivery_id=number)
    assert state(session, number) == ("read", "")


def test_neither_log_nor_reason_holds_a_ticket_or_its_secrets(
    session: Session, deps: Deps, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    mapped(session, deps.vault, {**MAP, "subject": {"path": "sort(title)"}})
    with caplog.at_level(logging.DEBUG):
        number = deliver(deps, {"id": 7, "state": 4, "title": "password: hunter2-hunter2"})
        read_delivery(deps, delivery_id=number)
    said = caplog.text + capsys.readouterr().out + state(session, number)[1]
    assert state(session, number)[0] == "parked"
    assert "hunter2" not in said
    assert TOKEN not in said
    stored = session.execute(text("select d::text || c::text from deliveries d, connections c")).scalar_one()
    for kept_out in ("hunter2", TOKEN):
        assert kept_out not in stored
        assert kept_out.encode().hex() not in stored
