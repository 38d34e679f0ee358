"""An instance that fits a JSON Schema of the kind that structured outputs accept, the same one for the same seed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.double.models import Json

OF_FORMAT = {
    "date-time": "2026-11-23T09:30:00Z",
    "time": "09:30:00Z",
    "date": "2026-11-23",
    "duration": "PT1H",
    "email": "someone@example.test",
    "hostname": "example.test",
    "uri": "https://example.test/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
OF_TYPE: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "null": None}


def instance(schema: Json, *, seed: str, root: Json | None = None) -> Any:  # noqa: ANN401  any JSON value
    """Every property is filled, every list has one item; enums and alternatives are chosen by the seed.

    `root` is the whole schema, where this one is a part of it that may refer to the rest.
    """
    return _make(schema, root or schema, random.Random(seed))  # noqa: S311  repeatable, not secret


def resolve(schema: Json, root: Json) -> Json:
    """Follows local references until there is none."""
    while "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#").strip("/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")] if part else target
        schema = target
    return schema


def _make(schema: Json, root: Json, chance: random.Random) -> Any:  # noqa: ANN401  any JSON value
    schema = resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return chance.choice(schema["enum"])
    if schema.get("anyOf"):
        return _make(chance.choice(schema["anyOf"]), root, chance)
    if schema.get("allOf"):
        return _make(_merged(schema["allOf"], root), root, chance)
    return _of_type(schema, root, chance)


def _of_type(schema: Json, root: Json, chance: random.Random) -> Any:  # noqa: ANN401  any JSON value
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = chance.choice(kind)
    if kind == "object":
        return {name: _make(part, root, chance) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [_make(schema["items"], root, chance)] if "items" in schema else []
    if kind == "string":
        return OF_FORMAT.get(schema.get("format", ""), "text")
    return OF_TYPE[kind]


def _merged(parts: list[Json], root: Json) -> Json:
    """The properties of all parts together; enough for objects, which is what allOf is used for."""
    merged: Json = {"type": "object", "properties": {}}
    for part in (resolve(part, root) for part in parts):
        if part.get("type", "object") != "object":
            return part
        merged["properties"].update(part.get("properties", {}))
    return merged
