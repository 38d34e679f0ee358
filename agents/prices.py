"""The price book: usage -> money. Prices live in prices.toml with the day they began, never in code."""

from __future__ import annotations

import math
import tomllib
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agents.question import Question, Usage
from agents.tokens import token_estimate

MILLION = Decimal(1_000_000)
TOKEN_KINDS = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")

Rate = Annotated[Decimal, Field(ge=0)]


class Price(BaseModel):
    """US$ per million tokens of one model from one day on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    since: date
    input: Rate
    output: Rate
    cache_write_5m: Rate
    cache_write_1h: Rate
    cache_read: Rate
    above_input_tokens: Annotated[int, Field(gt=0)] | None = None
    long_input: Rate | None = None
    long_output: Rate | None = None
    long_cache_write_5m: Rate | None = None
    long_cache_write_1h: Rate | None = None
    long_cache_read: Rate | None = None

    @model_validator(mode="after")
    def _long_rates_are_whole(self) -> Price:
        given = {getattr(self, f"long_{kind}") is not None for kind in TOKEN_KINDS} | {
            self.above_input_tokens is not None
        }
        if len(given) > 1:
            msg = f"{self.model}: above_input_tokens and all five long_ rates go together"
            raise ValueError(msg)
        return self

    def cost(self, usage: Usage) -> Decimal:
        """US$ for one reply; the long rates where its whole prompt passes above_input_tokens."""
        prompt = usage.input + usage.cache_write_5m + usage.cache_write_1h + usage.cache_read
        long = self.above_input_tokens is not None and prompt > self.above_input_tokens
        return self._cost(usage, "long_" if long else "")

    def cost_of_many(self, usage: Usage) -> Decimal:
        """US$ for replies whose tokens are summed, none of them with a prompt for the long rates."""
        return self._cost(usage, "")

    def _cost(self, usage: Usage, prefix: str) -> Decimal:
        rates: list[Decimal] = [getattr(self, prefix + kind) for kind in TOKEN_KINDS]
        tokens: list[int] = [getattr(usage, kind) for kind in TOKEN_KINDS]
        return sum((rate * count for rate, count in zip(rates, tokens, strict=True)), Decimal(0)) / MILLION


class Factor(BaseModel):
    """What the whole bill of a request is multiplied by, from one day on: for a batch, for a region."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    since: date
    times: Annotated[Decimal, Field(gt=0)]


@cache
def _book() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "prices.toml").read_text("utf-8"))


@cache
def price_book() -> tuple[Price, ...]:
    return tuple(Price.model_validate(row) for row in _book()["price"])


@cache
def factors() -> tuple[Factor, ...]:
    return tuple(Factor.model_validate(row) for row in _book()["factor"])


@cache
def price_of(model: str, *, on: date) -> Price | None:
    """The price in force that day, or None where the book does not know the model (a local one, for instance)."""
    rows = [price for price in price_book() if price.model == model and price.since <= on]
    return max(rows, key=lambda price: price.since, default=None)


def cost(model: str, usage: Usage, *, on: date, batch: bool = False, geo: str = "") -> Decimal | None:
    """US$ of one reply, or None where the price is not known; never a made-up zero.

    `geo` is the region as the reply's usage names it; one that the book does not list costs as much as anywhere.
    """
    price = price_of(model, on=on)
    if price is None:
        return None
    names = (*(["batch"] if batch else []), f"geo:{geo}")
    return price.cost(usage) * math.prod((_factor(name, on) for name in names), start=Decimal(1))


def cost_of_many(model: str, usage: Usage, *, on: date, batch: bool = False) -> Decimal | None:
    """US$ of many replies of a day whose tokens are summed, each with a short prompt; None where unknown."""
    price = price_of(model, on=on)
    return None if price is None else price.cost_of_many(usage) * (_factor("batch", on) if batch else 1)


def most(model: str, *, prompt: int, output: int, on: date, batch: bool = False) -> Decimal | None:
    """US$ that a call of so many tokens costs at the most, nothing of it read from a cache; None where unknown."""
    price = price_of(model, on=on)
    if price is None:
        return None
    everything = Usage(input=prompt, output=output), Usage(cache_write_1h=prompt, output=output)
    dearest = max((factor.times for factor in factors() if factor.name.startswith("geo:")), default=Decimal(1))
    return max(map(price.cost, everything)) * dearest * (_factor("batch", on) if batch else 1)


def worst(question: Question, *, on: date, batch: bool = False) -> Decimal | None:
    """What the call may cost at the most; None where its model has no known price."""
    prompt = (*question.system, *(turn.text for turn in question.turns), str(question.schema))
    return most(question.model, prompt=sum(map(token_estimate, prompt)), output=question.max_tokens, on=on, batch=batch)


def _factor(name: str, on: date) -> Decimal:
    rows = [factor for factor in factors() if factor.name == name and factor.since <= on]
    return max(rows, key=lambda factor: factor.since).times if rows else Decimal(1)
