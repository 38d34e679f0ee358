"""The price book: usage -> money. Prices live in prices.toml with the day they began, never in code."""

from __future__ import annotations

import tomllib
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from agents.question import Usage

MILLION = Decimal(1_000_000)
BATCH = Decimal("0.5")  # of every price, cache reads and writes included
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
        prefix = "long_" if long else ""
        rates: list[Decimal] = [getattr(self, prefix + kind) for kind in TOKEN_KINDS]
        tokens: list[int] = [getattr(usage, kind) for kind in TOKEN_KINDS]
        return sum((rate * count for rate, count in zip(rates, tokens, strict=True)), Decimal(0)) / MILLION


@cache
def price_book() -> tuple[Price, ...]:
    raw: dict[str, Any] = tomllib.loads((Path(__file__).parent / "prices.toml").read_text("utf-8"))
    return tuple(Price.model_validate(row) for row in raw["price"])


def price_of(model: str, *, on: date) -> Price | None:
    """The price in force that day, or None where the book does not know the model (a local one, for instance)."""
    rows = [price for price in price_book() if price.model == model and price.since <= on]
    return max(rows, key=lambda price: price.since, default=None)


def cost(model: str, usage: Usage, *, on: date, batch: bool = False) -> Decimal | None:
    """US$ of one reply, or None where the price is not known; never a made-up zero."""
    price = price_of(model, on=on)
    return None if price is None else price.cost(usage) * (BATCH if batch else 1)
