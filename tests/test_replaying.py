"""A draft is tried on tickets: what it fixes, what it breaks, and that nothing is paid twice, whatever goes wrong."""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text, update

from agents.gateway import CallFailed
from agents.judge import judge
from app import calling, proposals, replaying, reviewing, trial
from app.audit import Actor
from app.errors import NotFound
from app.queries.ticket import runs as shown_runs
from app.tables import Draft, Pattern, Proposal, Replay, Revision, Run, Ticket, Verdict
from tests.double import Double, running
from tests.factories import make_revision, make_ticket, office_ticket
from tests.proposing import EDIT, TEXT, Script, make_label, open_pattern, proposed, tickets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from agents.judge import Judgement
    from app.asking import Asked
    from app.deps import Deps
    from app.tables import User

HARM = "Nobody writes anything down that counts as evidence for any criterion of the rubric at all."


@pytest.fixture
def script() -> Script:
    return Script(harm=HARM)


@pytest.fixture
def double(script: Script) -> Iterator[Double]:
    with running() as server:
        server.answer_with(script)
        yield server


def begun(deps: Deps, session: Session) -> int:
    """The id of a replay that waits, about the one pattern there is."""
    pattern_id = session.scalars(select(Pattern.id)).one()
    calling.draft(deps, pattern_id=pattern_id)
    session.expire_all()
    return session.scalars(select(Replay.id)).one()


def looked_at(session: Session, replay_id: int) -> Replay:
    session.expire_all()
    return session.get_one(Replay, replay_id)


def worker_calls(double: Double) -> int:
    return sum(call.model == "claude-haiku-5-5" for call in double.account.calls)


def result(session: Session, replay_id: int) -> dict[str, Any]:
    row = looked_at(session, replay_id)
    assert (row.state, row.note) == ("done", "")
    assert row.result is not None
    return row.result


def test_a_good_edit_fixes_the_pattern_and_breaks_no_labelled_ticket(
    deps: Deps, session: Session, double: Double, lead: User
) -> None:
    open_pattern(session)
    kept = [make_label(session, lead, outcome="pass") for _ in range(2)]
    replay_id = begun(deps, session)
    row = looked_at(session, replay_id)
    assert (row.tickets, row.labelled, row.available, row.calls) == (5, 2, 5, 35)
    replaying.replay(deps, replay_id=replay_id)
    found = result(session, replay_id)
    changes = [(case["target"], case["label"], case["change"]) for case in found["cases"]]
    assert changes[:3] == [(True, None, "fixed")] * 3
    assert changes[3:] == [(False, "pass", "unchanged")] * 2
    assert [case["revision_id"] for case in found["cases"][3:]] == [label.revision_id for label in reversed(kept)]
    summary = found["summary"]
    assert (summary["cases"], summary["labelled"], summary["targets"]) == (5, 2, 3)
    assert [summary[name]["count"] for name in ("fixed", "broken", "unchanged")] == [3, 0, 2]
    assert summary["fixed"]["low"] == pytest.approx(0.1466, abs=1e-3)
    assert "few labels prove little" in summary["rests_on"]
    row = looked_at(session, replay_id)
    assert (row.model, row.demonstration, row.finished_at is None) == ("claude-haiku-5-5", False, False)
    assert worker_calls(double) == row.calls
    mine = list(session.scalars(select(Run).where(replaying.runs_of(row))))
    assert row.cost_usd == sum((run.cost_usd or Decimal(0) for run in mine), Decimal(0)) > 0
    versions = {run.context_version for run in mine if run.agent == "qc"}
    draft = session.scalars(select(Draft)).one()
    assert versions == {draft.base_version, draft.candidate_version}
    numbers = Counter((run.repetition - replay_id * 10, run.context_version) for run in mine if run.agent == "qc")
    assert numbers == {(number, version): 5 for number in range(3) for version in versions}


def test_old_and_new_are_asked_side_by_side(deps: Deps, session: Session, double: Double) -> None:
    open_pattern(session)
    replay_id = begun(deps, session)
    before = len(double.bodies)
    replaying.replay(deps, replay_id=replay_id)
    asked = [TEXT in json.dumps(body["system"]) for body in list(double.bodies)[before:]]
    judged = asked[-18:]
    for wave in (judged[:6], judged[6:12], judged[12:]):
        assert sorted(wave) == [False] * 3 + [True] * 3


def test_a_harmful_edit_is_seen(deps: Deps, session: Session, script: Script, lead: User) -> None:
    open_pattern(session)
    for _ in range(3):
        make_label(session, lead, outcome="pass")
    script.proposal = proposed(replace(EDIT, text=HARM))
    replay_id = begun(deps, session)
    replaying.replay(deps, replay_id=replay_id)
    found = result(session, replay_id)
    labelled = [case for case in found["cases"] if case["label"]]
    assert [case["change"] for case in labelled] == ["broken"] * 3
    assert [(case["old"]["verdict"], case["new"]["verdict"]) for case in labelled] == [("pass", "fail")] * 3
    assert all(case["verdict_changed"] for case in labelled)
    assert found["summary"]["broken"]["count"] == 3


