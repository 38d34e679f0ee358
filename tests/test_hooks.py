"""The hook's answers: 200 only for what is committed, and everything else in the words its sender understands."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2
import pytest
from sqlalchemy import func, select, text
from starlette.testclient import TestClient

from app import clock
from app.db import CONNECTIONS, make_engine, transaction
from app.intake import connections, receiving
from app.intake.connections import Wanted
from app.intake.example import Sender, sign
from app.intake.signatures import Incoming, Options, Scheme
from app.tables import Connection, Delivery
from app.web import hooks
from app.web.app import create_app
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastapi import FastAPI
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.settings import Settings
    from app.vault import Vault

TOKEN = "a-token-for-tests"
TICKET = b'{"external_id": "INC-1", "subject": "VPN drops", "status": "closed"}'


@pytest.fixture
def app(engine: Engine, vault: Vault, settings: Settings) -> FastAPI:
    return create_app(engine=engine, vault=vault, settings=settings)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=True) as opened:
        yield opened


def connect(session: Session, vault: Vault, name: str = "desk", scheme: Scheme = "header", **options: str) -> str:
    """A connection that is committed; its secret."""
    if scheme in {"header", "hmac"}:
        options.setdefault("header", "X-Token")
    secret = None if scheme == "standard" else TOKEN
    kept = connections.add(session, vault, Wanted(name, scheme, secret=secret, options=options))
    session.commit()
    return kept.made_secret or TOKEN


def post(
    client: TestClient, body: bytes = TICKET, headers: Mapping[str, str] | None = None, *, address: str = "/hooks/desk"
) -> httpx2.Response:
    return client.post(address, content=body, headers={"X-Token": TOKEN, **(headers or {})})


def deliveries(session: Session) -> int:
    return session.scalars(select(func.count()).select_from(Delivery)).one()


def jobs(session: Session) -> list[object]:
    return list(session.scalars(text("select args ->> 'delivery_id' from procrastinate.procrastinate_jobs")))


def test_an_accepted_delivery_is_stored_sealed_with_its_job(session: Session, vault: Vault, client: TestClient) -> None:
    connect(session, vault)
    answer = post(client)
    assert (answer.status_code, answer.json()) == (200, {"status": "accepted"})
    stored = session.scalars(select(Delivery)).one()
    assert stored.body is not None
    assert b"INC-1" not in stored.body
    assert vault.open(stored.body) == TICKET
    assert stored.state == "received"
    assert jobs(session) == [str(stored.id)]


def test_a_duplicate_answers_200_and_does_nothing(session: Session, vault: Vault, client: TestClient) -> None:
    connect(session, vault, delivery_id_header="X-Delivery")
    assert post(client, headers={"X-Delivery": "7"}).json() == {"status": "accepted"}
    again = post(client, TICKET + b" ", {"X-Delivery": "7"})
    assert (again.status_code, again.json()) == (200, {"status": "duplicate"})
    assert post(client, headers={"X-Delivery": "8"}).json() == {"status": "accepted"}
    assert deliveries(session) == len(jobs(session)) == 2


def test_one_delivery_id_on_two_connections_is_two_deliveries(
    session: Session, vault: Vault, client: TestClient
) -> None:
    connect(session, vault, "one", delivery_id_header="X-Delivery")
    connect(session, vault, "two", delivery_id_header="X-Delivery")
    for name in ("one", "two"):
        assert post(client, headers={"X-Delivery": "7"}, address=f"/hooks/{name}").json() == {"status": "accepted"}


def test_a_delivery_id_of_any_length_is_a_key(session: Session, vault: Vault, client: TestClient) -> None:
    connect(session, vault, delivery_id_header="X-Delivery")
    for expected in ("accepted", "duplicate"):
        assert post(client, headers={"X-Delivery": "x" * 8000}).json() == {"status": expected}


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (("10:05:00", "10:05:00"), "duplicate"),
        (("10:00:00", "10:09:59"), "duplicate"),
        (("10:09:00", "10:18:59"), "duplicate"),  # over the edge of the clock's ten minutes
        (("10:09:00", "10:19:00"), "accepted"),
        (("10:00:00", "10:10:00"), "accepted"),
        (("10:00:00", "10:29:00"), "accepted"),
    ],
)
def test_the_same_body_within_ten_minutes_is_a_duplicate(
    engine: Engine, session: Session, vault: Vault, times: tuple[str, str], expected: str
) -> None:
    connect(session, vault, scheme="path")
    incoming = Incoming({}, TICKET, token=TOKEN.encode())
    for moment, outcome in zip(times, ("accepted", expected), strict=True):
        now = datetime.fromisoformat(f"2026-11-23T{moment}+00:00")
        assert receiving.receive(engine, vault, name="desk", incoming=incoming, now=now) == outcome


def test_another_body_is_another_delivery(session: Session, vault: Vault, client: TestClient) -> None:
    connect(session, vault)
    assert post(client).json() == {"status": "accepted"}
    assert post(client, TICKET + b"\n").json() == {"status": "accepted"}


def test_ten_minutes_run_from_the_delivery_that_was_stored(engine: Engine, session: Session, vault: Vault) -> None:
    """A sender that repeats itself every nine minutes is heard again, not silenced for ever."""
    connect(session, vault, scheme="path")
    incoming = Incoming({}, TICKET, token=TOKEN.encode())
    start = datetime(2026, 11, 23, 10, tzinfo=UTC)
    seen = [
        receiving.receive(engine, vault, name="desk", incoming=incoming, now=start + timedelta(minutes=9 * times))
        for times in range(4)
    ]
    assert seen == ["accepted", "duplicate", "accepted", "duplicate"]


def test_the_same_body_from_many_at_once_is_stored_once(engine: Engine, session: Session, vault: Vault) -> None:
    """Half of them a moment before the edge of the clock's ten minutes, half after: their keys differ."""
    connect(session, vault, scheme="path")
    incoming = Incoming({}, TICKET, token=TOKEN.encode())
    edge = datetime(2026, 11, 23, 10, tzinfo=UTC)
    together = threading.Barrier(8, timeout=20)

    def one(number: int) -> str:
        together.wait()
        now = edge + timedelta(milliseconds=1 if number % 2 else -1)
        return receiving.receive(engine, vault, name="desk", incoming=incoming, now=now)

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(one, range(8))) == {"accepted": 1, "duplicate": 7}
    assert deliveries(session) == len(jobs(session)) == 1


