"""Asking once: pace, retries, a prefix written once, and never paying twice in one process."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from agents import qc
from agents.gateway import CallFailed, Endpoint, Gateway
from app.asking import TRIES, Asking, KeyedLocks, Pace
from app.limiter import LONGEST_PAUSE, Limiter
from tests.cast import MODEL, nonce_for, reply, revision, shipped_context
from tests.double import Double, Fault, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.question import Question, Reply
    from tests.double.faults import Kind


class Memory:
    """A Store in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Reply] = {}
        self.failures: list[str] = []

    def find(self, question: Question) -> Reply | None:
        return self.kept.get(question.key)

    def keep(self, question: Question, reply: Reply) -> Reply:
        return self.kept.setdefault(question.key, reply)

    def failed(self, _question: Question, failure: CallFailed) -> None:
        self.failures.append(failure.code)


def asking(
    double: Double, *, concurrency: int = 16, timeout: float = 5.0, clock: Callable[[], float] = time.monotonic
) -> Asking:
    gateway = Gateway(Endpoint(double.key, double.base_url, timeout_seconds=timeout))
    gateway.look_up(MODEL)
    return Asking(gateway, pace=Pace(Limiter(maximum=concurrency)), clock=clock)


def question(number: int = 0) -> Question:
    asked = revision(subject=f"VPN drops every ten minutes {number}")
    return qc.question(asked, shipped_context(), model=MODEL, nonce_for=nonce_for, triage=None)


def test_a_reply_on_record_is_not_asked_for_again(double: Double) -> None:
    memory, speaker = Memory(), asking(double)
    first, second = speaker.ask(question(), memory), speaker.ask(question(), memory)
    assert (first.reused, second.reused) == (False, True)
    assert first.reply == second.reply
    assert len(double.account.calls) == 1


def test_the_same_question_from_many_threads_is_paid_once(double: Double) -> None:
    memory, speaker = Memory(), asking(double)
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda _: speaker.ask(question(), memory), range(8)))
    assert len(double.account.calls) == 1
    assert [one.reused for one in asked].count(False) == 1


def test_a_cold_prefix_is_written_by_one_call_and_read_by_the_others() -> None:
    with running(latency=0.1) as double:
        memory, speaker = Memory(), asking(double)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: speaker.ask(question(number), memory), range(8)))
        written = [call.use.write_5m for call in double.account.calls if call.use and call.use.write_5m]
        assert len(written) == 1


@dataclass
class Clock:
    """Ours and the vendor's."""

    double: Double
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self.double.advance(seconds)


def test_a_prefix_is_kept_for_an_hour_where_it_is_used_again_within_one_but_not_within_minutes(double: Double) -> None:
    clock, memory = Clock(double), Memory()
    speaker = asking(double, clock=clock)
    told = []
    for number, minutes in enumerate((0, 1, 4.5, 20, 50, 2, 70, 1, 59.5, 58)):
        clock.advance(60 * minutes)
        speaker.ask(question(number), memory)
        use = double.account.calls[-1].use
        assert use is not None
        told.append("read" if use.read else "5m" if use.write_5m else "1h")
        assert not (use.write_5m and use.write_1h)
    assert told == ["5m", "read", "read", "1h", "read", "read", "5m", "read", "1h", "read"]


def test_after_a_quiet_time_many_at_once_still_write_it_once() -> None:
    with running(latency=0.1) as double:
        clock, memory = Clock(double), Memory()
        speaker = asking(double, clock=clock)
        speaker.ask(question(), memory)
        clock.advance(20 * 60)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: speaker.ask(question(number), memory), range(1, 9)))
        uses = [call.use for call in double.account.calls if call.use]
        assert [bool(use.write_5m) for use in uses] == [True] + [False] * 8
        assert sum(1 for use in uses if use.write_1h) == 1


def test_what_was_read_at_the_edge_of_its_time_is_not_taken_for_written_anew(double: Double) -> None:
    """After 250 s it is still there, and only for five minutes more."""
    clock, memory = Clock(double), Memory()
    speaker = asking(double, clock=clock)
    told = []
    for number, seconds in enumerate((0, 250, 250, 1200, 1200)):
        clock.advance(seconds)
        speaker.ask(question(number), memory)
        use = double.account.calls[-1].use
        assert use is not None
        told.append("read" if use.read else "5m" if use.write_5m else "1h")
    assert told == ["5m", "read", "read", "1h", "read"]


def test_a_prefix_that_was_primed_for_an_hour_is_known_to_be(double: Double) -> None:
    clock, memory = Clock(double), Memory()
    speaker = asking(double, clock=clock)
    speaker.prime(question(), memory, ttl="1h")
    clock.advance(40 * 60)
    for number in range(2):
        speaker.ask(question(number), memory)
        clock.advance(40 * 60)
    uses = [call.use for call in double.account.calls if call.use]
    assert [(bool(use.write_5m), bool(use.write_1h)) for use in uses] == [(False, True), (False, False), (False, False)]


def test_a_busy_desk_never_pays_for_an_hour(double: Double) -> None:
    clock, memory = Clock(double), Memory()
    speaker = asking(double, clock=clock)
    for number in range(30):
        clock.advance(200)
        speaker.ask(question(number), memory)
    uses = [call.use for call in double.account.calls if call.use]
    assert [use.write_1h for use in uses] == [0] * 30
    assert [bool(use.write_5m) for use in uses] == [True] + [False] * 29


@pytest.mark.parametrize("kind", ["rate_limit", "overloaded", "server_error", "cut_before", "cut_middle"])
def test_a_passing_error_is_tried_again_and_recorded(double: Double, kind: Kind) -> None:
    memory = Memory()
    double.fault(Fault(kind, times=1))
    assert asking(double).ask(question(), memory).reply.outcome == "answered"
    assert len(memory.failures) == 1


