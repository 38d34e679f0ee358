"""Which output schemas the double takes, by the rules of structured outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anthropic import BadRequestError, transform_schema  # noqa: TID251  what the product may use to make its schemas
from pydantic import BaseModel, Field

from tests.double.caller import Caller, calling, closed, formatted
from tests.double.grammar import MOST_NODES, MOST_OPTIONAL, MOST_UNIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.double.models import Json

TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "integer"}


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    with calling() as made:
        yield made


def nested(depth: int) -> Json:
    schema = TEXT
    for _ in range(depth):
        schema = closed(inner=schema)
    return schema


def optional(count: int) -> Json:
    return {**closed(**{f"p{number}": TEXT for number in range(count)}), "required": []}


def unions(count: int) -> Json:
    return closed(**{f"p{number}": {"type": ["string", "null"]} for number in range(count)})


BAD: dict[str, tuple[Json, str]] = {
    "open object": ({"type": "object", "properties": {}}, "'additionalProperties' must be explicitly set to false"),
    "open object within": (closed(a={"type": "object"}), "'additionalProperties' must be explicitly set to false"),
    "additionalProperties true": ({**closed(), "additionalProperties": True}, "'additionalProperties' must be"),
    "minimum": (closed(a={**NUMBER, "minimum": 1}), "For 'integer' type, property 'minimum' is not supported"),
    "maximum": (closed(a={**NUMBER, "maximum": 1}), "property 'maximum' is not supported"),
    "both": (closed(a={**NUMBER, "minimum": 0, "maximum": 1}), "properties maximum, minimum are not supported"),
    "multipleOf": (closed(a={"type": "number", "multipleOf": 2}), "For 'number' type, property 'multipleOf'"),
    "minLength": (closed(a={**TEXT, "minLength": 1}), "For 'string' type, property 'minLength' is not supported"),
    "maxLength": (closed(a={**TEXT, "maxLength": 9}), "For 'string' type, property 'maxLength' is not supported"),
    "maxItems": (closed(a={"type": "array", "items": TEXT, "maxItems": 3}), "property 'maxItems' is not supported"),
    "minItems 2": (closed(a={"type": "array", "items": TEXT, "minItems": 2}), "'minItems' values other than 0 or 1"),
    "uniqueItems": (closed(a={"type": "array", "items": TEXT, "uniqueItems": True}), "property 'uniqueItems'"),
    "unknown format": (closed(a={**TEXT, "format": "phone"}), "format 'phone' is not supported"),
    "recursion": (
        {**closed(a={"$ref": "#/$defs/node"}), "$defs": {"node": closed(next={"$ref": "#/$defs/node"})}},
        "circular reference #/$defs/node: recursive schemas are not supported",
    ),
    "recursion to the root": (closed(a={"$ref": "#"}), "recursive schemas are not supported"),
    "external reference": (closed(a={"$ref": "https://example.test/a.json"}), "external reference"),
    "reference to nothing": (closed(a={"$ref": "#/$defs/none"}), "reference #/$defs/none points nowhere"),
    "oneOf": (closed(a={"oneOf": [TEXT, NUMBER]}), "property 'oneOf' is not supported"),
    "not": (closed(a={"type": "string", "not": {"const": "x"}}), "property 'not' is not supported"),
    "allOf with a reference": (
        {**closed(a={"allOf": [{"$ref": "#/$defs/b"}]}), "$defs": {"b": TEXT}},
        "'allOf' with '$ref' is not supported",
    ),
    "nothing said": (closed(a={}), "a schema needs 'type'"),
    "true for a schema": ({**closed(), "properties": {"a": True}}, "a schema must be an object"),
    "no such type": (closed(a={"type": "text"}), "type 'text' is not a JSON type"),
    "an enum of objects": (closed(a={"enum": [{"a": 1}]}), "take strings, numbers, booleans and null only"),
    "an empty enum": (closed(a={"enum": []}), "'enum' must list at least one value"),
    "too many optional": (optional(MOST_OPTIONAL + 1), "too many optional parameters (25)"),
    "too many unions": (unions(MOST_UNIONS + 1), "too many parameters with union types (17"),
    "too deep": (nested(13), "The compiled grammar is too large"),
    "too large": (closed(a={"enum": list(range(MOST_NODES))}), "The compiled grammar is too large"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_schema_that_cannot_be_enforced_is_a_400(name: str, caller: Caller) -> None:
    schema, message = BAD[name]
    with pytest.raises(BadRequestError) as caught:
        caller.send(output_config=formatted(schema))
    said = str(caught.value.api_message)
    assert said.startswith("output_config.format.schema: ")
    assert message in said


GOOD: dict[str, Json] = {
    "local references": {**closed(a={"$ref": "#/$defs/b"}, c={"$ref": "#/$defs/b"}), "$defs": {"b": closed(d=TEXT)}},
    "enums and const": closed(a={"enum": ["x", 1, None, True]}, b={"const": "y"}),
    "alternatives": closed(a={"anyOf": [TEXT, {"type": "null"}]}),
    "a list with at least one": closed(a={"type": "array", "items": NUMBER, "minItems": 1}),
    "formats and patterns": closed(a={**TEXT, "format": "date-time"}, b={**TEXT, "pattern": "^[a-z]+$"}),
    "words": closed(a={**TEXT, "title": "A", "description": "d", "default": "x"}),
    "as many optional as allowed": optional(MOST_OPTIONAL),
    "as many unions as allowed": unions(MOST_UNIONS),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_schema_within_the_rules_is_answered(name: str, caller: Caller) -> None:
    assert caller.send(output_config=formatted(GOOD[name])).stop_reason == "end_turn"


class Measured(BaseModel):
    """Bounds that the grammar cannot enforce; the SDK moves them into descriptions."""

    score: int = Field(ge=0, le=100)
    names: list[str] = Field(min_length=2, max_length=5)


def test_what_the_sdk_makes_of_a_model_is_accepted(caller: Caller) -> None:
    with pytest.raises(BadRequestError):
        caller.send(output_config=formatted(Measured.model_json_schema()))
    assert caller.send(output_config=formatted(transform_schema(Measured))).stop_reason == "end_turn"


def test_counting_refuses_the_same_schemas(caller: Caller) -> None:
    with pytest.raises(BadRequestError, match="additionalProperties"):
        caller.client.messages.count_tokens(
            model="claude-haiku-5-5",
            messages=[{"role": "user", "content": "Hello"}],
            output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
        )
