"""What holds for every page: headers, one answer to each error, who may ask, and the probes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from sqlalchemy import text
from starlette.testclient import TestClient

from app import db
from app.settings import Settings
from app.web.app import create_app
from app.web.guard import host_of, known_hosts
from app.web.view import static
from tests.factories import make_connection, make_context, make_delivery, make_model_state, make_ticket
from tests.markup import read

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.vault import Vault

STATIC = Path(__file__).parent.parent / "app" / "web" / "static"
STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@pytest.mark.parametrize("address", ["/", "/operations", "/tickets/1", "/no/such/page", "/healthz", "/static/none.css"])
def test_every_answer_has_the_security_headers(pages: TestClient, address: str) -> None:
    headers = pages.get(address).headers
    assert headers["content-security-policy"] == STRICT
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert re.fullmatch(r"[0-9a-f]{16}", headers["x-request-id"])


def test_pages_need_nothing_inline_and_nothing_from_elsewhere(pages: TestClient, session: Session) -> None:
    ticket = make_ticket(session)
    make_context(session)
    session.commit()
    for address in ("/", f"/tickets/{ticket.id}", "/operations"):
        page = read(pages.get(address).text)
        assert page.all("style") == []
        assert [script.words for script in page.all("script")] == ["", ""]
        for element in page.all():
            assert not {"style", "onclick", "onload"} & element.attributes.keys()
            for name in ("src", "href", "action"):
                assert re.match(r"[/#]", element.attributes.get(name, "/")), element.attributes


def test_static_files_are_kept_for_ever_under_an_address_of_their_content(pages: TestClient) -> None:
    answer = pages.get(static("ticketqc.css"))
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/css")
    assert static("ticketqc.css") != static("keys.js")


@pytest.mark.parametrize("address", ["/docs", "/redoc", "/openapi.json", "/api/docs", "/static/../app.py", "/metrics"])
def test_nothing_else_is_served(pages: TestClient, address: str) -> None:
    assert pages.get(address).status_code == 404


def test_an_error_is_a_calm_page_for_a_browser_and_json_for_the_rest(pages: TestClient) -> None:
    page = pages.get("/tickets/77")
    assert page.status_code == 404
    shown = read(page.text)
    assert shown.one("h1").words == "Nothing here"
    assert "There is no such ticket; it may have been in another database." in shown.one("main").words
    assert page.headers["x-request-id"] in shown.words
    answer = pages.get("/tickets/77", headers={"Accept": "*/*"})
    assert answer.status_code == 404
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("address", ["/tickets/abc", "/tickets/0", f"/tickets/{2**63}", "/tickets/-1", "/tickets/1%00"])
def test_an_address_that_no_ticket_can_have_is_not_found(pages: TestClient, address: str) -> None:
    assert pages.get(address).status_code == 404


def test_a_crash_says_so_with_the_request_s_number_and_keeps_its_cause_to_the_log(
    engine: Engine, vault: Vault, settings: Settings
) -> None:
    app = create_app(engine=engine, vault=vault, settings=settings)

    @app.get("/crash")
    def crash() -> None:
        raise RuntimeError("the secret is swordfish")

    pages = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    with structlog.testing.capture_logs() as logs:
        answer = pages.get("/crash", headers={"Accept": "text/html"})
    assert answer.status_code == 500
    assert "swordfish" not in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert answer.headers["content-security-policy"] == STRICT
    assert [(line["event"], line["endpoint"]) for line in logs] == [("request.crashed", "crash")]
    assert isinstance(logs[0]["exc_info"], RuntimeError)


def test_each_request_has_a_number_of_its_own_which_ends_with_it(
    engine: Engine, vault: Vault, settings: Settings
) -> None:
    app = create_app(engine=engine, vault=vault, settings=settings)
    seen = []

    @app.get("/number")
    def number() -> None:
        seen.append(structlog.contextvars.get_contextvars())

    pages = TestClient(app, base_url="http://127.0.0.1")
    with structlog.contextvars.bound_contextvars(job=7):
        answers = [pages.get("/number"), pages.get("/number")]
    assert seen == [{"request_id": answer.headers["x-request-id"]} for answer in answers]
    assert seen[0] != seen[1]
    assert structlog.contextvars.get_contextvars() == {}


def test_a_database_that_is_down_is_said_calmly(vault: Vault, settings: Settings, tmp_path: Path) -> None:
    engine = db.make_engine(f"postgresql://nobody@/none?host={tmp_path}")
    pages = TestClient(create_app(engine=engine, vault=vault, settings=settings), base_url="http://127.0.0.1")
    page = pages.get("/", headers={"Accept": "text/html", "Cookie": "ticketqc=one of before"})
    assert page.status_code == 503
    assert "cannot be reached" in read(page.text).one("main").words
    ready = pages.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["ready"] is False
    assert "cannot be reached" in ready.json()["reasons"][0]
    assert pages.get("/healthz").json() == {"alive": True}


def test_readyz_tells_of_queue_models_and_clock(pages: TestClient, session: Session) -> None:
    make_model_state(session, state="downloading", model="demo", progress=0.4)
    session.execute(text("insert into ticks (key) values ('resume:2026-11-23T09:00')"))
    session.execute(text("insert into procrastinate.procrastinate_jobs (queue_name, task_name) values ('q', 'review')"))
    session.commit()
    answer = pages.get("/readyz")
    assert answer.status_code == 200
    told = answer.json()
    assert told["ready"] is True
    assert told["reasons"] == []
    assert told["models"] == {"worker": {"model": "demo", "state": "downloading"}}
    assert told["queue"]["waiting"] == 1
    assert told["queue"]["oldest_seconds"] in range(60)
    assert told["clock"]["last_tick"] is not None


def test_readyz_says_what_to_do_about_a_database_that_is_not_migrated(
    empty_database: str, vault: Vault, settings: Settings
) -> None:
    engine = db.make_engine(empty_database)
    pages = TestClient(create_app(engine=engine, vault=vault, settings=settings))
    answer = pages.get("/readyz")
    engine.dispose()
    assert answer.status_code == 503
    assert "ticketqc db upgrade" in answer.json()["reasons"][0]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "ticketqc", "127.0.0.2"])
def test_a_foreign_name_for_this_machine_gets_nothing(pages: TestClient, host: str) -> None:
    answer = pages.get("/", headers={"Host": host})
    assert answer.status_code == 403
    assert "TICKETQC_BASE_URL" in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "[::1]:8000", "LOCALHOST"])
def test_the_names_of_this_machine_are_known(pages: TestClient, host: str) -> None:
    assert pages.get("/", headers={"Host": host}).status_code == 200


def test_probes_and_hooks_are_asked_under_any_name(pages: TestClient) -> None:
    for address in ("/healthz", "/readyz"):
        assert pages.get(address, headers={"Host": "10.0.0.7:8000"}).status_code == 200
    assert pages.post("/hooks/none", content=b"{}", headers={"Host": "hooks.example"}).json()["status"] == "unknown"


def test_the_public_address_is_known_and_the_wildcard_is_not() -> None:
    settings = Settings(_env_file=None, host="0.0.0.0", base_url="https://QC.example.com:8443/x")  # noqa: S104
    assert known_hosts(settings) == {"127.0.0.1", "localhost", "::1", "qc.example.com"}
    assert host_of("QC.example.com:8443") == "qc.example.com"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8000"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
    ],
)
def test_another_site_changes_nothing(pages: TestClient, session: Session, headers: dict[str, str]) -> None:
    delivery = make_delivery(session, connection=make_connection(session), state="parked", reason="unreadable")
    session.commit()
    answer = pages.post("/operations/replay", headers=headers)
    assert answer.status_code == 403
    assert "nothing was changed" in answer.text
    session.refresh(delivery)
    assert delivery.state == "parked"


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://127.0.0.1:8000"}, {}],
)
def test_our_own_pages_and_plain_clients_may(pages: TestClient, headers: dict[str, str]) -> None:
    assert pages.post("/operations/replay", headers=headers).status_code == 303


def _colours(sheet: str, theme: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light))
    return found | dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", dark)) if theme == "dark" else found


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_pair_of_colours_can_be_read(theme: str) -> None:
    colours = _colours((STATIC / "ticketqc.css").read_text(), theme)
    grounds = ("ground", "surface", "sunken", "chosen", "internal")
    pairs = [(ink, on) for ink in ("text", "muted", "accent", "pass", "fail", "escalate", "quiet") for on in grounds]
    pairs += [(tone, f"{tone}-ground") for tone in ("pass", "fail", "escalate", "quiet")]
    pairs += [("text", f"{tone}-ground") for tone in ("pass", "fail", "escalate", "quiet")]
    for ink, on in pairs:
        high, low = sorted((_luminance(colours[ink]), _luminance(colours[on])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{ink} on {on} in {theme}"
