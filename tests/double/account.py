"""What the double's calls cost and when they ran: the ledger that the product's own numbers are checked against.

It has its own price book and its own arithmetic, on purpose: it must not inherit a mistake from the product.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.double.cache import CacheUse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.double.models import Json, Model

MILLION = Decimal(1_000_000)
GEO_FACTOR = Decimal("1.1")  # inference_geo "us"
BATCH_FACTOR = Decimal("0.5")


def cost_of(model: Model, use: CacheUse, *, output: int, geo: str | None = None, batch: bool = False) -> Decimal:
    """US$ of one reply. A long prompt is judged by its whole length, cached or not."""
    book = model.prices
    prompt = use.input + use.write + use.read
    long = book.long_above is not None and prompt > book.long_above
    rates = book.long if long and book.long else book.rates
    total = (
        use.input * rates.input
        + use.write_5m * rates.write_5m
        + use.write_1h * rates.write_1h
        + use.read * rates.read
        + output * rates.output
    )
    return total / MILLION * (GEO_FACTOR if geo == "us" else 1) * (BATCH_FACTOR if batch else 1)


@dataclass
class Call:
    """One request to /v1/messages, from its first byte to its last. A call without `use` was not billed.

    `delivered` is False where a reply was made (and billed) but the client never got the whole of it.
    """

    index: int
    start: float
    model: str = ""
    kind: str = "other"
    schema: str = ""
    prefix: str = ""
    stable_tokens: int = 0
    status: int = 0
    fault: str = ""
    stop_reason: str = ""
    end: float | None = None
    use: CacheUse | None = None
    output: int = 0
    cost: Decimal = Decimal(0)
    delivered: bool = True
    batch: bool = False

    def to_json(self) -> Json:
        use = self.use or CacheUse(0)
        return {
            "index": self.index, "kind": self.kind, "model": self.model, "prefix": self.prefix,
            "start": self.start, "end": self.end, "status": self.status, "fault": self.fault,
            "stop_reason": self.stop_reason, "delivered": self.delivered,
            "batch": self.batch, "billed": self.use is not None,
            "input_tokens": use.input, "cache_write_5m_tokens": use.write_5m, "cache_write_1h_tokens": use.write_1h,
            "cache_read_tokens": use.read, "output_tokens": self.output, "cost_usd": str(self.cost),
        }  # fmt: skip


@dataclass
class Totals:
    """Sums over calls. `replies` are the billed ones; `undelivered` of them never reached the client whole."""

    requests: int = 0
    replies: int = 0
    undelivered: int = 0
    input: int = 0
    write_5m: int = 0
    write_1h: int = 0
    read: int = 0
    output: int = 0
    cost: Decimal = Decimal(0)
    statuses: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    @classmethod
    def of(cls, calls: Iterable[Call]) -> Totals:
        totals = cls()
        for call in calls:
            totals._add(call)
        return totals

    def _add(self, call: Call) -> None:
        self.requests += 1
        self.statuses[call.status] += 1
        if call.use is None:
            return
        self.replies += 1
        self.undelivered += not call.delivered
        self.input += call.use.input
        self.write_5m += call.use.write_5m
        self.write_1h += call.use.write_1h
        self.read += call.use.read
        self.output += call.output
        self.cost += call.cost

    def to_json(self) -> Json:
        return {
            "requests": self.requests, "replies": self.replies, "undelivered": self.undelivered,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "input_tokens": self.input, "cache_write_5m_tokens": self.write_5m,
            "cache_write_1h_tokens": self.write_1h, "cache_read_tokens": self.read,
            "output_tokens": self.output, "cost_usd": str(self.cost),
        }  # fmt: skip


@dataclass(frozen=True)
class AgentCalls:
    """The billed calls of one agent: one model with one output schema, in order of arrival."""

    model: str
    kind: str
    schema: str
    calls: Sequence[Call]

    @property
    def cache_read_share(self) -> float | None:
        """Of all that could have been read after the agent's first call, how much was; None where it had one call.

        What could have been read is the schema, tools and system of each call, marked for caching or not.
        """
        later = self.calls[1:]
        could = sum(call.stable_tokens for call in later)
        did = sum(min(call.use.read, call.stable_tokens) for call in later if call.use)
        return did / could if could else None

    def to_json(self) -> Json:
        return {
            "model": self.model,
            "kind": self.kind,
            "schema": self.schema,
            "prefixes": len({call.prefix for call in self.calls}),
            "stable_tokens": max((call.stable_tokens for call in self.calls), default=0),
            "cache_read_share": self.cache_read_share,
            **Totals.of(self.calls).to_json(),
        }


class Account:
    """All calls since the start or the last reset."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._in_flight = 0
        self.most_in_flight = 0

    def open(self, *, now: float) -> Call:
        call = Call(index=len(self.calls), start=now)
        self.calls.append(call)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        return call

    def of_batch(self, *, now: float) -> Call:
        """One request of a batch: nobody waits for it on a line of its own."""
        call = Call(index=len(self.calls), start=now, end=now, batch=True)
        self.calls.append(call)
        return call

    def close(self, call: Call, *, now: float) -> None:
        call.end = now
        self._in_flight -= 1

    @property
    def totals(self) -> Totals:
        return Totals.of(self.calls)

    @property
    def cost(self) -> Decimal:
        return self.totals.cost

    def models(self) -> dict[str, Totals]:
        names = dict.fromkeys(call.model for call in self.calls if call.model)
        return {name: Totals.of(call for call in self.calls if call.model == name) for name in names}

    def agents(self) -> list[AgentCalls]:
        """One entry for each model and schema, in order of their first billed call."""
        groups: dict[tuple[str, str], list[Call]] = {}
        for call in self.calls:
            if call.use is not None:
                groups.setdefault((call.model, call.schema), []).append(call)
        return [AgentCalls(model, calls[0].kind, schema, calls) for (model, schema), calls in groups.items()]

    def to_json(self) -> Json:
        ends = [call.end for call in self.calls if call.end is not None]
        first = min((call.start for call in self.calls), default=None)
        last = max(ends, default=None)
        return {
            "totals": self.totals.to_json(),
            "models": {name: totals.to_json() for name, totals in self.models().items()},
            "agents": [agent.to_json() for agent in self.agents()],
            "timing": {
                "first_start": first,
                "last_end": last,
                "seconds": last - first if first is not None and last is not None else None,
                "max_in_flight": self.most_in_flight,
            },
            "requests": [call.to_json() for call in self.calls],
        }
