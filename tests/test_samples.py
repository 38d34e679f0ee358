"""The tickets we ship: each is readable, and each fails exactly the checks it was written to fail."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

import app
from agents.checks import CHECKS, run_checks
from agents.context import Criterion, Rubric
from agents.masking import revise
from agents.ticket import OPTIONAL_FIELDS, Ticket, parse_jsonl_line, supplied_fields

SAMPLES = Path(app.__path__[0]) / "samples" / "office_it.jsonl"


def _checked(check: str) -> Criterion:
    return Criterion(id=check, title=check, weight=1, kind="checked", critical=False, settled_by=(), text="", line=1)


RUBRIC = Rubric(80, tuple(_checked(check) for check in CHECKS))

EXPECTED: dict[str, set[str]] = {
    "INC-2041": set(),  # VPN: cause, test, confirmation, follow-up
    "INC-2042": {"resolution_placeholder"},  # "Fixed."
    "INC-2043": set(),  # a new starter, prepared step by step
    "INC-2044": {"requester_unanswered"},  # Henrik's mailbox is still missing
    "INC-2045": {"template_text"},  # "Dear [CUSTOMER NAME]"
    "INC-2046": {"secrets_in_ticket"},  # a password in an internal note
    "INC-2047": {"billable_without_notes"},  # half an hour without a word, and a vague record
    "INC-2048": set(),  # speaks to the reviewer: for the agents to notice
    "INC-2049": {"classification_empty"},  # a phishing victim, just opened: for triage to escalate
    "INC-2050": set(),  # an open request in good hands
    "INC-2051": {"reopened"},  # the first fix did not hold; the second is exemplary
    "INC-2052": set(),  # a lost folder found
    "INC-2053": {"no_agent_entry", "no_closing_note", "requester_unanswered"},  # closed without a word
    "INC-2054": {"work_time_missing", "classification_empty"},  # well solved, carelessly recorded
}


@pytest.fixture(scope="module")
def samples() -> dict[str, Ticket]:
    tickets = [parse_jsonl_line(line) for line in SAMPLES.read_bytes().split(b"\n") if line]
    return {ticket.external_id: ticket for ticket in tickets}


def test_all_are_there(samples: dict[str, Ticket]) -> None:
    assert list(samples) == list(EXPECTED)
    assert {ticket.source for ticket in samples.values()} == {"sample"}


@pytest.mark.parametrize("external_id", EXPECTED)
def test_which_checks_fail(samples: dict[str, Ticket], external_id: str) -> None:
    supplied = supplied_fields(list(samples.values()))
    assert supplied == set(OPTIONAL_FIELDS)
    found = run_checks(revise(samples[external_id]), rubric=RUBRIC, supplied=supplied)
    assert {finding.criterion for finding in found if finding.result == "not_met"} == EXPECTED[external_id]


def test_the_only_secret_is_the_one_that_was_planted(samples: dict[str, Ticket]) -> None:
    masked = {name: [secret.kind for secret in revise(ticket).masked] for name, ticket in samples.items()}
    assert {name: kinds for name, kinds in masked.items() if kinds} == {"INC-2046": ["password"]}


def test_times_fit_together(samples: dict[str, Ticket]) -> None:
    for ticket in samples.values():
        assert ticket.created_at is not None
        times = [ticket.created_at, *(entry.at for entry in ticket.entries if entry.at)]
        assert times == sorted(times)
        assert datetime(2026, 11, 9, tzinfo=UTC) <= times[0]
        assert max([*times, ticket.updated_at or times[0]]) < datetime(2026, 11, 23, tzinfo=UTC)
        assert (ticket.closed_at is not None) == ticket.finished
        if ticket.finished_at is not None:
            assert times[-1] <= ticket.finished_at
        changes = [event.at for event in ticket.events if event.at]
        assert changes == sorted(changes)
        assert all(before.to == after.from_ for before, after in zip(ticket.events, ticket.events[1:], strict=False))


def test_people_and_addresses_are_invented(samples: dict[str, Ticket]) -> None:
    text = "\n".join(json.dumps(ticket.model_dump(mode="json")) for ticket in samples.values())
    assert set(re.findall(r"[\w.]+@([\w.-]+)", text)) == {"example.com"}
