"""A report of `review FILE` as JSON for programs and as a table for people."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from agents.prompt import visible
from agents.verdict import VALUES, Evidence, Finding
from app.spending import Spending

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from agents.judge import Route
    from agents.question import Usage
    from agents.triage import RuleHit, Triage
    from app.review_file import Report, Reviewed

STEPS: Mapping[Route, str] = {
    "checks": "checks alone",
    "worker": "the worker",
    "second": "its second run",
    "masked": "a run without hostile text",
    "strong": "the strong model",
}
LONGEST_ID = 40  # columns; whatever a ticket calls itself, its verdict has room
MARKS: Mapping[str, tuple[str, str]] = {
    "pass": ("✓ pass", "green"),
    "fail": ("✗ fail", "red"),
    "escalate": ("! escalate", "yellow"),
}


def write_json(report: Report, out: TextIO, *, startup_seconds: float) -> None:
    """The whole report, ticket by ticket; money as numbers in US$, null where a price is not known."""
    out.write('{\n "tickets": [')
    for number, reviewed in enumerate(report.reviewed):
        out.write(",\n  " if number else "\n  ")
        out.write(_indented(_ticket(reviewed), by=2))
    out.write('\n ],\n "totals": ')
    out.write(_indented(totals(report, startup_seconds=startup_seconds), by=1))
    out.write(',\n "skipped_rows": ')
    out.write(_indented([{"line": row.line, "problem": row.problem} for row in report.bad_rows], by=1))
    out.write("\n}\n")


def _indented(value: object, *, by: int) -> str:
    """As ASCII: in any locale, and without orders to a terminal."""
    return json.dumps(value, indent=1).replace("\n", "\n" + " " * by)


def _ticket(reviewed: Reviewed) -> dict[str, Any]:
    judgement = reviewed.judgement
    verdict = judgement.verdict if judgement else None
    return {
        "external_id": reviewed.external_id,
        "verdict": verdict.outcome if verdict else None,
        "score": _rounded(verdict.score) if verdict else None,
        "reasons": list(verdict.reasons) if verdict else [reviewed.problem],
        "triage": triage_json(judgement.triage) if judgement and judgement.triage else None,
        "findings": [finding_json(finding) for finding in judgement.findings] if judgement else [],
        "observations": [
            {"observer": seen.observer, "agent": seen.agent, "code": seen.code, "subject": seen.subject}
            for seen in (judgement.observations if judgement else ())
        ],
        "models": list(reviewed.models),
        "rules": [_rule(hit) for hit in judgement.rules] if judgement else [],
        "second_run": judgement.second_run if judgement else False,
        "route": judgement.route if judgement else None,
        "cost_usd": _money(reviewed.known_cost),
    }


def triage_json(triage: Triage) -> dict[str, Any]:
    return {
        "category": triage.category,
        "priority": triage.priority,
        "fields": {
            name: {"state": field.state, "evidence": [_evidence(field.evidence)] if field.evidence else []}
            for name, field in triage.fields.items()
        },
        "rules": [{"rule": hit.rule, "evidence": [_evidence(hit.evidence)]} for hit in triage.rules],
        "ask": list(triage.ask),
    }


def _rule(hit: RuleHit) -> dict[str, Any]:
    return {"rule": hit.rule, "by": hit.by, "evidence": [_evidence(hit.evidence)]}


def finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "criterion": finding.criterion,
        "kind": finding.kind,
        "result": finding.result,
        "evidence": [_evidence(evidence) for evidence in finding.evidence],
        "absent": finding.absent,
        "evidence_status": finding.evidence_status,
        "reason": finding.reason,
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {"line": evidence.line, "quote": evidence.quote}


def totals(report: Report, *, startup_seconds: float) -> dict[str, Any]:
    """Counts, tokens and cost of the whole run; second runs stand on their own line and in the total."""
    first, second, masked, strong = report.priming, Spending(), Spending(), Spending()
    outcomes: Counter[str] = Counter()
    routes: Counter[str] = Counter()
    settled: Counter[Route] = Counter()
    second_runs = left = 0
    for reviewed in report.reviewed:
        first, second = first + reviewed.first, second + reviewed.second
        masked, strong = masked + reviewed.masked, strong + reviewed.strong
        judgement = reviewed.judgement
        outcomes[judgement.verdict.outcome if judgement else "not_judged"] += 1
        routes[judgement.route if judgement else ""] += 1
        if judgement and judgement.verdict.outcome != "escalate":
            settled[judgement.route] += 1
        second_runs += judgement is not None and judgement.second_run
        left += reviewed.left
    everything = first + second + masked + strong
    decided = outcomes["pass"] + outcomes["fail"]
    cost = everything.known_cost
    return {
        "tickets": len(report.reviewed),
        "passed": outcomes["pass"],
        "failed": outcomes["fail"],
        "escalated": outcomes["escalate"],
        "not_judged": outcomes["not_judged"],
        "left_by_budget": left,
        "skipped_rows": len(report.bad_rows),
        "settled_by": {step: settled[step] for step in STEPS if settled[step]},
        "pass_rate": round(outcomes["pass"] / decided, 4) if decided else None,
        "tokens": _tokens(everything.usage),
        "cache_hit_rate": _hit_rate(everything.usage),
        "cost_usd": _money(cost),
        "cost_first_usd": _money(first.known_cost),
        "cost_second_runs_usd": _money(second.known_cost),
        "cost_masked_runs_usd": _money(masked.known_cost),
        "cost_strong_usd": _money(strong.known_cost),
        "cost_per_ticket_usd": _money(cost / len(report.reviewed)) if cost is not None else None,
        "budget_usd": _money(report.budget),
        "second_runs": second_runs,
        "masked_runs": routes["masked"],
        "strong_runs": routes["strong"],
        "replies_reused": everything.reused,
        "attempts_without_reply": report.attempts.without_reply,
        "possibly_billed": report.attempts.possibly_billed,
        "seconds": round(report.seconds, 3),
        "startup_seconds": round(startup_seconds, 3),
        "model": report.model or None,
        "demonstration": report.demonstration,
        "context_version": report.context.version,
    }


def _tokens(usage: Usage) -> dict[str, int]:
    return {
        "input": usage.input,
        "cache_write": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read": usage.cache_read,
        "output": usage.output,
    }


def _hit_rate(usage: Usage) -> float | None:
    """Share of all input tokens that came out of the vendor's cache."""
    total = usage.input + usage.cache_write_5m + usage.cache_write_1h + usage.cache_read
    return round(usage.cache_read / total, 4) if total else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else math.floor(value * 10) / 10  # down, as a score below the mark must not read as it


