"""The whole loop in the real service, processes and all: people decide, failures add up, the texts change, it helps.

The models are scripted (tests/story.py); everything else is real: webhook, database, queue, pages, two workers and two
clocks, of which nothing happens twice.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import psycopg
import pytest

from app import embedded
from app.settings import Settings
from tests import desk
from tests.double import Double, running
from tests.house import REPOSITORY, House, wait_until
from tests.story import A_WEEK_PASSES, CRAFTED, HARMS, HELPS, SWAPPED, worker_and_chief
from tests.test_up import free_port
from tests.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")

PASSWORD = "correct horse battery staple"
PEOPLE = ("Ana Ruiz", "Ben Okafor", "Chloe Lindqvist", "Dev Patel", "Edda Moser")
_numbers = itertools.count(1)


@pytest.fixture
def double() -> Iterator[Double]:
    with running(answerer=worker_and_chief) as server:
        yield server


@pytest.fixture
def house(home: Path, double: Double) -> Iterator[House]:
    made = House(home / "data", free_port())
    made.environment |= {
        "ANTHROPIC_API_KEY": double.key,
        "ANTHROPIC_BASE_URL": double.base_url,
        "TICKETQC_WORKER_MODEL": "claude-haiku-5-5",
        "TICKETQC_STRONG_MODEL": "claude-sonnet-5-5",
    }
    made.is_up("--no-samples")
    with _seconds(made):
        yield made
    made.clean_up()


@contextmanager
def _seconds(house: House) -> Iterator[None]:
    """Beside the house's own a second worker and a second clock, as on a second machine."""
    given = {"PATH": os.defpath, "TICKETQC_DATA_DIR": str(house.data), **house.environment}
    with ExitStack() as stack:
        for name in ("work", "clock"):
            command = [sys.executable, "-m", "app.cli", name]
            log = stack.enter_context((house.data / f"second-{name}.log").open("wb"))
            process = stack.enter_context(
                subprocess.Popen(command, env=given, cwd=REPOSITORY, stdout=log, stderr=log)  # noqa: S603  our own
            )
            stack.callback(process.kill)
        yield


@pytest.fixture
def lead(house: House) -> Iterator[Visitor]:
    """The first person, who came by the link that the terminal showed."""
    (link,) = re.findall(r"(/welcome/\S+)", "\n".join(house.lines))
    visitor = Visitor(f"http://127.0.0.1:{house.port}")
    visitor.open(link)
    visitor.submit(link, email="lead@example.com", name="Lena Lead", password=PASSWORD, again=PASSWORD)
    yield visitor
    visitor.close()


class Story:
    """What happens in the world outside: tickets come, and somebody waits for what follows."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.hook = self._connected()

    def _connected(self) -> str:
        """The address that tickets are sent to, with its token."""
        done = self.house.command("connection", "add", "helpdesk", "--scheme", "path")
        found = re.search(r"secret, shown this once: (\S+)", done)
        assert found, done
        return f"/hooks/helpdesk/{found[1]}"

    def send(self, work: str, *, count: int) -> list[int]:
        """Finished tickets of different requesters, judged; their ids."""
        numbers = list(itertools.islice(_numbers, count))
        for number, person in zip(numbers, itertools.cycle(PEOPLE), strict=False):
            ticket = desk.ticket(number, requester=person)
            ticket["entries"][0]["body"] = work.format(number=number)
            sent = httpx2.post(f"http://127.0.0.1:{self.house.port}{self.hook}", json=ticket, timeout=30)
            assert (sent.status_code, sent.json()) == (200, {"status": "accepted"})
        names = [f"INC-{number}" for number in numbers]
        judged = "select id from tickets where external_id = any(%s) and review_state = 'done' order by id"
        wait_until(lambda: len(self.rows(judged, names)) == count)
        return [int(str(row[0])) for row in self.rows(judged, names)]

    def connected(self) -> psycopg.Connection[tuple[object, ...]]:
        url = embedded.running_url(Settings(_env_file=None, data_dir=self.house.data))
        assert url is not None
        return psycopg.connect(url)

    def rows(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with self.connected() as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def outcome(self, ticket: int) -> tuple[str, str]:
        """The machine's verdict on a ticket, and what it found of the root cause."""
        statement = """
            select verdicts.outcome, findings.result from tickets
            join verdicts on verdicts.id = tickets.verdict_id join findings on findings.verdict_id = verdicts.id
            where tickets.id = %s and findings.criterion = 'root_cause'
        """
        ((outcome, result),) = self.rows(statement, ticket)
        return str(outcome), str(result)

    def in_force(self) -> str:
        ((version,),) = self.rows("select context_version from releases order by id desc limit 1")
        return str(version)

    def pattern(self, subject: str) -> int | None:
        found = self.rows("select id from patterns where subject = %s", subject)
        return int(str(found[0][0])) if found else None

    def proposal(self, subject: str) -> int:
        """The pattern's proposal, tried where there is something to try."""
        statement = """
            select proposals.id from proposals join patterns on patterns.id = proposals.pattern_id
            left join drafts on drafts.proposal_id = proposals.id left join replays on replays.draft_id = drafts.id
            where patterns.subject = %s and coalesce(replays.state, 'done') = 'done'
        """
        wait_until(lambda: bool(self.rows(statement, subject)))
        return int(str(self.rows(statement, subject)[0][0]))

    def events(self, subject: str) -> list[str]:
        statement = """
            select kind from pattern_events join patterns on patterns.id = pattern_events.pattern_id
            where subject = %s order by pattern_events.id
        """
        return [str(kind) for (kind,) in self.rows(statement, subject)]


