"""Does structure make a small model a better judge? The thesis of the product, measured with the local model.

    .venv/bin/python -m bench.structure --show                  (what our own runs brought so far)
    .venv/bin/python -m bench.structure --model GGUF            (goes on where they stopped, in this repository's
                                                                bench/answers; --data-dir DIR: in a folder of yours)

60 real tickets: the first 30 that people closed as "Needs more info", and the first 30 closed as Fixed, Not Our Bug or
Done. Two criteria, each with a label that the judge does not see:
- clear_problem, from subject and description alone; people could not work on the first 30, and could on the others;
- work_performed, from the whole ticket without status and code; an agent did write a closing note within 48 hours.

The same model is asked in three ways. Bare: one sentence with the criterion's name. Rubric: our question as it is, all
criteria in one answer, with evidence. Single: our question with a rubric of that criterion alone. What has no usable
answer, or a quote that is not in the ticket, is not scored and counted apart; what the model said with such a quote has
a line of its own. What stands in brackets is a 95 % interval. The first run takes hours on two cores: a llama-server
built for the processor at hand, with more slots, is faster (--server URL --at-once SLOTS, with the parameters of
app/llama.py).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from agents import qc
from agents.agreement import Measure, Paired, Table, difference, labels_needed, measures, separated
from agents.answer import Failed, closed_object
from agents.context import RUBRIC, Context, parse, read_folder
from agents.gateway import CallFailed, Endpoint, Gateway
from agents.masking import revise
from agents.prompt import fenced
from agents.question import Ask, Question, Turn
from agents.ticket import Revision, read_ticket
from app import llama
from bench.double import REPOSITORY
from bench.local_model import UNCLEAR
from bench.review import TICKETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agents.question import Reply
    from tests.double.models import Json

EACH = 30
BLOCK = 20  # tickets that are asked about in every way before the next ones: stopped early, it can still be read
WORKABLE = {"Fixed", "Not Our Bug", "Done"}
LONGEST_CALL = 3600.0  # seconds
ANSWERS = REPOSITORY / "bench" / "answers"  # ours so far: a ticket's id, what was said, and how long it took

Way = Literal["bare", "rubric", "single"]
Criterion = Literal["clear_problem", "work_performed"]
WAYS: tuple[Way, ...] = get_args(Way)
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
PAIRS: tuple[tuple[Way, Way], ...] = (("rubric", "bare"), ("single", "bare"), ("single", "rubric"))
BARE: dict[Criterion, str] = {
    "clear_problem": "Is the problem clear? Answer met or not_met.",
    "work_performed": "Is the work performed documented? Answer met or not_met.",
}
SCORED = frozenset({"met", "partly", "not_met"})
WORDS = SCORED | {"absent"}  # the model's word for not met where there is nothing to quote
BARE_SYSTEM = "You check the quality of service desk tickets."
BARE_FORM = closed_object(result={"type": "string", "enum": ["met", "not_met"]})


@dataclass(frozen=True)
class Said:
    """One answer. `result`: the word for it, or `failed:` and why there is none; `word`: what the model itself said."""

    model: str
    context: str
    way: Way
    criterion: Criterion
    ticket: str
    result: str
    seconds: float
    word: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", type=Path, default=ANSWERS, help="where the answers are kept; default %(default)s"
    )
    parser.add_argument("--model", type=Path, help="a GGUF file; default the one in DIR/local-model")
    parser.add_argument("--server", metavar="URL", help="a llama-server that serves this file; default one of our own")
    parser.add_argument(
        "--at-once", type=int, default=llama.SLOTS, metavar="N", help="questions at a time; default %(default)s"
    )
    parser.add_argument("--show", action="store_true", help="only what is there so far")
    arguments = parser.parse_args()
    if not TICKETS.exists():
        sys.exit(f"skipped: the shared tickets are not at {TICKETS}")
    rows = chosen()
    arguments.data_dir.mkdir(parents=True, exist_ok=True)
    kept = arguments.data_dir / "structure.jsonl"
    if not arguments.show:
        weights = arguments.model or next(iter(arguments.data_dir.glob("local-model/*.gguf")), None)
        if weights is None:
            sys.exit("there are no weights: give --model, or the data directory of a service that has loaded them")
        name = f"local:{weights.stem}"
        running = llama.Running(arguments.server, None) if arguments.server else llama.load(weights, name)
        _ask_all(rows, name, running, kept, at_once=arguments.at_once)
    _print(rows, _read(kept))


def chosen() -> list[Json]:
    """One of each kind in turn, so that any beginning of the list holds as many of both."""
    kinds: dict[bool, list[Json]] = {True: [], False: []}
    for line in TICKETS.read_bytes().splitlines():
        row = json.loads(line)
        code = (row["resolution"] or {}).get("code")
        if (code == UNCLEAR or code in WORKABLE) and row["labels"]["derived"]["closing_note_by_agent_48h"] is not None:
            kinds[code == UNCLEAR].append(row)
    return [row for pair in zip(kinds[True][:EACH], kinds[False][:EACH], strict=True) for row in pair]


def fails(row: Json, criterion: Criterion) -> bool:
    """What the label says: the criterion is not met."""
    if criterion == "clear_problem":
        return bool(row["resolution"]["code"] == UNCLEAR)
    return not row["labels"]["derived"]["closing_note_by_agent_48h"]


def seen(row: Json, criterion: Criterion) -> Revision:
    """What the judge sees of a ticket for this criterion."""
    if criterion == "clear_problem":
        shown = {name: row[name] for name in ("external_id", "subject", "description")}
        return revise(read_ticket({**shown, "status": "closed"}))
    hidden = {"labels", "status", "resolution"}
    shown = {name: value for name, value in row.items() if name not in hidden}
    return revise(read_ticket({**shown, "status": "closed", "resolution": {"note": row["resolution"]["note"]}}))


def _ask_all(rows: Sequence[Json], model: str, running: llama.Running, kept: Path, *, at_once: int) -> None:
    context = parse(read_folder(REPOSITORY / "context"))
    gateway = Gateway(Endpoint("local", running.url, mode="tool", timeout_seconds=LONGEST_CALL))
    there = {(said.model, said.context, said.way, said.criterion, said.ticket) for said in _read(kept)}
    version = context.version
    wanted = [one for one in _order(rows) if (model, version, one[0], one[1], one[2]["external_id"]) not in there]
    print(f"{len(wanted)} of {len(rows) * len(WAYS) * len(CRITERIA)} answers are still to be asked for", flush=True)
    judge = Judge(gateway.ask, model, context)
    with kept.open("a", encoding="utf-8") as file, ThreadPoolExecutor(at_once) as pool:
        for said in pool.map(lambda one: judge.answer(*one), wanted):
            file.write(json.dumps(asdict(said)) + "\n")
            file.flush()
    gateway.close()


def _order(rows: Sequence[Json]) -> Iterator[tuple[Way, Criterion, Json]]:
    """Questions that begin alike stand together: the server keeps the beginning."""
    for start in range(0, len(rows), BLOCK):
        for way in WAYS:
            for criterion in CRITERIA:
                for row in rows[start : start + BLOCK]:
                    yield way, criterion, row


class Judge(NamedTuple):
    ask: Ask
    model: str
    context: Context

    def answer(self, way: Way, criterion: Criterion, row: Json) -> Said:
        """Raises CallFailed where the same question may have an answer later."""
        began = time.monotonic()
        revision = seen(row, criterion)
        try:
            said = self._bare(revision, criterion) if way == "bare" else self._judged(revision, criterion, way)
        except CallFailed as failure:
            if failure.stops_all or not failure.permanent:
                raise
            said = _Answer(f"failed:{failure.code}", "")
        seconds = time.monotonic() - began
        return Said(
            self.model, self.context.version, way, criterion, row["external_id"], said.result, seconds, said.word
        )

    def _bare(self, revision: Revision, criterion: Criterion) -> _Answer:
        ticket = fenced(revision, nonce=_nonce(revision.hash), lines=revision.lines)
        question = Question(
            agent="qc",
            purpose="review",
            repetition=0,
            revision_hash=revision.hash,
            agent_hash=f"bare {criterion}",
            model=self.model,
            schema=BARE_FORM,
            system=(BARE_SYSTEM,),
            turns=(Turn("user", f"{ticket}\n\n{BARE[criterion]}"),),
            max_tokens=200,
        )
        reply = self.ask(question)
        word = _word(reply.text, "result")
        return _Answer(word or f"failed:{reply.outcome}", word)

    def _judged(self, revision: Revision, criterion: Criterion, way: Way) -> _Answer:
        replies: list[str] = []

        def ask(question: Question) -> Reply:
            reply = self.ask(question)
            replies.append(reply.text)
            return reply

        texts = self.context if way == "rubric" else only(self.context, criterion)
        answer, _ = qc.qc(revision, texts, ask=ask, model=self.model, nonce_for=_nonce, triage=None)
        if isinstance(answer, Failed):
            return _Answer(f"failed:{answer.code}", "")
        result = next(finding.result for finding in answer.findings if finding.criterion == criterion)
        return _Answer(result, _word(replies[-1], "findings", criterion, "result"))


class _Answer(NamedTuple):
    result: str
    word: str


def _word(text: str, *path: str) -> str:
    """What stands at a place of a JSON answer; empty where nothing does."""
    try:
        found = json.loads(text)
        for name in path:
            found = found[name]
    except (ValueError, KeyError, TypeError):
        return ""
    return str(found)


def only(context: Context, criterion: str) -> Context:
    """The same texts with a rubric of one criterion."""
    head, *items = re.split(r"(?m)^(?=## )", context.files[RUBRIC])
    kept = next(item for item in items if f"{{#{criterion}}}" in item.splitlines()[0])
    return parse({**context.files, RUBRIC: head + kept})


def _nonce(key: str) -> str:
    return key[:16]


def _read(kept: Path) -> list[Said]:
    return [Said(**json.loads(line)) for line in kept.read_text("utf-8").splitlines()] if kept.exists() else []


def _print(rows: Sequence[Json], answers: Sequence[Said]) -> None:
    by_name = {row["external_id"]: row for row in rows}
    for model, version in sorted({(said.model, said.context) for said in answers}):
        given = [said for said in answers if (said.model, said.context) == (model, version)]
        print(f"{model}, a demonstration model; context {version[:12]}")
        for criterion in CRITERIA:
            here = [said for said in given if said.criterion == criterion]
            asked = [by_name[name] for name in dict.fromkeys(said.ticket for said in here)]
            truth = {row["external_id"]: fails(row, criterion) for row in asked}
            print(f"\n{criterion}: {sum(truth.values())} of {len(truth)} tickets fail by their label")
            right = {way: _print_way(way, [said for said in here if said.way == way], truth) for way in WAYS}
            _print_baselines(asked, criterion)
            for first, second in PAIRS:
                _print_pair(first, second, right)


def _print_way(way: Way, answers: Sequence[Said], truth: dict[str, bool]) -> dict[str, bool]:
    """Whether each scored answer is right, by ticket."""
    scored = {said.ticket: said.result for said in answers if said.result in SCORED}
    seconds = sum(said.seconds for said in answers) / max(1, len(answers))
    counts = dict(Counter(said.result for said in answers))
    print(f"  {way:7} {len(scored)} of {len(answers)} scored; {counts}; {seconds:.0f} s a call, as they were asked")
    agreed = _print_table(scored, truth)
    print(f"          right on {agreed} of all {len(answers)}, what is not scored counted as wrong")
    if way != "bare":
        words = {said.ticket: said.word for said in answers if said.word in WORDS}
        print(f"          by its word alone, whatever it quotes: {dict(Counter(words.values()))}")
        _print_table(words, truth)
    return {ticket: truth[ticket] == (result != "met") for ticket, result in scored.items()}


def _print_table(said: dict[str, str], truth: dict[str, bool]) -> int:
    """How far these words agree with the labels; on how many they do."""
    counts = Counter((truth[ticket], word != "met") for ticket, word in said.items())
    table = Table(counts[True, True], counts[True, False], counts[False, True], counts[False, False])
    if found := measures(table):
        named = {"right": found.raw, "fails found": found.sensitivity, "passes found": found.specificity}
        named |= {"kappa": found.kappa, "AC1": found.ac1}
        print(f"          {'; '.join(f'{name} {_figure(one)}' for name, one in named.items())}")
    return table.agreed


def _figure(one: Measure) -> str:
    if one.value is None or one.interval is None:
        return "not defined"
    return f"{one.value:.2f} ({one.interval.low:.2f} to {one.interval.high:.2f})"


def _print_baselines(rows: Sequence[Json], criterion: Criterion) -> None:
    """What needs no model: one answer for all, and what the surface tells at the threshold that fits these best."""
    failing = sum(fails(row, criterion) for row in rows)
    print(f"  no model: always met is right on {len(rows) - failing}, never met on {failing} of {len(rows)}")
    surface: dict[str, Callable[[Json], int]] = {
        "length of the description": lambda row: len(row["description"] or ""),
        "number of messages": lambda row: len(row["thread"]),
    }
    for name, size in surface.items():
        bad, good = ([size(row) for row in rows if fails(row, criterion) is fail] for fail in (True, False))
        best = max(_right_at(edge, bad, good) for edge in {*bad, *good})
        print(f"  {name}: AUC {_auc(bad, good):.2f}; at its best threshold right on {best} of {len(rows)}")


def _right_at(edge: int, bad: Sequence[int], good: Sequence[int]) -> int:
    below = sum(one < edge for one in bad) + sum(one >= edge for one in good)
    return max(below, len(bad) + len(good) - below)


def _auc(bad: Sequence[int], good: Sequence[int]) -> float:
    """How often the smaller of a failing and a passing ticket is the one that fails; ties count half."""
    wins = sum((one < other) + (one == other) / 2 for one in bad for other in good)
    share = wins / (len(bad) * len(good)) if bad and good else 0.5
    return max(share, 1 - share)


def _print_pair(first: Way, second: Way, right: dict[Way, dict[str, bool]]) -> None:
    one, other = right[first], right[second]
    both = one.keys() & other.keys()
    pairs = Paired(len(both), sum(one[t] > other[t] for t in both), sum(other[t] > one[t] for t in both))
    if not both:
        return
    if separated(pairs):
        word = "a difference beyond chance"
    else:
        needed = labels_needed(pairs)
        word = f"undecidable, {needed - pairs.n} more labels would do" if needed else "no difference seen"
    print(f"  {first} against {second}, on {pairs.n} that both scored: only the first right on {pairs.first_only}, "
          f"only the second on {pairs.second_only}; the difference {_figure(difference(pairs))}: {word}")  # fmt: skip


if __name__ == "__main__":
    main()
