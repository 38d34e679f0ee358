from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from typing_extensions import override

from app import log

Logged = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def logged(_restored: None) -> Logged:
    stream = io.StringIO()
    log.configure(stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_with_its_fields(logged: Logged) -> None:
    structlog.get_logger("app.x").info("review.done", ticket=7)
    (line,) = logged()
    assert {**line, "timestamp": ""} == {
        "event": "review.done",
        "ticket": 7,
        "level": "info",
        "logger": "app.x",
        "timestamp": "",
    }


def test_bound_context_is_on_every_line(logged: Logged) -> None:
    with structlog.contextvars.bound_contextvars(job=3):
        structlog.get_logger().info("job.started")
        logging.getLogger("elsewhere").warning("said %s", "so")
    assert [(line["event"], line["job"]) for line in logged()] == [("job.started", 3), ("said so", 3)]


@pytest.mark.parametrize(
    "name", ["authorization", "Authorization", "X-Api-Key", "api_key", "webhook_secret", "password", "cookie", "token"]
)
def test_secrets_are_redacted_wherever_they_are(logged: Logged, name: str) -> None:
    structlog.get_logger().info("a.b", **{name: "hunter2"}, inner={"headers": [{name: "hunter2"}]})
    assert "hunter2" not in json.dumps(logged())


def test_bodies_are_not_logged_and_counts_are(logged: Logged) -> None:
    structlog.get_logger().info("a.b", body="the ticket", input_tokens=12)
    (line,) = logged()
    assert line["body"] == "(not logged)"
    assert line["input_tokens"] == 12


def test_a_password_in_an_address_is_redacted(logged: Logged) -> None:
    structlog.get_logger().info("db.down", why="postgresql://qc:hunter2@db/qc did not answer")
    assert logged()[0]["why"] == "postgresql://qc:(redacted)@db/qc did not answer"


ROW = ['violates "uq"', "DETAIL:  Key (body)=(the ticket) already exists.", "and so on"]


def test_a_traceback_does_not_repeat_the_row(logged: Logged) -> None:
    def broken() -> None:
        raise ValueError("\n".join(ROW))

    try:
        broken()
    except ValueError:
        structlog.get_logger().exception("job.failed")
    (line,) = logged()
    assert "in broken" in line["exception"]
    assert "and so on" in line["exception"]
    assert "the ticket" not in line["exception"]


def test_chatty_libraries_are_quiet_but_their_warnings_come(logged: Logged) -> None:
    for name in ("uvicorn.access", "procrastinate.worker", "apscheduler.scheduler", "alembic.runtime.migration"):
        logging.getLogger(name).info("chat")
        logging.getLogger(name).warning("careful")
    assert [line["event"] for line in logged()] == ["careful"] * 4


@pytest.mark.usefixtures("_restored")
def test_on_a_terminal_a_traceback_shows_no_local_variables() -> None:
    class Terminal(io.StringIO):
        @override
        def isatty(self) -> bool:
            return True

    def broken() -> None:
        key = "hunter2"
        raise ValueError(len(key))

    stream = Terminal()
    log.configure(stream)
    try:
        broken()
    except ValueError:
        structlog.get_logger().exception("job.failed")
    assert "ValueError" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
