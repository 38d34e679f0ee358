"""What an error answer of the Messages API means. Source: the API's page on errors, and the installed SDK's types."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from agents.prompt import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agents.gateway import FailureCode

LONGEST_WAIT = 3600.0  # seconds that a server may ask for: one header must not silence us for days
LONGEST_MESSAGE = 300  # characters of a server's own words about an error: it may send a whole page
_OF_STATUS: Mapping[int, FailureCode] = {
    401: "authentication", 402: "billing", 403: "permission", 404: "unknown_model",
    408: "timeout", 409: "server_error", 413: "too_large", 429: "rate_limited", 529: "overloaded",
}  # fmt: skip
# What is wrong with the account, whatever the status: a limit on spending comes as a 429, and no waiting helps.
_OF_ACCOUNT: Mapping[str, FailureCode] = {
    "billing_error": "billing",
    "enforced_spend_limit_reached": "billing",
    "contract_spend_limit_reached": "billing",
    "organization_on_hold": "permission",
}
# How the API says that a question does not fit (its type is that of any bad request), and what llama.cpp calls it.
_TOO_LONG = ("prompt is too long", "exceed context limit")
_OF_LLAMA = "exceed_context_size_error"


def code_of(status: int, *, named: tuple[str, ...], message: str = "") -> FailureCode:
    """`named` are the error's own type and code, `message` its words, as far as the server gave them."""
    of_account = next((_OF_ACCOUNT[name] for name in named if name in _OF_ACCOUNT), None)
    bad = of_account is None and status == 400  # noqa: PLR2004  HTTP
    if bad and (_OF_LLAMA in named or any(words in message.casefold() for words in _TOO_LONG)):
        return "too_large"
    return of_account or _OF_STATUS.get(status) or ("server_error" if status >= 500 else "bad_request")  # noqa: PLR2004  HTTP


def shown(message: str) -> str:
    """Words of a server, fit for a log, a page and a terminal."""
    return visible(" ".join(message.split()))[:LONGEST_MESSAGE]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the server asks, an hour at the most; the date form of the header is not used by this API."""
    try:
        seconds = float(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return min(max(0.0, seconds), LONGEST_WAIT) if math.isfinite(seconds) else None
