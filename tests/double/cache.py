"""The prompt cache: what a prompt reads and writes, as the vendor documents it.

- An entry is an exact prefix of blocks under one model, schema, thinking and effort, and it lives 5 minutes or an hour
  from its last use. Prefixes below the model's minimum are not cached, and nobody is told.
- Entries are written at breakpoints only. A reader looks for the longest one at its own breakpoints and at most 20
  blocks back from each of them.
- Our reading of "readable once the writing reply has begun": a reply that is not streamed begins when its first byte
  leaves, which is after the latency. Calls that start before that each write (and pay for) the same prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.double.models import Model
    from tests.double.prompt import Block, Prompt

LOOK_BACK = 20  # blocks
SECONDS = {"5m": 300.0, "1h": 3600.0}


class CacheUse(NamedTuple):
    """Tokens of one prompt by how they are billed: input + write_5m + write_1h + read = the whole prompt."""

    input: int
    write_5m: int = 0
    write_1h: int = 0
    read: int = 0

    @property
    def write(self) -> int:
        return self.write_5m + self.write_1h


@dataclass
class Entry:
    ttl: float
    expires: float


class PromptCache:
    """`now` is passed in by the caller, in seconds of any clock that does not run backwards."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}

    def look_up(self, prompt: Prompt, model: Model, *, now: float) -> CacheUse:
        """What this prompt reads, and what it will write; what it reads lives on for its time from now."""
        marks = [index for index, block in enumerate(prompt.blocks) if block.marker and _long_enough(block, model)]
        found = self._longest(prompt, marks, now=now)
        read = found.tokens if found else 0
        if found:
            entry = self._entries[found.digest]
            entry.expires = now + entry.ttl
        written = [prompt.blocks[index] for index in marks if prompt.blocks[index].tokens > read]
        hour = max((block.tokens for block in written if _ttl(block) == "1h"), default=read)
        end = max((block.tokens for block in written), default=read)
        return CacheUse(input=prompt.tokens - end, write_5m=end - max(hour, read), write_1h=hour - read, read=read)

    def write(self, prompt: Prompt, model: Model, *, now: float) -> None:
        """The reply has begun: each breakpoint's prefix can be read from now on. What was there keeps its own time."""
        for block in prompt.blocks:
            if block.marker and _long_enough(block, model):
                entry = self._entries.get(block.digest)
                if entry is None or entry.expires <= now:
                    ttl = SECONDS[_ttl(block)]
                    self._entries[block.digest] = Entry(ttl, now + ttl)

    def _longest(self, prompt: Prompt, marks: list[int], *, now: float) -> Block | None:
        for mark in reversed(marks):
            for index in range(mark, max(-1, mark - LOOK_BACK - 1), -1):
                entry = self._entries.get(prompt.blocks[index].digest)
                if entry and entry.expires > now:
                    return prompt.blocks[index]
        return None

    def clear(self) -> None:
        self._entries.clear()


def _long_enough(block: Block, model: Model) -> bool:
    return block.tokens >= model.cache_minimum


def _ttl(block: Block) -> str:
    return str((block.marker or {}).get("ttl", "5m"))
