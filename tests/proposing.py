"""What tests of proposals share: a pattern on three tickets, labels, and a worker that fails until a text helps it."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from agents.edits import Edit
from agents.observation import Fingerprint
from app import audit, patterns, proposals, releases
from app.clock import now
from app.deps import Deps
from app.model_watch import Models
from app.tables import Label, LabelFinding, Pattern, Proposal, Replay, Ticket
from tests.double.answers import answer, recognise
from tests.double.prompt import output_schema
from tests.factories import make_context, make_observation, make_ticket, office_ticket, shipped_context

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.settings import Settings
    from app.tables import User
    from app.vault import Vault
    from tests.double.models import Json

FINGERPRINT = Fingerprint("qc", "quote_not_found", "root_cause")
REQUESTERS = ("Ana Ruiz", "Ben Okafor", "Cleo Marsh")
ITEM = "cause_in_resolution"
TEXT = "If the closing note names a reason, the criterion root_cause is met by quoting exactly that reason."
EDIT = Edit("add", "known_patterns.md", ITEM, "Cause stands in the resolution", TEXT)
WHY = "The agent looks for the reason among the entries and makes words up where only the closing note has it."


_rooms = itertools.count(1)  # no two tickets read alike


def proposed(*edits: Edit, kind: str = "more_context", why: str = WHY, questions: tuple[str, ...] = ()) -> str:
    """The chief of staff's answer."""
    told = [{name: getattr(edit, name) for name in ("operation", "file", "item", "title", "text")} for edit in edits]
    return json.dumps({"kind": kind, "why": why, "questions": list(questions), "edits": told})


@dataclass
class Script:
    """A worker that makes up a quote for root_cause until what it reads holds `cure`, and a chief that knows the cure.

    Where what it reads holds `harm`, nothing is met any more.
    """

    proposal: str = field(default_factory=lambda: proposed(EDIT))
    cure: str = TEXT
    harm: str = "\0"

    def __call__(self, body: Json) -> str:
        schema = output_schema(body)
        assert schema is not None
        if "kind" in schema["properties"]:
            return self.proposal
        said: dict[str, Any] = json.loads(answer(body, schema, kind="all_met"))
        if recognise(schema) == "qc":
            read = json.dumps(body["system"])
            if self.cure not in read:
                said["findings"]["root_cause"] = {
                    "result": "partly",
                    "lines": [1],
                    "quote": "words that nobody wrote",
                    "reason": "It does not say why.",
                }
            if self.harm in read:
                for finding in said["findings"].values():
                    finding.update(result="absent", quote="", lines=[], reason="Nothing says so.")
        return json.dumps(said)


def started(engine: Engine, settings: Settings, vault: Vault, **changes: object) -> Deps:
    """A worker process whose models were looked up."""
    changed = settings.model_copy(update=changes)
    deps = Deps(engine, vault, changed, Models(engine, changed))
    deps.models.refresh()
    return deps


def tickets(session: Session, *, number: int = 3) -> list[Ticket]:
    """Finished tickets of different people."""
    make_context(session)
    return [
        make_ticket(
            session,
            text=office_ticket(
                requester=REQUESTERS[place % len(REQUESTERS)], subject=f"VPN drops in room {next(_rooms)}"
            ),
        )
        for place in range(number)
    ]


def open_pattern(session: Session, *, number: int = 3, **columns: object) -> int:
    """A pattern that three tickets have opened."""
    for ticket in tickets(session, number=number):
        evidence = [{"line": 7, "quote": "the VPN on my laptop", "spans": [[7, 13, 33]]}]
        make_observation(session, ticket, **{"evidence": evidence, **columns})
    named = {name: str(value) for name, value in columns.items() if name in FINGERPRINT._fields}
    patterns.notice(session, [FINGERPRINT._replace(**named)], now=now())
    session.commit()
    return session.scalars(select(Pattern.id).order_by(Pattern.id.desc())).first() or 0


def make_label(session: Session, user: User, *, ticket: Ticket | None = None, **columns: object) -> Label:
    """A person's word on a ticket; `findings` are its answers to criteria."""
    about = ticket or tickets(session, number=1)[0]
    findings = columns.pop("findings", {})
    values = {"kind": "decide", "outcome": "pass", "blind": True, "split": "gate", **columns}
    version = make_context(session).version
    label = Label(revision_id=about.revision_id, context_version=version, user_id=user.id, **values)
    session.add(label)
    session.flush()
    hashes = {criterion.id: criterion.text_hash for criterion in shipped_context().rubric.criteria}
    assert isinstance(findings, dict)
    for name, result in findings.items():
        session.add(LabelFinding(label_id=label.id, criterion=name, text_hash=hashes[name], result=result))
    session.commit()
    return label


def make_proposal(
    session: Session,
    settings: Settings,
    *,
    kind: str = "more_context",
    edits: tuple[Edit, ...] = (EDIT,),
    **columns: object,
) -> Proposal:
    """An open proposal about a pattern of its own, with the chief's wording and its trial where the kind has edits."""
    pattern_id = columns.pop("pattern_id", None) or open_pattern(session)
    values = {"why": WHY, "model": "claude-sonnet-5-5", "demonstration": False, **columns}
    proposal = Proposal(pattern_id=pattern_id, kind=kind, **values)
    session.add(proposal)
    session.flush()
    if kind not in {"noise", "unclear"}:
        base = releases.in_force(session)
        proposals.add_draft(session, proposal, base=base, edits=edits, author=audit.MACHINE, settings=settings)
    session.commit()
    return proposal


def _share(count: int) -> dict[str, Any]:
    return {"count": count, "low": 0.0661, "high": 0.7916}


def _arm(verdict: str, *, right: bool, failed: int = 0) -> dict[str, Any]:
    return {"verdict": verdict, "right": right, "outcomes": [verdict] * 3, "failed": failed}


def finish(session: Session, **columns: object) -> None:
    """Every trial is over; the first two of three tickets are other than before."""
    tickets = list(session.scalars(select(Ticket).order_by(Ticket.id).limit(3)))
    changes = (
        ("fixed", _arm("escalate", right=False, failed=3), _arm("pass", right=True)),
        ("broken", _arm("pass", right=True), _arm("mixed", right=False)),
        ("unchanged", _arm("pass", right=True), _arm("pass", right=True)),
    )
    cases = [
        {
            "ticket_id": ticket.id,
            "revision_id": ticket.revision_id,
            "target": change == "fixed",
            "label": None if change == "fixed" else "pass",
            "change": change,
            "verdict_changed": old["verdict"] != new["verdict"],
            "old": old,
            "new": new,
        }
        for ticket, (change, old, new) in zip(tickets, changes, strict=True)
    ]
    summary = {
        "cases": 3,
        "labelled": 2,
        "targets": 1,
        "verdicts_changed": 2,
        "escalated_old": 1,
        "escalated_new": 0,
        **{name: _share(1) for name in ("fixed", "broken", "unchanged", "flips_old", "flips_new")},
        "rests_on": "It rests on 2 labels: few labels prove little.",
    }
    values = {"state": "done", "cost_usd": 0.0123, "model": "claude-haiku-5-5", **columns}
    session.execute(update(Replay).values(result={"version": 1, "cases": cases, "summary": summary}, **values))
    session.commit()
