"""What speaks against edits of context files, in words that repeat nothing of a ticket.

Tickets are hostile text, and edits are written by a model that has read pieces of them: three crafted tickets in a week
must not be able to write the rubric. Both sides are folded alike before they are compared (compatibility forms, marks,
invisible characters, letters of other alphabets that look like ours), so that no such trick hides a word.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agents.context import FILES, RUBRIC, ContextError, read_documents
from agents.context_lint import usable
from agents.edits import Edit, EditError, apply_edits
from agents.prompt import visible
from agents.rubric import RESULTS, read_form

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from agents.context import Context
    from agents.rubric import Rubric
    from agents.ticket import Revision

RUN = 8  # words in a row, the same as in a ticket
SHORTEST_NAME = 3  # letters; shorter ones are words of every language
LONGEST_TEXT = 6_000  # characters of one item: no agent may read more than 5,000 tokens of all

# Scripts written without spaces: each character is taken as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_LOOKALIKES = str.maketrans(
    "аеорсухіјѕԁһԛԝкмнтвαορνικτυχѵɡıƖ",
    "aeopcyxijsdhqwkmhtbaopviktuxvgil",
)
_DOTS = str.maketrans("\u3002\u2024", "..")
_DOT_IN_WORDS = re.compile(r"\s*[\[({<]\s*(?:\.|dot)\s*[\])}>]\s*", re.IGNORECASE)
_AT_IN_WORDS = re.compile(r"\s*[\[({<]\s*(?:@|at)\s*[\])}>]\s*", re.IGNORECASE)
_URL = re.compile(
    r"[a-z][a-z0-9+.-]*\s?:\s?//|\bwww\d?\.\w|\bhxxps?\b|\\\\\w|\b(?:mailto|javascript|data):\S", re.IGNORECASE
)
_MAIL = re.compile(r"\w@[\w-]")
# The last part in one case: "done.The next" is a forgotten space.
_HOST = re.compile(r"\b(?:[\w-]+\.)+(?:[a-z]{2,}|[A-Z]{2,}|xn--\w+)\b|\b\d{1,3}(?:\.\d{1,3}){3}\b")
_DEVICE = re.compile(r"\b[^\W\d_]+(?:[-_][^\W_]+)*[-_]\d{2,}\b")  # LT-204
_ALWAYS = re.compile(r"(?:always|every (?:ticket|time)|any(?:thing| ticket)|all (?:tickets|of them))\b")
_NEVER = re.compile(r"(?:never|nothing|not possible|does not (?:occur|happen)|no ticket)\b")
_EVERYTHING = r"(?:always|every (?:criterion|ticket|finding|one)|all (?:criteria|tickets|findings)|any ticket|whatever)"
_PASSING = r"(?<!not )(?:met|pass|passes|passed|not applicable|score of 100|full marks)"
_PASSES_ALL = re.compile(
    rf"\b{_EVERYTHING}\b(?: \w+){{0,5}} {_PASSING}\b|\b{_PASSING}\b(?: \w+){{0,3}} {_EVERYTHING}\b"
    r"|\bnever(?: \w+){0,3} not met\b"
)


@dataclass(frozen=True)
class Hostile:
    """What must not come out of tickets: their runs of words, and the names in them."""

    runs: frozenset[tuple[str, ...]]
    names: frozenset[str]
    devices: frozenset[str]


def hostile(base: Context, tickets: Sequence[Revision], names: Collection[str]) -> Hostile:
    """What these tickets hold and the files in force do not: their own words are no theft."""
    known = [_words(text) for text in base.files.values()]
    ordinary = {word for words in known for word in words}
    mine = {run for words in known for run in _runs(words)}
    texts = [" ".join(line.text for line in ticket.lines) for ticket in tickets]
    own_devices = {name for text in base.files.values() for name in _devices(text)}
    return Hostile(
        runs=frozenset(run for text in texts for run in _runs(_words(text)) if run not in mine),
        names=frozenset(
            word
            for name in (*names, *(name for ticket in tickets for name in _people(ticket)))
            for word in _words(name)
            if len(word) >= SHORTEST_NAME and word not in ordinary
        ),
        devices=frozenset(name for text in texts for name in _devices(text) if name not in own_devices),
    )


def problems(edits: Sequence[Edit], *, base: Context, tickets: Sequence[Revision], names: Collection[str]) -> list[str]:
    """Everything that keeps these edits from being proposed, most important first; empty where nothing does."""
    try:
        changed = apply_edits(base.files, edits)
    except EditError as error:
        return [str(error)]
    if any(len(edit.title) + len(edit.text) > LONGEST_TEXT for edit in edits):
        return [f"a text is longer than {LONGEST_TEXT:,} characters: an item says one thing, briefly"]
    forbidden = hostile(base, tickets, names)
    if taken := [problem for number, edit in enumerate(edits, 1) for problem in _taken(edit, number, forbidden)]:
        return taken  # what follows may quote the edit
    found = list(_weakened(edits, base, changed))
    try:
        after = usable(changed)
    except ContextError as error:
        return [*found, *(str(problem) for problem in error.problems)]
    return [*found, *_softened(base.rubric, after.rubric)]


def text_problems(text: str, forbidden: Hostile) -> list[str]:
    """What is wrong with any text that a model wrote after it read tickets: copied words, addresses."""
    found = []
    if forbidden.runs.intersection(_runs(_words(text))):
        found.append(f"repeats {RUN} words in a row from one of the tickets: say it in words of your own")
    if _address(text):
        found.append("holds an address, a link or the name of a host: leave it out")
    return found


def _taken(edit: Edit, number: int, forbidden: Hostile) -> Iterator[str]:
    """What one edit took from tickets. The words are named by their place, never repeated."""
    for part, text in (("id", edit.item.replace("_", " ")), ("title", edit.title), ("text", edit.text)):
        where = f"edit {number}: its {part}"
        yield from (f"{where} {problem}" for problem in text_problems(text, forbidden))
        if _devices(text) & forbidden.devices:
            yield f"{where} holds the number of a device or record of these tickets: rules are general"
        named = [place for place, word in enumerate(_words(text), 1) if word in forbidden.names]
        if named:
            yield f"{where} holds the name of a person or customer (word {named[0]}): rules are about work, not people"


def _people(ticket: Revision) -> Iterator[str]:
    yield from (ticket.ticket.requester, ticket.ticket.assignee)
    yield from (entry.author for entry in ticket.ticket.entries if entry.author_role != "system")


def _words(text: str) -> list[str]:
    return _WORD.findall(_folded(text))


def _runs(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1))


def _plain(text: str) -> str:
    """Without what cannot be seen, in compatibility form: full width and styled letters become ours."""
    seen = "\n".join(visible(line) for line in text.splitlines())
    return "\n".join(visible(line) for line in unicodedata.normalize("NFKC", seen).splitlines())


def _folded(text: str) -> str:
    """What is compared: no case, no marks, no letter that only looks like another."""
    parts = unicodedata.normalize("NFKD", _plain(text).casefold())
    unmarked = "".join(char for char in parts if not unicodedata.category(char).startswith("M"))
    return unmarked.translate(_LOOKALIKES)


def _devices(text: str) -> set[str]:
    return set(_DEVICE.findall(_folded(text)))


def _address(text: str) -> bool:
    """True where the text holds a link, an e-mail address or a host name, also a disguised one."""
    plain = _AT_IN_WORDS.sub("@", _DOT_IN_WORDS.sub(".", _plain(text).translate(_DOTS)))
    unmarked = plain.translate(_LOOKALIKES)
    if _URL.search(unmarked) or _MAIL.search(unmarked):
        return True
    return any(host.casefold() not in FILES for host in _HOST.findall(unmarked))


def _weakened(edits: Sequence[Edit], base: Context, changed: Mapping[str, str]) -> Iterator[str]:
    """Words that would let everything pass, where the item did not hold them before."""
    before = {item.id: item.body for document in read_documents(base.files).values() for item in document.items}
    for number, edit in enumerate(edits, 1):
        old = set(_passing(before.get(edit.item, "")))
        if any(said not in old for said in _passing(edit.text)):
            yield f"edit {number}: its text lets everything pass: say what a ticket must show"
    edited = {edit.item for edit in edits if edit.operation != "retire"}
    for item in read_documents(changed)[RUBRIC].items:
        if item.id in edited:
            texts = {name: _folded(setting.value) for name, setting in read_form(item).texts}
            yield from _empty_results(item.id, texts)


def _passing(text: str) -> Iterable[str]:
    return (match[0] for match in _PASSES_ALL.finditer(" ".join(_words(text))))


def _empty_results(criterion: str, texts: Mapping[str, str]) -> Iterator[str]:
    met, _, not_met, not_applicable = (" ".join(_words(texts.get(name, ""))) for name in RESULTS)
    if _NEVER.match(not_met):
        yield f"{criterion}: its Not met can never happen, so it would always pass"
    if _ALWAYS.match(met):
        yield f"{criterion}: its Met fits every ticket, so it would always pass"
    if _ALWAYS.match(not_applicable):
        yield f"{criterion}: its Not applicable fits every ticket, so it would never count"


def _softened(before: Rubric, after: Rubric) -> Iterator[str]:
    """Settings that nobody may loosen by an edit: what counts, what decides, from where on a ticket passes."""
    if after.pass_mark != before.pass_mark:
        yield "the pass mark must stay as it is"
    now = {criterion.id: criterion for criterion in after.criteria}
    for old in before.criteria:
        new = now.get(old.id)
        if old.critical and (new is None or not new.critical):
            yield f"{old.id} is critical and must stay so"
        if new is None:
            continue
        if new.weight == 0 < old.weight:
            yield f"{old.id} must keep a weight above 0"
        if new.kind != old.kind:
            yield f"{old.id} must stay {old.kind}"
