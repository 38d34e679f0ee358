"""How many tokens a text will be, without asking anybody."""

from __future__ import annotations

import math

BYTES_PER_TOKEN = 3.1  # a cautious figure for English prose and markdown: the true count is rarely higher


def token_estimate(text: str) -> int:
    """The number of tokens to plan with for this text."""
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN)
