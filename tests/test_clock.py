"""Ticks: one job a period, whoever counts the time, and whatever was missed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from app import ticks
from app.clock import now
from app.db import transaction

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

BERLIN = ZoneInfo("Europe/Berlin")
CLOCK = """
import sys
from zoneinfo import ZoneInfo
from app import db, ticks
print("ticking", flush=True)
ticks.run(db.make_engine(sys.argv[1]), zone=ZoneInfo("UTC"))
"""


def waiting(engine: Engine) -> list[str]:
    with transaction(engine) as session:
        return list(session.scalars(text("select task_name from procrastinate.procrastinate_jobs order by 1")))


def keys(engine: Engine) -> set[str]:
    with transaction(engine) as session:
        return set(session.scalars(text("select key from ticks")))


def test_now_is_in_utc() -> None:
    assert now().tzinfo is UTC


def test_each_period_makes_one_job(engine: Engine) -> None:
    moment = datetime(2026, 11, 23, 10, 5, 30, tzinfo=UTC)
    periods = [
        "resume:2026-11-23T10:05", "retention:2026-11-23", "patterns:2026-11-23T10", "batch_collect:2026-11-23T10:05",
        "report:2026-W47",
    ]  # fmt: skip
    assert ticks.tick(engine, moment=moment, zone=BERLIN) == periods
    assert ticks.tick(engine, moment=moment + timedelta(seconds=20), zone=BERLIN) == []
    assert waiting(engine) == ["batch_collect", "patterns", "report", "resume", "retention"]


def test_what_a_period_s_job_is_called_with_is_part_of_what_it_is(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = ticks.Rhythm("propose", lambda local: local.date().isoformat(), lambda local: {"pattern_id": local.day})
    monkeypatch.setattr(ticks, "RHYTHMS", (days,))
    for day in (23, 23, 24):
        ticks.tick(engine, moment=datetime(2026, 11, day, 10, tzinfo=UTC), zone=BERLIN)
    with transaction(engine) as session:
        found = session.execute(text("select queueing_lock, args from procrastinate.procrastinate_jobs order by id"))
        jobs = [tuple(row) for row in found]
    assert jobs == [("propose:23", {"pattern_id": 23}), ("propose:24", {"pattern_id": 24})]


def test_patterns_are_looked_for_once_an_hour_also_where_an_hour_comes_twice(engine: Engine) -> None:
    begun = datetime(2026, 10, 24, 23, tzinfo=UTC)  # 01:00 in Berlin; 02:00 comes twice
    moments = [begun + timedelta(minutes=minutes) for minutes in (0, 59, 60, 120, 179, 180)]
    new = [key for moment in moments for key in ticks.tick(engine, moment=moment, zone=BERLIN) if "patterns" in key]
    assert new == [f"patterns:2026-10-{hour}" for hour in ("24T23", "25T00", "25T01", "25T02")]


def test_a_job_that_still_waits_is_not_joined_by_the_next_of_its_kind(engine: Engine) -> None:
    moment = datetime(2026, 11, 23, 10, 5, tzinfo=UTC)
    ticks.tick(engine, moment=moment, zone=BERLIN)
    assert ticks.tick(engine, moment=moment + timedelta(minutes=1), zone=BERLIN) == [
        "resume:2026-11-23T10:06", "batch_collect:2026-11-23T10:06",
    ]  # fmt: skip
    assert waiting(engine) == ["batch_collect", "patterns", "report", "resume", "retention"]


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2026-11-23T01:59:59+00:00", "2026-11-22"),  # 02:59:59 in Berlin
        ("2026-11-23T02:00:00+00:00", "2026-11-23"),  # 03:00
        ("2026-03-29T00:59:59+00:00", "2026-03-28"),  # 01:59:59, the last second before an hour that is left out
        ("2026-03-29T01:00:00+00:00", "2026-03-29"),  # 03:00
        ("2026-10-25T00:30:00+00:00", "2026-10-24"),  # 02:30 for the first time
        ("2026-10-25T01:30:00+00:00", "2026-10-24"),  # 02:30 for the second time
        ("2026-10-25T02:00:00+00:00", "2026-10-25"),  # 03:00
    ],
)
def test_a_day_of_retention_begins_at_three_where_the_people_are(engine: Engine, moment: str, day: str) -> None:
    assert f"retention:{day}" in ticks.tick(engine, moment=datetime.fromisoformat(moment), zone=BERLIN)


def test_a_day_missed_is_made_up_for_at_the_next_start_and_only_the_latest(engine: Engine) -> None:
    ticks.tick(engine, moment=datetime(2026, 11, 20, 10, tzinfo=UTC), zone=BERLIN)
    made_up = ticks.tick(engine, moment=datetime(2026, 11, 23, 10, tzinfo=UTC), zone=BERLIN)
    assert "retention:2026-11-23" in made_up
    assert {key for key in keys(engine) if key.startswith("retention")} == {
        "retention:2026-11-20", "retention:2026-11-23",
    }  # fmt: skip


def test_a_tick_whose_job_cannot_be_written_is_not_used_up(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2026, 11, 23, 10, 5, tzinfo=UTC)
    with monkeypatch.context() as broken:
        broken.setattr(ticks, "RHYTHMS", (ticks.Rhythm("no such task", lambda _local: "now"),))  # type: ignore[arg-type]
        with pytest.raises(LookupError):
            ticks.tick(engine, moment=moment, zone=BERLIN)
    assert keys(engine) == set()


def test_clocks_that_tick_at_the_same_moment_make_one_job(engine: Engine) -> None:
    together = threading.Barrier(4)
    new: list[str] = []

    def clock() -> None:
        together.wait()
        new.extend(ticks.tick(engine, moment=datetime(2026, 11, 23, 10, 5, tzinfo=UTC), zone=BERLIN))

    threads = [threading.Thread(target=clock) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(new) == [
        "batch_collect:2026-11-23T10:05",
        "patterns:2026-11-23T10",
        "report:2026-W47",
        "resume:2026-11-23T10:05",
        "retention:2026-11-23",
    ]
    assert waiting(engine) == ["batch_collect", "patterns", "report", "resume", "retention"]


def test_two_clock_processes_do_no_harm_and_stop_when_asked(engine: Engine, database_url: str, tmp_path: Path) -> None:
    program = tmp_path / "clock.py"
    program.write_text(CLOCK)
    command = [sys.executable, str(program), database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as first, subprocess.Popen(command) as second:  # noqa: S603
        assert first.stdout is not None
        assert first.stdout.readline() == b"ticking\n"
        deadline = time.monotonic() + 30
        while len(keys(engine)) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1)  # the second has come as far by now
        for process in (first, second):
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) in {0, -signal.SIGTERM}  # asked before or after it listens
    minutes = [key for key in keys(engine) if key.startswith("resume")]
    assert len(minutes) <= 2  # a minute may have turned
    assert waiting(engine) == ["batch_collect", "patterns", "report", "resume", "retention"]