def test_which_tickets_it_is_tried_on(deps: Deps, session: Session, lead: User, other_lead: User) -> None:
    """The newest label counts; what is sealed, says nothing, is open, or has lost its texts is left out."""
    open_pattern(session)
    twice = make_label(session, lead, outcome="fail")
    again = session.get_one(Ticket, session.get_one(Revision, twice.revision_id).ticket_id)
    make_label(session, other_lead, ticket=again, outcome="pass", findings={"root_cause": "met"})
    make_label(session, lead, split="sealed")
    make_label(session, lead, outcome="cannot_tell")
    opened = make_ticket(session, text=office_ticket(status="open", closed_at=None))
    make_label(session, lead, ticket=opened)
    gone = make_label(session, lead)
    removed = session.get_one(Revision, gone.revision_id)
    removed.document = {**removed.document, "removed": True}
    session.commit()
    replay_id = begun(deps, session)
    row = looked_at(session, replay_id)
    assert (row.tickets, row.labelled, row.available) == (4, 1, 4)
    make_label(session, lead, outcome="fail")  # too late: it is tried on what there was when it was made
    make_label(session, lead, ticket=again, outcome="fail")
    replaying.replay(deps, replay_id=replay_id)
    (labelled,) = (case for case in result(session, replay_id)["cases"] if case["label"])
    assert (labelled["revision_id"], labelled["label"]) == (twice.revision_id, "pass")


def test_a_limit_keeps_the_pattern_s_tickets_and_the_newest_labels(
    another: Callable[..., Deps], session: Session, lead: User
) -> None:
    deps = another(replay_tickets=4)
    open_pattern(session)
    labels = [make_label(session, lead) for _ in range(4)]
    replay_id = begun(deps, session)
    row = looked_at(session, replay_id)
    assert (row.tickets, row.labelled, row.available) == (4, 1, 7)
    replaying.replay(deps, replay_id=replay_id)
    assert result(session, replay_id)["cases"][-1]["revision_id"] == labels[-1].revision_id


def test_the_newest_state_of_a_pattern_s_ticket_is_the_one_it_was_seen_on(deps: Deps, session: Session) -> None:
    open_pattern(session)
    ticket = session.scalars(select(Ticket).order_by(Ticket.id)).first()
    assert ticket is not None
    seen_on = ticket.revision_id
    make_revision(session, ticket, text=office_ticket(external_id=ticket.external_id, subject="Another state"))
    session.commit()
    replay_id = begun(deps, session)
    replaying.replay(deps, replay_id=replay_id)
    assert seen_on in {case["revision_id"] for case in result(session, replay_id)["cases"]}


def test_triage_is_asked_again_only_where_the_edit_changes_what_it_reads(
    deps: Deps, session: Session, double: Double, script: Script
) -> None:
    open_pattern(session)
    replay_id = begun(deps, session)
    replaying.replay(deps, replay_id=replay_id)
    kinds = Counter(call.kind for call in double.account.calls)
    assert (kinds["triage"], kinds["qc"]) == (3, 18)
    session.execute(update(Proposal).values(state="rejected"))
    session.commit()
    rule = replace(
        EDIT,
        file="standards.md",
        item="closing_note",
        title="Closing note",
        text="A closing note names the reason and the outcome.",
    )
    script.proposal = proposed(rule)
    calling.draft(deps, pattern_id=session.scalars(select(Pattern.id)).one())
    second = session.scalars(select(Replay.id).order_by(Replay.id.desc())).first()
    assert second is not None
    assert looked_at(session, second).calls == 36
    replaying.replay(deps, replay_id=second)
    kinds = Counter(call.kind for call in double.account.calls)
    assert (kinds["triage"], kinds["qc"]) == (3 + 18, 18 + 18)


def test_a_worker_that_dies_in_the_middle_pays_nothing_twice(
    deps: Deps, another: Callable[..., Deps], session: Session, double: Double,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    open_pattern(session)
    replay_id = begun(deps, session)
    left = threading.Semaphore(7)

    def dies(*arguments: Any, **named: Any) -> Judgement:  # noqa: ANN401  passed on
        if not left.acquire(blocking=False):
            raise RuntimeError("the process died here")
        return judge(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(trial, "judge", dies)
        with pytest.raises(RuntimeError):
            replaying.replay(deps, replay_id=replay_id)
    assert looked_at(session, replay_id).state == "running"
    paid = worker_calls(double)
    assert 0 < paid < looked_at(session, replay_id).calls
    other = another()
    replaying.replay(other, replay_id=replay_id)
    assert [case["change"] for case in result(session, replay_id)["cases"]] == ["fixed"] * 3
    assert worker_calls(double) == looked_at(session, replay_id).calls
    replaying.replay(other, replay_id=replay_id)
    assert worker_calls(double) == looked_at(session, replay_id).calls


def test_two_workers_on_one_replay_leave_one_result(deps: Deps, another: Callable[..., Deps], session: Session) -> None:
    open_pattern(session)
    replay_id = begun(deps, session)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: replaying.replay(one, replay_id=replay_id), (deps, another())))
    assert result(session, replay_id)["summary"]["fixed"]["count"] == 3
    replied = [run.reply_key for run in session.scalars(select(Run)) if run.replied]
    assert len(replied) == len(set(replied))


