"""Whether a JSON Schema can be made into an output grammar: the rules of structured outputs.

The counts of optional and union-typed properties are the vendor's published limits. The limit for "the compiled grammar
is too large" is not published; ours is a guess on the safe side of what has been reported.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tests.double.instances import OF_FORMAT
from tests.double.messages import invalid
from tests.double.prompt import compact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.double.models import Json

MOST_OPTIONAL = 24
MOST_UNIONS = 16
MOST_NODES = 600  # ours: schemas, enum values and references expanded
DEEPEST = 12  # ours
PRIMITIVES = (str, int, float, bool, type(None))

ANYWHERE = frozenset({
    "type", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "definitions", "title", "description", "default",
})  # fmt: skip
BY_TYPE: dict[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "minItems"}),
    "string": frozenset({"format", "pattern"}),
    "integer": frozenset(),
    "number": frozenset(),
    "boolean": frozenset(),
    "null": frozenset(),
}


class GrammarError(ValueError):
    """Why a schema cannot be compiled, without the field it came from."""


def check_grammar(schema: Json) -> None:
    """Raises ApiError 400 where `output_config.format.schema` is not one that can be enforced."""
    problem = _problem(compact(schema))
    if problem is not None:
        raise invalid(f"output_config.format.schema: {problem}")


@lru_cache(maxsize=256)
def _problem(text: bytes) -> str | None:
    schema: Json = json.loads(text)
    try:
        nodes = list(_nodes(schema, schema, seen=(), depth=0))
        for node in nodes:
            _check_node(node)
        _check_size(nodes)
    except GrammarError as error:
        return str(error)
    return None


def _nodes(node: Any, root: Json, *, seen: tuple[str, ...], depth: int) -> Iterator[Json]:  # noqa: ANN401  as sent
    """Every schema inside, with references followed; each use of a definition counts."""
    if not isinstance(node, dict):
        raise GrammarError("a schema must be an object; true, false and lists of schemas are not supported")
    if depth > DEEPEST:
        raise GrammarError(_TOO_LARGE)
    yield node
    if "$ref" in node:
        yield from _referred(node["$ref"], root, seen=seen, depth=depth)
    properties = node.get("properties", {})
    if not isinstance(properties, dict):
        raise GrammarError("'properties' must be an object")
    inner = [*properties.values(), *node.get("anyOf", ()), *node.get("allOf", ())]
    for part in [*inner, *([node["items"]] if "items" in node else [])]:
        yield from _nodes(part, root, seen=seen, depth=depth + 1)


def _referred(reference: Any, root: Json, *, seen: tuple[str, ...], depth: int) -> Iterator[Json]:  # noqa: ANN401
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise GrammarError(f"external reference {reference!r} is not supported; only local $ref is")
    if reference in seen:
        raise GrammarError(f"circular reference {reference}: recursive schemas are not supported")
    target: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part and (not isinstance(target, dict) or part not in target):
            raise GrammarError(f"reference {reference} points nowhere")
        target = target[part] if part else target
    yield from _nodes(target, root, seen=(*seen, reference), depth=depth + 1)


def _check_node(node: Json) -> None:
    kinds = _types(node)
    allowed = ANYWHERE.union(*(BY_TYPE[kind] for kind in kinds)) if kinds else ANYWHERE
    if refused := sorted(node.keys() - allowed):
        of = f"For '{kinds[0]}' type, " if kinds else ""
        what = f"property '{refused[0]}' is" if len(refused) == 1 else f"properties {', '.join(refused)} are"
        raise GrammarError(f"{of}{what} not supported")
    if not kinds and not node.keys() & {"anyOf", "allOf", "$ref", "enum", "const"}:
        raise GrammarError("a schema needs 'type', 'anyOf', 'allOf', '$ref', 'enum' or 'const'")
    if "object" in kinds and node.get("additionalProperties") is not False:
        raise GrammarError("For 'object' type, 'additionalProperties' must be explicitly set to false")
    if node.get("minItems", 0) not in {0, 1}:
        raise GrammarError("For 'array' type, 'minItems' values other than 0 or 1 are not supported")
    if node.get("format") is not None and node["format"] not in OF_FORMAT:
        raise GrammarError(f"For 'string' type, format '{node['format']}' is not supported")
    _check_values(node)


def _types(node: Json) -> list[str]:
    kind = node.get("type")
    kinds = kind if isinstance(kind, list) else [] if kind is None else [kind]
    if unknown := [name for name in kinds if name not in BY_TYPE]:
        raise GrammarError(f"type {unknown[0]!r} is not a JSON type")
    return kinds


def _check_values(node: Json) -> None:
    if "enum" in node and (not isinstance(node["enum"], list) or not node["enum"]):
        raise GrammarError("'enum' must list at least one value")
    if not all(isinstance(value, PRIMITIVES) for value in [*node.get("enum", ()), node.get("const")]):
        raise GrammarError("'enum' and 'const' take strings, numbers, booleans and null only")
    if any("$ref" in part for part in node.get("allOf", ())):
        raise GrammarError("'allOf' with '$ref' is not supported")


def _check_size(nodes: list[Json]) -> None:
    optional = sum(len(node.get("properties", {}).keys() - set(node.get("required", ()))) for node in nodes)
    if optional > MOST_OPTIONAL:
        raise GrammarError(
            f"Schemas contain too many optional parameters ({optional}), which would make grammar compilation"
            f" inefficient. Reduce the number of optional parameters (limit: {MOST_OPTIONAL})."
        )
    unions = sum("anyOf" in node or isinstance(node.get("type"), list) for node in nodes)
    if unions > MOST_UNIONS:
        raise GrammarError(f"Schemas contain too many parameters with union types ({unions}; limit: {MOST_UNIONS}).")
    if len(nodes) + sum(len(node.get("enum", ())) for node in nodes) > MOST_NODES:
        raise GrammarError(_TOO_LARGE)


_TOO_LARGE = (
    "The compiled grammar is too large, which would cause performance issues. Simplify your tool schemas or reduce the"
    " number of strict tools."
)
