"""The parts of `review FILE`: reading, warming caches, sharing out second runs, adding up, showing the result."""

from __future__ import annotations

import gc
import json
import tracemalloc
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from io import StringIO
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typing_extensions import override

from agents.gateway import CallFailed
from agents.masking import revise
from agents.question import Question, Reply, Usage
from agents.ticket import read_ticket
from app.asking import Asking, Pace
from app.journal import Journal
from app.limiter import Limiter
from app.models import Ready
from app.review_file import BadRow, Batch, Report, Reviewer, ReviewError, read_context, read_tickets
from app.review_output import print_report, totals, write_json
from app.spending import Spending
from app.spool import Spool
from tests.cast import MODEL, REPOSITORY, Model, judged, nonce_for, said, shipped_context
from tests.desk import ticket

if TYPE_CHECKING:
    from pathlib import Path

    from agents.gateway import Gateway, Ttl
    from app.asking import Store

TODAY = date(2026, 11, 23)
ASKED_TWICE = judged(work_performed=said("partly", line=9, quote="Replaced the expired client certificate"))


@dataclass
class Memory:
    """A store in memory."""

    replies: dict[str, Reply] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def find(self, question: Question) -> Reply | None:
        return self.replies.get(question.key)

    def keep(self, question: Question, reply: Reply) -> Reply:
        return self.replies.setdefault(question.key, reply)

    def failed(self, _question: Question, failure: CallFailed) -> None:
        self.failures.append(failure.code)


@dataclass
class Scripted:
    """A scripted model where the gateway would be."""

    model: Model
    primed: list[str] = field(default_factory=list)
    mode: str = "format"

    def listen(self, _heard: object) -> None:
        """It has no limits to speak of."""

    def ask(self, question: Question, _ttl: Ttl) -> Reply:
        return self.model(question)

    def prime(self, question: Question, _ttl: Ttl) -> Reply:
        self.primed.append(question.agent)
        return Reply("", "answered", "max_tokens", Usage(cache_write_5m=4_000, output=1), MODEL)


def reviewer(
    scripted: Scripted, memory: Store, *, model: str = MODEL, demonstration: bool = False, token_limit: int = 30_000
) -> Reviewer:
    asking = Asking(cast("Gateway", scripted), pace=Pace(Limiter(maximum=4)))
    ready = Ready(model, asking, demonstration, token_limit)
    return Reviewer(shipped_context(), ready, memory, nonce_for, TODAY)


def batch(count: int, **changes: object) -> Batch:
    return Batch(Spool(revise(read_ticket(ticket(number, **changes))) for number in range(count)), ())


def reviewed(count: int, memory: Memory | None = None, *, model: Model | None = None) -> Report:
    return reviewer(Scripted(model or Model()), memory or Memory()).review(batch(count), concurrency=4)


def second_runs(report: Report) -> set[str]:
    return {one.external_id for one in report.reviewed if one.judgement and one.judgement.second_run}


def written(report: Report) -> str:
    out = StringIO()
    write_json(report, out, startup_seconds=0.25)
    return out.getvalue()