@pytest.fixture
def story(house: House) -> Story:
    return Story(house)


SWAP = SWAPPED + " power supply of PC-{number} and watched it start three times in a row."
FIX = "Replaced the expired client certificate on LT-{number} and watched the tunnel for a while."


def overrule(lead: Visitor, tickets: list[int], **findings: str) -> None:
    for ticket in tickets:
        lead.open(f"/tickets/{ticket}")
        answers = {f"finding__{criterion}": result for criterion, result in findings.items()}
        said = {"outcome": "findings", "reason": "evidence_missed", "note": "Seen otherwise."}
        lead.submit(f"/tickets/{ticket}/decision", **said, **answers)
        assert "Seen otherwise." in lead.words


def test_the_whole_loop(story: Story, lead: Visitor) -> None:
    """One service for all of it: to start another takes longer than each act."""
    _a_blind_spot_is_seen_proposed_about_tried_approved_and_gone(story, lead)
    _noise_changes_nothing(story, lead)
    _a_harmful_edit_is_seen_in_its_trial_and_rejected(story, lead)
    _what_a_ticket_wants_to_be_a_rule_becomes_none(story, lead)
    _the_report_tells_it(story, lead)
    _nothing_happened_twice(story)


def _a_blind_spot_is_seen_proposed_about_tried_approved_and_gone(story: Story, lead: Visitor) -> None:
    before = story.in_force()
    tickets = story.send(SWAP, count=3)
    assert [story.outcome(ticket) for ticket in tickets] == [("pass", "met")] * 3
    good = story.send(FIX, count=2)
    for ticket in good:
        lead.open(f"/tickets/{ticket}")
        lead.submit(f"/tickets/{ticket}/decision", outcome="pass")

    overrule(lead, tickets[:2], root_cause="not_met")
    assert story.pattern("root_cause") is None  # two tickets only
    overrule(lead, tickets[2:], root_cause="not_met")
    assert story.pattern("root_cause") is not None

    proposal = story.proposal("root_cause")
    assert story.events("root_cause") == ["opened", "called", "proposed"]
    lead.open(f"/proposals/{proposal}")
    assert HELPS["title"] in lead.words
    assert "rests on 5 labels" in lead.words
    ((result,),) = story.rows("select result from replays")
    changes = [case["change"] for case in json.loads(json.dumps(result))["cases"]]
    assert sorted(changes) == ["fixed", "fixed", "fixed", "unchanged", "unchanged"]

    lead.submit(f"/proposals/{proposal}/approve", note="It closes the gap.")
    assert story.in_force() != before
    (healed,) = story.send(SWAP, count=1)
    assert story.outcome(healed) == ("pass", "not_met")
    assert story.events("root_cause")[-1] == "decided"

    _go_back(story, lead, to=before)