def _money(value: Decimal | None) -> float | None:
    return None if value is None else float(round(value, 9))


def print_report(report: Report, console: Console, *, startup_seconds: float) -> None:
    console.print(_table(report))
    print_summary(report, console, startup_seconds=startup_seconds)


def print_summary(report: Report, console: Console, *, startup_seconds: float) -> None:
    console.print(_summary(report, totals(report, startup_seconds=startup_seconds)))


def _table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ticket", no_wrap=True, max_width=LONGEST_ID)
    table.add_column("verdict", no_wrap=True)
    table.add_column("score", justify="right")
    table.add_column("what decided it", ratio=1)
    table.add_column("worst criterion")
    table.add_column("cost $", justify="right", no_wrap=True)
    for reviewed in report.reviewed:
        table.add_row(*_row(reviewed, report))
    return table


def _row(reviewed: Reviewed, report: Report) -> tuple[Text | str, ...]:
    ticket = _plain(reviewed.external_id)
    judgement = reviewed.judgement
    if judgement is None:
        return ticket, Text("- not judged", "dim"), "-", _plain(reviewed.problem), "", ""
    verdict = judgement.verdict
    score = "-" if verdict.score is None else f"{int(verdict.score)}"  # down: 79.6 must not read as the 80 that passes
    reason = _plain(verdict.reasons[0] if verdict.reasons else "")
    cost = reviewed.known_cost
    money = "?" if cost is None else f"{cost:.5f}"
    return ticket, Text(*MARKS[verdict.outcome]), score, reason, Text(_worst(judgement.findings, report)), money