def as_json(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(written(report))
    return found


def shown(report: Report, *, width: int = 160) -> str:
    out = StringIO()
    print_report(report, Console(file=out, width=width), startup_seconds=0.5)
    return out.getvalue()


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_a_file_from_any_editor_is_read_in_its_order(tmp_path: Path, start: bytes, ends: bytes) -> None:
    rows = [json.dumps(ticket(number)).encode() for number in (3, 1, 2)]
    (tmp_path / "t.jsonl").write_bytes(start + (ends + ends).join(rows))
    found = read_tickets(tmp_path / "t.jsonl")
    assert [one.ticket.external_id for one in found.revisions] == ["INC-3", "INC-1", "INC-2"]
    assert found.bad_rows == ()


def test_lines_are_counted_as_editors_count_them(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(b"\n\nbad\n" + json.dumps(ticket()).encode() + b"\n\nbad")
    assert [row.line for row in read_tickets(tmp_path / "t.jsonl").bad_rows] == [3, 6]


def test_only_the_first_bad_rows_of_a_useless_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("bad\n" * 500)
    with pytest.raises(ReviewError) as caught:
        read_tickets(tmp_path / "t.jsonl")
    assert str(caught.value).count("line ") == 3


def test_the_context_on_disk_is_the_one_judged_by() -> None:
    assert read_context(REPOSITORY / "context").version == shipped_context().version


def test_a_folder_without_context_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReviewError, match=r"qc_rubric\.md:1: error: the file is missing"):
        read_context(tmp_path)


def test_each_ticket_is_told_as_it_is_done() -> None:
    done: list[int] = []
    reviewer(Scripted(Model()), Memory()).review(batch(7), concurrency=3, on_done=lambda: done.append(1))
    assert len(done) == 7


@pytest.mark.parametrize(("tickets", "seconds"), [(1, 0), (4, 0), (5, 1), (10, 2), (19, 3)])
def test_at_most_a_fifth_of_the_tickets_gets_a_second_run(tickets: int, seconds: int) -> None:
    assert len(second_runs(reviewed(tickets, model=Model(qc=ASKED_TWICE)))) == seconds


def test_who_had_a_second_run_has_it_again_in_whatever_order() -> None:
    memory, model = Memory(), Model(qc=ASKED_TWICE)
    first = reviewed(15, memory, model=model)
    asked = len(model.asked)
    backwards = Batch(Spool(reversed(list(batch(15).revisions))), ())
    again = reviewer(Scripted(model), memory).review(backwards, concurrency=4)
    assert len(model.asked) == asked
    assert second_runs(again) == second_runs(first)
    before = {one.external_id: one.judgement for one in first.reviewed}
    assert {one.external_id: one.judgement for one in again.reviewed} == before


def test_only_prefixes_that_will_be_read_are_warmed() -> None:
    memory, scripted = Memory(), Scripted(Model())
    reviewer(scripted, memory).review(batch(2), concurrency=1)
    assert sorted(scripted.primed) == ["qc", "triage"]
    scripted.primed.clear()
    reviewer(scripted, memory).review(batch(2), concurrency=1)
    assert scripted.primed == []
    reviewer(scripted, memory).review(batch(2, resolution={"note": "Another note."}), concurrency=1)
    assert scripted.primed == ["qc"], "the intake is the same, so triage has its answers"


def test_nothing_is_warmed_for_tickets_that_are_too_long() -> None:
    scripted = Scripted(Model())
    report = reviewer(scripted, Memory(), token_limit=10).review(batch(2), concurrency=1)
    assert scripted.primed == []
    assert scripted.model.asked == []
    assert {one.judgement and one.judgement.verdict.outcome for one in report.reviewed} == {"escalate"}


def test_a_server_without_a_cache_to_warm_is_not_asked_to() -> None:
    scripted = Scripted(Model(), mode="tool")
    reviewer(scripted, Memory()).review(batch(1), concurrency=1)
    assert scripted.primed == []


def test_first_and_second_runs_and_priming_add_up() -> None:
    report = reviewed(10, model=Model(qc=ASKED_TWICE))
    sums = totals(report, startup_seconds=0.0)
    assert sums["second_runs"] == 2
    assert sums["settled_by"] == {"worker": 8, "second": 2}
    each = Decimal("0.000315")  # what the cast's usage costs
    assert Decimal(str(sums["cost_second_runs_usd"])) == 2 * each
    priming = 2 * (Decimal("0.125") * 4_000 + Decimal("0.50")) / 1_000_000
    assert Decimal(str(sums["cost_first_usd"])) == 20 * each + priming
    assert Decimal(str(sums["cost_usd"])) == 22 * each + priming
    assert sums["tokens"] == {"input": 22 * 900, "cache_write": 8_000, "cache_read": 110_000, "output": 22 * 350 + 2}
    assert sums["cache_hit_rate"] == pytest.approx(110_000 / (22 * 900 + 8_000 + 110_000), abs=1e-4)


@given(st.lists(st.tuples(st.booleans(), st.none() | st.decimals(0, 1, places=6), st.integers(0, 9_999)), max_size=20))
def test_spending_counts_what_was_paid_now_and_knows_when_it_does_not_know(
    replies: list[tuple[bool, Decimal | None, int]],
) -> None:
    one, halves = Spending(), (Spending(), Spending())
    for number, (reused, price, tokens) in enumerate(replies):
        answer = Reply("", "answered", "end_turn", Usage(input=tokens), MODEL)
        for spending in (one, halves[number % 2]):
            spending.add(answer, reused=reused, price=price)
    paid = [(price, tokens) for reused, price, tokens in replies if not reused]
    assert (one.replies, one.reused) == (len(replies), len(replies) - len(paid))
    assert one.usage.input == sum(tokens for _, tokens in paid)
    prices = [price for price, _ in paid if price is not None]
    assert one.known_cost == (sum(prices, Decimal(0)) if len(prices) == len(paid) else None)
    total = Spending()
    for half in halves:
        total += half
    assert total == one


def test_where_nothing_was_decided_there_is_no_pass_rate() -> None:
    report = reviewer(Scripted(Model()), Memory(), token_limit=10).review(batch(2), concurrency=1)
    sums = totals(report, startup_seconds=0.0)
    assert (sums["escalated"], sums["pass_rate"], sums["cache_hit_rate"]) == (2, None, None)
    assert "pass rate none decided" in shown(report)


def test_a_demonstration_costs_nothing_and_is_called_one() -> None:
    scripted = Scripted(Model(), mode="tool")
    report = reviewer(scripted, Memory(), model="local:m", demonstration=True).review(batch(2), concurrency=1)
    assert totals(report, startup_seconds=0.0)["cost_usd"] == 0.0
    assert "judged by local:m, a demonstration model: no claim of quality" in shown(report)
    assert as_json(report)["tickets"][0]["models"] == ["local:m"]


def test_a_ticket_without_a_verdict_is_a_row_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.asking.FIRST_WAIT", 0.001)
    monkeypatch.setattr("app.asking.LONGEST_WAIT", 0.001)
    memory = Memory()
    report = reviewed(1, memory, model=Model(triage=CallFailed("overloaded", "HTTP 529: Overloaded")))
    assert memory.failures == ["overloaded"] * 6
    assert "- not judged" in shown(report)
    assert "HTTP 529: Overloaded" in shown(report)
    (one,) = as_json(report)["tickets"]
    assert (one["verdict"], one["score"], one["triage"], one["findings"]) == (None, None, None, [])
    assert one["reasons"] == ["not judged: HTTP 529: Overloaded"]


def test_the_worst_criterion_is_a_critical_one_if_any_was_lost() -> None:
    short = said("not_met", line=9, quote="Replaced the expired client certificate")
    lost = reviewed(1, model=Model(qc=judged(root_cause=short, work_performed=short)))
    titles = {criterion.id: criterion.title for criterion in shipped_context().rubric.criteria}
    (row,) = (line for line in shown(lost).splitlines() if line.startswith("INC-0"))
    assert row.rstrip().split("  ")[-2].strip() == titles["work_performed"]


@pytest.mark.parametrize("bad", [(), (BadRow(2, "not valid JSON"), BadRow(3, 'a "{\n" at é'))])
def test_the_json_is_written_ticket_by_ticket_as_it_would_be_whole(bad: tuple[BadRow, ...]) -> None:
    report = replace(reviewed(3), bad_rows=bad)
    text = written(report)
    whole = json.loads(text)
    assert list(whole) == ["tickets", "totals", "skipped_rows"]
    assert whole["totals"]["startup_seconds"] == 0.25
    assert [tuple(row.values()) for row in whole["skipped_rows"]] == [tuple(row) for row in bad]
    assert text == json.dumps(whole, indent=1, allow_nan=False) + "\n"


def test_a_narrow_terminal_keeps_every_verdict_and_cost() -> None:
    report = reviewed(2)
    lines = [line for line in shown(report, width=60).splitlines() if line.startswith("INC-")]
    assert len(lines) == 2
    assert all("✓ pass" in line and "0.00" in line for line in lines)


@pytest.mark.parametrize(
    "name", ["\x1b[2J\x1b]0;title\x07INC", "\x9b31mINC", "\u202eINC\u2066", "IN\nC", "\rINC", "INC" + "x" * 190]
)
def test_no_ticket_gives_orders_to_a_terminal_or_pushes_its_verdict_aside(name: str) -> None:
    report = reviewer(Scripted(Model()), Memory()).review(batch(1, external_id=name), concurrency=1)
    whole = shown(report, width=100)
    assert all(char.isprintable() or char == "\n" for char in whole)
    (row,) = (line for line in whole.splitlines() if "INC" in line)
    assert "✓ pass" in row


def test_a_score_below_the_mark_never_reads_as_the_mark() -> None:
    report = reviewed(1)
    (one,) = report.reviewed
    assert one.judgement is not None
    verdict = replace(one.judgement.verdict, outcome="fail", score=79.96)
    shortly = replace(one, judgement=replace(one.judgement, verdict=verdict))
    text = shown(replace(report, reviewed=Spool([shortly])))
    assert " 79 " in text
    assert " 80 " not in text


def test_attempts_without_a_reply_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.asking.FIRST_WAIT", 0.001)
    model = Model(triage=CallFailed("timeout", "no answer within 60 s"))
    report = reviewed(1, model=model)
    sums = totals(report, startup_seconds=0.0)
    assert (sums["attempts_without_reply"], sums["possibly_billed"]) == (6, 6)
    assert "6 calls without a reply, 6 possibly billed" in shown(report)


def test_what_goes_wrong_at_once_is_what_is_told() -> None:
    """The first ticket may be over before the last one has its turn."""

    class Broken(Memory):
        @override
        def keep(self, _question: Question, _reply: Reply) -> Reply:
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        reviewer(Scripted(Model()), Broken()).review(batch(500), concurrency=4)


def test_a_ticket_that_is_still_open_is_told_by_line_and_not_judged(tmp_path: Path) -> None:
    file = tmp_path / "tickets.jsonl"
    rows = ({"external_id": "A", "status": "closed"}, {"external_id": "B", "status": "pending"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    batch = read_tickets(file)
    assert [one.ticket.external_id for one in batch.revisions] == ["A"]
    assert batch.bad_rows == ((2, "B is pending: only resolved and closed tickets are judged"),)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """What is left is where the replies lie: two or three short keys a ticket."""
    numbers, held = count(1), dict[int, int]()
    scripted = Scripted(Model())

    def measured() -> None:
        scripted.model.asked.clear()
        if (number := next(numbers)) in {20, 60}:
            gc.collect()
            held[number] = tracemalloc.get_traced_memory()[0]

    tickets = batch(61)
    with Journal(tmp_path / "replies.jsonl") as journal:
        judging = reviewer(scripted, journal)
        tracemalloc.start()
        try:
            report = judging.review(tickets, concurrency=1, on_done=measured)
        finally:
            tracemalloc.stop()
    assert len(report.reviewed) == 61
    assert (held[60] - held[20]) / 40 < 1_000  # bytes a ticket; its judgement alone is twelve times that
