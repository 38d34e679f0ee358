"""How much do the lists of agents/mechanical.toml find of what people write?

    .venv/bin/python -m bench.mechanical [-v]     (-v: also what was missed, what was a false alarm, which tickets hit)

tests/escalation_sentences.jsonl holds sentences of somebody who had not seen the lists: some in which a rule applies,
and near misses in which it must not. The lists were widened with those of the split "dev" in sight, so only the other
splits say what to expect of new ones. On the real tickets, where they are, every hit is to be read.
"""

from __future__ import annotations

import argparse
import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.agreement import wilson
from agents.context import Context, parse, read_folder
from agents.masking import revise
from agents.mechanical import rule_hits
from agents.ticket import read_ticket
from bench.double import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SENTENCES = REPOSITORY / "tests" / "escalation_sentences.jsonl"
REAL = REPOSITORY.parent / "shared" / "data"


@dataclass(frozen=True)
class Sentence:
    id: str
    rule: str
    applies: bool
    text: str
    split: str


@dataclass(frozen=True)
class Count:
    """Of how many sentences the lists said that their rule applies."""

    hit: int
    n: int

    def shown(self) -> str:
        """With the 95 % interval."""
        low, high = wilson(self.hit, self.n)
        return f"{self.hit:>4} of {self.n:<4} ({low:4.0%} to {high:4.0%})"


def sentences(path: Path = SENTENCES) -> list[Sentence]:
    return [Sentence(**json.loads(line)) for line in path.read_text("utf-8").splitlines() if line.strip()]


def is_hit(sentence: Sentence) -> bool:
    """Whether the sentence, as the description of an open ticket, shows its own rule."""
    raw = {"external_id": sentence.id, "description": sentence.text, "status": "open"}
    return sentence.rule in _rules(raw)


def counted(chosen: Sequence[Sentence], *, applies: bool) -> Count:
    those = [sentence for sentence in chosen if sentence.applies is applies]
    return Count(sum(map(is_hit, those)), len(those))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-v", "--verbose", action="store_true", help="each sentence and ticket that is to be read")
    arguments = parser.parse_args()
    every = sentences()
    print(f"{'':28}{'found of what applies':>30}{'false alarms of near misses':>32}    (95 %, Wilson)")
    for split in sorted({sentence.split for sentence in every}):
        chosen = [sentence for sentence in every if sentence.split == split]
        for rule in sorted({sentence.rule for sentence in chosen}):
            _print_row(f"{split} {rule}", [sentence for sentence in chosen if sentence.rule == rule])
        _print_row(f"{split} all", chosen)
    if arguments.verbose:
        _print_wrong(every)
    _print_real(sorted(REAL.glob("tickets-*.jsonl")), verbose=arguments.verbose)


def _print_row(name: str, chosen: Sequence[Sentence]) -> None:
    print(f"{name:28}{counted(chosen, applies=True).shown():>30}{counted(chosen, applies=False).shown():>32}")


def _print_wrong(every: Iterable[Sentence]) -> None:
    for sentence in every:
        if is_hit(sentence) is not sentence.applies:
            print(f"{'missed' if sentence.applies else 'false alarm'}: {sentence.id}: {sentence.text}")


def _print_real(paths: Sequence[Path], *, verbose: bool) -> None:
    if not paths:
        print(f"real tickets: none at {REAL}")
        return
    rows = [json.loads(line) for path in paths for line in path.read_text("utf-8").split("\n") if line]
    shown = [(row["external_id"], rules) for row in rows if (rules := _rules(row))]
    print(f"real tickets with a hit: {Count(len(shown), len(rows)).shown()}")
    for name, rules in shown if verbose else ():
        print(f"hit: {name}: {', '.join(sorted(rules))}")


def _rules(raw: dict[str, Any]) -> set[str]:
    return {hit.rule for hit in rule_hits(revise(read_ticket(raw)), _shipped())}


@functools.cache
def _shipped() -> Context:
    return parse(read_folder(REPOSITORY / "context"))


if __name__ == "__main__":
    main()
