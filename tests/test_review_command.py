"""`ticketqc review FILE` as a user runs it: what it prints, what it pays, how it goes on after an end in the middle."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from agents import prices
from app.review_file import PATIENCE
from tests.cast import REPOSITORY, shipped_context
from tests.desk import PRIMING, Desk, Done, ticket
from tests.double import Double, Fault, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAMPLES = REPOSITORY / "app" / "samples" / "office_it.jsonl"


def test_json_has_the_promised_shape_alone_on_standard_output(desk: Desk, double: Double) -> None:
    shutil.copy(SAMPLES, desk.folder / "tickets.jsonl")
    double.fault(Fault("overloaded", times=2))  # something to log about
    process = desk.start("--json")
    done = Done(0, *process.communicate(timeout=60))
    assert process.returncode == 0
    report = done.report
    rows = [json.loads(line) for line in SAMPLES.read_text("utf-8").splitlines()]
    ids = [row["external_id"] for row in rows if row["status"] in {"resolved", "closed"}]
    assert [one["external_id"] for one in report["tickets"]] == ids
    rubric = shipped_context().rubric
    for one in report["tickets"]:
        promised = {"external_id", "verdict", "score", "reasons", "triage", "findings", "models", "cost_usd"}
        assert promised <= one.keys()
        assert one["verdict"] in {"pass", "fail", "escalate"}
        assert isinstance(one["score"], float | None)
        assert one["reasons"]
        assert {"category", "priority", "fields", "rules", "ask"} == one["triage"].keys()
        assert one["models"] == ["claude-haiku-5-5"]
        assert one["cost_usd"] > 0
        assert [finding["criterion"] for finding in one["findings"]] == [c.id for c in rubric.criteria]
        for finding in one["findings"]:
            assert {"criterion", "kind", "result", "evidence", "reason"} <= finding.keys()
            assert finding["kind"] in {"judged", "checked"}
            assert all(evidence.keys() == {"line", "quote"} for evidence in finding["evidence"])
    totals = report["totals"]
    assert (totals["tickets"], totals["model"], totals["replies_reused"]) == (len(ids), "claude-haiku-5-5", 0)
    assert totals["passed"] + totals["failed"] + totals["escalated"] == len(ids)
    assert "model.attempt_failed" in done.err
    assert f"{len(ids)} tickets:" in done.err


def test_the_ledger_agrees_with_the_doubles_own_account(desk: Desk, double: Double) -> None:
    shutil.copy(SAMPLES, desk.folder / "tickets.jsonl")
    totals = desk.review("--json").report["totals"]
    account = double.account.totals
    assert totals["cost_usd"] == pytest.approx(float(account.cost), abs=1e-9)
    assert totals["tokens"] == {
        "input": account.input,
        "cache_write": account.write_5m,
        "cache_read": account.read,
        "output": account.output,
    }


def test_the_table_says_what_people_ask_first(desk: Desk, double: Double) -> None:
    double.fault(Fault("all_met", match="LT-1 "))
    desk.write(ticket(1), ticket(2))
    done = desk.review()
    assert done.code == 0
    first, second = (line for line in done.out.splitlines() if line.startswith("INC-"))
    assert re.match(r"INC-1 +✓ pass +100 +everything that applies is met", first)
    assert re.match(r"INC-2 +✗ fail +\d+ +[A-Z].+: not met", second)
    for word in ("2 tickets: 1 pass, 1 fail, 0 escalate (pass rate 50%", "cache hit rate", "a ticket", "start-up"):
        assert word in done.out
    assert f"judged by claude-haiku-5-5, context {shipped_context().version[:12]}" in done.out
    assert done.err.startswith("model: claude-haiku-5-5 at http://127.0.0.1")


def test_markup_in_a_ticket_is_shown_as_it_is(desk: Desk) -> None:
    desk.write(ticket(1, external_id="[red]INC[/red]"))
    assert "[red]INC[/red]" in desk.review().out


def test_a_second_run_pays_nothing_and_says_the_same(desk: Desk, double: Double) -> None:
    """More tickets deserve a second run than may have one: who got it the first time gets it again."""
    double.fault(Fault("three_not_met"))
    desk.write(*(ticket(number) for number in range(20)))
    first = desk.review("--json", "--concurrency", "4")
    calls = len(double.account.calls)
    second = desk.review("--json", "--concurrency", "4")
    assert len(double.account.calls) == calls
    for before, after in zip(first.report["tickets"], second.report["tickets"], strict=True):
        assert {**before, "cost_usd": 0.0} == after
    totals = second.report["totals"]
    settled, people = sum(totals["settled_by"].values()), totals["escalated"]
    assert settled + people == 20
    words = f"; to a person {people} ({people * 5} %)".replace(" %", "%")
    assert words in " ".join(desk.review().out.split())
    assert (totals["cost_usd"], totals["replies_reused"]) == (0.0, calls - PRIMING)
    assert totals["second_runs"] == first.report["totals"]["second_runs"] <= 4


def test_fresh_asks_again(desk: Desk, double: Double) -> None:
    desk.review()
    calls = len(double.account.calls)
    done = desk.review("--fresh", "--json")
    assert len(double.account.calls) == 2 * calls
    assert done.report["totals"]["replies_reused"] == 0


def test_tickets_that_say_the_same_are_paid_once(desk: Desk, double: Double) -> None:
    desk.write(ticket(1), ticket(1), ticket(1))
    done = desk.review("--json")
    assert done.report["totals"]["tickets"] == 3
    assert len(double.account.calls) == PRIMING + 2


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle_it_goes_on_and_pays_no_reply_again(
    desk: Desk, double: Double, end: signal.Signals
) -> None:
    double.fault(Fault("slow", seconds=0.1))
    desk.write(*(ticket(number) for number in range(30)))
    process = desk.start("--json", "--concurrency", "4")
    while sum(call.end is not None for call in double.account.calls) < 15:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(end)
    out, err = process.communicate(timeout=20)
    assert process.returncode != 0
    assert out == ""
    if end is signal.SIGINT:
        assert "stopped. Replies received so far are kept" in err
        assert "Traceback" not in err
    kept = desk.replies()
    assert len(kept) >= 8
    before = len(double.account.calls)
    done = desk.review("--json")
    assert None not in done.verdicts
    assert len(done.verdicts) == 30
    keys = desk.replies()
    assert len(keys) == len(set(keys))
    assert len(double.account.calls) - before == len(keys) - len(kept) + PRIMING
    assert done.report["totals"]["replies_reused"] == len(kept)


def test_without_a_model_the_checks_speak_and_a_person_decides(desk: Desk, double: Double) -> None:
    desk.write(ticket(1), ticket(2, resolution={"note": "done"}))
    done = desk.review("--json", TICKETQC_WORKER_MODEL="none")
    assert done.code == 0
    assert double.account.calls == []
    assert set(done.verdicts) <= {"escalate", "fail"}
    assert done.verdicts[0] == "escalate"
    totals = done.report["totals"]
    assert (totals["model"], totals["cost_usd"], totals["cache_hit_rate"]) == (None, 0.0, None)
    for one in done.report["tickets"]:
        assert (one["models"], one["triage"]) == ([], None)
        assert {f["result"] for f in one["findings"] if f["kind"] == "checked"} >= {"met"}
        judged = [f for f in one["findings"] if f["kind"] == "judged"]
        assert all(f["result"] == "unscored" and f["reason"] == "no model is configured" for f in judged)
    assert "set ANTHROPIC_API_KEY" in done.err
    assert "no model: checks only" in done.err


def test_secrets_in_tickets_go_nowhere(desk: Desk, double: Double) -> None:
    password, card = "Tr0ub4dor&3xyz", "4111 1111 1111 1111"
    entry = {"author_role": "agent", "body": f"Set the password: {password}\nCard on file {card}."}
    desk.write(ticket(1, entries=[entry], extra={"password": password}))
    done = desk.review("--json")
    seen = {
        "bodies": json.dumps(double.bodies),
        "journal": desk.journal.read_text("utf-8"),
        "out": done.out,
        "err": done.err,
    }
    for secret in (password, card):
        assert [place for place, text in seen.items() if secret in text] == []
    assert "Card on file ***" in seen["bodies"]
    checked = {f["criterion"]: f["result"] for f in done.report["tickets"][0]["findings"] if f["kind"] == "checked"}
    assert "not_met" in checked.values()


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_calls_are_in_flight_than_asked_for(desk: Desk, double: Double, concurrency: int) -> None:
    double.fault(Fault("slow", seconds=0.05))
    desk.write(*(ticket(number) for number in range(12)))
    desk.review("--json", "--concurrency", str(concurrency))
    assert double.account.most_in_flight == concurrency


def test_a_model_without_a_price_has_no_cost(desk: Desk) -> None:
    desk.monkeypatch.setattr(prices, "price_of", lambda *_, **__: None)  # the book knows every model the double does
    done = desk.review("--json")
    totals = done.report["totals"]
    assert (totals["cost_usd"], totals["cost_per_ticket_usd"]) == (None, None)
    assert done.report["tickets"][0]["cost_usd"] is None
    assert "cost: not known" in done.err


@contextmanager
def local_model_running(data: Path, double: Double) -> Iterator[None]:
    """What the local model's process shows of itself while it lives: its lock and its address."""
    folder = data / "local-model"
    folder.mkdir(parents=True)
    state = {"state": "ready", "progress": None, "detail": "", "url": double.base_url, "model": "local:m", "pid": 1}
    (folder / "state.json").write_text(json.dumps(state))
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_a_local_model_that_runs_is_attached_to_and_called_a_demonstration(desk: Desk) -> None:
    desk.write(*(ticket(number) for number in range(4)))
    with running(profile="llamacpp") as local, local_model_running(desk.data, local):
        done = desk.review("--json", ANTHROPIC_API_KEY="", ANTHROPIC_BASE_URL="")
        assert local.account.most_in_flight == 1
    assert done.code == 0
    totals = done.report["totals"]
    assert (totals["model"], totals["demonstration"], totals["cost_usd"]) == ("local:m", True, 0.0)
    assert {tuple(one["models"]) for one in done.report["tickets"]} == {("local:m",)}
    assert "a demonstration model: no claim of quality" in done.err