def test_one_delivery_id_from_many_at_once_is_stored_once(engine: Engine, session: Session, vault: Vault) -> None:
    connect(session, vault, scheme="path", delivery_id_header="X-Delivery")
    together = threading.Barrier(8, timeout=20)

    def one(number: int) -> str:
        incoming = Incoming({"x-delivery": b"7"}, TICKET + b" " * number, token=TOKEN.encode())
        together.wait()
        return receiving.receive(engine, vault, name="desk", incoming=incoming, now=clock.now())

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(one, range(8))) == {"accepted": 1, "duplicate": 7}
    assert deliveries(session) == len(jobs(session)) == 1


def test_a_bad_signature_is_counted_and_nothing_else_kept(
    session: Session, vault: Vault, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    connect(session, vault)
    with caplog.at_level(logging.DEBUG):
        for token in ("wrong-token-1", "", "ÿ"):
            answer = client.post("/hooks/desk", content=TICKET, headers={b"X-Token": token.encode("latin-1")})
            assert answer.status_code == 401
    assert deliveries(session) == 0
    assert jobs(session) == []
    assert session.scalars(select(Connection.rejected)).one() == 3
    for kept_out in ("wrong-token-1", TOKEN, "INC-1", "VPN"):
        assert kept_out not in caplog.text


def test_the_request_cannot_choose_the_scheme(session: Session, vault: Vault, client: TestClient) -> None:
    """A token that is right for its header is no token of an address, nor a password."""
    connect(session, vault)
    credentials = base64.b64encode(f":{TOKEN}".encode()).decode()
    for address, headers in (
        (f"/hooks/desk/{TOKEN}", {}),
        (f"/hooks/desk?token={TOKEN}", {}),
        ("/hooks/desk", {"Authorization": f"Basic {credentials}"}),
    ):
        assert client.post(address, content=TICKET, headers=headers).status_code == 401


@pytest.mark.parametrize("name", ["nobody", "DESK", "%00", "a" * 51, "desk%0a"])
def test_unknown_connections_are_404(session: Session, vault: Vault, client: TestClient, name: str) -> None:
    connect(session, vault)
    assert post(client, address=f"/hooks/{name}").status_code == 404
    assert deliveries(session) == 0


def test_a_connection_without_a_secret_is_off(session: Session, client: TestClient) -> None:
    session.add(Connection(name="desk", scheme="path", options={}, supplied=[]))
    session.add(Connection(name="files", scheme="file", options={}, supplied=[]))
    session.commit()
    assert client.post("/hooks/desk", content=TICKET).status_code == 404
    assert client.post("/hooks/files", content=TICKET).status_code == 404


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("standard", {}),
        ("hmac", {"header": "X-Hub-Signature-256", "prefix": "sha256="}),
        ("hmac", {"header": "X-Hook-Signature", "prefix": "sha1=", "digest": "sha1", "encoding": "base64"}),
        ("header", {"header": "X-Webhook-Secret", "delivery_id_header": "X-Delivery"}),
        ("basic", {"user": "hook"}),
        ("path", {}),
    ],
)
def test_every_scheme_from_request_to_row(
    session: Session, vault: Vault, client: TestClient, scheme: Scheme, options: dict[str, str]
) -> None:
    secret = connect(session, vault, scheme=scheme, **options)
    sender = Sender("/hooks/desk", scheme, Options.model_validate(options), secret, mapped=False)
    signed = sign(sender, body=TICKET, now=clock.now())
    answers = [client.post(signed.address, content=TICKET, headers=dict(signed.headers)).json() for _ in range(2)]
    assert answers == [{"status": "accepted"}, {"status": "duplicate"}]
    tampered = client.post("/hooks/desk", content=TICKET.replace(b"1", b"2"), headers=dict(signed.headers))
    assert tampered.status_code == (401 if scheme in {"standard", "hmac", "path"} else 200)


