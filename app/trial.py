"""A trial: the same tickets judged under the old and the new context, interleaved, each time fresh. No row is written
but the runs, each as soon as it is paid, so that a trial that was cut short goes on where it stopped.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from agents import proof
from agents import triage as triage_agent
from agents.answer import Failed
from agents.judge import Panel, judge, too_long
from app.clock import now
from app.runs import RunStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agents.context import Context
    from agents.observation import Fingerprint
    from agents.question import Ask, Question, Reply
    from agents.triage import Triage
    from app.deps import Deps
    from app.models import Ready
    from app.replay_cases import Chosen, ReplayCase

T = TypeVar("T")

REPETITIONS = 3  # of each ticket under each context: one run of a model proves nothing
NUMBERS = 10  # run numbers of one replay: replay 7 has 70, 71 and 72
THREADS = 8
DOCUMENT_VERSION = 1
COUNTS = ("cases", "labelled", "targets", "verdicts_changed", "escalated_old", "escalated_new")
SHARES = ("fixed", "broken", "unchanged", "flips_old", "flips_new")


@dataclass(frozen=True)
class Trial:
    """What the job has read before it starts."""

    replay_id: int
    fingerprint: Fingerprint
    old: Context
    new: Context
    chosen: Chosen

    @property
    def triages(self) -> bool:
        """True where the edit changes what triage reads: then it is triaged anew in both arms."""
        return self.old.agent_hash("triage") != self.new.agent_hash("triage")

    @property
    def contexts(self) -> tuple[Context, Context]:
        return self.old, self.new


def _as_case(case: ReplayCase) -> proof.Case:
    return proof.Case(
        ticket_id=case.ticket_id,
        revision_id=case.revision_id,
        target=case.target,
        label=case.label,
        findings=case.labelled_findings,
    )


@dataclass(frozen=True)
class Judging:
    """The calls. Threads wait for the model, so that old and new of many tickets are under way at once."""

    deps: Deps
    trial: Trial
    ready: Ready

    def comparisons(self, wanted: Callable[[], bool]) -> tuple[proof.Comparison, ...]:
        """Every ticket under both contexts; none once it is not `wanted` any more.

        Raises CallFailed when the calls that are under way have ended.
        """
        triaged = self._triaged()
        runs: dict[tuple[int, str], list[proof.Run]] = defaultdict(list)
        for repetition in range(REPETITIONS):
            if not wanted():
                return ()
            tasks = [
                partial(self._run, case, context, repetition, triaged.get(case.revision_id, case.triage))
                for case in self.trial.chosen.cases
                for context in self.trial.contexts
            ]
            places = [(case.revision_id, arm) for case in self.trial.chosen.cases for arm in ("old", "new")]
            for place, run in zip(places, _together(tasks), strict=True):
                runs[place].append(run)
        return tuple(
            proof.compare(
                _as_case(case),
                self.trial.fingerprint,
                old=runs[case.revision_id, "old"],
                new=runs[case.revision_id, "new"],
            )
            for case in self.trial.chosen.cases
        )

    def _run(self, case: ReplayCase, context: Context, repetition: int, triage: Triage | None) -> proof.Run:
        """One judgement; triage is asked again where the edit changes what it reads."""
        panel = Panel(
            self.ready.model,
            self._ask(case, context),
            self.deps.vault.nonce,
            self.ready.token_limit,
            purpose="replay",
            repetition=self.trial.replay_id * NUMBERS + repetition,
        )
        with self.ready.turns:
            judgement = judge(
                case.revision,
                context,
                supplied=case.supplied,
                panel=panel,
                triage=None if self.trial.triages else triage,
            )
        return proof.run(judgement, _as_case(case), self.trial.fingerprint)

    def _triaged(self) -> dict[int, Triage | None]:
        """Where the edit leaves triage alone both contexts are given one answer: a case without one is triaged once."""
        asked = [case for case in self.trial.chosen.cases if _needs_triage(self.trial, case, self.ready.token_limit)]
        answers = _together([partial(self._triage, case) for case in asked])
        return {case.revision_id: answer for case, answer in zip(asked, answers, strict=True)}

    def _triage(self, case: ReplayCase) -> Triage | None:
        with self.ready.turns:
            answer, _ = triage_agent.triage(
                case.revision,
                self.trial.old,
                ask=self._ask(case, self.trial.old),
                model=self.ready.model,
                nonce_for=self.deps.vault.nonce,
                purpose="replay",
                repetition=self.trial.replay_id * NUMBERS,
            )
        return None if isinstance(answer, Failed) else answer

    def _ask(self, case: ReplayCase, context: Context) -> Ask:
        store = RunStore(
            self.deps.engine,
            revision_id=case.revision_id,
            context_version=context.version,
            today=lambda: now().date(),
            demonstration=self.ready.demonstration,
        )

        def ask(question: Question) -> Reply:
            return self.ready.asking.ask(question, store).reply

        return ask


def _together(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """All results, in order. Raises what the first that failed raised; what had not begun by then never does."""
    with ThreadPoolExecutor(THREADS, "replay") as pool:
        futures = [pool.submit(task) for task in tasks]
        done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
    for future in done:
        future.result()
    return [future.result() for future in futures]


def _needs_triage(trial: Trial, case: ReplayCase, limit: int) -> bool:
    return not trial.triages and case.triage is None and not too_long(case.revision, limit)


def result_document(comparisons: Sequence[proof.Comparison]) -> dict[str, Any]:
    """What stands in `replays.result`."""
    summary = proof.summarise(comparisons)
    counts = {name: getattr(summary, name) for name in COUNTS}
    return {
        "version": DOCUMENT_VERSION,
        "cases": [_case_document(one) for one in comparisons],
        "summary": {
            **counts,
            **{name: _share_document(getattr(summary, name)) for name in SHARES},
            "rests_on": summary.rests_on,
        },
    }


def _case_document(one: proof.Comparison) -> dict[str, Any]:
    return {
        "ticket_id": one.case.ticket_id,
        "revision_id": one.case.revision_id,
        "target": one.case.target,
        "label": one.case.label,
        "change": one.change,
        "verdict_changed": one.verdict_changed,
        "old": _arm_document(one.old, verdict=one.old_outcome, right=one.old_right),
        "new": _arm_document(one.new, verdict=one.new_outcome, right=one.new_right),
    }


def _arm_document(runs: Sequence[proof.Run], *, verdict: str, right: bool) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "right": right,
        "outcomes": [run.outcome for run in runs],
        "failed": sum(run.failed for run in runs),
    }


def _share_document(share: proof.Share) -> dict[str, Any]:
    return {"count": share.count, "low": share.interval.low, "high": share.interval.high}
