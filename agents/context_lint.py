"""What is wrong with context files, each with file and line: errors keep them from being released, warnings do not.

`agents.context.parse` refuses what it cannot read; lint also refuses what could be read but would judge badly.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agents.checks import CHECKS
from agents.context import (
    PATTERNS,
    READ_BY,
    RUBRIC,
    RULES,
    Context,
    ContextError,
    Criterion,
    in_order,
    parse,
    read_documents,
)
from agents.documents import Document, Item, Problem, Setting, bullets, references
from agents.rubric import RESULTS, SETTINGS, Form, Rubric, read_form, read_rubric
from agents.tokens import token_estimate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

PREFIX_TOKENS = 5_000  # what an agent may read before the ticket: every ticket pays for it
PREFIX_WARNING = 4_500
ANSWER_FORM_TOKENS = 200  # what the program itself adds: the form of the answer, and the joints
NEVER = ("partly", "not applicable")  # results that a criterion may do without
RULE_TEXTS = ("applies", "does not apply", "example")

_EXAMPLE = re.compile(r"\bExample:\s*(\S.*)", re.DOTALL)
_NEVER = re.compile(r"never\b[\s.]*(.*)", re.DOTALL | re.IGNORECASE)
_FRONT_MATTER: Mapping[str, tuple[str, ...]] = {RUBRIC: ("pass_mark",)}


def lint(
    files: Mapping[str, str],
    previous: Mapping[str, str] | None = None,
    *,
    known_checks: Collection[str] = CHECKS,
) -> list[Problem]:
    """Every problem of the files, in order of file and line; with `previous`, also of the ids that changed since."""
    problems: list[Problem] = []
    try:
        problems += _budgets(parse(files))
    except ContextError as error:
        problems += error.problems
    documents = read_documents(files)
    unread: list[Problem] = []  # the same that parse found
    rubric = read_rubric(documents[RUBRIC], unread)
    for document in documents.values():
        problems += _document(document)
    for item in documents[RUBRIC].items:
        problems += _criterion(item, rubric[item.id], read_form(item))
    problems += _weights(rubric, known_checks)
    problems += _references(documents, rubric)
    problems += _changed_ids(documents, read_documents(previous) if previous is not None else {})
    return in_order(problems)


def usable(files: Mapping[str, str]) -> Context:
    """The files as a Context, or ContextError with every error that lint finds."""
    if errors := [problem for problem in lint(files) if problem.severity == "error"]:
        raise ContextError(errors)
    return parse(files)


def prefix_tokens(context: Context, agent: str) -> int:
    """What this agent reads before the ticket, in tokens."""
    return token_estimate("\n\n".join(context.prefix_documents(agent))) + ANSWER_FORM_TOKENS


def _error(file: str, line: int, message: str) -> Problem:
    return Problem(file, line, "error", message)


def _warning(file: str, line: int, message: str) -> Problem:
    return Problem(file, line, "warning", message)


def _budgets(context: Context) -> Iterator[Problem]:
    for agent in READ_BY:
        tokens = prefix_tokens(context, agent)
        if tokens <= PREFIX_WARNING:
            continue
        parts = ", ".join(f"{name} {token_estimate(context.documents[name]):,}" for name in READ_BY[agent])
        message = f"{agent} reads about {tokens:,} tokens of at most {PREFIX_TOKENS:,} ({parts}): shorten a text"
        yield Problem(f"{agent}.md", 1, "error" if tokens > PREFIX_TOKENS else "warning", message)


def _document(document: Document) -> Iterator[Problem]:
    """What holds for every file: known settings, items with words, and something to read."""
    known = _FRONT_MATTER.get(document.file, ())
    for name, setting in document.front.items():
        if name not in known:
            allowed = f"known: {', '.join(known)}" if known else "this file has none"
            yield _error(document.file, setting.line, f"the setting {name} is unknown ({allowed})")
    for item in document.items:
        if not item.body:
            yield _error(document.file, item.line, f"{item.id} says nothing under its heading")
    if not document.items and not document.prose and document.file != PATTERNS:
        yield _error(document.file, 1, "the file says nothing")
    if document.file == RULES:
        yield from _rules(document)


def _rules(document: Document) -> Iterator[Problem]:
    if not document.items:
        yield _error(RULES, 1, "there is no escalation rule: keep at least one")
    for item in document.items:
        written = " ".join(bullet.text.lower() for bullet in bullets(item))
        for name in RULE_TEXTS:
            if f"**{name}**" not in written:
                yield _warning(RULES, item.line, f'{item.id} has no bullet "**{name.capitalize()}**: ..."')


def _criterion(item: Item, criterion: Criterion, form: Form) -> Iterator[Problem]:
    yield from _settings(item, form)
    if not form.question and not form.run_on:
        yield _error(RUBRIC, item.line, f"{item.id} has no question: put one between its settings and its results")
    for result in RESULTS:
        yield from _text(item, result, [setting for name, setting in form.texts if name == result])
    for name, setting in form.texts:
        if name not in RESULTS:
            yield _error(RUBRIC, setting.line, f"begin the bullet with {_listed(RESULTS)}, in ** **: ...")
    yield from _identical(item, form)
    if criterion.kind == "checked" and criterion.settled_by:
        yield _error(RUBRIC, item.line, f"{item.id} is a check: only a judged criterion is settled by checks")


def _listed(results: Iterable[str]) -> str:
    return ", ".join(result.capitalize() for result in results)


def _settings(item: Item, form: Form) -> Iterator[Problem]:
    seen: set[str] = set()
    for name, setting in form.settings:
        if name not in SETTINGS:
            message = f'the setting "{name[:40]}" of {item.id} is unknown (known: {", ".join(SETTINGS)})'
            yield _error(RUBRIC, setting.line, message)
        elif name in seen:
            yield _error(RUBRIC, setting.line, f"{item.id} gives {name} twice")
        seen.add(name)


def _text(item: Item, result: str, written: list[Setting]) -> Iterator[Problem]:
    """One result of one criterion: said once, with words and an example, or "Never." where that makes sense."""
    name = result.capitalize()
    if not written:
        message = f'{item.id} does not say what {name} means: add a bullet `- **{name}**: ... Example: "..."`'
        yield _error(RUBRIC, item.line, message)
        return
    for again in written[1:]:
        yield _error(RUBRIC, again.line, f"{item.id} explains {name} twice")
    text, line = written[0]
    never = _NEVER.fullmatch(text)
    if not _EXAMPLE.sub("", text).strip():
        yield _error(RUBRIC, line, f"{name} of {item.id} has no words of its own")
    elif never and result not in NEVER:
        yield _error(RUBRIC, line, f"{name} of {item.id} can never happen, so the criterion asks nothing")
    elif never and result == "not applicable" and not never[1]:
        yield _error(RUBRIC, line, f'say after "Never." why {item.id} applies to every ticket')
    elif not never and not _EXAMPLE.search(text):
        yield _error(RUBRIC, line, f'{name} of {item.id} has no example: end it with `Example: "..."`')


def _identical(item: Item, form: Form) -> Iterator[Problem]:
    """Two results with the same words, or the same example, tell a reader nothing about which to choose."""
    texts: dict[str, str] = {}
    examples: dict[str, str] = {}
    for name, (text, line) in form.texts:
        example = _EXAMPLE.search(text)
        pairs = ((texts, "text", _EXAMPLE.sub("", text)), (examples, "example", example[1] if example else ""))
        for seen, what, words in pairs:
            plain = " ".join(re.findall(r"\w+", words.casefold()))
            if not plain or plain.startswith("never"):
                continue
            other = seen.setdefault(plain, name)
            if other != name:
                both = f"{other.capitalize()} and {name.capitalize()}"
                yield _error(RUBRIC, line, f"{both} of {item.id} have the same {what}")


def _weights(rubric: Rubric, known_checks: Collection[str]) -> Iterator[Problem]:
    checks = {criterion.id for criterion in rubric.checked}
    settling = {name for criterion in rubric.judged for name in criterion.settled_by}
    for criterion in rubric.criteria:
        if criterion.kind == "checked" and criterion.id not in known_checks:
            message = f"there is no check {criterion.id} (known: {', '.join(sorted(known_checks))})"
            yield _error(RUBRIC, criterion.line, message)
        for name in criterion.settled_by:
            if criterion.kind == "judged" and name not in checks:
                yield _error(
                    RUBRIC, criterion.line, f"{criterion.id} is settled by {name}, which is no checked criterion"
                )
        settles = criterion.kind == "checked" and criterion.id in settling
        if settles and criterion.weight > 0:
            message = f"{criterion.id} settles another criterion, which counts the gap: give it weight 0"
            yield _error(RUBRIC, criterion.line, message)
        if not settles and criterion.weight == 0:
            yield _error(RUBRIC, criterion.line, f"{criterion.id} has no weight: give it one, or delete it")
    if rubric.criteria and not any(criterion.weight for criterion in rubric.criteria):
        yield _error(RUBRIC, 1, "all weights are 0, so no score can be computed")


def _references(documents: Mapping[str, Document], rubric: Rubric) -> Iterator[Problem]:
    """`[[id]]` must name an item, and one that the agent which reads it has before it."""
    home = {item.id: document.file for document in documents.values() for item in document.items}
    checks = {criterion.id for criterion in rubric.checked}
    for document in documents.values():
        readers = [agent for agent, names in READ_BY.items() if document.file in names]
        for name, line in references(document.plain):
            if name not in home:
                yield _error(document.file, line, f"[[{name}]] names no item: there is no heading with {{#{name}}}")
                continue
            for agent in readers:
                if home[name] not in READ_BY[agent] or name in checks:
                    yield _warning(document.file, line, f"{agent} reads this line but not {name} in {home[name]}")


def _changed_ids(documents: Mapping[str, Document], previous: Mapping[str, Document]) -> Iterator[Problem]:
    """People's decisions and the agents' failures are kept by id: one that changes cuts them off."""
    now = {item.id for document in documents.values() for item in document.items}
    for file, before in previous.items():
        by_title = {item.title.casefold(): item for item in documents[file].items}
        for old in (item for item in before.items if item.id not in now):
            same = by_title.get(old.title.casefold())
            if same:
                message = f'the id of "{same.title}" was {old.id}: change it back, ids are for ever'
                yield _error(file, same.line, message)
            else:
                yield _warning(file, 1, f"{old.id} is gone: what people decided about it is no longer counted")