def _plain(text: str) -> Text:
    """Words of a ticket, a model or a server: markup in them stays text, and the terminal is given no orders."""
    return Text(visible(text))


def _worst(findings: tuple[Finding, ...], report: Report) -> str:
    """Title of the criterion that cost the most, critical ones first; empty where nothing was lost."""
    rubric = report.context.rubric
    lost = [
        (rubric[f.criterion].critical, rubric[f.criterion].weight * (1 - VALUES[f.result]), rubric[f.criterion].title)
        for f in findings
        if f.result in {"partly", "not_met"}
    ]
    return max(lost, default=(False, 0.0, ""))[2]


def _summary(report: Report, sums: Mapping[str, Any]) -> Group:
    tokens = sums["tokens"]
    rate = "none decided" if sums["pass_rate"] is None else f"{sums['pass_rate']:.0%} of those decided"
    hit = "-" if sums["cache_hit_rate"] is None else f"{sums['cache_hit_rate']:.0%}"
    lines = [
        f"{sums['tickets']} tickets: {sums['passed']} pass, {sums['failed']} fail, {sums['escalated']} escalate"
        + (f", {sums['not_judged']} not judged" if sums["not_judged"] else "")
        + f" (pass rate {rate})",
        (
            f"tokens: {tokens['input']:,} in, {tokens['cache_read']:,} from cache, {tokens['cache_write']:,} cached, "
            f"{tokens['output']:,} out; cache hit rate {hit}; {sums['replies_reused']} replies reused"
        ),
        _settled_line(sums),
        _cost_line(sums),
        f"{sums['seconds']:.1f} s (start-up {sums['startup_seconds']:.1f} s)",
        f"judged by {_judge(report)}, context {report.context.version[:12]}",
    ]
    if sums["attempts_without_reply"]:
        lines.append(
            f"{sums['attempts_without_reply']} calls without a reply, {sums['possibly_billed']} possibly billed"
        )
    if sums["left_by_budget"]:
        lines.append(
            f"stopped by the budget of ${report.budget:f}: {sums['left_by_budget']} of {sums['tickets']} tickets "
            "are left. Run again to go on; what was paid is kept and will not be paid again."
        )
    lines += [f"skipped line {row.line}: {row.problem}" for row in report.bad_rows]
    return Group(Text(), *map(_plain, lines))


def _settled_line(sums: Mapping[str, Any]) -> str:
    """The last step that tickets went through, where it did not hand them to a person."""
    of = sums["tickets"]
    steps = [f"{STEPS[step]} {number} ({number / of:.0%})" for step, number in sums["settled_by"].items()]
    return f"settled by: {', '.join(steps) or 'none'}; to a person {sums['escalated']} ({sums['escalated'] / of:.0%})"


def _cost_line(sums: Mapping[str, Any]) -> str:
    if sums["cost_usd"] is None:
        return "cost: not known, because the price book does not list this model"
    return (
        f"cost ${sums['cost_usd']:.5f}, ${sums['cost_per_ticket_usd']:.6f} a ticket; "
        f"of it {sums['second_runs']} second runs ${sums['cost_second_runs_usd']:.5f}"
        + (
            f", {sums['masked_runs']} without hostile text ${sums['cost_masked_runs_usd']:.5f}"
            * bool(sums["masked_runs"])
        )
        + (f", {sums['strong_runs']} by the strong model ${sums['cost_strong_usd']:.5f}" * bool(sums["strong_runs"]))
    )


def _judge(report: Report) -> str:
    if not report.model:
        return "no model: checks only, judged criteria are not scored"
    return f"{report.model}, a demonstration model: no claim of quality" if report.demonstration else report.model
