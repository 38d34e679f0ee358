"""A double and the real SDK pointed at it, for the double's own tests."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anthropic import Anthropic  # noqa: TID251  the double is tested through the real SDK
from anthropic.types import Message  # noqa: TID251  the same

from tests.double.server import Double, Profile, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.double.models import Json

HAIKU = "claude-haiku-5-5"
HAIKU_4 = "claude-haiku-4-5"
SONNET = "claude-sonnet-5-5"
GONE: Any = object()  # takes a key out of the body

BODY: Json = {
    "model": HAIKU,
    "max_tokens": 400,
    "thinking": {"type": "disabled"},
    "messages": [{"role": "user", "content": "Hello"}],
}


@dataclass(frozen=True)
class Caller:
    double: Double
    client: Anthropic

    def send(self, **changes: object) -> Message:
        """Posts a valid body with these changes as it is, past the SDK's own argument checks; GONE takes a key out."""
        body = {name: value for name, value in {**BODY, **changes}.items() if value is not GONE}
        return self.client.post("/v1/messages", body=body, cast_to=Message)

    def usage(self, **changes: object) -> tuple[int, int, int, int]:
        """Tokens as billed: input, written for 5 minutes, written for an hour, read."""
        used = self.send(**changes).usage
        assert used.cache_creation is not None
        kept = used.cache_creation
        assert used.cache_creation_input_tokens == kept.ephemeral_5m_input_tokens + kept.ephemeral_1h_input_tokens
        return (
            used.input_tokens,
            kept.ephemeral_5m_input_tokens,
            kept.ephemeral_1h_input_tokens,
            used.cache_read_input_tokens or 0,
        )


@contextmanager
def calling(*, profile: Profile = "anthropic", latency: float = 0.0) -> Iterator[Caller]:
    """A double with an SDK client that neither retries nor waits long."""
    with running(profile=profile, latency=latency) as double, client_of(double) as client:
        yield Caller(double, client)


def client_of(double: Double, *, key: str | None = None, timeout: float = 10.0) -> Anthropic:
    return Anthropic(api_key=key or double.key, base_url=double.base_url, max_retries=0, timeout=timeout)


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def formatted(schema: Json) -> Json:
    """The output_config that asks for this schema."""
    return {"format": {"type": "json_schema", "schema": schema}}


def closed(**properties: Json) -> Json:
    """An object schema with these properties, all required and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def block(text: str, ttl: str | None = None) -> Json:
    """A text block; with a time to live it is a cache breakpoint."""
    marker = {"cache_control": {"type": "ephemeral", "ttl": ttl}} if ttl else {}
    return {"type": "text", "text": text, **marker}


def user(text: str) -> list[Json]:
    return [{"role": "user", "content": text}]
