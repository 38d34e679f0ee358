"""The price book: money by hand, tier by tier and day by day, and rows that would make it lie."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agents.prices import TOKEN_KINDS, Price, cost, most, price_book, price_of
from agents.question import Usage

TODAY = date(2026, 11, 23)
HAIKU, OLD_HAIKU, SONNET = "claude-haiku-5-5", "claude-haiku-4-5", "claude-sonnet-5-5"
# The ticket by which prices are compared: 5,000 tokens of system, 900 of ticket, 350 of answer, as Haiku 4.5 counts.
SYSTEM, TICKET, ANSWER = 5_000, 900, 350
TOKENIZER = {OLD_HAIKU: Decimal(1), HAIKU: Decimal("1.3")}  # Haiku 5.5 counts 30 % more for the same text
LONG_ABOVE = 100_000
PRICED = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")  # columns of the vendor's table

ROW: dict[str, Any] = {
    "model": "m",
    "since": date(2026, 1, 1),
    "input": "1",
    "output": "5",
    "cache_write_5m": "1.25",
    "cache_write_1h": "2",
    "cache_read": "0.10",
}
LONG: dict[str, Any] = {"above_input_tokens": 100, **{f"long_{kind}": "9" for kind in TOKEN_KINDS}}


def usage(model: str, *, cached: bool) -> Usage:
    """The compared ticket in this model's tokens."""
    system, ticket, answer = (int(count * TOKENIZER[model]) for count in (SYSTEM, TICKET, ANSWER))
    if cached:
        return Usage(input=ticket, cache_read=system, output=answer)
    return Usage(input=system + ticket, output=answer)


@pytest.mark.parametrize(
    ("model", "cached", "batch", "asked", "exact", "published"),
    [
        (OLD_HAIKU, False, False, "1", "0.00765", "0.00765"),
        (OLD_HAIKU, True, False, "1", "0.00315", "0.00315"),
        (OLD_HAIKU, True, True, "1", "0.001575", "0.00158"),
        (OLD_HAIKU, True, True, "0.85", "0.00133875", "0.00134"),  # 15 % are exact duplicates and not asked at all
        (HAIKU, False, False, "1", "0.0009945", "0.00099"),
        (HAIKU, True, False, "1", "0.0004095", "0.00041"),
        (HAIKU, True, True, "1", "0.00020475", "0.00020"),  # the table rounds up half of its rounded 0.00041
        (HAIKU, True, True, "0.85", "0.0001740375", "0.00017"),
    ],
)
def test_a_ticket_costs_what_a_pencil_says(  # noqa: PLR0913  a row of the table
    model: str, *, cached: bool, batch: bool, asked: str, exact: str, published: str
) -> None:
    found = cost(model, usage(model, cached=cached), on=TODAY, batch=batch)
    assert found is not None
    assert found * Decimal(asked) == Decimal(exact)
    assert round(Decimal(exact), 5) == Decimal(published)


@pytest.mark.parametrize(
    ("model", "day", "rates"),
    [
        (HAIKU, date(2026, 10, 7), ("0.10", "0.50", "0.125", "0.20", "0.01")),
        (OLD_HAIKU, TODAY, ("1", "5", "1.25", "2", "0.10")),
        (SONNET, TODAY, ("2", "10", "2.50", "4", "0.10")),
        (SONNET, date(2026, 10, 6), ("2", "10", "2.50", "4", "0.20")),
        ("claude-opus-5-5", TODAY, ("4", "20", "5", "8", "0.20")),
    ],
)
@pytest.mark.parametrize(
    ("batch", "geo", "times"),
    [
        (False, "", "1"), (True, "", "0.5"), (False, "us", "1.1"), (True, "us", "0.55"),
        (False, "global", "1"), (False, "nowhere", "1"),
    ],
)  # fmt: skip
def test_every_row_of_the_vendors_table_live_in_a_batch_and_by_region(  # noqa: PLR0913  a row and a column
    model: str, day: date, rates: tuple[str, ...], *, batch: bool, geo: str, times: str
) -> None:
    for kind, rate in zip(PRICED, rates, strict=True):
        found = cost(model, Usage(**{kind: 10_000}), on=day, batch=batch, geo=geo)
        assert found == Decimal(rate) * Decimal(times) / 100


def test_a_long_prompt_in_a_batch_in_a_region_stacks_everything() -> None:
    used = Usage(input=60_000, cache_write_5m=10_000, cache_write_1h=10_000, cache_read=30_000, output=1_000)
    by_hand = 60_000 * Decimal("0.5") + 10_000 * Decimal("0.625") + 10_000 + 30_000 * Decimal("0.05") + 2_500
    assert cost(HAIKU, used, on=TODAY, batch=True, geo="us") == by_hand * Decimal("0.55") / 1_000_000


@given(st.builds(Usage, **{kind: st.integers(0, 40_000) for kind in TOKEN_KINDS}))
def test_no_call_costs_more_than_the_most(used: Usage) -> None:
    prompt = used.input + used.cache_write_5m + used.cache_write_1h + used.cache_read
    for model in (HAIKU, OLD_HAIKU, SONNET, "claude-opus-5-5"):
        bound = most(model, prompt=prompt, output=used.output, on=TODAY)
        spent = cost(model, used, on=TODAY, geo="us")
        assert spent is not None
        assert bound is not None
        assert spent <= bound
    assert most("claude-nonesuch-9", prompt=1, output=1, on=TODAY) is None


