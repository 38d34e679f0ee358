"""The markdown files that agents apply -> Context: rubric, rules, version hash, what each agent reads.

One form for every file: optional YAML front matter, prose, then items. An item is a `## Title {#id}` section;
its id never changes, because labels, observations and edits point at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agents.verdict import Kind

FILES = ("standards.md", "qc_rubric.md", "escalation_rules.md", "known_patterns.md", "triage.md", "qc.md")
READ_BY: Mapping[str, tuple[str, ...]] = {
    "triage": ("standards.md", "triage.md", "escalation_rules.md"),
    "qc": ("standards.md", "qc.md", "qc_rubric.md", "known_patterns.md", "escalation_rules.md"),
}


@dataclass(frozen=True)
class Problem:
    """One thing lint found. `severity` is error (cannot be released) or warning."""

    file: str
    line: int
    severity: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.message}"


class ContextError(ValueError):
    """Context files that cannot be used, with every problem found."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclass(frozen=True)
class Item:
    """One `## Title {#id}` section. `body` is its markdown as written, without the heading."""

    id: str
    title: str
    body: str
    file: str
    line: int


@dataclass(frozen=True)
class Criterion:
    """One line of the rubric. `settled_by` names checks: where one is not met, so is this criterion, unasked."""

    id: str
    title: str
    weight: float
    kind: Kind
    critical: bool
    settled_by: tuple[str, ...]
    text: str  # the words a model or a person judges by: the body without the settings
    line: int

    @property
    def text_hash(self) -> str: ...


@dataclass(frozen=True)
class Rubric:
    pass_mark: float
    criteria: tuple[Criterion, ...]

    def __getitem__(self, criterion: str) -> Criterion: ...

    @property
    def judged(self) -> tuple[Criterion, ...]: ...

    @property
    def checked(self) -> tuple[Criterion, ...]: ...


@dataclass(frozen=True)
class Context:
    """One context version, parsed. `files` is byte-exact what `version` hashes."""

    files: Mapping[str, str]
    rubric: Rubric
    rules: tuple[Item, ...]  # escalation rules
    categories: tuple[str, ...]  # ids from the bullets of standards.md's {#categories} item
    priorities: tuple[str, ...]  # ids from the bullets of standards.md's {#priorities} item, most urgent first
    version: str

    def agent_hash(self, agent: str) -> str: ...


def read_folder(folder: Path) -> dict[str, str]: ...


def parse(files: Mapping[str, str]) -> Context: ...


def lint(files: Mapping[str, str], previous: Mapping[str, str] | None = None) -> list[Problem]: ...
