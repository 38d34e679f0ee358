"""Escalation rules that code applies: what states the situation, and what only sounds like it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from agents.context import parse
from agents.judge import judge
from agents.masking import revise
from agents.mechanical import CANNOT_WORK, rule_hits
from agents.ticket import OPTIONAL_FIELDS, read_ticket
from bench.mechanical import counted, sentences
from tests.cast import REPOSITORY, revision, shipped_context
from tests.shared import shared_tickets

if TYPE_CHECKING:
    from agents.ticket import Revision

STATED = {
    "security_incident": [
        "My account was hacked last night.",
        "Our mail server has been compromised since Friday.",
        "The user's laptop got infected yesterday.",
        "Someone has broken into our admin account!",
        "Ransomware encrypted all our files on the share.",
        "I entered my password on a phishing page and now mails go out in my name.",
        "There are sign-ins from Brazil that I did not make.",
        "Somebody logged into my mailbox and deleted rules.",
        "My work phone was stolen on the train.",
        "Mein Laptop wurde gestern gestohlen.",
        "phishing link clicked, creds entered",
        "I handed over my login to a bloke who rang pretending to be from the bank",
        "I\u2019m locked out and someone changed my password",
        "lost my work phone somewhere between home and the office",
    ],
    "data_exposure": [
        "I sent the customer list with payroll data to the wrong person.",
        "HR accidentally emailed confidential salary records to a supplier.",
        "Every trainee can open the salary list.",
        "Other customers can see private data of our company.",
        "There has been a data breach at our hosting.",
        "Customer data was leaked on a forum.",
        "Forgot to use BCC, 400 patients can see each other's addresses",
        "Client A can see Client B's invoices in the portal",
        "faxed medical report to wrong number",
    ],
    "legal_threat": [
        "If my files are gone you will hear from my solicitor.",
        "I have contacted our lawyer about this.",
        "We will take legal action against your company.",
        "I am going to sue you.",
        "My attorney will demand the logs.",
        "I have reported this to the police.",
        "Ich werde meinen Anwalt einschalten.",
        "Sinon je vais porter plainte.",
        "Tomaremos acciones legales.",
        "We received a court order for this mailbox.",
        "See you in court!",
        "ill get my soliciter onto this",
        "she will take it to an employment tribunal",
    ],
    "executive_outage": [
        "Our CEO cannot sign in.",
        "The managing director is unable to join the call.",
        "The VIP in room 4 can't print.",
        "The board meeting starts in 20 minutes and the screen is black.",
        "Unsere Geschäftsführerin kann sich nicht anmelden.",
        "managing director cant connect to vpn",
        "Laptop of the CEO is dead",
    ],
}
ONLY_ALIKE = [
    "My account was not hacked, I just forgot the password.",
    "How do I avoid that my account is hacked?",
    "If my account was hacked, what should I do?",
    "The scanner detected a trojan and blocked it before it ran on the computer.",
    "I got a suspicious mail and reported it.",
    "The phone lost signal again.",
    "I lost the connection on my laptop.",
    "My lawyer's laptop does not start.",
    "Please install the software for lawyers on the new PC.",
    "Our legal team cannot open Outlook.",
    "We need a licence for the legal department.",
    "Book the tennis court for Friday.",
    "No legal action is planned.",
    "The CEO's mailbox is almost full.",
    "I can't open the link in the CEO's newsletter.",
    "VIP lounge wifi password expired.",
    "Please call our attorney back about his VPN.",
    "We need to file a claim with the insurance for the water damage.",
    "Please order a shredder bin for confidential papers.",
    "I accidentally deleted the customer list.",
    "I clicked on the link in the phishing simulation.",
    "The user entered the wrong password five times and is locked out.",
    "Our security breach policy needs a new owner.",
    "Please add the board members to the list.",
    "The CEO would like a second screen.",
    "Please send the customer list to Bob.",
    "Can everyone see the new wallpaper?",
    "Nobody can see the salary list.",
    "The right people must be able to read personal data.",
    "> My account was hacked",
    "    my_account was hacked",
]  # fmt: skip


def found(ticket: Revision) -> list[str]:
    return [hit.rule for hit in rule_hits(ticket, shipped_context())]


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in STATED.items() for text in texts])
def test_a_stated_situation_is_found_where_it_stands(rule: str, text: str) -> None:
    ticket = revision(description=f"Good morning.\n{text}")
    (hit,) = rule_hits(ticket, shipped_context())
    assert (hit.rule, hit.by) == (rule, "code")
    (span,) = hit.evidence.spans
    assert ticket.lines[span.line - 1].text[span.start : span.end] == hit.evidence.quote
    assert hit.evidence.quote in text


@pytest.mark.parametrize("text", ONLY_ALIKE)
def test_what_only_sounds_like_it_is_left_to_the_agents(text: str) -> None:
    assert found(revision(description=text)) == []


def test_it_counts_wherever_people_write_it() -> None:
    threat = "You will hear from my lawyer."
    assert found(revision(subject=threat)) == ["legal_threat"]
    assert found(revision(resolution={"note": "User's account was compromised; reset."})) == ["security_incident"]
    for role in ("requester", "agent", "other"):
        assert found(revision(entries=[{"author_role": role, "visibility": "internal", "body": threat}])) == [
            "legal_threat"
        ]
    assert found(revision(entries=[{"author_role": "system", "body": threat}])) == []
    assert found(revision(requester="Sue You Lawyer")) == []


def test_lookalikes_do_not_hide_it_and_spans_are_of_the_text_as_it_stands() -> None:
    ticket = revision(description="Мy ассount was hаcked")  # noqa: RUF001  Cyrillic letters among them
    (hit,) = rule_hits(ticket, shipped_context())
    assert hit.evidence.quote == "Мy ассount was hаcked"  # noqa: RUF001


def test_a_rule_that_the_team_removed_is_not_applied() -> None:
    files = dict(shipped_context().files)
    before, _, rest = files["escalation_rules.md"].partition("## Legal threat {#legal_threat}")
    files["escalation_rules.md"] = before + "## " + rest.partition("\n## ")[2]
    context = parse(files)
    ticket = revision(description="You will hear from my lawyer. My account was hacked.")
    assert [hit.rule for hit in rule_hits(ticket, context)] == ["security_incident"]


def test_every_rule_of_the_lists_is_one_that_comes_with_ticketqc() -> None:
    ids = {rule.id for rule in shipped_context().rules}
    assert set(STATED) <= ids
    text = (REPOSITORY / "agents" / "mechanical.toml").read_text("utf-8")
    assert {line.split('"')[1] for line in text.splitlines() if line.startswith("about")} == {*STATED, CANNOT_WORK}


@pytest.mark.parametrize("rule", STATED)
def test_the_example_that_the_rule_itself_gives_is_found(rule: str) -> None:
    (item,) = (item for item in shipped_context().rules if item.id == rule)
    example = re.search(r'\*\*Example\*\*: "(.+)"', item.body)
    assert example is not None
    assert found(revision(description=example[1])) == [rule]


@pytest.mark.parametrize(
    ("rule", "label"),
    [
        ("security_incident", "Security incident"),
        ("data_exposure", "Data breach"),
        ("data_exposure", "GDPR breach"),
        ("legal_threat", "Legal threat"),
    ],
)
def test_a_label_counts_at_the_start_of_a_subject_and_as_a_whole_value_or_tag(rule: str, label: str) -> None:
    for subject in (label, f"{label}: see below", f"URGENT - {label.upper()} - finance"):
        assert found(revision(subject=subject)) == [rule]
    for field in ("category", "priority"):
        for value in (label, label.lower(), f"p1, {label}", f"IT > {label}", f"[{label}]"):
            assert found(revision(**{field: value})) == [rule]
    assert found(revision(subject=f"{label} training on Monday")) == []
    assert found(revision(subject=f"Where is the form: {label}?")) == []
    assert found(revision(category=f"No {label}")) == []
    assert found(revision(queue=label, requester=label)) == []


def test_a_label_in_a_field_is_quoted_as_it_stands() -> None:
    ticket = revision(category="IT | Data Breach | new")
    (hit,) = rule_hits(ticket, shipped_context())
    (span,) = hit.evidence.spans
    assert hit.evidence.quote == "Data Breach" == ticket.lines[span.line - 1].text[span.start : span.end]


CANNOT = "Since this morning I cannot log in at all."
VIP: list[dict[str, str]] = [
    {"requester": "Ana Ruiz (VIP)"},
    {"requester": "VIP - Ana Ruiz"},
    {"priority": "VIP"},
    {"category": "access, vip user"},
    {"subject": "VIP: help"},
    {"subject": "[VIP] help"},
]


@pytest.mark.parametrize("flag", VIP)
def test_a_vip_who_cannot_work_is_an_executive_who_is_stopped(flag: dict[str, str]) -> None:
    assert found(revision(description=CANNOT, **flag)) == ["executive_outage"]
    assert found(revision(description="Please order a second screen, no hurry.", **flag)) == []


def test_neither_vip_nor_a_standstill_is_enough_alone() -> None:
    assert found(revision(description=CANNOT)) == []
    assert found(revision(description=CANNOT, requester="Vip Singh")) == []
    assert found(revision(description=CANNOT, subject="VIP lounge wifi")) == []


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "a ",
        "vip, ",
        "lost ",
        "ceo ",
        "court ",
        "my account was ",
        "sent wrong patient data ",
        "someone lost my laptop. ",
        "no not never if i ",
        "password " * 40 + ". ",
        "ceo can legal court lost sent other " * 10 + "\n",
    ],
)
def test_huge_texts_take_no_time(piece: str) -> None:
    huge = piece * (80_000 // len(piece))
    started = time.process_time()
    rule_hits(revision(subject=huge, description=huge, requester=huge, category=huge), shipped_context())
    assert time.process_time() - started < 10  # seconds; 1 at most when alone


def test_of_a_text_without_end_only_so_much_is_read() -> None:
    started = time.process_time()
    rule_hits(revision(description="lost " * 400_000), shipped_context())
    assert time.process_time() - started < 20  # seconds; 2 when alone


def test_of_what_somebody_else_wrote_most_is_found_and_hardly_a_near_miss() -> None:
    """The part of the sentences that was in sight when the lists were written: nothing may get lost again."""
    seen = [sentence for sentence in sentences() if sentence.split == "dev"]
    floors = {"security_incident": 27, "data_exposure": 28, "legal_threat": 28, "executive_outage": 28}
    for rule, floor in floors.items():
        chosen = [sentence for sentence in seen if sentence.rule == rule]
        assert counted(chosen, applies=True).hit >= floor, rule
    assert counted(seen, applies=False).hit <= 2


def test_hardly_a_real_ticket_is_hit() -> None:
    tickets = [revise(read_ticket(raw)) for raw in shared_tickets()]
    assert sum(bool(found(ticket)) for ticket in tickets) <= 0.01 * len(tickets)


def test_it_escalates_without_any_model() -> None:
    ticket = revision(description="You will hear from my lawyer.")
    judgement = judge(ticket, shipped_context(), supplied=frozenset(OPTIONAL_FIELDS), panel=None)
    assert judgement.verdict.outcome == "escalate"
    assert judgement.verdict.reasons == ("escalation rule: Legal threat (line 7, by code)",)