@pytest.mark.parametrize(
    ("kind", "rate"),
    [
        ("input", "0.10"),
        ("output", "0.50"),
        ("cache_write_5m", "0.125"),
        ("cache_write_1h", "0.20"),
        ("cache_read", "0.01"),
    ],
)
def test_every_kind_of_token_has_its_own_rate(kind: str, rate: str) -> None:
    assert cost(HAIKU, Usage(**{kind: 1_000}), on=TODAY) == Decimal(rate) / 1_000


@pytest.mark.parametrize("kind", ["input", "cache_write_5m", "cache_write_1h", "cache_read"])
def test_up_to_the_edge_the_short_rates_hold_and_one_token_beyond_the_long_ones_for_all(kind: str) -> None:
    rates = {"input": "0.10", "cache_write_5m": "0.125", "cache_write_1h": "0.20", "cache_read": "0.01"}
    short = cost(HAIKU, Usage(**{kind: LONG_ABOVE, "output": 200}), on=TODAY)
    assert short == (Decimal(rates[kind]) * LONG_ABOVE + Decimal("0.50") * 200) / 1_000_000
    long = cost(HAIKU, Usage(**{kind: LONG_ABOVE + 1, "output": 200}), on=TODAY)
    assert long == 5 * (Decimal(rates[kind]) * (LONG_ABOVE + 1) + Decimal("0.50") * 200) / 1_000_000


def test_the_whole_prompt_counts_for_the_edge_and_the_answer_does_not() -> None:
    parts = {"input": 40_000, "cache_write_5m": 20_000, "cache_write_1h": 10_000, "cache_read": 30_000}
    by_hand = 4_000 + 2_500 + 2_000 + 300 + 25_000  # US$ if these were millions
    assert cost(HAIKU, Usage(**parts, output=50_000), on=TODAY) == Decimal(by_hand) / 1_000_000
    beyond = Usage(**{**parts, "cache_read": 30_001}, output=50_000)
    assert cost(HAIKU, beyond, on=TODAY) == 5 * (by_hand + Decimal("0.01")) / 1_000_000


def test_a_model_without_a_long_tier_has_one_price_at_any_length() -> None:
    assert cost(OLD_HAIKU, Usage(input=150_000), on=TODAY) == Decimal("0.15")


@pytest.mark.parametrize(("day", "read"), [(6, "0.20"), (7, "0.10")])
def test_a_price_begins_on_its_day(day: int, read: str) -> None:
    assert cost(SONNET, Usage(cache_read=1_000_000), on=date(2026, 10, day)) == Decimal(read)


@pytest.mark.parametrize(("day", "known"), [(date(2026, 10, 6), False), (date(2026, 10, 7), True)])
def test_before_its_first_day_a_model_has_no_price(day: date, *, known: bool) -> None:
    assert (price_of(HAIKU, on=day) is not None) is known
    assert (cost(HAIKU, Usage(input=1), on=day) is not None) is known


@pytest.mark.parametrize("model", ["claude-nonesuch-9", "claude-haiku-5-5-20261001", "local.gguf", ""])
def test_a_model_that_the_book_does_not_list_costs_unknown_never_nothing(model: str) -> None:
    assert price_of(model, on=TODAY) is None
    assert cost(model, Usage(input=1_000_000), on=TODAY) is None


@given(st.builds(Usage, **{kind: st.integers(0, 10**7) for kind in TOKEN_KINDS}))
def test_more_tokens_never_cost_less(used: Usage) -> None:
    spent = cost(HAIKU, used, on=TODAY)
    more = cost(HAIKU, Usage(**{**vars(used), "input": used.input + 1}), on=TODAY)
    assert spent is not None
    assert more is not None
    assert 0 <= spent < more


def test_the_shipped_book_lists_each_default_once_a_day_and_reads_dearer_than_nothing() -> None:
    rows = [(price.model, price.since) for price in price_book()]
    assert len(rows) == len(set(rows))
    assert {HAIKU, OLD_HAIKU, SONNET} <= {price.model for price in price_book()}
    for price in price_book():
        assert 0 < price.cache_read < price.input < price.cache_write_5m < price.cache_write_1h < price.output


@pytest.mark.parametrize("row", [ROW, {**ROW, **LONG}])
def test_a_whole_row_is_accepted(row: dict[str, Any]) -> None:
    assert Price.model_validate(row).cost(Usage(input=1_000, output=1)) > 0


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"input": None}, "input"),
        ({"input": "-1"}, "input"),
        ({"cache_read": "nan"}, "cache_read"),
        ({"output": "five"}, "output"),
        ({"since": "soon"}, "since"),
        ({"price": "1"}, "price"),
        ({"above_input_tokens": 100}, "go together"),
        ({**LONG, "long_cache_read": None}, "go together"),
        ({**LONG, "above_input_tokens": None}, "go together"),
        ({**LONG, "above_input_tokens": 0}, "above_input_tokens"),
        ({**LONG, "long_output": "-0.01"}, "long_output"),
    ],
)
def test_a_bad_row_is_refused(changes: dict[str, Any], about: str) -> None:
    with pytest.raises(ValidationError, match=about):
        Price.model_validate({**ROW, **changes})


@pytest.mark.parametrize("name", ROW)
def test_a_row_that_lacks_something_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        Price.model_validate({key: value for key, value in ROW.items() if key != name})