def test_a_path_token_may_be_a_query(session: Session, vault: Vault, client: TestClient) -> None:
    connect(session, vault, scheme="path")
    assert client.post(f"/hooks/desk?token={TOKEN}", content=TICKET).status_code == 200
    assert client.post("/hooks/desk?token=other", content=TICKET).status_code == 401


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe\x00", b'{"a": "\\u0000"}', b"[" * 100_000])
def test_signed_but_unreadable_is_accepted(session: Session, vault: Vault, client: TestClient, body: bytes) -> None:
    """Reading comes later; an error now would only make the sender repeat it."""
    connect(session, vault)
    assert post(client, body).status_code == 200
    assert deliveries(session) == 1


def test_two_mebibytes_are_accepted_and_a_byte_more_is_413(session: Session, vault: Vault, client: TestClient) -> None:
    connect(session, vault)
    assert post(client, b" " * hooks.MAX_BODY).status_code == 200
    assert post(client, b" " * (hooks.MAX_BODY + 1)).status_code == 413
    assert deliveries(session) == 1


def test_three_mebibytes_get_their_answer_over_a_real_socket(session: Session, vault: Vault, app: FastAPI) -> None:
    """Declared or streamed: the sender has sent it all and reads why it was refused."""
    connect(session, vault)
    body = b" " * 3 * 1024 * 1024
    with serving(app) as base, httpx2.Client(headers={"X-Token": TOKEN}) as real:
        for content in (body, iter([body])):
            answer = real.post(f"{base}/hooks/desk", content=content)
            assert answer.status_code == 413
            assert "nothing was stored" in answer.json()["detail"]
    assert deliveries(session) == 0


def test_a_body_without_end_is_hung_up_on(session: Session, vault: Vault, app: FastAPI) -> None:
    connect(session, vault)
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 64 * hooks.MAX_DRAIN:
            sent += 1024 * 1024
            yield b" " * 1024 * 1024

    with serving(app) as base, httpx2.Client(headers={"X-Token": TOKEN}) as real:
        with suppress(httpx2.TransportError):  # whether the answer gets through depends on timing
            assert real.post(f"{base}/hooks/desk", content=endless()).status_code == 413
        assert sent < 4 * hooks.MAX_DRAIN
        assert real.post(f"{base}/hooks/desk", content=TICKET).status_code == 200


def test_a_declared_length_beyond_all_reason_is_refused_unread(session: Session, vault: Vault, app: FastAPI) -> None:
    connect(session, vault)
    with serving(app) as base:
        parts = urlsplit(base)
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as raw:
            raw.sendall(b"POST /hooks/desk HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
            assert raw.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_breaks_off_stores_nothing(session: Session, vault: Vault, app: FastAPI) -> None:
    connect(session, vault)
    with serving(app) as base:
        parts = urlsplit(base)
        with socket.create_connection((parts.hostname, parts.port)) as raw:
            raw.sendall(
                f"POST /hooks/desk HTTP/1.1\r\nHost: x\r\nX-Token: {TOKEN}\r\nContent-Length: 99\r\n\r\n{{".encode()
            )
        assert httpx2.get(f"{base}/healthz").status_code == 200
    assert deliveries(session) == 0


def test_a_body_that_never_arrives_is_408(
    session: Session, vault: Vault, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(session, vault)
    monkeypatch.setattr(hooks, "BODY_SECONDS", 0.1)
    with serving(app) as base:
        parts = urlsplit(base)
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as raw:
            raw.sendall(b"POST /hooks/desk HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
            assert raw.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_a_failing_commit_answers_429(session: Session, vault: Vault, client: TestClient) -> None:
    """Postgres itself refuses the commit, as with a full disk, after every statement went well."""
    connect(session, vault)
    session.execute(
        text(
            """
            create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'no' using errcode = '53100'; end $$
            """
        )
    )
    session.execute(
        text(
            """
            create constraint trigger refusing after insert on deliveries
            deferrable initially deferred for each row execute function refuse()
            """
        )
    )
    session.commit()
    try:
        answer = post(client)
    finally:
        session.execute(text("drop function refuse cascade"))
        session.commit()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
    assert deliveries(session) == 0
    assert jobs(session) == []
    assert post(client).json() == {"status": "accepted"}  # the retry


def test_a_database_that_is_away_answers_429(vault: Vault, settings: Settings) -> None:
    nowhere = make_engine("postgresql://ticketqc@/ticketqc?host=/nonexistent")
    with TestClient(create_app(engine=nowhere, vault=vault, settings=settings)) as client:
        answer = post(client)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")


def test_an_exhausted_pool_answers_429_within_its_time(
    session: Session, vault: Vault, engine: Engine, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that we no longer wait for may still store it; then the sender's retry is a duplicate."""
    connect(session, vault)
    session.close()
    taken = [engine.connect() for _ in range(CONNECTIONS)]
    with monkeypatch.context() as patched:
        patched.setattr(hooks, "STORE_SECONDS", 0.3)
        started = time.monotonic()
        answer = post(client)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
        assert time.monotonic() - started < 2
    for connection in taken:
        connection.close()
    while deliveries(session) == 0:
        session.rollback()
        time.sleep(0.01)
    assert post(client).json() == {"status": "duplicate"}


def test_a_vault_that_cannot_open_the_secret_answers_429(
    session: Session, vault: Vault, engine: Engine, settings: Settings
) -> None:
    """Our mistake, not the sender's: once the right key is back, the retry is accepted."""
    connect(session, vault)
    other = type(vault)("another key, of at least thirty-two characters")
    with TestClient(create_app(engine=engine, vault=other, settings=settings)) as client:
        assert post(client).status_code == 429


def test_many_at_once_are_all_stored_and_answered(session: Session, vault: Vault, app: FastAPI) -> None:
    connect(session, vault)
    with serving(app) as base, httpx2.Client() as real:

        def one(number: int) -> int:
            body = json.dumps({"external_id": str(number), "status": "closed", "description": "x" * 20_000}).encode()
            return real.post(f"{base}/hooks/desk", content=body, headers={"X-Token": TOKEN}).status_code

        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(one, range(200))) == {200}
    assert deliveries(session) == 200


def test_secrets_are_sealed_in_the_row(session: Session, vault: Vault) -> None:
    connect(session, vault)
    with transaction(session.get_bind()) as fresh:  # type: ignore[arg-type]  # the session's bind is the engine
        row = fresh.execute(text("select * from connections")).mappings().one()
    assert TOKEN not in str(dict(row))
    assert TOKEN.encode() not in row["secret"]


def test_hmac_of_a_github_like_sender(session: Session, vault: Vault, client: TestClient) -> None:
    """Signed here by Python's own hmac, not by our example."""
    connect(session, vault, scheme="hmac", header="X-Hub-Signature-256", prefix="sha256=")
    signature = hmac.new(TOKEN.encode(), TICKET, hashlib.sha256).hexdigest().upper()
    assert post(client, headers={"X-Hub-Signature-256": f"sha256={signature}"}).status_code == 200
