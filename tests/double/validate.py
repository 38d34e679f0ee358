"""The shape of a request, checked three ways, because no single description of the API is complete:

the JSON Schemas of the published description (patched where it is older than the API version), the installed SDK's
own types, and the names that the SDK's `create` can send. What an agent sends differs only in its texts, so a body is
checked once for each shape: texts are replaced by a letter first, and the verdict is kept.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from anthropic.resources.messages.messages import Messages  # noqa: TID251  the types that the double holds callers to
from anthropic.types import message_count_tokens_params, message_create_params  # noqa: TID251  the same
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from tests.double.messages import invalid

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError as SchemaError

    from tests.double.models import Json

Endpoint = Literal["messages", "count_tokens"]
SHAPES_KEPT = 1024

SCHEMA_OF: Mapping[Endpoint, str] = {"messages": "CreateMessageParams", "count_tokens": "CountMessageTokensParams"}
METHOD_OF: Mapping[Endpoint, Callable[..., Any]] = {"messages": Messages.create, "count_tokens": Messages.count_tokens}
TYPE_OF: Mapping[Endpoint, Any] = {
    "messages": message_create_params.MessageCreateParams,
    "count_tokens": message_count_tokens_params.MessageCountTokensParams,
}
SENT_AS_HEADERS = frozenset({"user_profile_id", "workspace_id"})
NOT_SENT = frozenset({"self", "timeout", "extra_headers", "extra_query", "extra_body", "output_format"})


def prepare() -> None:
    """Builds what the first check would otherwise build, so that no timed call pays for it."""
    counted = {"model": "claude", "messages": [{"role": "user", "content": "x"}]}
    check_shape(counted, "count_tokens")
    check_shape({**counted, "max_tokens": 1}, "messages")


def check_shape(body: Json, endpoint: Endpoint) -> None:
    """Raises ApiError 400 naming the field, as the API does."""
    problem = _verdict(json.dumps(_without_texts(body), sort_keys=True), endpoint)
    if problem is not None:
        raise invalid(problem)


@lru_cache(maxsize=SHAPES_KEPT)
def _verdict(shape: str, endpoint: Endpoint) -> str | None:
    body = json.loads(shape)
    return described_problem(body, endpoint) or typed_problem(body, endpoint) or named_problem(body, endpoint)


def _without_texts(body: Json) -> Json:
    """The body with each text that may vary from call to call replaced by one letter, if it has any."""
    shape = dict(body)
    if "system" in shape:
        shape["system"] = _content_without_texts(shape["system"])
    if isinstance(shape.get("messages"), list):
        shape["messages"] = [
            {**message, "content": _content_without_texts(message["content"])}
            if isinstance(message, dict) and "content" in message
            else message
            for message in shape["messages"]
        ]
    return shape


def _content_without_texts(content: Any) -> Any:  # noqa: ANN401  whatever was sent
    if isinstance(content, str):
        return content and "x"
    if not isinstance(content, list):
        return content
    return [
        {**block, "text": block["text"] and "x"}
        if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str)
        else block
        for block in content
    ]


# --- the published description


def described_problem(body: Json, endpoint: Endpoint) -> str | None:
    """What the patched description says against the body, in the API's wording."""
    error = next(iter(_validator(endpoint).iter_errors(body)), None)
    return None if error is None else _in_words(_innermost(error))


@cache
def _validator(endpoint: Endpoint) -> Draft202012Validator:
    root = {"$ref": f"#/components/schemas/{SCHEMA_OF[endpoint]}", "components": {"schemas": description()}}
    return Draft202012Validator(root)


