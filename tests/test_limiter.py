"""The limiter of a key: concurrency that grows and shrinks, the server's headers, and waits that hold everybody."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.gateway import CallFailed, FailureCode
from agents.question import Usage
from agents.rate_limits import KINDS, PREFIX, Limit, read
from app import limiter as module
from app.limiter import LONGEST_PAUSE, SPREAD, Limiter, NotSent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MODEL = "claude-haiku-5-5"
PARTS = ("limit", "remaining", "reset")
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


class Clock:
    """Time that passes when a limiter waits, and not otherwise."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limiter_at(clock: Clock, *, maximum: int = 16, late: Sequence[float] = ()) -> Limiter:
    """A limiter whose waits move the clock on instead of taking time; `late`: what chance adds, call by call."""
    chance = iter(late)
    made = Limiter(maximum=maximum, monotonic=clock, uniform=lambda _least, _most: next(chance, 0.0))

    def wait(seconds: float) -> bool:
        clock.seconds += max(seconds, 1e-9)
        return False

    made._changed.wait = wait  # type: ignore[method-assign, assignment]  # noqa: SLF001  nobody else is there to notify
    return made


def headers(kind: str = "requests", *, whole: float = 60, left: float, seconds: float = 60) -> dict[str, str]:
    return {
        f"{PREFIX}{kind}-limit": f"{whole:g}",
        f"{PREFIX}{kind}-remaining": f"{left:g}",
        f"{PREFIX}{kind}-reset": (NOON + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z"),
        "date": format_datetime(NOON, usegmt=True),
    }


def waited(limiter: Limiter, clock: Clock, *, model: str = MODEL) -> float:
    before = clock.seconds
    with limiter.slot(model, given_up=lambda: False):
        return clock.seconds - before


def refuse(limiter: Limiter, code: FailureCode = "rate_limited", *, retry_after: float | None = None) -> None:
    """One call that was refused."""
    with limiter.slot(MODEL, given_up=lambda: False) as began:
        limiter.refused(CallFailed(code, "no", retry_after=retry_after), began=began)


def answer(limiter: Limiter, clock: Clock, *, at_once: int, usage: Usage | None = None) -> None:
    """A round: so many calls are in flight all the time, and as many are answered."""
    turns = [limiter.slot(MODEL, given_up=lambda: False) for _ in range(at_once)]
    for turn in turns:
        turn.__enter__()
    for _ in turns:
        clock.seconds += 0.01
        limiter.answered(MODEL, usage or Usage(input=10, output=1))
    for turn in turns:
        turn.__exit__(None, None, None)


def test_what_is_in_flight_halves_on_a_refusal_and_grows_by_one_a_round(clock: Clock) -> None:
    limiter = limiter_at(clock)
    assert limiter.allowed == 16
    allowed = []
    for code in ("rate_limited", "overloaded", "rate_limited", "rate_limited", "rate_limited"):
        clock.seconds += 1
        refuse(limiter, code)
        allowed.append(limiter.allowed)
    assert allowed == [8, 4, 2, 1, 1], "never none"
    for expected in (2, 3, 4, 5):
        answer(limiter, clock, at_once=limiter.allowed)
        assert limiter.allowed == expected
    for _ in range(40):
        answer(limiter, clock, at_once=limiter.allowed)
    assert limiter.allowed == 16, "never more than the maximum"


def test_room_that_nobody_uses_does_not_grow(clock: Clock) -> None:
    limiter = limiter_at(clock)
    refuse(limiter)
    for _ in range(100):
        answer(limiter, clock, at_once=1)
    assert limiter.allowed == 8


def test_of_calls_that_were_under_way_together_one_refusal_counts(clock: Clock) -> None:
    limiter = limiter_at(clock)
    turns = [limiter.slot(MODEL, given_up=lambda: False) for _ in range(16)]
    begun = [turn.__enter__() for turn in turns]
    clock.seconds += 1
    for turn, began in zip(turns, begun, strict=True):
        limiter.refused(CallFailed("rate_limited", "no"), began=began)
        turn.__exit__(None, None, None)
    assert limiter.allowed == 8
    clock.seconds += 1
    refuse(limiter)
    assert limiter.allowed == 4


@pytest.mark.parametrize("code", ["server_error", "timeout", "connection", "bad_request", "authentication"])
def test_other_failures_are_no_reason_to_ask_for_less(clock: Clock, code: FailureCode) -> None:
    limiter = limiter_at(clock)
    refuse(limiter, code)
    assert limiter.allowed == 16


def test_retry_after_holds_everybody_whatever_the_model(clock: Clock) -> None:
    limiter = limiter_at(clock)
    refuse(limiter, retry_after=7)
    refuse_later = waited(limiter, clock, model="another")
    assert refuse_later == pytest.approx(7)
    assert waited(limiter, clock) == 0


def test_who_was_held_by_a_retry_after_begins_after_it_and_not_with_the_others(clock: Clock) -> None:
    """Each from the same moment on, as threads wait."""
    begun = []
    for late in (0.0, 0.3, SPREAD):
        clock.seconds = 1_000
        limiter = limiter_at(clock, late=(0.0, late, SPREAD))
        refuse(limiter, retry_after=7)
        begun.append(waited(limiter, clock))
        assert waited(limiter, clock) == 0, "who comes when it is over was not held"
    assert begun == pytest.approx([7, 7.3, 7 + SPREAD])


def test_a_retry_after_that_is_made_longer_meanwhile_is_waited_for_too(clock: Clock) -> None:
    limiter = limiter_at(clock, late=(0.0, 0.3))
    refuse(limiter, retry_after=7)
    wait = limiter._changed.wait  # noqa: SLF001  the moment in which another call is refused

    def refused_meanwhile(seconds: float) -> bool:
        if clock.seconds == 1_000:
            limiter.refused(CallFailed("rate_limited", "no", retry_after=20), began=clock.seconds)
        return wait(seconds)

    limiter._changed.wait = refused_meanwhile  # type: ignore[method-assign, assignment]  # noqa: SLF001
    assert waited(limiter, clock) == pytest.approx(20.3)


def test_chance_never_lets_anybody_begin_too_early(clock: Clock) -> None:
    least_and_most: list[tuple[float, float]] = []

    def least(*bounds: float) -> float:
        least_and_most.append((bounds[0], bounds[1]))
        return bounds[0]

    limiter = limiter_at(clock)
    limiter._uniform = least  # noqa: SLF001
    refuse(limiter, retry_after=7)
    assert waited(limiter, clock) == pytest.approx(7)
    assert set(least_and_most) == {(0.0, SPREAD)}


def test_a_wait_of_minutes_is_refused_at_once(clock: Clock) -> None:
    limiter = limiter_at(clock)
    refuse(limiter, retry_after=LONGEST_PAUSE + 1)
    with pytest.raises(NotSent, match="no call within 121 s") as caught:
        waited(limiter, clock)
    assert caught.value.retry_after == pytest.approx(LONGEST_PAUSE + 1)
    assert clock.seconds == 1_000


def test_requests_that_are_used_up_are_waited_for_at_the_rate_of_their_return(clock: Clock) -> None:
    limiter = limiter_at(clock)
    limiter.heard(MODEL, headers(left=2))  # 58 come back in 60 s
    assert [waited(limiter, clock) for _ in range(2)] == [0, 0]
    assert waited(limiter, clock) == pytest.approx(60 / 58)
    assert waited(limiter, clock, model="another") == 0, "limits are a model's"


def test_tokens_are_waited_for_by_what_a_call_usually_takes(clock: Clock) -> None:
    limiter = limiter_at(clock)
    answer(limiter, clock, at_once=1, usage=Usage(input=900, cache_write_5m=100, cache_read=5_000, output=300))
    limiter.heard(MODEL, headers("output-tokens", whole=8_000, left=100))
    assert waited(limiter, clock) == pytest.approx(200 / (7_900 / 60))
    limiter.heard(MODEL, headers("output-tokens", whole=8_000, left=8_000))
    limiter.heard(MODEL, headers("input-tokens", whole=40_000, left=1_000))
    assert waited(limiter, clock) == 0, "what is read from the cache does not count"
    limiter.heard(MODEL, headers("input-tokens", whole=40_000, left=999))
    assert waited(limiter, clock) > 0


def test_other_workers_have_their_share(clock: Clock) -> None:
    limiter = limiter_at(clock)
    limiter.sharers = 4
    limiter.heard(MODEL, headers(left=8))
    assert [waited(limiter, clock) for _ in range(2)] == [0, 0]
    assert waited(limiter, clock) == pytest.approx(4 * 60 / 52)


def test_a_need_beyond_the_whole_limit_waits_until_it_is_whole_and_not_for_ever(clock: Clock) -> None:
    limiter = limiter_at(clock)
    answer(limiter, clock, at_once=1, usage=Usage(input=9_000))
    limiter.heard(MODEL, headers("input-tokens", whole=5_000, left=0, seconds=30))
    assert waited(limiter, clock) == pytest.approx(30)


@pytest.mark.parametrize("seconds", [0, -3_600])
def test_a_reset_that_is_over_means_whole(clock: Clock, seconds: float) -> None:
    limiter = limiter_at(clock)
    limiter.heard(MODEL, headers(left=0, seconds=seconds))
    assert waited(limiter, clock) == 0


def test_the_newest_answer_counts(clock: Clock) -> None:
    limiter = limiter_at(clock)
    limiter.heard(MODEL, headers(left=0))
    limiter.heard(MODEL, headers(left=60))
    assert waited(limiter, clock) == 0


def _enter(limiter: Limiter, given_up: Callable[[], bool]) -> threading.Thread:
    def enter() -> None:
        with limiter.slot(MODEL, given_up=given_up):
            pass

    thread = threading.Thread(target=enter)
    thread.start()
    return thread


def test_who_waits_for_a_slot_has_it_when_one_is_free_and_leaves_when_nobody_wants_it_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 30.0)
    limiter = Limiter(maximum=1)
    ended = threading.Event()
    with limiter.slot(MODEL, given_up=lambda: False):
        leaver = _enter(limiter, ended.is_set)
        waiter = _enter(limiter, lambda: False)
        leaver.join(0.05)
        assert leaver.is_alive()
        ended.set()
        limiter.wake()
        leaver.join(5)
        assert not leaver.is_alive()
        assert waiter.is_alive()
    waiter.join(5)
    assert not waiter.is_alive()


