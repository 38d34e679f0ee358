"""The prompt cache and the account of the double: exact tokens, exact money. A token is 3.1 bytes, rounded up."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from anthropic import RateLimitError  # noqa: TID251  what the SDK makes of it

from tests.double import Fault
from tests.double.caller import GONE, HAIKU, HAIKU_4, SONNET, Caller, block, calling, closed, formatted, user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.double.models import Json

SYSTEM = "s" * 3100  # 1000 tokens
QUESTION = user("q" * 31)  # 10 tokens
ANSWER = "a" * 31  # 10 tokens


@pytest.fixture(scope="module")
def shared() -> Iterator[Caller]:
    with calling() as made:
        yield made


@pytest.fixture
def caller(shared: Caller) -> Caller:
    shared.double.reset()
    shared.double.answer_with(lambda _: ANSWER)
    return shared


def cached(ttl: str = "5m", *, system: str = SYSTEM, **changes: object) -> Json:
    return {"system": [block(system, ttl)], "messages": QUESTION, **changes}


def test_the_first_call_writes_the_prefix_and_the_next_reads_it(caller: Caller) -> None:
    assert caller.usage(**cached()) == (10, 1000, 0, 0)
    assert caller.usage(**cached()) == (10, 0, 0, 1000)


def test_without_a_breakpoint_nothing_is_cached(caller: Caller) -> None:
    for _ in range(2):
        assert caller.usage(system=SYSTEM, messages=QUESTION) == (1010, 0, 0, 0)


def test_everything_counts_and_is_rounded_once(caller: Caller) -> None:
    """Bytes of UTF-8, not characters: 1 + 3 + 2 bytes are 1.94 tokens together, not three tokens of their own."""
    turns = [{"role": "user", "content": [block("a"), block("€"), block("é")]}]
    assert caller.usage(messages=turns) == (2, 0, 0, 0)


def test_the_output_schema_is_part_of_the_prefix(caller: Caller) -> None:
    compact = '{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"],"additionalProperties":false}'
    assert len(compact) == 103
    schema = json.loads(compact)
    assert caller.usage(**cached(output_config=formatted(schema))) == (10, 1034, 0, 0)  # ceil((103 + 3100) / 3.1)
    assert caller.usage(**cached(output_config=formatted(schema))) == (10, 0, 0, 1034)


@pytest.mark.parametrize(
    "other",
    [
        {"model": SONNET, "thinking": {"type": "between_tools"}, "system": [block("s" * 6200, "5m")]},
        {"output_config": formatted(closed(ok={"type": "boolean"}))},
        {"system": [block("S" + SYSTEM[1:], "5m")]},
        {"system": [block(SYSTEM[:1550]), block(SYSTEM[1550:], "5m")]},
        {"output_config": {"effort": "low"}},
        {"thinking": {"type": "adaptive"}},
    ],
    ids=["model", "schema", "a byte", "other blocks", "effort", "thinking"],
)
def test_another_key_reads_nothing(other: Json, caller: Caller) -> None:
    caller.send(**cached())
    assert caller.usage(**{**cached(), **other})[3] == 0


@pytest.mark.parametrize(
    ("model", "minimum_bytes", "thinking"),
    [
        (HAIKU, 1585, {"type": "disabled"}),  # 511.3 -> 512 tokens
        (HAIKU_4, 12695, {"type": "disabled"}),  # 4095.2 -> 4096
        (SONNET, 3172, {"type": "between_tools"}),  # 1023.2 -> 1024
    ],
)
def test_below_the_models_minimum_nothing_is_cached_and_nobody_is_told(
    model: str, minimum_bytes: int, thinking: Json, caller: Caller
) -> None:
    for size, expected in ((minimum_bytes - 1, False), (minimum_bytes, True)):
        body = cached(system="m" * size, model=model, thinking=thinking)
        first, second = caller.usage(**body), caller.usage(**body)
        assert (first[1] > 0, second[3] > 0) == (expected, expected)


@pytest.mark.parametrize(("ttl", "seconds"), [("5m", 300.0), ("1h", 3600.0)])
def test_an_entry_lives_for_its_time_from_its_last_use(ttl: str, seconds: float, caller: Caller) -> None:
    written = (10, 1000, 0, 0) if ttl == "5m" else (10, 0, 1000, 0)
    assert caller.usage(**cached(ttl)) == written
    for _ in range(2):
        caller.double.advance(seconds - 10)
        assert caller.usage(**cached(ttl)) == (10, 0, 0, 1000)
    caller.double.advance(seconds + 1)
    assert caller.usage(**cached(ttl)) == written


def test_two_times_to_live_are_written_and_billed_apart(caller: Caller) -> None:
    blocks = [block("h" * 3100, "1h"), block("m" * 1550, "5m")]
    assert caller.usage(system=blocks, messages=QUESTION) == (10, 500, 1000, 0)
    caller.double.advance(301)
    assert caller.usage(system=blocks, messages=QUESTION) == (10, 500, 0, 1000)


def test_a_longer_prompt_reads_the_shorter_ones_prefix(caller: Caller) -> None:
    """Two breakpoints: the common core is read although the category's part is new."""
    core = block(SYSTEM, "5m")
    assert caller.usage(system=[core, block("x" * 1550, "5m")], messages=QUESTION) == (10, 1500, 0, 0)
    assert caller.usage(system=[core, block("y" * 1550, "5m")], messages=QUESTION) == (10, 500, 0, 1000)


