"""The whole round with the local demonstration model on real shared tickets, told as it goes.

    .venv/bin/python -m bench.local_round [--data-dir DIR] [--model GGUF]

Reports that people closed as "Needs more info" are judged by the local model. Where it calls the problem clear, the
script overrules it for the person who closed the ticket. Three of these open a pattern; the local model then plays the
chief of staff, and its proposal, if it makes one that may be tried, is tried. Takes an hour on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from app import embedded
from app.settings import Settings
from bench.local_model import CRITERION, UNCLEAR
from bench.review import TICKETS
from tests.house import House
from tests.test_up import free_port
from tests.visitor import Visitor

CANDIDATES = 6  # tickets that are judged; the shortest, because each token costs milliseconds here
NEEDED = 3
LOOK_EVERY = 5.0  # seconds
LONGEST = 3 * 3600.0  # seconds for any one step
PASSWORD = "correct horse battery staple"  # noqa: S105  of a service that lives as long as this script


class Round:
    def __init__(self, house: House) -> None:
        self.house = house
        self.began = time.monotonic()

    def say(self, words: str) -> None:
        print(f"{(time.monotonic() - self.began) / 60:6.1f} min  {words}", flush=True)

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        url = embedded.running_url(Settings(_env_file=None, data_dir=self.house.data))
        if url is None:
            sys.exit("the service has ended; see the logs in its data directory")
        with psycopg.connect(url) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def wait_for(self, statement: str, *values: object, least: int = 1) -> list[tuple[Any, ...]]:
        """The statement's rows, once there are enough of them."""
        began = time.monotonic()
        while len(found := self.rows(statement, *values)) < least:
            if time.monotonic() - began > LONGEST:
                sys.exit(f"gave up waiting: {' '.join(statement.split())}")
            time.sleep(LOOK_EVERY)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="kept afterwards; default a temporary folder")
    parser.add_argument("--model", type=Path, help="a GGUF file that is there already")
    arguments = parser.parse_args()
    if not TICKETS.exists():
        sys.exit(f"skipped: the shared tickets are not at {TICKETS}")
    with tempfile.TemporaryDirectory() as folder:
        place = arguments.data_dir or Path(folder) / "data"
        house = House(place, free_port(), {"TICKETQC_WORKER_MODEL": "local", "TICKETQC_STRONG_MODEL": "local"})
        if arguments.model:
            house.environment["TICKETQC_LOCAL_MODEL_PATH"] = str(arguments.model.resolve())
        try:
            _play(house, Path(folder))
        finally:
            house.end(signal.SIGINT)
            house.clean_up()


def _play(house: House, folder: Path) -> None:
    house.is_up("--no-samples")
    play = Round(house)
    lead = _lead(house)
    tickets = _judged(play, folder)
    wrong = [row for row in tickets if row[2] == "met"]
    play.say(f"{len(wrong)} of {len(tickets)} problems that people could not work on were called clear")
    if len(wrong) < NEEDED:
        play.say("too few to make a pattern; the round ends here")
        return
    for ticket, name, _ in wrong[:NEEDED]:
        _overrule(lead, ticket)
        play.say(f"{name}: overruled, not clear")
    play.say(f"patterns: {play.rows('select agent, code, subject, direction, state from patterns')}")  # noqa: S608
    _proposed(play)


def _lead(house: House) -> Visitor:
    link = next(found[0] for line in house.lines if (found := re.findall(r"/welcome/\S+", line)))
    lead = Visitor(f"http://127.0.0.1:{house.port}")
    lead.open(link)
    lead.submit(link, email="lead@example.com", name="Lead", password=PASSWORD, again=PASSWORD)
    return lead


def _judged(play: Round, folder: Path) -> list[tuple[Any, ...]]:
    """Id, name and what was found of the problem, of each candidate, when all are judged."""
    rows = [json.loads(line) for line in TICKETS.read_bytes().splitlines()]
    unclear = [row for row in rows if (row["resolution"] or {}).get("code") == UNCLEAR]
    shortest = sorted(unclear, key=lambda row: len(json.dumps(row)))
    chosen = list({row["requester"]: row for row in shortest if row["requester"]}.values())[:CANDIDATES]
    file = folder / "unclear.jsonl"
    for row in chosen:
        del row["labels"]
        row["resolution"] = {"note": row["resolution"]["note"]}
    file.write_text("".join(json.dumps(row) + "\n" for row in chosen), "utf-8")
    play.house.command("import", str(file), "--live")
    play.say(f"{len(chosen)} tickets are in; the local model begins")
    statement = """
        select tickets.id, tickets.external_id, findings.result, verdicts.outcome from tickets
        join verdicts on verdicts.id = tickets.verdict_id join findings on findings.verdict_id = verdicts.id
        where findings.criterion = %s and tickets.review_state = 'done' order by tickets.id
    """
    found = play.wait_for(statement, CRITERION, least=len(chosen))
    for _, name, result, outcome in found:
        play.say(f"{name}: clear problem {result}, verdict {outcome}")
    return [row[:3] for row in found]


def _overrule(lead: Visitor, ticket: int) -> None:
    lead.open(f"/tickets/{ticket}")
    words = {"outcome": "fail", "reason": "evidence_misread", "note": "Closed because the report was not clear."}
    lead.submit(f"/tickets/{ticket}/decision", **words, **{f"finding__{CRITERION}": "not_met"})


def _proposed(play: Round) -> None:
    ends = "select kind, note from pattern_events where kind in ('no_answer', 'proposed')"
    kind, note = play.wait_for(ends)[0]
    play.say(f"the chief of staff: {kind} {note}")
    for run in play.rows("select purpose, outcome, output_tokens, latency_ms from runs where agent = 'chief_of_staff'"):
        play.say(f"  its call: {run}")
    if kind == "no_answer":
        return
    for proposal in play.rows("select kind, why, questions from proposals"):
        play.say(f"  its proposal: {proposal}")
    for (edits,) in play.rows("select edits from drafts"):
        play.say(f"  its edits: {json.dumps(edits)}")
    if not play.rows("select from replays"):
        return
    state, note, result, calls = play.wait_for(
        "select state, note, result, calls from replays where state in ('done', 'failed')"
    )[0]
    play.say(f"tried with {calls} calls: {state} {note}")
    if result:
        play.say(f"  {json.dumps(result['summary'])}")


if __name__ == "__main__":
    main()
