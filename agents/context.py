"""The markdown files that agents apply -> Context: rubric, rules, version hash, what each agent reads.

One form for every file: optional YAML front matter, prose, then items. An item is a `## Title {#id}` section;
its id never changes, because labels, observations and edits point at it. `[[id]]` points at another item.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agents.documents import ID, Document, Item, Problem, bullets, read_document, resolved
from agents.edits import Edit, apply_edits, inverse
from agents.rubric import Criterion, Rubric, read_rubric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = [
    "FILES", "READ_BY", "Context", "ContextError", "Criterion", "Edit", "Item", "Problem", "Rubric",
    "apply_edits", "in_order", "inverse", "numbered", "parse", "read_documents", "read_folder",
]  # fmt: skip

STANDARDS, RUBRIC, RULES, PATTERNS = "standards.md", "qc_rubric.md", "escalation_rules.md", "known_patterns.md"
FILES = (STANDARDS, RUBRIC, RULES, PATTERNS, "triage.md", "qc.md")
READ_BY: Mapping[str, tuple[str, ...]] = {  # in the order in which they are sent: most widely shared first
    "triage": (STANDARDS, "triage.md", RULES),
    "qc": (STANDARDS, "qc.md", RUBRIC, PATTERNS, RULES),
}

_OPTION = re.compile(r"([^:]*?)\s*:\s*(.*)", re.DOTALL)
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")  # neither UTF-8 nor Postgres can keep these


class ContextError(ValueError):
    """Context files that cannot be used, with every problem found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True)
class Context:
    """One context version. `files` is byte-exact what `version` hashes; `documents` is what models read of it."""

    files: Mapping[str, str] = field(repr=False)
    documents: Mapping[str, str] = field(repr=False)
    rubric: Rubric
    rules: tuple[Item, ...]  # escalation rules
    categories: tuple[str, ...]  # ids from the bullets of standards.md's {#categories} item
    priorities: tuple[str, ...]  # ids from the bullets of standards.md's {#priorities} item, most urgent first
    version: str

    def agent_hash(self, agent: str) -> str:
        """Hash of the files this agent reads: a change in another file leaves its replies good."""
        return _hash({name: self.files[name] for name in READ_BY[agent]})

    def prefix_documents(self, agent: str) -> tuple[str, ...]:
        """What this agent reads, cleaned, in the order in which it is sent."""
        return tuple(self.documents[name] for name in READ_BY[agent])


def read_folder(folder: Path) -> dict[str, str]:
    """The context files of a folder, byte-exact. Raises ContextError naming every file that cannot be read."""
    if not folder.is_dir():
        raise ContextError(
            [_error(str(folder), 1, "there is no such folder; give the one that holds the context files")]
        )
    problems: list[Problem] = []
    files = {name: _read_file(folder, name, problems) for name in FILES}
    if problems:
        raise ContextError(problems)
    return files


