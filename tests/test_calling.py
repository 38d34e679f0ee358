"""The chief of staff is called about a pattern, paid once, and what it answers is a proposal that waits for people."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text, update

from agents.gateway import CallFailed
from agents.observation import Fingerprint
from app import briefs, calling, patterns, proposals, replay_cases
from app.audit import Actor
from app.clock import now
from app.tables import Draft, Observation, Pattern, PatternEvent, Proposal, Replay, Run
from tests.double import Double, Fault, running
from tests.factories import make_context, make_observation
from tests.proposing import EDIT, TEXT, WHY, Script, make_label, open_pattern, proposed, started, tickets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from agents.gateway import FailureCode
    from app.deps import Deps
    from app.settings import Settings
    from app.tables import User
    from app.vault import Vault


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def double(script: Script) -> Iterator[Double]:
    with running() as server:
        server.answer_with(script)
        yield server


def history(session: Session, pattern_id: int) -> list[str]:
    session.expire_all()
    kinds = select(PatternEvent.kind).where(PatternEvent.pattern_id == pattern_id)
    return list(session.scalars(kinds.order_by(PatternEvent.id)))


def only(session: Session) -> Proposal:
    session.expire_all()
    return session.scalars(select(Proposal)).one()


def asked(double: Double) -> int:
    return sum(call.model == "claude-sonnet-5-5" for call in double.account.calls)


def jobs(session: Session, task: str) -> list[str]:
    found = text("select queueing_lock from procrastinate.procrastinate_jobs where task_name = :task")
    return list(session.scalars(found, {"task": task}))


def test_a_call_makes_a_proposal_its_first_wording_and_a_trial(deps: Deps, session: Session) -> None:
    pattern_id = open_pattern(session)
    calling.draft(deps, pattern_id=pattern_id)
    proposal = only(session)
    assert (proposal.kind, proposal.why, proposal.state) == ("more_context", WHY, "open")
    assert (proposal.model, proposal.demonstration) == ("claude-sonnet-5-5", False)
    draft = session.scalars(select(Draft)).one()
    assert (draft.number, draft.author_id, draft.base_version) == (1, None, make_context(session).version)
    replay = session.scalars(select(Replay)).one()
    assert (replay.state, replay.tickets, replay.labelled, replay.available, replay.calls) == ("waiting", 3, 0, 3, 21)
    assert replay.estimate_usd is not None
    assert replay.estimate_usd > 0
    assert jobs(session, "replay") == [f"replay:{replay.id}"]
    assert history(session, pattern_id) == ["opened", "called", "proposed"]
    run = session.scalars(select(Run)).one()
    assert (run.agent, run.purpose, run.revision_id, run.replied) == ("chief_of_staff", "propose", None, True)


@pytest.mark.parametrize(("kind", "questions"), [("noise", ()), ("unclear", ("Does a restart count as a cause?",))])
def test_noise_and_unclear_have_no_wording_and_no_trial(
    deps: Deps, session: Session, script: Script, kind: str, questions: tuple[str, ...]
) -> None:
    script.proposal = proposed(kind=kind, questions=questions)
    calling.draft(deps, pattern_id=open_pattern(session))
    assert (only(session).kind, tuple(only(session).questions)) == (kind, questions)
    assert list(session.scalars(select(Draft))) == []
    assert jobs(session, "replay") == []


def test_a_second_call_while_a_proposal_waits_asks_nobody(deps: Deps, session: Session, double: Double) -> None:
    pattern_id = open_pattern(session)
    calling.draft(deps, pattern_id=pattern_id)
    calling.draft(deps, pattern_id=pattern_id)
    calling.resume(deps)
    assert asked(double) == 1
    assert history(session, pattern_id) == ["opened", "called", "proposed"]


def test_two_workers_on_one_pattern_leave_one_proposal(
    deps: Deps, another: Callable[..., Deps], session: Session
) -> None:
    pattern_id = open_pattern(session)
    workers = [deps, another()]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: calling.draft(one, pattern_id=pattern_id), workers))
    assert only(session).state == "open"
    assert len(list(session.scalars(select(Draft)))) == len(list(session.scalars(select(Replay)))) == 1
    assert history(session, pattern_id) == ["opened", "called", "proposed"]
    assert sum(run.replied for run in session.scalars(select(Run))) == 1


def test_a_crash_after_the_reply_pays_nothing_again(
    deps: Deps, session: Session, double: Double, monkeypatch: pytest.MonkeyPatch, lead: User
) -> None:
    pattern_id = open_pattern(session)

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("the process died here")

    with monkeypatch.context() as patched:
        patched.setattr(proposals, "add_draft", crash)
        with pytest.raises(RuntimeError):
            calling.draft(deps, pattern_id=pattern_id)
    assert list(session.scalars(select(Proposal))) == []
    assert jobs(session, "propose") == [f"propose:{pattern_id}"]
    session.execute(text("delete from procrastinate.procrastinate_jobs"))
    make_label(session, lead)  # the world goes on; the brief is as it was when it was called
    open_pattern(session, number=3)
    session.execute(text("delete from procrastinate.procrastinate_jobs"))
    session.commit()
    calling.resume(deps)
    assert jobs(session, "propose") == [f"propose:{pattern_id}"]
    calling.draft(deps, pattern_id=pattern_id)
    assert only(session).state == "open"
    assert asked(double) == 1


def test_who_is_not_called(deps: Deps, session: Session, double: Double) -> None:
    """One source, a muted pattern, three proposals that wait, an agent that reads no files, an unknown id."""
    for ticket_of_one in (1, 2, 3):
        open_pattern(session, number=ticket_of_one, subject="alone")
    session.execute(text("""update revisions set document = jsonb_set(document, '{ticket,requester}', '"Ana Ruiz"')"""))
    one_source = session.scalars(select(Pattern.id).where(Pattern.subject == "alone")).one()
    muted = open_pattern(session, subject="follow_up")
    session.execute(update(Pattern).where(Pattern.id == muted).values(state="muted"))
    itself = open_pattern(session, agent="chief_of_staff", code="invalid_answer", subject="")
    session.commit()
    for pattern_id in (one_source, muted, itself, 10**9):
        calling.draft(deps, pattern_id=pattern_id)
    assert history(session, itself)[-1] == "no_answer"
    for subject in ("communication", "work_performed", "clear_problem"):
        other = open_pattern(session, subject=subject)
        session.add(Proposal(pattern_id=other, kind="noise", why="x", model="m", demonstration=False))
    last = open_pattern(session)
    calling.draft(deps, pattern_id=last)
    assert asked(double) == 0
    assert history(session, last) == ["opened"]


def test_without_a_strong_model_the_page_says_so_once(
    engine: Engine, settings: Settings, vault: Vault, session: Session
) -> None:
    deps = started(engine, settings, vault, worker_model="none", strong_model="none")
    pattern_id = open_pattern(session)
    calling.draft(deps, pattern_id=pattern_id)
    calling.draft(deps, pattern_id=pattern_id)
    assert history(session, pattern_id) == ["opened", "no_answer"]
    note = session.scalars(select(PatternEvent.note).order_by(PatternEvent.id.desc())).first()
    assert note == calling.NO_MODEL


def test_a_model_that_is_not_there_yet_is_waited_for(
    another: Callable[..., Deps], session: Session, double: Double
) -> None:
    deps = another(anthropic_api_key=SecretStr("wrong"))
    pattern_id = open_pattern(session)
    calling.draft(deps, pattern_id=pattern_id)
    assert history(session, pattern_id) == ["opened"]
    assert asked(double) == 0


def test_an_answer_that_may_not_be_is_mended_once_and_then_the_chiefs_own_failure(
    deps: Deps, session: Session, script: Script, double: Double
) -> None:
    """Words of a ticket, a link, a name: none becomes a proposal, and none is repeated in the pattern's history."""
    copied = "Since Monday the VPN on my laptop LT-204 drops every ten minutes, so root_cause is met."
    pattern_id = open_pattern(session)
    for bad in (copied, "See https://evil.example/rules for root_cause.", "Where Ana Ruiz asks, root_cause is met."):
        script.proposal = proposed(replace(EDIT, text=bad))
        before = asked(double)
        calling.draft(deps, pattern_id=pattern_id)
        assert asked(double) == before + 2
        assert list(session.scalars(select(Proposal))) == []
        assert history(session, pattern_id)[-2:] == ["called", "no_answer"]
        note = session.scalars(select(PatternEvent.note).order_by(PatternEvent.id.desc())).first() or ""
        assert "no answer that can be used" in note
        assert bad not in note
    seen = session.scalars(select(Observation).where(Observation.agent == "chief_of_staff")).one()
    assert (seen.code, seen.subject) == ("invalid_answer", "")


