"""The rubric file -> Rubric: criteria with their settings and the words they are judged by."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from agents.documents import Bullet, Document, Item, Problem, Setting, bullets, resolved

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["judged", "checked"]

DEFAULT_PASS_MARK = 80.0
RESULTS = ("met", "partly", "not met", "not applicable")
SETTINGS = ("weight", "kind", "critical", "settled by")

_NUMBER = re.compile(r"-?\d{1,9}(\.\d{1,9})?")
_RESULT = re.compile(r"\*\*([^*]*)\*\*\s*:?\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Criterion:
    """One line of the rubric. `settled_by` names checks: where one is not met, neither is this, whoever says what."""

    id: str
    title: str
    weight: float
    kind: Kind
    critical: bool
    settled_by: tuple[str, ...]
    text: str  # the words a model or a person judges by: the body without the settings
    line: int

    @property
    def text_hash(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Rubric:
    pass_mark: float
    criteria: tuple[Criterion, ...]

    def __getitem__(self, criterion: str) -> Criterion:
        return self._by_id[criterion]

    @cached_property
    def _by_id(self) -> Mapping[str, Criterion]:
        return {criterion.id: criterion for criterion in self.criteria}

    @cached_property
    def judged(self) -> tuple[Criterion, ...]:
        return tuple(criterion for criterion in self.criteria if criterion.kind == "judged")

    @cached_property
    def checked(self) -> tuple[Criterion, ...]:
        return tuple(criterion for criterion in self.criteria if criterion.kind == "checked")


class Form(NamedTuple):
    """A criterion's item as it is written: settings, the question, and the texts of the results."""

    settings: tuple[tuple[str, Setting], ...]  # (name, value and line), in the file's order
    question: str
    texts: tuple[tuple[str, Setting], ...]  # (result as written, its text and line), in the file's order
    words: str  # everything but the settings

    def setting(self, name: str) -> Setting | None:
        """Its first line: what runs on belongs to the question, and is reported."""
        found = next((setting for known, setting in self.settings if known == name), None)
        return found and found._replace(value=found.value.partition("\n")[0].strip())

    @property
    def run_on(self) -> tuple[Setting, ...]:
        return tuple(setting for _, setting in self.settings if "\n" in setting.value)


def read_rubric(document: Document, problems: list[Problem]) -> Rubric:
    """The rubric; what cannot be read becomes a problem and takes a harmless value."""
    criteria = tuple(_criterion(item, problems) for item in document.items)
    if not criteria:
        problems.append(Problem(document.file, 1, "error", "the rubric has no criterion"))
    return Rubric(_pass_mark(document, problems), criteria)


def read_form(item: Item) -> Form:
    """Settings are the bullets with which the item begins; the result bullets are the bold ones after the question."""
    found = bullets(item)
    opening = (
        [b for b in found if b.list == 1 and not b.text.startswith("**")] if _begins_with_list(item, found) else []
    )
    lines = item.body.split("\n")
    begin = opening[-1].end - item.body_line if opening else 0
    results = [bullet for bullet in found if bullet not in opening]
    end = results[0].line - item.body_line if results else len(lines)
    return Form(
        settings=tuple(_setting(bullet) for bullet in opening),
        question="\n".join(lines[begin:end]).strip(),
        texts=tuple(_text(bullet) for bullet in results),
        words="\n".join(lines[begin:]).strip(),
    )


def _begins_with_list(item: Item, found: list[Bullet]) -> bool:
    return bool(found) and found[0].line == item.body_line


def _setting(bullet: Bullet) -> tuple[str, Setting]:
    name, colon, value = bullet.text.partition(":")
    return (name.strip().lower() if colon else bullet.text), Setting(value.strip(), bullet.line)


def _text(bullet: Bullet) -> tuple[str, Setting]:
    match = _RESULT.fullmatch(bullet.text)
    if match is None:
        return "", Setting(bullet.text, bullet.line)
    return match[1].strip(" :").lower(), Setting(match[2].strip(), bullet.line)


def _pass_mark(document: Document, problems: list[Problem]) -> float:
    setting = document.front.get("pass_mark")
    if setting is None:
        return DEFAULT_PASS_MARK
    number = _number(setting.value)
    if number is None or not 1 <= number <= 100:  # noqa: PLR2004  a score is 0..100, and a mark of 0 passes everything
        message = f'pass_mark must be a number from 1 to 100, not "{setting.value}"'
        problems.append(Problem(document.file, setting.line, "error", message))
        return DEFAULT_PASS_MARK
    return number


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _criterion(item: Item, problems: list[Problem]) -> Criterion:
    form = read_form(item)
    problems.extend(
        Problem(item.file, setting.line + 1, "error", f"put an empty line after the settings of {item.id}")
        for setting in form.run_on
    )
    names = (name.strip() for name in (form.setting("settled by") or Setting("", 0)).value.split(","))
    return Criterion(
        id=item.id,
        title=item.title,
        weight=_weight(item, form, problems),
        kind="checked" if _choice(item, form, "kind", get_args(Kind), problems) == "checked" else "judged",
        critical=_choice(item, form, "critical", ("no", "yes"), problems) == "yes",
        settled_by=tuple(name for name in names if name),
        text=resolved(form.words),
        line=item.line,
    )


def _weight(item: Item, form: Form, problems: list[Problem]) -> float:
    setting = form.setting("weight")
    number = _number(setting.value) if setting else None
    if number is not None and number >= 0:
        return number
    message = f"{item.id} needs a line `- weight: 10` under its heading"
    if setting:
        message = f'the weight of {item.id} must be a number from 0 up, such as 10, not "{setting.value[:40]}"'
    problems.append(Problem(item.file, setting.line if setting else item.line, "error", message))
    return 0.0


def _choice(item: Item, form: Form, name: str, allowed: tuple[str, ...], problems: list[Problem]) -> str:
    """The setting in small letters. One that is missing is reported with the line to add."""
    setting = form.setting(name)
    if setting and setting.value.lower() in allowed:
        return setting.value.lower()
    message = f"{item.id} needs a line `- {name}: {allowed[0]}` under its heading"
    if setting:
        message = f'{name} of {item.id} must be {" or ".join(allowed)}, not "{setting.value[:40]}"'
    problems.append(Problem(item.file, setting.line if setting else item.line, "error", message))
    return allowed[0]