def test_a_breakpoint_looks_back_twenty_blocks_and_no_further(caller: Caller) -> None:
    caller.send(system=[block(SYSTEM, "5m")], messages=QUESTION)
    after = [block("x" * 31) for _ in range(20)]
    assert caller.usage(system=[block(SYSTEM), *after[:-1], block("x" * 31, "5m")], messages=QUESTION)[3] == 1000
    caller.double.reset()
    caller.send(system=[block(SYSTEM, "5m")], messages=QUESTION)
    assert caller.usage(system=[block(SYSTEM), *after, block("x" * 31, "5m")], messages=QUESTION)[3] == 0


def test_automatic_caching_marks_the_last_block(caller: Caller) -> None:
    assert caller.usage(system=SYSTEM, messages=QUESTION, cache_control={"type": "ephemeral"}) == (0, 1010, 0, 0)
    assert caller.usage(system=SYSTEM, messages=QUESTION, cache_control={"type": "ephemeral"}) == (0, 0, 0, 1010)


def test_max_tokens_0_warms_the_cache_and_says_nothing(caller: Caller) -> None:
    warm = caller.send(**cached(max_tokens=0))
    assert (warm.content, warm.stop_reason, warm.usage.output_tokens) == ([], "max_tokens", 0)
    assert warm.usage.cache_creation_input_tokens == 1000
    assert caller.usage(**cached()) == (10, 0, 0, 1000)


def test_a_call_that_failed_writes_nothing(caller: Caller) -> None:
    caller.double.fault(Fault("rate_limit", at=(0,)))
    with pytest.raises(RateLimitError):
        caller.send(**cached())
    assert caller.usage(**cached()) == (10, 1000, 0, 0)
    assert caller.double.account.totals.replies == 1


# --- when an entry can be read


def test_a_prefix_can_be_read_once_the_writing_reply_has_begun_and_not_before() -> None:
    with calling(latency=0.6) as caller, ThreadPoolExecutor() as pool:
        first = pool.submit(caller.usage, **cached())
        while not caller.double.account.calls:
            time.sleep(0.01)
        second = pool.submit(caller.usage, **cached())
        assert [first.result()[1:], second.result()[1:]] == [(1000, 0, 0), (1000, 0, 0)]
        assert caller.usage(**cached())[1:] == (0, 0, 1000)


def test_one_priming_call_each_in_parallel_then_the_fan_out_reads() -> None:
    agents = [formatted(closed(ok={"type": "boolean"})), formatted(closed(fine={"type": "boolean"}))]
    with calling(latency=0.1) as caller, ThreadPoolExecutor(16) as pool:

        def call(output: Json) -> int:
            return caller.usage(**cached(output_config=output))[3]

        assert list(pool.map(call, agents)) == [0, 0]
        assert 0 not in pool.map(call, agents * 8)
        account = caller.double.account
        assert [agent.cache_read_share for agent in account.agents()] == [1.0, 1.0]
        assert account.most_in_flight > 2