@cache
def description() -> Json:
    """The schemas of the published description, brought up to API version 2026-10-21."""
    text = resources.files("llm_comply.specs").joinpath("anthropic.json").read_text(encoding="utf-8")
    schemas: Json = json.loads(text)["components"]["schemas"]
    speed = {"anyOf": [{"enum": ["standard", "fast"], "type": "string"}, {"type": "null"}]}
    create, count = schemas["CreateMessageParams"]["properties"], schemas["CountMessageTokensParams"]["properties"]
    for gone in ("temperature", "top_p", "top_k"):
        del create[gone]
    create["speed"] = count["speed"] = speed
    create["diagnostics"] = {
        "anyOf": [_object({"previous_message_id": {"type": ["string", "null"]}}), {"type": "null"}]
    }
    schemas["ThinkingConfigBetweenTools"] = _object({"type": {"const": "between_tools"}}, required=["type"])
    schemas["ThinkingConfigParam"]["oneOf"].append({"$ref": "#/components/schemas/ThinkingConfigBetweenTools"})
    return schemas


def _object(properties: Json, *, required: Iterable[str] = ()) -> Json:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _innermost(error: SchemaError) -> SchemaError:
    """Of alternatives that all failed, the one that was meant: the one whose `type` fits, or that got furthest."""
    while error.validator in {"anyOf", "oneOf"} and error.context:
        branches: dict[int, list[SchemaError]] = {}
        for inner in error.context:
            branches.setdefault(int(inner.schema_path[0]), []).append(inner)
        meant = [errors for errors in branches.values() if not any(_is_other_kind(inner) for inner in errors)]
        candidates = meant or list(branches.values())
        error = max((errors[0] for errors in candidates), key=lambda inner: len(inner.path))
    return error


def _is_other_kind(error: SchemaError) -> bool:
    """A different `type` than this alternative is for: as a tag, or as a kind of JSON value."""
    depth = len(error.relative_path)
    tag = error.validator == "const" and depth == 1 and error.relative_path[0] == "type"
    return tag or (error.validator == "type" and depth == 0)


def _in_words(error: SchemaError) -> str:
    """`messages.0.content: Field required`, and so on."""
    path = ".".join(str(part) for part in error.absolute_path)
    sent: Any = error.instance
    schema: Any = error.schema
    if error.validator == "required":
        missing = next(name for name in schema["required"] if name not in sent)
        return f"{path}.{missing}: Field required".lstrip(".")
    if error.validator == "additionalProperties":
        extra = next(name for name in sent if name not in schema.get("properties", {}))
        return f"{path}.{extra}: Extra inputs are not permitted".lstrip(".")
    return f"{path or 'body'}: {error.message[:300]}"


# --- the installed SDK


@cache
def _adapter(endpoint: Endpoint) -> TypeAdapter[Any]:
    return TypeAdapter(TYPE_OF[endpoint])


def typed_problem(body: Json, endpoint: Endpoint) -> str | None:
    """What the SDK's own types say against the body. Lists are validated lazily, so all are walked to their ends."""
    try:
        _walk(_adapter(endpoint).validate_python(body))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{_where(body, first['loc'])}: {first['msg']}"
    return None


def _walk(value: object) -> None:
    if isinstance(value, Mapping):
        for part in value.values():
            _walk(part)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for part in value:
            _walk(part)


def _where(body: Any, loc: tuple[int | str, ...]) -> str:  # noqa: ANN401  whatever was sent
    """The error's place as far as it is a place in the body: pydantic also names the alternatives that it tried."""
    path: list[str] = []
    for part in loc:
        in_list = isinstance(body, list) and isinstance(part, int) and part < len(body)
        if in_list or (isinstance(body, dict) and part in body):
            body = body[part]
            path.append(str(part))
    return ".".join(path) or ".".join(str(part) for part in loc)


# --- the names that `create` can send


@cache
def names(endpoint: Endpoint) -> frozenset[str]:
    return frozenset(inspect.signature(METHOD_OF[endpoint]).parameters) - NOT_SENT - SENT_AS_HEADERS


def named_problem(body: Json, endpoint: Endpoint) -> str | None:
    unknown = sorted(body.keys() - names(endpoint))
    return f"{unknown[0]}: Extra inputs are not permitted" if unknown else None