@pytest.mark.parametrize("arguments", [[], ["--json"]])
@pytest.mark.parametrize("place", ["/dev/full", "closed pipe"])
def test_a_result_that_cannot_be_written_costs_no_traceback(desk: Desk, place: str, arguments: list[str]) -> None:
    desk.review()
    if place == "closed pipe":
        reading, out = os.pipe()
        os.close(reading)
    else:
        out = os.open(place, os.O_WRONLY)
    process = desk.start(*arguments, stdout=out)
    os.close(out)
    _, err = process.communicate(timeout=20)
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert process.returncode == 1 or place == "closed pipe"
    assert ("cannot write the result: No space left on device" in err) == (place == "/dev/full")


def test_a_locale_without_our_marks_costs_no_result(desk: Desk) -> None:
    desk.environment["PYTHONIOENCODING"] = "latin-1"
    desk.write(ticket(1, external_id="INC-Ω"))
    out, err = desk.start().communicate(timeout=20)
    assert "Traceback" not in err
    assert re.search(r"INC-\? +\? (pass|fail)", out)


def test_who_stops_it_need_not_wait_for_a_server_that_hangs(desk: Desk, double: Double) -> None:
    desk.write(*(ticket(number) for number in range(8)))
    double.fault(Fault("hang", at=tuple(range(PRIMING, 1_000))))
    process = desk.start("--concurrency", "4")
    while len(double.account.calls) < PRIMING + 4:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE + 10)
    assert (process.returncode, out) == (130, "")
    assert "stopped. Replies received so far are kept" in err
    assert "Traceback" not in err