def test_a_fan_out_without_priming_pays_for_every_write() -> None:
    with calling(latency=0.6) as caller, ThreadPoolExecutor(4) as pool:
        used = list(pool.map(lambda _: caller.usage(**cached()), range(4)))
        assert [one[1] for one in used] == [1000] * 4
        assert caller.double.account.agents()[0].cache_read_share == 0.0


# --- the account


def test_cost_by_hand(caller: Caller) -> None:
    """Haiku 5.5: 0.10 in, 0.50 out, 0.125 five-minute write, 0.20 hour write, 0.01 read, US$ a million tokens."""
    caller.send(**cached("5m"))
    assert caller.double.account.cost == Decimal("0.000131")  # 1000 x 0.125 + 10 x 0.10 + 10 x 0.50
    caller.send(**cached("5m"))
    assert caller.double.account.cost == Decimal("0.000147")  # + 1000 x 0.01 + 10 x 0.10 + 10 x 0.50
    caller.send(**cached("1h", system="t" * 3100))
    assert caller.double.account.cost == Decimal("0.000353")  # + 1000 x 0.20 + 6
    caller.send(**cached("1h", system="t" * 3100, inference_geo="us"))
    assert caller.double.account.cost == Decimal("0.0003706")  # + (1000 x 0.01 + 6) x 1.1


@pytest.mark.parametrize(
    ("model", "thinking", "cost"),
    [
        (HAIKU_4, {"type": "disabled"}, "0.00106"),  # 1010 x 1 + 10 x 5
        (SONNET, {"type": "between_tools"}, "0.00212"),  # 1010 x 2 + 10 x 10
        ("claude-opus-5-5", {"type": "between_tools"}, "0.00424"),  # 1010 x 4 + 10 x 20
    ],
)
def test_cost_of_other_models_by_hand(model: str, thinking: Json, cost: str, caller: Caller) -> None:
    caller.send(model=model, thinking=thinking, system=SYSTEM, messages=QUESTION)
    assert caller.double.account.cost == Decimal(cost)


def test_a_prompt_over_100_000_tokens_costs_five_times_as_much_for_every_token(caller: Caller) -> None:
    caller.send(messages=user("x" * 310_000))
    assert caller.double.account.cost == Decimal("0.010005")  # 100,000 x 0.10 + 10 x 0.50
    caller.send(messages=user("x" * 310_001))
    assert caller.double.account.cost == Decimal("0.06003050")  # + 100,001 x 0.50 + 10 x 2.50


def test_thinking_is_on_by_default_and_billed_as_output(caller: Caller) -> None:
    """Whoever forgets to turn it off pays for it: 200 tokens at medium, the default effort of Haiku 5.5."""
    reply = caller.send(thinking=GONE)
    assert [part.type for part in reply.content] == ["thinking", "text"]
    assert reply.usage.output_tokens == 210
    assert reply.usage.output_tokens_details is not None
    assert reply.usage.output_tokens_details.thinking_tokens == 200
    low = caller.send(thinking={"type": "adaptive"}, output_config={"effort": "low"})
    assert low.usage.output_tokens == 70


def test_the_account_is_kept_by_model_and_by_agent(caller: Caller) -> None:
    schema = closed(ok={"type": "boolean"})
    for _ in range(3):
        caller.send(**cached(output_config=formatted(schema)))
    caller.send(model=HAIKU_4, messages=QUESTION)
    account = caller.double.account
    assert {name: totals.requests for name, totals in account.models().items()} == {HAIKU: 3, HAIKU_4: 1}
    first, second = account.agents()
    assert (first.model, first.kind, len(first.calls), first.cache_read_share) == (HAIKU, "other", 3, 1.0)
    assert (second.model, second.schema, second.cache_read_share) == (HAIKU_4, "", None)
    assert account.totals.read == 2 * 1034


def test_a_prefix_that_changes_from_call_to_call_shows_as_no_reads(caller: Caller) -> None:
    for day in range(3):
        caller.send(**cached(system=f"It is day {day}. {SYSTEM}"))
    assert caller.double.account.agents()[0].cache_read_share == 0.0
    assert caller.double.account.agents()[0].to_json()["prefixes"] == 3


def test_reset_forgets_cache_account_and_clock(caller: Caller) -> None:
    caller.send(**cached())
    caller.double.reset()
    assert caller.double.account.calls == []
    assert caller.usage(**cached()) == (10, 1000, 0, 0)