def test_a_model_that_is_away_is_waited_for_and_taken_up_again(
    deps: Deps, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pattern(session)
    replay_id = begun(deps, session)
    ready = deps.models.ready()
    assert ready is not None

    def failing(failure: CallFailed) -> None:
        def ask(*_: object) -> Asked:
            raise failure

        monkeypatch.setattr(ready.asking, "ask", ask)

    failing(CallFailed("timeout", "no answer"))
    replaying.replay(deps, replay_id=replay_id)
    row = looked_at(session, replay_id)
    assert (row.state, row.note) == ("waiting", "the model did not answer; tried again in a minute (timeout)")
    session.execute(text("delete from procrastinate.procrastinate_jobs"))
    session.commit()
    replaying.resume(deps)
    replaying.resume(deps)
    found = session.scalars(text("select queueing_lock from procrastinate.procrastinate_jobs")).all()
    assert found == [f"replay:{replay_id}"]
    failing(CallFailed("billing", "unpaid"))
    replaying.replay(deps, replay_id=replay_id)
    assert looked_at(session, replay_id).note == "the model cannot be used; see the banner"
    assert deps.models.ready() is None
    replaying.replay(deps, replay_id=replay_id)
    assert looked_at(session, replay_id).note == replaying.WAITS


def test_what_cannot_be_tried_says_why(
    deps: Deps, another: Callable[..., Deps], session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pattern(session)
    replay_id = begun(deps, session)

    def again(**columns: object) -> None:
        session.execute(update(Replay).values(state="waiting", note="", finished_at=None, **columns))
        session.commit()

    replaying.replay(another(worker_model="none"), replay_id=replay_id)
    assert (looked_at(session, replay_id).state, looked_at(session, replay_id).note) == ("failed", replaying.NO_MODEL)
    again()
    ready = deps.models.ready()
    assert ready is not None

    def rejected(*_: object) -> Asked:
        raise CallFailed("bad_request", "too many words")

    with monkeypatch.context() as patched:
        patched.setattr(ready.asking, "ask", rejected)
        replaying.replay(deps, replay_id=replay_id)
    assert "rejected a question" in looked_at(session, replay_id).note
    again()
    session.execute(text("""update revisions set document = jsonb_set(document, '{ticket,status}', '"open"')"""))
    again(tickets=0)
    replaying.replay(deps, replay_id=replay_id)
    assert looked_at(session, replay_id).note == replaying.NOTHING
    again()
    replaying.give_up(deps, "it died", replay_id=replay_id)
    assert looked_at(session, replay_id).note == "the trial stopped: it died"


def test_a_trial_that_nobody_waits_for_any_more_stops(deps: Deps, session: Session, double: Double, lead: User) -> None:
    open_pattern(session)
    replay_id = begun(deps, session)
    proposal = session.scalars(select(Proposal)).one()
    actor = Actor(lead.email, lead.id)
    other = replace(EDIT, text="The closing note may hold the reason; then root_cause is met.")
    proposals.revise(session, actor=actor, proposal_id=proposal.id, edits=[other], settings=deps.settings, seen=1)
    session.commit()
    replaying.replay(deps, replay_id=replay_id)
    row = looked_at(session, replay_id)
    assert (row.state, row.note) == ("failed", replaying.REPLACED)
    assert worker_calls(double) == 0


def test_a_trial_is_not_counted_as_judging(deps: Deps, session: Session) -> None:
    """Neither in what the next verdict cost nor among the ticket's runs."""
    open_pattern(session)
    replay_id = begun(deps, session)
    replaying.replay(deps, replay_id=replay_id)
    ticket = session.scalars(select(Ticket).order_by(Ticket.id)).first()
    assert ticket is not None
    assert ticket.revision_id is not None
    assert shown_runs(session, ticket.id) == ()
    reviewing.review(deps, revision_id=ticket.revision_id)
    session.expire_all()
    verdict = session.scalars(select(Verdict)).one()
    shown = shown_runs(session, ticket.id)
    assert {run.purpose for run in shown} <= {"review", "repair", "second"}
    assert verdict.cost_usd == sum((run.cost_usd or Decimal(0) for run in shown), Decimal(0))


def test_an_unknown_replay_is_not_found(deps: Deps) -> None:
    with pytest.raises(NotFound):
        replaying.replay(deps, replay_id=10**9)


def test_a_pattern_s_ticket_that_is_labelled_counts_once(deps: Deps, session: Session, lead: User) -> None:
    open_pattern(session)
    ticket = session.scalars(select(Ticket).order_by(Ticket.id)).first()
    make_label(session, lead, ticket=ticket, outcome="pass")
    row = looked_at(session, begun(deps, session))
    assert (row.tickets, row.labelled) == (3, 1)
    assert len(tickets(session, number=1)) == 1
