"""What the doctor says for given facts: where each limit lies, and that every fault names its remedy."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from agents.documents import Problem
from agents.gateway import ModelFacts
from app import diagnosis
from app.diagnosis import Line, span, summary
from app.local_model import LocalState
from app.queries.operations import JobsRow, QueueRow

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HERE = Path("/data")


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (timedelta(seconds=-3), "0 s"),
        (timedelta(seconds=119), "119 s"),
        (timedelta(seconds=120), "2 min"),
        (timedelta(minutes=119), "119 min"),
        (timedelta(hours=47), "47 h"),
        (timedelta(days=2), "2 days"),
    ],
)
def test_times_are_told_in_the_unit_that_fits(time: timedelta, words: str) -> None:
    assert span(time) == words


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ([], "everything is well"),
        (["ok", "ok"], "everything is well"),
        (["ok", "warning"], "1 warning"),
        (["problem", "warning", "problem", "ok"], "2 problems, 1 warning"),
    ],
)
def test_the_summary_counts_what_is_not_well(marks: list[diagnosis.Mark], words: str) -> None:
    assert summary([Line(mark, "x", "y") for mark in marks]) == words


@pytest.mark.parametrize(("megabytes", "mark"), [(199, "problem"), (200, "warning"), (1_999, "warning"), (2_000, "ok")])
def test_little_room_is_a_warning_and_too_little_a_problem(megabytes: int, mark: str) -> None:
    assert diagnosis.free_space(HERE, megabytes * 1_000_000).mark == mark


def test_the_first_error_of_the_context_files_is_told_with_its_place() -> None:
    errors = [Problem("qc.md", line, "error", "the file says nothing") for line in (3, 9)]
    warning = Problem("qc.md", 1, "warning", "long")
    told = diagnosis.context_files(HERE, [warning, *errors])
    assert told.mark == "problem"
    assert told.text.startswith("/data/qc.md:3: error: the file says nothing and 1 more")
    assert "ticketqc context lint" in told.text
    assert diagnosis.context_files(HERE, [warning]).mark == "ok"


def model_lines(facts: ModelFacts, *, priced: bool = True) -> list[Line]:
    found = diagnosis.api_model(
        "worker model", facts, priced=priced, today=date(2026, 11, 23), variable="TICKETQC_WORKER_MODEL"
    )
    return list(found)


@pytest.mark.parametrize(
    ("facts", "mark", "about"),
    [
        (ModelFacts("m"), "ok", "m answers"),
        (ModelFacts("m", retires_at=datetime(2027, 1, 23, tzinfo=UTC)), "ok", "m answers"),
        (ModelFacts("m", "deprecated", datetime(2027, 1, 22, tzinfo=UTC)), "warning", "retires on 2027-01-22"),
        (ModelFacts("m", "deprecated", datetime(2026, 11, 1, tzinfo=UTC)), "warning", "retires on 2026-11-01"),
        (ModelFacts("m", "deprecated"), "warning", "is deprecated; name another by TICKETQC_WORKER_MODEL"),
    ],
)
def test_a_model_that_will_go_is_told_in_time(facts: ModelFacts, mark: str, about: str) -> None:
    (line,) = model_lines(facts)
    assert line.mark == mark
    assert about in line.text


def test_a_model_without_a_price_is_told_beside_its_state() -> None:
    state, price = model_lines(ModelFacts("m"), priced=False)
    assert (state.mark, price.mark) == ("ok", "warning")
    assert "price book" in price.text


@pytest.mark.parametrize(
    ("state", "there", "mark", "about"),
    [
        (
            LocalState("ready", url="http://127.0.0.1:1", model="local:m"),
            True,
            "ok",
            "local:m answers at http://127.0.0.1:1",
        ),
        (LocalState("downloading", 0.42, "from the hub"), False, "warning", "downloading 42%: from the hub"),
        (LocalState("loading", model="local:m"), True, "warning", "local:m is loading: wait a little"),
        (LocalState("failed", detail="too little room"), False, "problem", "too little room"),
        (LocalState("absent", detail="it died of damage"), True, "problem", "it died of damage"),
        (LocalState("absent"), True, "warning", "its file is in /data"),
        (LocalState("absent"), False, "warning", "1.1 GB, is downloaded to /data"),
    ],
)
def test_each_state_of_the_local_model_has_its_line(state: LocalState, mark: str, about: str, *, there: bool) -> None:
    line = diagnosis.local_model("worker model", state, weights=HERE, there=there)
    assert line.mark == mark
    assert about in line.text


@pytest.mark.parametrize(
    ("heartbeats", "mark", "about"),
    [
        ([ago(seconds=20), ago(hours=9)], "ok", "alive, the last sign 20 s ago"),
        ([ago(seconds=21)], "problem", "none is alive, the last sign was 21 s ago"),
        ([], "problem", "none is alive: nothing is judged; start it with: ticketqc up"),
    ],
)
def test_a_worker_is_alive_while_it_gives_signs(heartbeats: list[datetime], mark: str, about: str) -> None:
    line = diagnosis.workers(heartbeats, now=NOW)
    assert line.mark == mark
    assert about in line.text


@pytest.mark.parametrize(
    ("last", "mark", "about"),
    [
        (ago(seconds=150), "ok", "ticked 2 min ago"),
        (ago(seconds=151), "problem", "ticked 2 min ago for the last time"),
        (None, "problem", "never ticked"),
    ],
)
def test_the_clock_is_alive_while_it_ticks(last: datetime | None, mark: str, about: str) -> None:
    line = diagnosis.clock(last, now=NOW)
    assert line.mark == mark
    assert about in line.text


@pytest.mark.parametrize(
    ("waiting", "failed", "oldest", "mark", "about"),
    [
        (0, 0, None, "ok", "0 waiting, 2 running, 0 failed"),
        (5, 0, ago(minutes=15), "ok", "the oldest has waited 15 min"),
        (5, 1, ago(minutes=16), "warning", "/operations"),
        (0, 1, None, "warning", "1 failed; why is in the worker's log"),
        (5, 0, None, "ok", "the oldest has waited 0 s"),
    ],
)
def test_a_queue_that_does_not_move_is_told(
    waiting: int, failed: int, oldest: datetime | None, mark: str, about: str
) -> None:
    line = diagnosis.queue(QueueRow((JobsRow("review", waiting, 2, failed),), oldest), now=NOW)
    assert line.mark == mark
    assert about in line.text


@pytest.mark.parametrize(
    ("deliveries", "tickets", "told"),
    [
        (0, 0, [("ok", "none is parked")]),
        (3, 0, [("warning", "3 parked, because they could not be read")]),
        (11, 2, [("warning", "more than 10 parked"), ("warning", "2 parked; each ticket's page says why")]),
    ],
)
def test_what_is_parked_is_told_with_where_to_look(deliveries: int, tickets: int, told: list[tuple[str, str]]) -> None:
    lines = list(diagnosis.parked(deliveries, tickets, most=10))
    assert [line.mark for line in lines] == [mark for mark, _ in told]
    for line, (_, about) in zip(lines, told, strict=True):
        assert about in line.text
