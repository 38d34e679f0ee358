"""A foreign system's JSON, read by a connection's field map: where each of our fields is, and what its values mean.

`{"status": {"path": "ticket.status", "values": {"4": "closed"}}, "entries": {"path": "notes[]", "fields": {...}}}`
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import jmespath
from jmespath.exceptions import JMESPathError, JMESPathTypeError, LexerError, ParseError
from jmespath.functions import Functions

from agents.ticket import Entry, Resolution, Role, Status, StatusChange, Ticket, TicketError, Visibility
from app.errors import FieldMapError

if TYPE_CHECKING:
    from jmespath.parser import ParsedResult
    from pydantic import BaseModel

REQUIRED = ("external_id", "status")
ANY_OTHER = "*"  # in `values`: what every value that is not listed means
MAX_ITEMS = 5000  # of a list in one ticket: each costs one search per mapped field
MAX_SHOWN = 80  # characters of a foreign value in a reason
# Only these have a closed list of values; what is not listed elsewhere passes as it is.
CLOSED: Mapping[str, tuple[str, ...]] = {
    "status": get_args(Status),
    "author_role": get_args(Role),
    "visibility": get_args(Visibility),
}
LISTS: Mapping[str, type[BaseModel]] = {"entries": Entry, "events": StatusChange}


@dataclass(frozen=True)
class Rule:
    where: str
    path: ParsedResult
    values: Mapping[str, str] = field(default_factory=dict)
    fields: FieldMap = field(default_factory=dict)


FieldMap = Mapping[str, Rule]


def parse_field_map(raw: object) -> FieldMap:
    """Raises FieldMapError with one line per problem: the field, what is wrong, and in a path at which character."""
    problems: list[str] = []
    rules = _read_rules(raw, known=_names(Ticket), prefix="", problems=problems)
    problems += [f"{name}: missing, every ticket needs it" for name in REQUIRED if not _has(raw, name)]
    if problems:
        raise FieldMapError("\n".join(problems))
    return rules


def apply(field_map: FieldMap, document: object) -> dict[str, Any]:
    """What the document says in our words, still to be checked by `read_ticket`. Raises TicketError."""
    found = {name: _found(rule, document) for name, rule in field_map.items()}
    for name in REQUIRED:
        if found[name] in (None, ""):
            raise TicketError(f"{name}: the delivery holds nothing at `{field_map[name].path.expression}`")
    return {name: value for name, value in found.items() if value is not None}


def _names(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(info.alias or name for name, info in model.model_fields.items() if name != "extra")


def _has(raw: object, name: str) -> bool:
    return isinstance(raw, Mapping) and name in raw


def _read_rules(raw: object, *, known: frozenset[str], prefix: str, problems: list[str]) -> dict[str, Rule]:
    if not isinstance(raw, Mapping):
        problems.append(f'{prefix.rstrip(".") or "field map"}: give an object such as {{"subject": {{"path": "..."}}}}')
        return {}
    rules = {}
    for name, given in raw.items():
        if name not in known:
            problems.append(f"{prefix}{name}: there is no such field; known are {', '.join(sorted(known))}")
        elif rule := _rule(given, name=name, where=f"{prefix}{name}", problems=problems):
            rules[name] = rule
    return rules


def _rule(given: object, *, name: str, where: str, problems: list[str]) -> Rule | None:
    if not isinstance(given, Mapping) or not isinstance(given.get("path"), str):
        problems.append(f'{where}: give {{"path": "..."}} with a JMESPath')
        return None
    inner = LISTS.get(name) or (Resolution if name == "resolution" else None)
    problems += [f"{where}: {key!r} is not known here" for key in given if key not in {"path", "values", *_sub(inner)}]
    if name in LISTS and "fields" not in given:
        problems.append(f'{where}: say what each item holds with "fields"')
    path = _path(given["path"], where=where, problems=problems)
    values = _values(given.get("values", {}), name=name, where=where, problems=problems)
    fields: FieldMap = {}
    if inner and "fields" in given:
        fields = _read_rules(given["fields"], known=_names(inner), prefix=f"{where}.", problems=problems)
    return Rule(where, path, values, fields) if path else None


def _sub(inner: type[BaseModel] | None) -> tuple[str, ...]:
    return ("fields",) if inner else ()


def _path(text: str, *, where: str, problems: list[str]) -> ParsedResult | None:
    try:
        path = jmespath.compile(text)
    except LexerError as error:
        problems.append(f"{where}: `{text}` is no JMESPath: {error.message} at character {error.lex_position + 1}")
    except ParseError as error:
        problems.append(f"{where}: `{text}` is no JMESPath: unexpected at character {(error.lex_position or 0) + 1}")
    except JMESPathError as error:
        problems.append(f"{where}: `{text}` is no JMESPath: {error}")
    else:
        unknown = sorted(set(_functions(path.parsed)) - Functions.FUNCTION_TABLE.keys())
        problems += [f"{where}: `{text}` calls {name}(), which JMESPath does not have" for name in unknown]
        return path
    return None


def _functions(node: Mapping[str, Any]) -> Iterator[str]:
    """The functions that an expression calls; jmespath itself looks them up only when it runs."""
    if node["type"] == "function_expression":
        yield node["value"]
    for child in node["children"]:
        if isinstance(child, dict):
            yield from _functions(child)


def _values(raw: object, *, name: str, where: str, problems: list[str]) -> dict[str, str]:
    if not isinstance(raw, Mapping) or not all(isinstance(ours, str) for ours in raw.values()):
        problems.append(f'{where}: "values" is an object from their value to ours, both as text')
        return {}
    foreign = [ours for ours in raw.values() if name in CLOSED and ours not in CLOSED[name]]
    problems += [f"{where}: {ours!r} is none of {', '.join(CLOSED[name])}" for ours in foreign]
    return {_key(theirs): ours for theirs, ours in raw.items()}


def _key(value: object) -> str:
    """How a foreign value is looked up: text as it is, the rest as JSON writes it, without regard to case."""
    return (value if isinstance(value, str) else json.dumps(value)).strip().casefold()


def _found(rule: Rule, document: object) -> Any:  # noqa: ANN401  whatever the document holds
    value = _search(rule, document)
    name = rule.where.rpartition(".")[2]
    if name in LISTS:
        return [{key: _found(inner, item) for key, inner in rule.fields.items()} for item in _items(rule, value)]
    if rule.fields and value is not None:
        return {key: _found(inner, value) for key, inner in rule.fields.items()}
    return _translated(rule, value, name=name)


def _search(rule: Rule, document: object) -> Any:  # noqa: ANN401  whatever the document holds
    try:
        return rule.path.search(document)
    except JMESPathError as error:  # its own words quote the value
        why = f"{error.function_name}() cannot take this" if isinstance(error, JMESPathTypeError) else "the path fails"
        raise TicketError(f"{rule.where}: `{rule.path.expression}` cannot be applied here: {why}") from None


def _items(rule: Rule, value: object) -> Iterator[object]:
    if value is None:
        return iter(())
    if not isinstance(value, list):
        raise TicketError(f"{rule.where}: `{rule.path.expression}` must lead to a list, not {type(value).__name__}")
    if len(value) > MAX_ITEMS:
        raise TicketError(f"{rule.where}: {len(value):,} items; a ticket may have {MAX_ITEMS:,}")
    return iter(value)


def _translated(rule: Rule, value: object, *, name: str) -> object:
    if not rule.values and name not in CLOSED:
        return value
    key = _key(value)
    ours = rule.values.get(key, rule.values.get(ANY_OTHER))
    if ours is not None:
        return ours
    if name in CLOSED and value is not None and key not in CLOSED[name]:
        raise TicketError(f'{rule.where}: the value {_shown(value)} is not in the field map; add it to "values"')
    return value


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
