"""What of a bill is the cached context, by the double's account, and how much of it has to go to save a tenth."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from tests.double.account import BATCH_FACTOR, MILLION
from tests.double.models import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.double.models import Json

WORTH = Decimal("0.1")  # of the bill: below it, choosing the context by ticket is not worth its trouble


class Parts(NamedTuple):
    """US$. `prefix` is what reading and writing the cached context cost, the part that a shorter one would save."""

    prefix: Decimal
    answers: Decimal
    whole: Decimal


def parts(requests: Iterable[Json]) -> Parts:
    """Of these requests, as the double's account lists them."""
    prefix = answers = whole = Decimal(0)
    for one in requests:
        if not one["billed"]:
            continue
        rates = MODELS[one["model"]].prices.rates
        factor = (BATCH_FACTOR if one["batch"] else 1) / MILLION
        prefix += factor * (
            one["cache_read_tokens"] * rates.read
            + one["cache_write_5m_tokens"] * rates.write_5m
            + one["cache_write_1h_tokens"] * rates.write_1h
        )
        answers += factor * one["output_tokens"] * rates.output
        whole += Decimal(one["cost_usd"])
    return Parts(prefix, answers, whole)


def told(given: Parts) -> str:
    """With what a shorter context would save at the most."""
    share = given.prefix / given.whole
    needed = f"a cut of {WORTH / share:.0%}" if share > WORTH else "no cut is enough"
    return (
        f"the cached context is {share:.1%} of it all, answers are {given.answers / given.whole:.1%}; "
        f"cut by half it would save {share / 2:.1%} at the most; to save {WORTH:.0%}: {needed}"
    )
