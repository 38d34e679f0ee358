"""What goes, what stays, and that going twice changes nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest
from sqlalchemy import select, text

from app import documents, retention, sign_ins, tables
from app.clock import now
from app.deps import Deps
from app.queue import enqueue
from app.retention import Removed, remove
from tests.factories import (
    finding,
    make_delivery,
    make_escalation,
    make_revision,
    make_run,
    make_ticket,
    make_triage,
    make_user,
    make_verdict,
    office_ticket,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from app.model_watch import Models
    from app.settings import Settings
    from app.vault import Vault

MOMENT = now()
MONTH = timedelta(days=30)


def ago(days: float) -> datetime:
    return MOMENT - timedelta(days=days)


def removed(engine: Engine) -> Removed:
    return remove(engine, moment=MOMENT, deliveries=MONTH)


def test_deliveries_lose_their_body_and_stay_counted(engine: Engine, session: Session) -> None:
    old = make_delivery(session, received_at=ago(30.1), state="parked", reason="no subject")
    young = make_delivery(session, received_at=ago(29.9))
    session.commit()
    assert removed(engine).deliveries == 1
    session.refresh(old)
    session.refresh(young)
    assert (old.body, old.state, old.reason) == (None, "parked", "no subject")
    assert young.body is not None


def test_who_was_signed_in_and_old_links_and_old_failures_go(engine: Engine, session: Session) -> None:
    user = make_user(session)
    hours = timedelta(hours=1)
    for seen, created in ((12 * hours, 12 * hours), (hours, 14 * 24 * hours), (11 * hours, 13 * 24 * hours)):
        token = sign_ins.begin(session, user.id, now=MOMENT - created)
        sign_in = session.get_one(tables.SignIn, sign_ins.hashed(token))
        sign_in.seen_at = MOMENT - seen
    for number, (expires, used) in enumerate([(31, None), (29, None), (40, 31), (-5, 31), (-5, 29), (-5, None)]):
        used_at = None if used is None else ago(used)
        values = {"email": "x@example.com", "role": "lead", "actor": "x", "expires_at": ago(expires)}
        session.add(tables.Invitation(token_hash=bytes([number]), used_at=used_at, **values))
    session.add_all([tables.FailedSignIn(key=b"x", at=ago(days)) for days in (1.1, 0.9)])
    session.commit()
    gone = removed(engine)
    assert (gone.sign_ins, gone.links, gone.failures) == (2, 3, 1)
    kept = session.scalars(select(tables.Invitation.token_hash).order_by(tables.Invitation.token_hash)).all()
    assert kept == [bytes([1]), bytes([4]), bytes([5])]


def test_replies_go_and_what_they_cost_stays(engine: Engine, session: Session) -> None:
    old, young = make_run(session, recorded_at=ago(181)), make_run(session, recorded_at=ago(179))
    session.commit()
    assert removed(engine).replies == 1
    session.refresh(old)
    session.refresh(young)
    assert (old.reply, old.replied, old.input_tokens) == (None, True, 812)
    assert old.cost_usd is not None
    assert young.reply is not None


def reviewed(session: Session) -> tuple[tables.Ticket, tables.Revision]:
    """A ticket with everything that quotes its text."""
    ticket = make_ticket(session)
    revision = session.get_one(tables.Revision, ticket.revision_id)
    line = next(line for line in documents.revision(revision.document).lines if "VPN" in line.text)
    make_verdict(session, revision, outcome="fail", findings=[
        finding("clear_problem", "partly", quoted=(line.number, line.text.index("VPN"), "VPN"), reason="vague"),
    ])  # fmt: skip
    triage = make_triage(session, revision)
    quoted = {"line": 7, "quote": "the VPN on my laptop", "spans": [[7, 13, 33]]}
    triage.answer = {**triage.answer, "rules": [{"rule": "security_incident", "evidence": quoted}]}
    make_escalation(session, revision, evidence=[{"line": 1, "quote": "VPN", "spans": [[1, 0, 3]]}])
    return ticket, revision


def age(session: Session, revision: tables.Revision, *, days: float) -> None:
    revision.recorded_at = ago(days)
    session.commit()


def test_a_revision_loses_its_text_and_every_quote_of_it_but_not_its_verdict(engine: Engine, session: Session) -> None:
    ticket, revision = reviewed(session)
    age(session, revision, days=401)
    assert removed(engine).revisions == 1
    session.expire_all()
    everything = session.execute(
        text(
            "select (select json_agg(t) from tickets t)::text || (select json_agg(r) from revisions r)::text "
            "|| (select json_agg(f) from findings f)::text || (select json_agg(a) from triages a)::text "
            "|| (select json_agg(e) from escalations e)::text"
        )
    ).scalar_one()
    for word in ("VPN", "laptop", "Ana Ruiz", "certificate", "cannot work"):
        assert word not in everything
    assert ticket.subject == documents.REMOVED_SUBJECT
    triage = documents.triage(session.query(tables.Triage).one().answer)
    assert (triage.category, triage.fields["problem"].state, triage.rules[0].rule) == (
        "network", "present", "security_incident",
    )  # fmt: skip
    verdict = session.get_one(tables.Verdict, ticket.verdict_id)
    assert verdict.outcome == "fail"
    (kept,) = session.query(tables.Finding).all()
    assert (kept.criterion, kept.result, kept.reason, kept.evidence) == ("clear_problem", "partly", "vague", [])
    assert kept.evidence_status == "verified"


def test_what_is_left_of_a_revision_can_still_be_read_as_one(engine: Engine, session: Session) -> None:
    ticket, revision = reviewed(session)
    age(session, revision, days=401)
    removed(engine)
    session.expire_all()
    left = documents.revision(revision.document).ticket
    assert revision.document["removed"] is True
    assert (left.external_id, left.status, left.queue, left.assignee) == (
        ticket.external_id, "closed", "Network", "Sam Okoro",
    )  # fmt: skip
    assert (left.subject, left.description, left.requester, left.entries) == ("", "", "", ())


@pytest.mark.parametrize("state", ["open", "waiting_model", "running"])
def test_the_newest_state_of_a_ticket_somebody_works_on_is_kept_whole(
    engine: Engine, session: Session, state: str
) -> None:
    ticket = make_ticket(session, review_state=state)
    older = session.get_one(tables.Revision, ticket.revision_id)
    older.recorded_at = ago(500)
    newest = make_revision(session, ticket, text=office_ticket(external_id=ticket.external_id, priority="p1"))
    age(session, newest, days=401)
    assert removed(engine).revisions == 1
    session.expire_all()
    assert "removed" in older.document
    assert "removed" not in newest.document
    assert ticket.subject != documents.REMOVED_SUBJECT


def test_young_revisions_stay(engine: Engine, session: Session) -> None:
    ticket, revision = reviewed(session)
    age(session, revision, days=399)
    assert removed(engine).revisions == 0
    session.expire_all()
    assert ticket.subject != documents.REMOVED_SUBJECT


def test_more_than_a_batch_goes_in_one_call_and_a_second_finds_nothing(
    engine: Engine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for number in range(5):
        make_delivery(session, received_at=ago(31))
        session.add(tables.Tick(key=f"old:{number}", at=ago(31)))
    session.add(tables.Tick(key="young", at=ago(29)))
    session.commit()
    assert removed(engine) == Removed(
        deliveries=5, replies=0, revisions=0, ticks=5, jobs=0, sign_ins=0, links=0, failures=0, requests=0
    )
    assert removed(engine) == Removed(0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert [tick.key for tick in session.query(tables.Tick)] == ["young"]


def test_the_daily_job_takes_its_days_from_the_settings(
    engine: Engine, session: Session, vault: Vault, settings: Settings
) -> None:
    make_delivery(session, received_at=ago(8))
    enqueue(session, "retention")
    session.execute(text("update procrastinate.procrastinate_jobs set status = 'failed'"))
    session.execute(text("update procrastinate.procrastinate_events set at = now() - interval '8 days'"))
    session.commit()
    week = settings.model_copy(update={"retention_days": 7})
    retention.run(Deps(engine, vault, week, cast("Models", None)))
    session.expire_all()
    assert session.query(tables.Delivery).one().body is None
    assert session.execute(text("select count(*) from procrastinate.procrastinate_jobs")).scalar_one() == 0