def _read_file(folder: Path, name: str, problems: list[Problem]) -> str:
    raw = b""
    try:
        raw = (folder / name).read_bytes()
        return raw.decode("utf-8")
    except FileNotFoundError:
        problems.append(_error(name, 1, f"the file is missing in {folder}"))
    except OSError as error:
        problems.append(_error(name, 1, f"cannot be read: {error.strerror or error}"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problems.append(_error(name, line, "is not UTF-8 text; save it with the encoding UTF-8"))
    return ""


def parse(files: Mapping[str, str]) -> Context:
    """The files as a Context. Raises ContextError with everything that keeps them from being used."""
    problems = list(_unusable(files))
    documents = read_documents(files)
    problems += [problem for document in documents.values() for problem in document.problems]
    problems += _duplicates(documents.values())
    rubric = read_rubric(documents[RUBRIC], problems)
    categories = _options(documents[STANDARDS], "categories", problems)
    priorities = _options(documents[STANDARDS], "priorities", problems)
    if problems:
        raise ContextError(in_order(problems))
    return Context(
        files=dict(files),
        documents={name: _cleaned(document, rubric) for name, document in documents.items()},
        rubric=rubric,
        rules=tuple(replace(item, body=resolved(item.body)) for item in documents[RULES].items),
        categories=categories,
        priorities=priorities,
        version=_hash(files),
    )


def read_documents(files: Mapping[str, str]) -> dict[str, Document]:
    """Every context file as a document; one that is missing is empty."""
    return {name: read_document(name, files.get(name, "")) for name in FILES}


def numbered(context: Context, agent: str) -> str:
    """What this agent reads, item by item, each with its file and id, as whoever edits it sees it: settings too.

    Of the rubric only what is judged: no model reads the criteria that the program checks.
    """
    parts = []
    for name in READ_BY[agent]:
        document = read_document(name, context.files[name])
        parts.append(f"[{name}] before the first item; cannot be edited\n{document.prose}")
        items = [item for item in document.items if name != RUBRIC or context.rubric[item.id].kind == "judged"]
        parts += [f"[{name}] {{#{item.id}}} {item.title}\n{item.body}" for item in items]
    return "\n\n".join(parts)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """By file, in the order in which people meet the files, then by line; each problem once."""
    order = {name: position for position, name in enumerate(FILES)}
    once = dict.fromkeys(problems)
    return sorted(once, key=lambda problem: (order.get(problem.file, len(order)), problem.file, problem.line))


def _error(file: str, line: int, message: str) -> Problem:
    return Problem(file, line, "error", message)


def _unusable(files: Mapping[str, str]) -> Iterator[Problem]:
    """Files that are missing, unknown, or could not be kept as they are."""
    for name in FILES:
        if name not in files:
            yield _error(name, 1, "the file is missing")
    for name, text in files.items():
        if name not in FILES:
            yield _error(name, 1, "is not a context file: no agent would read it")
        if bad := _NOT_TEXT.search(text):
            line = text.count("\n", 0, bad.start()) + 1
            yield _error(name, line, "holds a character that is not text; delete it")


def _hash(files: Mapping[str, str]) -> str:
    """SHA-256 over names and contents in order of name; lengths stand between, so no two sets run into each other."""
    digest = hashlib.sha256()
    for name in sorted(files):
        raw = files[name].encode("utf-8")
        digest.update(f"{name}\0{len(raw)}\0".encode())
        digest.update(raw)
    return digest.hexdigest()


def _duplicates(documents: Iterable[Document]) -> Iterator[Problem]:
    seen: dict[str, Item] = {}
    for item in (item for document in documents for item in document.items):
        first = seen.setdefault(item.id, item)
        if first is not item:
            yield _error(item.file, item.line, f"the id {item.id} already stands in {first.file}:{first.line}")


def _options(document: Document, identity: str, problems: list[Problem]) -> tuple[str, ...]:
    """The ids of the `- id: what belongs there` bullets of one item of the standards."""
    item = next((item for item in document.items if item.id == identity), None)
    if item is None:
        problems.append(_error(document.file, 1, f"there is no item {{#{identity}}} with a bullet for each of them"))
        return ()
    found: dict[str, int] = {}
    for bullet in bullets(item):
        match = _OPTION.fullmatch(bullet.text)
        name = match[1].strip() if match else ""
        if match is None or not match[2].strip() or not ID.fullmatch(name):
            message = "write `- name: what belongs there`, the name in small letters, digits and _"
            problems.append(_error(document.file, bullet.line, message))
        elif name in found:
            problems.append(_error(document.file, bullet.line, f"{name} already stands in line {found[name]}"))
        else:
            found[name] = bullet.line
    if len(found) < 2:  # noqa: PLR2004  with one there is nothing to choose
        problems.append(_error(document.file, item.line, f"{identity} needs at least two bullets"))
    return tuple(found)


def _cleaned(document: Document, rubric: Rubric) -> str:
    """The document as models read it: no notes to editors, no settings, and of the rubric only what is judged."""
    if document.file == RUBRIC:
        items = [
            f"## {criterion.title} {{#{criterion.id}}}{' critical' if criterion.critical else ''}\n{criterion.text}"
            for criterion in rubric.judged
        ]
    else:
        # An id costs tokens, so it is shown only where answers name it.
        ids = [f" {{#{item.id}}}" if document.file == RULES else "" for item in document.items]
        pairs = zip(document.items, ids, strict=True)
        items = [f"## {item.title}{shown}\n{resolved(item.body)}" for item, shown in pairs]
    parts = [part for part in (resolved(document.prose), *items) if part]
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(parts))
