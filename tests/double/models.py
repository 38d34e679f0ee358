"""The models that the double knows: what each accepts, how it caches, what it costs.

Source: the vendor's model, pricing, thinking and prompt-caching pages as read in November 2026. Where the texts leave
something open, the stricter reading is taken, so that what passes here passes there.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

Lifecycle = Literal["active", "deprecated", "retired"]
Json = dict[str, Any]

EFFORTS = ("low", "medium", "high", "xhigh", "max")
THINKING_OFF = frozenset({"disabled", "between_tools"})
EFFORTS_WITHOUT_THINKING = frozenset({"low", "medium", "high"})  # thinking off is a 400 above these


class Rates(NamedTuple):
    """US$ per million tokens."""

    input: Decimal
    output: Decimal
    write_5m: Decimal
    write_1h: Decimal
    read: Decimal


class PriceBook(NamedTuple):
    """`long` applies to every token of a request whose whole prompt is above `long_above` tokens."""

    rates: Rates
    long_above: int | None = None
    long: Rates | None = None


@dataclass(frozen=True)
class Model:
    """`thinking` and `efforts` hold what is accepted; an empty `efforts` means that the parameter itself is a 400."""

    id: str
    name: str
    line: str
    created_at: str
    context: int
    max_output: int
    cache_minimum: int
    thinking: frozenset[str]
    prices: PriceBook
    efforts: tuple[str, ...] = EFFORTS
    default_effort: str = "high"
    thinks_by_default: bool = True
    forced_tools: bool = False
    prefill: bool = False
    lifecycle: Lifecycle = "active"
    deprecated_at: str | None = None
    retires_at: str | None = None


def _rates(*per_million: str) -> Rates:
    return Rates(*(Decimal(price) for price in per_million))


MODELS: Mapping[str, Model] = {
    model.id: model
    for model in (
        Model(
            id="claude-haiku-5-5",
            name="Claude Haiku 5.5",
            line="haiku",
            created_at="2026-10-07T00:00:00Z",
            context=1_000_000,
            max_output=128_000,
            cache_minimum=512,
            thinking=frozenset({"adaptive", "disabled"}),
            default_effort="medium",
            forced_tools=True,
            prices=PriceBook(
                rates=_rates("0.10", "0.50", "0.125", "0.20", "0.01"),
                long_above=100_000,
                long=_rates("0.50", "2.50", "0.625", "1.00", "0.05"),
            ),
        ),
        Model(
            id="claude-haiku-4-5",
            name="Claude Haiku 4.5",
            line="haiku",
            created_at="2025-10-15T00:00:00Z",
            context=200_000,
            max_output=64_000,
            cache_minimum=4096,
            thinking=frozenset({"enabled", "disabled"}),
            efforts=(),
            thinks_by_default=False,
            forced_tools=True,
            prefill=True,
            prices=PriceBook(_rates("1", "5", "1.25", "2", "0.10")),
        ),
        Model(
            id="claude-sonnet-5-5",
            name="Claude Sonnet 5.5",
            line="sonnet",
            created_at="2026-09-28T00:00:00Z",
            context=1_000_000,
            max_output=128_000,
            cache_minimum=1024,
            thinking=frozenset({"adaptive", "between_tools"}),
            prices=PriceBook(_rates("2", "10", "2.50", "4", "0.10")),
        ),
        Model(
            id="claude-opus-5-5",
            name="Claude Opus 5.5",
            line="opus",
            created_at="2026-09-01T00:00:00Z",
            context=1_000_000,
            max_output=128_000,
            cache_minimum=1024,
            thinking=frozenset({"adaptive", "between_tools"}),
            prices=PriceBook(_rates("4", "20", "5", "8", "0.20")),
        ),
        Model(
            id="claude-sonnet-4-5",
            name="Claude Sonnet 4.5",
            line="sonnet",
            created_at="2025-09-29T00:00:00Z",
            context=200_000,
            max_output=64_000,
            cache_minimum=1024,
            thinking=frozenset({"enabled", "disabled"}),
            efforts=(),
            thinks_by_default=False,
            forced_tools=True,
            prefill=True,
            lifecycle="deprecated",
            deprecated_at="2026-05-30T00:00:00Z",
            retires_at="2026-11-30T00:00:00Z",
            prices=PriceBook(_rates("3", "15", "3.75", "6", "0.30")),
        ),
        Model(
            id="claude-sonnet-4-20250514",
            name="Claude Sonnet 4",
            line="sonnet",
            created_at="2025-05-14T00:00:00Z",
            context=200_000,
            max_output=64_000,
            cache_minimum=1024,
            thinking=frozenset({"enabled", "disabled"}),
            efforts=(),
            thinks_by_default=False,
            lifecycle="retired",
            deprecated_at="2025-12-15T00:00:00Z",
            retires_at="2026-06-15T00:00:00Z",
            prices=PriceBook(_rates("3", "15", "3.75", "6", "0.30")),
        ),
    )
}


def _able(*, supported: bool) -> Json:
    return {"supported": supported}


def describe(model: Model) -> Json:
    """The body of `GET /v1/models/{id}`, every key that the SDK's ModelInfo has."""
    kinds = ("adaptive", "between_tools", "disabled", "enabled")
    effort = {level: _able(supported=level in model.efforts) for level in EFFORTS}
    yes, no = _able(supported=True), _able(supported=False)
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.name,
        "line": model.line,
        "created_at": model.created_at,
        "lifecycle": model.lifecycle,
        "deprecated_at": model.deprecated_at,
        "retires_at": model.retires_at,
        "max_input_tokens": model.context,
        "max_tokens": model.max_output,
        "capabilities": {
            "batch": yes,
            "citations": yes,
            "code_execution": yes,
            "context_management": {"supported": False},
            "effort": {**effort, "supported": bool(model.efforts)},
            "image_input": yes,
            "pdf_input": yes,
            "server_tools": {"supported": False, "code_execution": no, "web_search": no},
            "structured_outputs": yes,
            "thinking": {
                "supported": True,
                "types": {kind: _able(supported=kind in model.thinking) for kind in kinds},
            },
        },
    }
