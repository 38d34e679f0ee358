"""A request body as the flat run of blocks that the prompt cache sees, with its tokens.

Order: the output schema (the vendor puts it into the system prompt, and changing it invalidates the cache), tools,
system, messages. A token is 3.1 bytes of UTF-8, rounded up over the whole; the part up to a block is rounded the same
way, so the parts of a prompt always add up to its total.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.double.models import Json

STABLE_PARTS = frozenset({"schema", "tools", "system"})


def tokens_of(size: int) -> int:
    """ceil(bytes / 3.1), in integers."""
    return -(-size * 10 // 31)


def compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Piece(NamedTuple):
    """One block as it stands in the request: where it belongs, its bytes, its cache_control if it has one."""

    part: str
    data: bytes
    marker: Json | None


class Block(NamedTuple):
    """One block with everything before it: `tokens` and `digest` cover the prompt up to its end."""

    part: str
    tokens: int
    digest: bytes
    marker: Json | None


@dataclass(frozen=True)
class Prompt:
    """`stable_tokens` is schema + tools + system: what ought to be the same in every call of one agent."""

    blocks: tuple[Block, ...]
    schema_digest: str
    text: str  # what users said, for matching rules and reading tickets

    @property
    def tokens(self) -> int:
        return self.blocks[-1].tokens if self.blocks else 0

    @property
    def stable_tokens(self) -> int:
        return self._stable.tokens if self._stable else 0

    @property
    def stable_digest(self) -> str:
        return self._stable.digest.hex()[:16] if self._stable else ""

    @cached_property
    def _stable(self) -> Block | None:
        return next((block for block in reversed(self.blocks) if block.part in STABLE_PARTS), None)


def render(body: Json) -> Prompt:
    """What the model is given for this body: every part that is billed, in the order in which it is cached."""
    running = hashlib.sha256(compact([body.get("model"), _settings(body)]))
    size = 0
    blocks: list[Block] = []
    for piece in _with_automatic_marker(body, list(_pieces(body))):
        size += len(piece.data)
        running.update(b"%s:%d:" % (piece.part.encode(), len(piece.data)) + piece.data)
        blocks.append(Block(piece.part, tokens_of(size), running.copy().digest(), piece.marker))
    schema = output_schema(body)
    digest = hashlib.sha256(compact(schema)).hexdigest()[:16] if schema is not None else ""
    return Prompt(tuple(blocks), digest, user_text(body))


def output_schema(body: Json) -> Json | None:
    output = body.get("output_config") or {}
    schema = (output.get("format") or {}).get("schema")
    return schema if isinstance(schema, dict) else None


def user_text(body: Json) -> str:
    """All that user turns say, in order; the ticket is in there."""
    return "\n".join(
        text for message in body["messages"] if message["role"] == "user" for text in _texts(message["content"])
    )


def _settings(body: Json) -> list[Any]:
    """Thinking and effort are rendered into the prompt, so a different setting is a different prefix."""
    return [body.get("thinking"), (body.get("output_config") or {}).get("effort")]


def _texts(content: str | list[Json]) -> Iterator[str]:
    if isinstance(content, str):
        yield content
        return
    for block in content:
        if block.get("type") == "text":
            yield block["text"]


def _pieces(body: Json) -> Iterator[Piece]:
    schema = output_schema(body)
    if schema is not None:
        yield Piece("schema", compact(schema), None)
    for tool in body.get("tools") or ():
        yield _block("tools", tool)
    yield from _content("system", body.get("system") or ())
    for message in body["messages"]:
        yield from _content(f"turn:{message['role']}", message["content"])


def _content(part: str, content: str | list[Json] | tuple[()]) -> Iterator[Piece]:
    if isinstance(content, str):
        yield Piece(part, content.encode(), None)
        return
    for block in content:
        yield _block(part, block)


def _block(part: str, block: Json) -> Piece:
    marker = block.get("cache_control")
    if block.get("type") == "text":
        return Piece(part, block["text"].encode(), marker)
    return Piece(part, compact({key: value for key, value in block.items() if key != "cache_control"}), marker)


def _with_automatic_marker(body: Json, pieces: list[Piece]) -> list[Piece]:
    """A cache_control at the top level of the body marks the last block."""
    marker = body.get("cache_control")
    if marker and pieces and pieces[-1].marker is None:
        pieces[-1] = pieces[-1]._replace(marker=marker)
    return pieces
