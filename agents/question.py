"""What is asked of a model and what comes back: plain values, shared by agents, gateway and whoever keeps replies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Agent = Literal["triage", "qc", "chief_of_staff"]
Purpose = Literal[
    "review", "repair",  # one finished or opened ticket
    "second", "second_repair",  # the same ticket again, where the first run alone should not decide
    "masked", "masked_repair",  # the same ticket without the text in it that reads like instructions
    "strong", "strong_repair",  # the same ticket by the strong model, where the worker's answers decided nothing
    "replay", "replay_repair",  # a ticket under a proposed context, beside the one in force
    "eval", "eval_repair",  # a ticket that a person labelled, by one of several models that are compared
    "shadow", "shadow_repair",  # the same ticket once more, to see whether a reply that is reused would be the same
    "prime",  # no answer is wanted: the prefix is written into the vendor's cache, before a batch
    "propose", "propose_repair", "opening", "opening_repair",  # of the chief of staff: on a pattern, for a report
]  # fmt: skip
Outcome = Literal["answered", "truncated", "refused", "context_exceeded", "unusable"]


@dataclass(frozen=True)
class Turn:
    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Question:
    """One model call. `system` holds the stable blocks, cached at the end of the last; `turns` ends with a user turn.

    `key` says whether two calls ask the same thing: it is made of what decides the answer and never of rendered bytes,
    because the fence around a ticket differs by install.
    """

    agent: Agent
    purpose: Purpose
    repetition: int
    revision_hash: str
    agent_hash: str
    model: str
    schema: Mapping[str, Any] = field(hash=False)
    system: tuple[str, ...]
    turns: tuple[Turn, ...]
    max_tokens: int
    private: tuple[str, ...] = ()  # what no answer may repeat: an answer that does obeys the ticket

    @cached_property
    def schema_hash(self) -> str:
        return hashlib.sha256(json.dumps(self.schema, sort_keys=True).encode()).hexdigest()

    @cached_property
    def key(self) -> str:
        return reply_key(
            agent=self.agent,
            revision_hash=self.revision_hash,
            agent_hash=self.agent_hash,
            model=self.model,
            schema_hash=self.schema_hash,
            purpose=self.purpose,
            repetition=self.repetition,
        )


def reply_key(**parts: str | int) -> str:
    """SHA-256 over the named parts; equal parts in any order give the same key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Usage:
    """Tokens of one reply. Input total = input + cache_write_5m + cache_write_1h + cache_read."""

    input: int = 0
    output: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0


@dataclass(frozen=True)
class Reply:
    """What a model said, whole, with what it cost in tokens. `text` is the JSON text, valid or not.

    `stop_reason` is the API's own word; `outcome` is what it means to us, and only `answered` is an answer.
    """

    text: str
    outcome: Outcome
    stop_reason: str
    usage: Usage
    model: str
    request_id: str = ""
    latency_ms: int = 0
    geo: str = field(default="", compare=False)  # where it was computed, if the server says so: it decides the price


Ask = Callable[[Question], Reply]
NonceFor = Callable[[str], str]  # reply key -> the fence's nonce: HMAC(install secret, key)