def test_a_hanging_server_is_given_up_and_tried_again(double: Double) -> None:
    memory = Memory()
    speaker = asking(double, timeout=0.3)
    double.fault(Fault("hang", times=1))
    assert speaker.ask(question(), memory).reply.outcome == "answered"
    assert memory.failures == ["timeout"]


def test_retry_after_is_obeyed_by_every_thread(double: Double) -> None:
    memory, speaker = Memory(), asking(double)
    speaker.ask(question(99), memory)
    double.fault(Fault("rate_limit", retry_after=0.4, times=1))
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: speaker.ask(question(number), memory), range(4)))
    assert time.monotonic() - started >= 0.4
    starts = sorted(call.start for call in double.account.calls)
    late = [start for start in starts if start > started + 0.39]
    assert len(late) >= 1


def test_a_wait_of_minutes_is_left_to_a_later_job(double: Double) -> None:
    double.fault(Fault("rate_limit", retry_after=LONGEST_PAUSE + 1))
    with pytest.raises(CallFailed):
        asking(double).ask(question(), Memory())
    assert len(double.account.calls) == 1


def test_while_the_server_asks_for_minutes_nothing_is_sent(double: Double) -> None:
    memory, speaker = Memory(), asking(double)
    double.fault(Fault("rate_limit", retry_after=LONGEST_PAUSE + 1))
    for number in range(3):
        with pytest.raises(CallFailed) as caught:
            speaker.ask(question(number), memory)
        assert caught.value.code == "rate_limited"
    assert len(double.account.calls) == len(memory.failures) == 1


def test_a_server_that_says_at_once_is_not_hammered(monkeypatch: pytest.MonkeyPatch, double: Double) -> None:
    monkeypatch.setattr("app.asking.FIRST_WAIT", 0.2)
    monkeypatch.setattr("app.asking.random.uniform", lambda _least, most: most)
    double.fault(Fault("rate_limit", retry_after=0, times=1))
    started = time.monotonic()
    asking(double).ask(question(), Memory())
    assert time.monotonic() - started >= 0.15


def test_an_outage_while_the_prefix_is_cold_keeps_nobody_waiting_for_the_others_tries(
    monkeypatch: pytest.MonkeyPatch, double: Double
) -> None:
    monkeypatch.setattr("app.asking.FIRST_WAIT", 0.05)
    double.fault(Fault("overloaded"))
    memory, speaker = Memory(), asking(double)

    def refused(number: int) -> str:
        with pytest.raises(CallFailed) as caught:
            speaker.ask(question(number), memory)
        return caught.value.code

    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(refused, range(8))) == {"overloaded"}
    assert time.monotonic() - started < 6, "one after the other they would take 12 s"
    assert len(memory.failures) == 8 * TRIES


def test_stopping_wakes_who_waits_and_sends_nothing_more(double: Double) -> None:
    memory, speaker = Memory(), asking(double)
    double.fault(Fault("rate_limit", retry_after=60))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(speaker.ask, question(), memory)
        while not memory.failures:
            time.sleep(0.01)
        speaker.stop()
        with pytest.raises(CallFailed, match="stopped"):
            waiting.result(timeout=5)
    assert len(double.account.calls) == len(memory.failures) == 1


def test_of_two_replies_the_one_on_record_counts(double: Double) -> None:
    """Another worker was quicker: what it was told is what everybody goes by."""

    class Late(Memory):
        @override
        def find(self, _question: Question) -> Reply | None:
            return None

    memory = Late()
    memory.keep(question(), reply("first"))
    assert asking(double).ask(question(), memory).reply.text == "first"


def test_tries_are_bounded(monkeypatch: pytest.MonkeyPatch, double: Double) -> None:
    monkeypatch.setattr("app.asking.FIRST_WAIT", 0.01)
    memory = Memory()
    double.fault(Fault("overloaded"))
    with pytest.raises(CallFailed) as caught:
        asking(double).ask(question(), memory)
    assert caught.value.code == "overloaded"
    assert memory.failures == ["overloaded"] * TRIES


@pytest.mark.parametrize("kind", ["invalid_key", "billing", "permission"])
def test_an_error_that_stops_all_is_not_burnt_through(double: Double, kind: Kind) -> None:
    memory, speaker = Memory(), asking(double)
    double.fault(Fault(kind))
    for number in range(5):
        with pytest.raises(CallFailed):
            speaker.ask(question(number), memory)
    assert len(double.account.calls) == 1
    assert len(memory.failures) == 1, "what was not sent is no attempt"


def test_no_more_calls_are_in_flight_than_allowed() -> None:
    with running(latency=0.05) as double:
        memory, speaker = Memory(), asking(double, concurrency=3)
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda number: speaker.ask(question(number), memory), range(12)))
        assert double.account.most_in_flight == 3


def test_a_repaired_question_is_another_question() -> None:
    asked = question()
    assert replace(asked, purpose="repair").key != asked.key
    assert replace(asked, repetition=1).key != asked.key
    assert replace(asked, turns=()).key == asked.key, "rendered bytes, with their nonce, are no part of the key"


def test_keyed_locks_forget_keys_that_nobody_holds() -> None:
    locks = KeyedLocks()
    inside = threading.Event()
    order: list[str] = []

    def second() -> None:
        inside.set()
        with locks.held("a"):
            order.append("second")

    with locks.held("a"):
        thread = threading.Thread(target=second)
        thread.start()
        inside.wait()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert locks.count == 0


def test_the_kept_reply_is_the_one_that_was_given(double: Double) -> None:
    memory = Memory()
    memory.keep(question(), reply("{}"))
    assert asking(double).ask(question(), memory).reply.text == "{}"