def _go_back(story: Story, lead: Visitor, *, to: str) -> None:
    """One click brings the old texts back byte for byte, and with them the blind spot."""
    lead.open("/context")
    lead.submit("/context/rollback", note="To see whether it can be undone.")
    assert story.in_force() == to
    (blind,) = story.send(SWAP, count=1)
    assert story.outcome(blind) == ("pass", "met")


def _noise_changes_nothing(story: Story, lead: Visitor) -> None:
    before = story.in_force()
    overrule(lead, story.send(FIX, count=3), communication="partly")
    proposal = story.proposal("communication")
    lead.open(f"/proposals/{proposal}")
    assert "nothing in common" in lead.words
    lead.submit(f"/proposals/{proposal}/approve")
    assert story.events("communication") == ["opened", "called", "proposed", "decided"]
    assert story.in_force() == before


def _a_harmful_edit_is_seen_in_its_trial_and_rejected(story: Story, lead: Visitor) -> None:
    before = story.in_force()
    overrule(lead, story.send(FIX, count=3), work_requested="not_met")
    proposal = story.proposal("work_requested")
    lead.open(f"/proposals/{proposal}")
    assert HARMS["text"].partition(":")[0] in lead.words
    ((result,),) = story.rows("select result from replays order by id desc limit 1")
    summary = json.loads(json.dumps(result))["summary"]
    assert summary["fixed"]["count"] == 0
    assert summary["broken"]["count"] >= 5
    lead.submit(f"/proposals/{proposal}/reject", reason="It fails what people passed.")
    assert "It fails what people passed." in lead.words
    assert story.events("work_requested")[-1] == "decided"
    assert story.in_force() == before


def _what_a_ticket_wants_to_be_a_rule_becomes_none(story: Story, lead: Visitor) -> None:
    """The chief of staff falls for it, twice; the program does not."""
    before = story.in_force()
    overrule(lead, story.send(f"{FIX} {CRAFTED}.", count=3), follow_up="not_met")
    wait_until(lambda: "no_answer" in story.events("follow_up"))
    assert not story.rows("select from proposals join patterns on patterns.id = pattern_id where subject = 'follow_up'")
    assert story.in_force() == before
    lead.open(f"/patterns/{story.pattern('follow_up')}")
    assert CRAFTED not in lead.words


def _the_report_tells_it(story: Story, lead: Visitor) -> None:
    """The week that all this happened in, once it is over: the clock is moved, by moving what happened."""
    with story.connected() as connection:
        connection.execute(A_WEEK_PASSES)
    year, number, _ = (datetime.now(UTC) - timedelta(days=7)).isocalendar()  # noqa: TID251  as the processes' clocks
    week = f"{year}-W{number:02}"
    lead.open("/reports")
    lead.submit(f"/reports/{week}/again")
    wait_until(lambda: bool(story.rows("select from reports where week = %s", week)))
    lead.open(f"/reports/{week}")
    assert "A quiet week." in lead.words
    assert "4711" not in lead.words  # a number that is not in the data took its sentence with it
    for told in ("It closes the gap.", "To see whether it can be undone.", "Root cause"):
        assert told in lead.words


def _nothing_happened_twice(story: Story) -> None:
    """With two workers and two clocks: one pattern, one proposal, one replay, one verdict for what there is one of."""
    patterns = story.rows("select subject from patterns")
    assert sorted(str(subject) for (subject,) in patterns) == sorted(
        ["root_cause", "communication", "work_requested", "follow_up"]
    )
    assert story.rows("select count(*) from proposals") == [(3,)]
    assert story.rows("select count(*) from replays where state = 'done'") == [(2,)]
    assert story.rows("select count(*) from reports") == [(1,)]
    workers = "select count(distinct worker_id) from procrastinate.procrastinate_jobs where status = 'succeeded'"
    ((used,),) = story.rows(workers)
    assert int(str(used)) > 2  # two lanes a worker: both workers had their share
    twice = "select revision_id from verdicts group by revision_id, context_version, panel having count(*) > 1"
    assert story.rows(twice) == []