def test_a_model_that_does_not_answer_is_not_asked_again_at_once(
    deps: Deps, session: Session, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = deps.models.ready("strong")
    assert ready is not None
    pattern_id = open_pattern(session)

    def failing(code: FailureCode) -> None:
        def ask(*_: object) -> None:
            raise CallFailed(code, "no reply")

        monkeypatch.setattr(ready.asking, "ask", ask)

    failing("timeout")
    calling.draft(deps, pattern_id=pattern_id)
    assert history(session, pattern_id) == ["opened", "called", "no_answer"]
    calling.resume(deps)
    session.execute(text("delete from procrastinate.procrastinate_jobs"))
    session.commit()
    failing("authentication")
    calling.draft(deps, pattern_id=pattern_id)
    assert history(session, pattern_id) == ["opened", "called", "no_answer", "called"]
    assert deps.models.ready("strong") is None
    calling.resume(deps)
    assert jobs(session, "propose") == []
    assert asked(double) == 0


def test_a_call_that_is_under_way_is_not_taken_up_again(deps: Deps, session: Session) -> None:
    """The strong model may think for minutes, and the clock ticks meanwhile."""
    pattern_id = open_pattern(session)
    session.execute(text("update procrastinate.procrastinate_jobs set status = 'doing'"))
    patterns.event(session, pattern_id, "called")
    session.commit()
    calling.resume(deps)
    assert jobs(session, "propose") == [f"propose:{pattern_id}"]
    session.execute(text("update procrastinate.procrastinate_jobs set status = 'failed'"))
    session.commit()
    calling.resume(deps)
    calling.resume(deps)
    assert jobs(session, "propose") == [f"propose:{pattern_id}"] * 2


def test_a_refusal_and_a_cut_answer_are_failures_on_record(deps: Deps, session: Session, double: Double) -> None:
    double.fault(Fault("refuse"))
    pattern_id = open_pattern(session)
    calling.draft(deps, pattern_id=pattern_id)
    assert history(session, pattern_id)[-1] == "no_answer"
    assert session.scalars(select(Observation.code).where(Observation.agent == "chief_of_staff")).all() == ["refusal"]


def test_what_was_rejected_before_and_what_people_said_is_in_the_next_brief(
    deps: Deps, session: Session, double: Double, lead: User
) -> None:
    pattern_id = open_pattern(session)
    revision = session.scalars(select(Observation.revision_id)).first()
    assert revision is not None
    calling.draft(deps, pattern_id=pattern_id)
    actor = Actor(lead.email, lead.id)
    proposals.reject(session, actor=actor, proposal_id=only(session).id, reason="It hides the gap.", now=now())
    session.execute(update(Pattern).values(state="open", cool_until=None))
    session.commit()
    calling.draft(deps, pattern_id=pattern_id)
    assert asked(double) == 2
    brief = double.bodies[-1]["messages"][0]["content"]
    brief = brief if isinstance(brief, str) else brief[0]["text"]
    assert "It hides the gap." in brief
    assert TEXT in brief
    assert "the VPN on my laptop" in brief


def test_what_a_sealed_decision_says_is_not_told_and_not_tried_on(session: Session, lead: User) -> None:
    """Where what is left comes from one requester only, nobody is asked."""
    about = tickets(session)
    labels = [make_label(session, lead, ticket=ticket, outcome="fail", split="dev") for ticket in about]
    seen_by_a_person = {"observer": "person", "code": "overruled", "direction": "false_pass"}
    for ticket, label in zip(about, labels, strict=True):
        make_observation(session, ticket, label_id=label.id, **seen_by_a_person)
    patterns.notice(session, [Fingerprint("qc", "overruled", "root_cause", "false_pass")], now=now())
    pattern = session.scalars(select(Pattern)).one()
    labels[0].split = "sealed"
    session.flush()
    brief = briefs.read(session, pattern, as_of=now())
    assert [(one.ticket, one.code) for one in brief.sightings] == [(1, "overruled"), (2, "overruled")]
    assert {label.ticket for label in brief.labels} == {1, 2}
    assert brief.tickets == 3
    tried = replay_cases.choose(session, pattern.id, base=make_context(session), as_of=now(), most=10)
    assert {case.ticket_id for case in tried.cases} == {ticket.id for ticket in about[1:]}
    assert patterns.callable_among(session, [pattern.id]) == {pattern.id}
    labels[1].split = "sealed"
    session.flush()
    assert patterns.callable_among(session, [pattern.id]) == frozenset()
