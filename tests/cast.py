"""What tests of judging share: the shipped context, a plain ticket, and a scripted model that answers by agent."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.context import Context, parse, read_folder
from agents.masking import revise
from agents.question import Outcome, Question, Reply, Usage
from agents.ticket import Revision, read_ticket

REPOSITORY = Path(__file__).resolve().parent.parent
MODEL = "claude-haiku-5-5"
USAGE = Usage(input=900, output=350, cache_read=5_000)

Answers = Callable[[Question], "str | Reply"]


@functools.cache
def shipped_context() -> Context:
    return parse(read_folder(REPOSITORY / "context"))


def nonce_for(_key: str) -> str:
    return "0123456789abcdef"


def revision(**changes: object) -> Revision:
    """A finished ticket: what it asks for, what was done, why, and that it works."""
    raw: dict[str, Any] = {
        "external_id": "INC-1",
        "subject": "VPN drops every ten minutes",
        "description": "Since Monday the VPN on my laptop LT-204 drops every ten minutes.\nI cannot work from home.",
        "requester": "Ana Ruiz",
        "queue": "Network",
        "category": "network",
        "priority": "p3",
        "status": "closed",
        "created_at": "2026-11-16T08:00:00Z",
        "closed_at": "2026-11-16T10:00:00Z",
        "entries": [
            {
                "author_role": "agent",
                "at": "2026-11-16T09:30:00Z",
                "body": "Replaced the expired client certificate on LT-204 and watched the tunnel for 30 minutes.",
                "minutes": 45,
                "billable": True,
            },
            {"author_role": "requester", "at": "2026-11-16T09:45:00Z", "body": "Works now, thank you."},
        ],
        "resolution": {"code": "Solved", "note": "Expired client certificate; renewal added to the calendar."},
    }
    return revise(read_ticket({**raw, **changes}))


def reply(text: str, *, outcome: Outcome = "answered", stop_reason: str = "end_turn") -> Reply:
    return Reply(text=text, outcome=outcome, stop_reason=stop_reason, usage=USAGE, model=MODEL)


TRIAGED: dict[str, Any] = {
    "category": "network",
    "priority": "p3",
    "problem": {"line": 7, "quote": "drops every ten minutes"},
    "affected": {"line": 7, "quote": "VPN on my laptop LT-204"},
    "impact": {"line": 8, "quote": "cannot work from home"},
    "contact": {"line": 0, "quote": ""},
    "rules": [],
    "ask": ["How can we reach you?"],
}


def said(result: str = "met", *, line: int = 0, quote: str = "", reason: str = "") -> dict[str, Any]:
    """One criterion's answer as the model gives it."""
    return {"result": result, "lines": [line] if line else [], "quote": quote, "reason": reason}


PERFORMED = {"work_performed": said(line=9, quote="Replaced the expired client certificate")}


def judged(**findings: dict[str, Any]) -> str:
    """QC's whole answer: everything met unless said otherwise."""
    ids = [criterion.id for criterion in shipped_context().rubric.judged]
    whole = {name: said() for name in ids} | PERFORMED | findings
    return json.dumps({"findings": whole, "triage": []})


@dataclass
class Model:
    """A scripted model. It answers by agent; a list gives its items one after the other, the last one for ever."""

    triage: Any = field(default_factory=lambda: json.dumps(TRIAGED))
    qc: Any = field(default_factory=judged)
    asked: list[Question] = field(default_factory=list)

    def __call__(self, question: Question) -> Reply:
        self.asked.append(question)
        script = getattr(self, question.agent)
        if isinstance(script, list):
            script = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(script, Exception):
            raise script
        return script if isinstance(script, Reply) else reply(script)
