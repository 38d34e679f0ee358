"""The weekly report: made once whoever comes, told from the figures, mailed at most once to an address."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from app import mail, reports, retention, ticks
from app.audit import MACHINE, Actor
from app.db import transaction
from app.deps import Deps
from app.errors import Conflict, NotFound
from app.jobs import TRIES, wait_after
from app.mail import IN_FLIGHT, MailFailed
from app.model_watch import Models
from app.periods import key_of, week
from app.tables import AuditEvent, Mail, Report, Revision, Run
from tests.double import Double, Fault
from tests.factories import (
    finding,
    make_run,
    make_ticket,
    make_verdict,
    shipped_context,
)
from tests.postbox import postbox

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from agents.verdict import Result
    from app.settings import Settings
    from app.tables import User
    from app.vault import Vault

MONDAY = date(2026, 11, 16)
KEY = key_of(MONDAY)
WEEK = week(MONDAY, ZoneInfo("UTC"))
AT = WEEK.end + timedelta(hours=7)


@pytest.fixture(autouse=True)
def _monday_at_seven(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (reports, mail):
        monkeypatch.setattr(module, "now", lambda: AT)


@pytest.fixture
def deps(engine: Engine, settings: Settings, vault: Vault) -> Deps:
    """A service without any model."""
    none = settings.model_copy(update={"worker_model": "none", "strong_model": "none"})
    return Deps(engine, vault, none, Models(engine, none))


def told(deps: Deps, *, strong: Double) -> Deps:
    """The same with a strong model."""
    changes = {
        "strong_model": "claude-sonnet-5-5",
        "anthropic_api_key": SecretStr(strong.key),
        "anthropic_base_url": strong.base_url,
    }
    settings = deps.settings.model_copy(update=changes)
    models = Models(deps.engine, settings)
    models.refresh()
    return Deps(deps.engine, deps.vault, settings, models)


def mailing(deps: Deps, settings: Settings) -> Deps:
    return Deps(deps.engine, deps.vault, settings, deps.models)


@pytest.fixture
def tickets(session: Session) -> None:
    """A week with twelve tickets, of which three fail for the same reason, after four with none that did."""
    cause = shipped_context().rubric.criteria[0].id
    bad: tuple[str, Result] = ("fail", "not_met")
    good: tuple[str, Result] = ("pass", "met")
    for at, judgements in ((WEEK.start, [bad] * 9 + [good] * 3), (WEEK.start - timedelta(days=20), [good] * 20)):
        for outcome, result in judgements:
            ticket = make_ticket(session)
            revision = session.get_one(Revision, ticket.revision_id)
            verdict = make_verdict(session, revision, outcome=outcome, findings=[finding(cause, result)])
            verdict.recorded_at = revision.recorded_at = at
            make_run(session, revision=revision, recorded_at=at, cost_usd=Decimal("0.01"))
    session.commit()


def all_reports(session: Session) -> list[Report]:
    session.expire_all()
    return list(session.scalars(select(Report).order_by(Report.id)))


def mails(session: Session) -> dict[str, tuple[str, str]]:
    session.expire_all()
    return {row.address: (row.state, row.note) for row in session.scalars(select(Mail))}


def jobs(engine: Engine) -> list[str]:
    with transaction(engine) as session:
        return list(session.scalars(text("select task_name from procrastinate.procrastinate_jobs order by id")))


@pytest.mark.usefixtures("tickets")
def test_a_report_says_what_the_figures_say(deps: Deps, session: Session) -> None:
    reports.make(deps, monday=MONDAY.toordinal())
    (report,) = all_reports(session)
    assert (report.week, report.actor, report.opening_by) == ("2026-W47", MACHINE.name, "")
    title = shipped_context().rubric.criteria[0].title
    lines = report.markdown.splitlines()
    assert lines[0] == "# Week 47 of 2026, 16 to 22 November"
    opening = "Tickets judged: 12 of 12 that were finished. Fail rate: Of tickets that pass or fail, 75 % fail, up"
    assert lines[2].startswith(opening)
    assert "- 12 tickets came, 12 were finished, 12 of them judged." in lines
    assert "- 12 verdicts: 3 pass, 9 fail, 0 went to a person." in lines
    assert "- Fail: 9 of 12 (75 %), up from 0 %, of those that passed or failed." in lines
    assert f"{title} is not met in 75 % of tickets, up from 0 %." in lines
    assert "- $0.12 paid, $0.010 a ticket." in lines
    pace = (
        "if each day to come costs what the last ones did, seven at most, "
        "without batches, re-scoring and models compared"
    )
    # 12 cents and 8 days of 12/7
    assert f"- November 2026: $0.12 so far, $0.26 by the end of it, {pace}." in lines
    assert any(line.startswith("| judging tickets") for line in lines)
    assert report.figures["version"] == 1
    assert report.figures["outcomes"] == {"passed": 3, "failed": 9, "escalated": 0, "demonstration": 0, "unjudged": 0}
    for person in ("Okoro", "Ruiz"):
        assert person not in report.markdown


@pytest.mark.usefixtures("tickets")
def test_the_clock_makes_a_report_once_whoever_comes(deps: Deps, session: Session) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: reports.make(deps, monday=MONDAY.toordinal()), range(4)))
    reports.make(deps, monday=MONDAY.toordinal())
    assert len(all_reports(session)) == 1


def test_an_install_that_was_not_there_yet_has_no_report(deps: Deps, session: Session) -> None:
    reports.make(deps, monday=MONDAY.toordinal())
    make_ticket(session)
    session.execute(text("update revisions set recorded_at = :at"), {"at": WEEK.end})
    session.commit()
    reports.make(deps, monday=MONDAY.toordinal())
    assert all_reports(session) == []
    session.execute(text("update revisions set recorded_at = :at"), {"at": WEEK.end - timedelta(microseconds=1)})
    session.commit()
    reports.make(deps, monday=MONDAY.toordinal())
    assert len(all_reports(session)) == 1


@pytest.mark.parametrize(
    ("moment", "monday"),
    [
        ("2026-11-23T05:59:59+00:00", "2026-11-09"),  # 06:59:59 in Berlin
        ("2026-11-23T06:00:00+00:00", "2026-11-16"),
        ("2026-11-30T05:59:59+00:00", "2026-11-16"),  # a week missed is made up for on any day of it
        ("2026-03-30T05:00:00+00:00", "2026-03-23"),  # 07:00 in summer time
        ("2026-03-30T04:59:59+00:00", "2026-03-16"),
    ],
)
def test_monday_at_seven_is_where_the_people_are(engine: Engine, moment: str, monday: str) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    at = datetime.fromisoformat(moment)
    assert f"report:{key_of(date.fromisoformat(monday))}" in ticks.tick(engine, moment=at, zone=berlin)
    assert not [key for key in ticks.tick(engine, moment=at, zone=berlin) if key.startswith("report:")]  # another clock
    with transaction(engine) as session:
        args = session.scalars(
            text("select args from procrastinate.procrastinate_jobs where task_name = 'report'")
        ).all()
    assert args == [{"monday": date.fromisoformat(monday).toordinal()}]


@pytest.mark.usefixtures("tickets")
def test_a_lead_has_a_week_made_again_and_no_mail_goes_out(deps: Deps, session: Session, lead: User) -> None:
    actor = Actor(lead.email, lead.id)
    with postbox() as box:
        sending = mailing(deps, box.settings(deps.settings))
        with transaction(deps.engine) as asked:
            assert reports.ask(asked, deps.settings, KEY, actor=actor, at=AT) == 0
            reports.ask(asked, deps.settings, KEY, actor=actor, at=AT)  # a double click
        assert jobs(deps.engine) == ["report_again"]
        for _ in range(2):  # a job that comes a second time
            reports.make_again(sending, monday=MONDAY.toordinal(), after=0, user_id=lead.id)
        (first,) = all_reports(session)
        assert first.actor == lead.email
        reports.make_again(sending, monday=MONDAY.toordinal(), after=first.id, user_id=lead.id)
    assert len(all_reports(session)) == 2
    assert jobs(deps.engine) == ["report_again"]
    assert session.scalars(select(AuditEvent.action)).all() == ["report.asked"] * 2


@pytest.mark.usefixtures("tickets")
def test_what_a_lead_was_quicker_to_make_is_still_mailed_by_the_clock(deps: Deps, session: Session, lead: User) -> None:
    with postbox() as box:
        sending = mailing(deps, box.settings(deps.settings))
        reports.make_again(sending, monday=MONDAY.toordinal(), after=0, user_id=lead.id)
        reports.make(sending, monday=MONDAY.toordinal())
    assert len(all_reports(session)) == 1
    assert jobs(deps.engine) == ["mail"]


@pytest.mark.usefixtures("tickets")
def test_made_again_after_retention_it_says_the_same(deps: Deps, session: Session) -> None:
    first = reports.make_plainly(deps.engine, deps.settings, KEY, actor=MACHINE, at=AT)
    retention.remove(deps.engine, moment=AT + timedelta(days=3000), deliveries=timedelta(days=1))
    document = session.scalars(select(Revision.document)).first()
    assert document is not None
    assert document["removed"]
    second = reports.make_plainly(deps.engine, deps.settings, KEY, actor=MACHINE, at=AT)
    assert second.markdown == first.markdown
    assert second.figures == first.figures


@pytest.mark.parametrize(
    ("key", "said"),
    [("2026-W48", "is not over yet"), ("2999-W01", "is not over yet"), ("2026-W99", "no such week"), ("x", "no such")],
)
def test_a_week_that_is_none_or_not_over_has_no_report(deps: Deps, key: str, said: str) -> None:
    with pytest.raises(NotFound, match=said):
        reports.make_plainly(deps.engine, deps.settings, key, actor=MACHINE, at=AT)


SENTENCES = ["This week 12 tickets were judged.", "Of them 99 % were splendid.", "It cost $0.12."]


@pytest.mark.usefixtures("tickets")
def test_the_strong_model_opens_with_what_is_in_the_figures(deps: Deps, double: Double, session: Session) -> None:
    double.answer_with(lambda *_: json.dumps({"sentences": SENTENCES}))
    able = told(deps, strong=double)
    reports.make(able, monday=MONDAY.toordinal())
    (report,) = all_reports(session)
    assert report.markdown.splitlines()[2] == "This week 12 tickets were judged. It cost $0.12."
    assert report.opening_by == "claude-sonnet-5-5"
    run = session.scalars(select(Run).where(Run.agent == "chief_of_staff")).one()
    assert (run.purpose, run.revision_id, run.replied) == ("opening", None, True)
    asked = json.dumps(double.bodies[-1])
    assert "Okoro" not in asked
    assert "VPN" not in asked


@pytest.mark.parametrize("kind", ["billing", "refuse", "invalid_json", "truncate"])
@pytest.mark.usefixtures("tickets")
def test_a_model_that_fails_never_keeps_the_report_from_coming(
    deps: Deps, double: Double, session: Session, kind: str
) -> None:
    double.fault(Fault.from_json({"kind": kind}))
    reports.make(told(deps, strong=double), monday=MONDAY.toordinal())
    (report,) = all_reports(session)
    assert report.opening_by == ""
    assert report.markdown.splitlines()[2].startswith("Tickets judged: 12 of 12")


@pytest.mark.usefixtures("tickets")
def test_words_of_others_cannot_dress_up_as_ours(deps: Deps, session: Session) -> None:
    note = "# Big\n\n[click](https://evil.example) ![x](https://evil.example/x.png) <script>alert(1)</script> | `a`"
    session.execute(text("update releases set released_at = :at, note = :note"), {"at": WEEK.start, "note": note})
    session.commit()
    report = reports.make_plainly(deps.engine, deps.settings, KEY, actor=MACHINE, at=AT)
    html = mail.compose(
        deps.settings.model_copy(update={"mail_from": "qc@example.com"}), report, address="a@example.com", at=AT
    ).get_body(("html",))
    assert html is not None
    shown = html.get_content()
    assert "<script" not in shown
    assert "<a " not in shown
    assert "<img" not in shown
    assert "[click](https://evil.example)" in shown


def made(deps: Deps) -> int:
    return reports.make_plainly(deps.engine, deps.settings, KEY, actor=MACHINE, at=AT).id


@pytest.mark.usefixtures("tickets")
def test_a_report_arrives_as_text_and_as_html_that_fetches_nothing(deps: Deps, session: Session) -> None:
    report_id = made(deps)
    with postbox() as box:
        settings = box.settings(
            deps.settings, to="lead@example.com, boss@example.com", base_url="https://qc.example.com"
        )
        mail.send_report(mailing(deps, settings), report_id=report_id)
        mail.send_report(mailing(deps, settings), report_id=report_id)
    assert box.addresses == ["lead@example.com", "boss@example.com"]
    assert mails(session) == {"lead@example.com": ("sent", ""), "boss@example.com": ("sent", "")}
    letter = box.letters[0]
    assert letter["From"] == "qc@example.com"
    assert letter["Subject"] == "ticketqc: Week 47 of 2026, 16 to 22 November"
    assert letter["Date"].datetime == AT
    assert letter["Message-ID"] != box.letters[1]["Message-ID"]
    assert letter["Message-ID"].startswith("<report-2026-W47-")
    plain, html = (letter.get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None
    assert html is not None
    markdown = all_reports(session)[0].markdown
    assert plain.get_content().replace("\r\n", "\n").startswith(markdown.rstrip())
    assert "On its page: https://qc.example.com/reports/2026-W47" in plain.get_content()
    assert "<table" in html.get_content()
    assert not [word for word in ("src=", "http-equiv", "@import", "url(") if word in html.get_content()]


@pytest.mark.usefixtures("tickets")
def test_two_workers_send_one_mail_to_an_address(deps: Deps) -> None:
    report_id = made(deps)
    with postbox() as box:
        settings = box.settings(deps.settings, to="a@example.com, b@example.com")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: mail.send_report(mailing(deps, settings), report_id=report_id), range(4)))
    assert sorted(box.addresses) == ["a@example.com", "b@example.com"]


@pytest.mark.usefixtures("tickets")
def test_what_was_refused_for_now_is_tried_again_and_nobody_gets_it_twice(deps: Deps, session: Session) -> None:
    report_id = made(deps)
    with postbox() as box:
        box.refusals["late@example.com"] = ["451 greylisted"] * 2
        box.refusals["gone@example.com"] = ["550 no such mailbox"] * 9
        settings = box.settings(deps.settings, to="late@example.com, gone@example.com, there@example.com")
        for attempt in range(TRIES - 1):
            with pytest.raises(MailFailed, match="1 of 3") as caught:
                mail.send_report(mailing(deps, settings), report_id=report_id)
            assert wait_after(caught.value, attempts=attempt) is not None
        assert mails(session)["late@example.com"] == ("failed", "the server refused it: 451 greylisted")
        mail.send_report(mailing(deps, settings), report_id=report_id)
    assert box.addresses == ["there@example.com", "late@example.com"]
    assert mails(session)["gone@example.com"] == ("failed", "the server refused it: 550 no such mailbox")


@pytest.mark.usefixtures("tickets")
def test_what_may_have_arrived_is_sent_again_by_a_person_only(deps: Deps, session: Session, lead: User) -> None:
    report_id = made(deps)
    actor = Actor(lead.email, lead.id)
    with postbox() as box:
        settings = box.settings(deps.settings)
        box.hangs_up_after_data = True
        mail.send_report(mailing(deps, settings), report_id=report_id)
        state, note = mails(session)["lead@example.com"]
        assert state == "sending"
        assert "before the server said that it has it" in note
        box.hangs_up_after_data = False
        mail.send_report(mailing(deps, settings), report_id=report_id)
        assert len(box.letters) == 1
        with transaction(deps.engine) as asked:
            mail.again(asked, settings, week=KEY, actor=actor, at=AT)
        assert jobs(deps.engine) == ["mail"]
        mail.send_report(mailing(deps, settings), report_id=report_id)
        assert len({letter["Message-ID"] for letter in box.letters}) == 1
        assert mails(session) == {"lead@example.com": ("sent", "")}
        with transaction(deps.engine) as asked, pytest.raises(Conflict, match="sent to every address"):
            mail.again(asked, settings, week=KEY, actor=actor, at=AT)
    assert len(box.letters) == 2


@pytest.mark.usefixtures("tickets")
def test_a_worker_that_dies_in_the_middle_leaves_it_unknown(
    deps: Deps, session: Session, lead: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_id = made(deps)
    actor = Actor(lead.email, lead.id)
    with postbox() as box:
        settings = box.settings(deps.settings)

        def die(*_: object, **__: object) -> None:
            raise SystemExit

        with monkeypatch.context() as patched:
            patched.setattr(mail, "_note", die)
            with pytest.raises(SystemExit):
                mail.send_report(mailing(deps, settings), report_id=report_id)
        mail.send_report(mailing(deps, settings), report_id=report_id)
        assert len(box.letters) == 1
        changed = session.scalars(select(Mail.changed_at)).one()
        for at, lost in ((changed + IN_FLIGHT - timedelta(seconds=1), False), (changed + IN_FLIGHT, True)):
            with transaction(deps.engine) as asked:
                if lost:
                    mail.again(asked, settings, week=KEY, actor=actor, at=at)
                else:
                    with pytest.raises(Conflict, match="on its way"):
                        mail.again(asked, settings, week=KEY, actor=actor, at=at)
        mail.send_report(mailing(deps, settings), report_id=report_id)
    assert len(box.letters) == 2


def test_without_mail_settings_nothing_is_sent(deps: Deps, session: Session) -> None:
    make_ticket(session)
    session.execute(text("update revisions set recorded_at = :at"), {"at": WEEK.start})
    session.commit()
    reports.make(deps, monday=MONDAY.toordinal())
    assert jobs(deps.engine) == []
    mail.send_report(deps, report_id=all_reports(session)[0].id)
    assert mails(session) == {}