def test_headers_are_read_by_the_servers_own_clock() -> None:
    found = read(headers(whole=50, left=49, seconds=12), now=NOON + timedelta(hours=3))
    assert found == {"requests": Limit(50, 49, 12)}
    without_date = {name: value for name, value in headers(left=1).items() if name != "date"}
    assert read(without_date, now=NOON + timedelta(seconds=20))["requests"].seconds == 40


@pytest.mark.parametrize(
    "changes",
    [
        {"limit": "many"}, {"limit": "0"}, {"limit": "-5"}, {"limit": "nan"}, {"limit": "inf"}, {"limit": "1e300"},
        {"remaining": ""}, {"remaining": "-1"}, {"reset": "soon"}, {"reset": ""}, {"reset": "2026-13-01T00:00:00Z"},
    ],
)  # fmt: skip
def test_a_limit_that_makes_no_sense_is_none(changes: dict[str, str]) -> None:
    spoilt = {**headers(left=1), **{f"{PREFIX}requests-{name}": value for name, value in changes.items()}}
    assert read(spoilt, now=NOON) == {}


@given(
    st.dictionaries(
        st.sampled_from(["date", *(f"{PREFIX}{kind}-{part}" for kind in KINDS for part in PARTS)]),
        st.one_of(
            st.text("0123456789.-:TZ eE\x80"),
            st.sampled_from(["5", "0.5", "2026-11-26T12:00:00", "0001-01-01T00:00:00Z", "Thu, 99"]),
        ),
    )
)
def test_no_header_can_cost_us_the_answer_that_it_came_with(strange: dict[str, str]) -> None:
    limiter = Limiter(maximum=1)
    limiter.heard(MODEL, strange)
    for limit in read(strange, now=NOON).values():
        assert 0 <= limit.left <= limit.whole
        assert limit.seconds >= 0
