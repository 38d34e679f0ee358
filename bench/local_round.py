"""The whole round with the local demonstration model on real shared tickets, told as it goes.

    .venv/bin/python -m bench.local_round [--data-dir DIR] [--model GGUF]

Reports that people closed as "Needs more info" are judged by the local model. Where it calls the problem clear, the
script overrules it for the person who closed the ticket. Three failures of a kind open a pattern, these or the model's
own; the model then plays the chief of staff, and the first proposal that may be tried is tried. The script approves
what mends something and breaks nothing, sends the next ticket, rolls back, and reads the week's report; else it
rejects. Takes an hour on two quiet cores.
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

CANDIDATES = 4  # tickets that are judged; the shortest, because each token costs milliseconds here
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
    for ticket, name, _ in wrong:
        _overrule(lead, ticket)
        play.say(f"{name}: overruled, not clear")
    tried = _tried(play)
    if tried is None:
        play.say("no proposal came of it that may be tried; the round ends here")
    elif _decided(play, lead, *tried):
        _released(play, lead, folder)
    _reported(play, lead)


def _lead(house: House) -> Visitor:
    link = next(found[0] for line in house.lines if (found := re.findall(r"/welcome/\S+", line)))
    lead = Visitor(f"http://127.0.0.1:{house.port}")
    lead.open(link)
    lead.submit(link, email="lead@example.com", name="Lead", password=PASSWORD, again=PASSWORD)
    return lead


def _judged(play: Round, folder: Path) -> list[tuple[Any, ...]]:
    """Id, name and what was found of the problem, of each candidate, when all are judged."""
    _sent(play, folder, slice(CANDIDATES))
    found = _all_judged(play, CANDIDATES)
    for _, name, result, outcome in found:
        play.say(f"{name}: clear problem {result}, verdict {outcome}")
    return [row[:3] for row in found]


def _sent(play: Round, folder: Path, which: slice) -> None:
    """The shortest reports of different requesters that could not be worked on, as people closed them."""
    rows = [json.loads(line) for line in TICKETS.read_bytes().splitlines()]
    unclear = [row for row in rows if (row["resolution"] or {}).get("code") == UNCLEAR]
    longest_first = sorted(unclear, key=lambda row: len(json.dumps(row)), reverse=True)
    shortest = {row["requester"]: row for row in longest_first if row["requester"]}
    chosen = sorted(shortest.values(), key=lambda row: len(json.dumps(row)))[which]
    for row in chosen:
        del row["labels"]
        row["resolution"] = {"note": row["resolution"]["note"]}
    file = folder / f"from{which.start or 0}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in chosen), "utf-8")
    play.house.command("import", str(file), "--live")
    play.say(f"{len(chosen)} more in; the local model begins")


def _all_judged(play: Round, count: int) -> list[tuple[Any, ...]]:
    statement = """
        select tickets.id, tickets.external_id, findings.result, verdicts.outcome from tickets
        join verdicts on verdicts.id = tickets.verdict_id join findings on findings.verdict_id = verdicts.id
        where findings.criterion = %s and tickets.review_state = 'done' order by tickets.id
    """
    return play.wait_for(statement, CRITERION, least=count)


def _overrule(lead: Visitor, ticket: int) -> None:
    lead.open(f"/tickets/{ticket}")
    words = {"outcome": "fail", "reason": "evidence_misread", "note": "Closed because the report was not clear."}
    lead.submit(f"/tickets/{ticket}/decision", **words, **{f"finding__{CRITERION}": "not_met"})


def _tried(play: Round) -> tuple[int, dict[str, Any]] | None:
    """The first proposal that was tried, and the summary of its trial; None where all calls led to nothing."""
    told, began = 0, time.monotonic()
    while time.monotonic() - began < LONGEST:
        idle = not play.rows(_WORK)
        for number, what, kind, note in play.rows(_EVENTS, told):
            told = number
            play.say(f"{what}: {kind} {note}")
        for proposal, state, note, summary in play.rows(_TRIALS):
            _tell_proposal(play, proposal)
            play.say(f"its trial: {state} {note} {json.dumps(summary)}")
            return (proposal, summary) if summary else None
        if idle:
            return None
        time.sleep(LOOK_EVERY)
    sys.exit("gave up waiting for a trial")


_EVENTS = """
    select pattern_events.id, concat_ws(' ', agent, code, subject, direction), kind, note
    from pattern_events join patterns on patterns.id = pattern_id where pattern_events.id > %s order by 1
"""
_TRIALS = """
    select proposal_id, replays.state, replays.note, result -> 'summary' from replays
    join drafts on drafts.id = draft_id where replays.state in ('done', 'failed') order by replays.id limit 1
"""
_WORK = """
    select from procrastinate.procrastinate_jobs
    where status in ('todo', 'doing') and task_name in ('review', 'patterns', 'propose', 'replay')
"""


def _tell_proposal(play: Round, proposal: int) -> None:
    for told in play.rows("select kind, why, questions from proposals where id = %s", proposal):
        play.say(f"the proposal: {told}")
    for (edits,) in play.rows("select edits from drafts where proposal_id = %s", proposal):
        play.say(f"its edits: {json.dumps(edits)}")


def _decided(play: Round, lead: Visitor, proposal: int, summary: dict[str, Any]) -> bool:
    """Approved, by the rule at the head of this file."""
    good: bool = summary["fixed"]["count"] > 0 and summary["broken"]["count"] == 0
    page = f"/proposals/{proposal}"
    lead.open(page)
    if good:
        lead.submit(f"{page}/approve", note="It mends, and breaks nothing.")
    else:
        lead.submit(f"{page}/reject", reason="Its trial does not show that it helps.")
    play.say("approved, and in force" if good else "rejected: its trial does not show that it helps")
    return good


def _released(play: Round, lead: Visitor, folder: Path) -> None:
    _sent(play, folder, slice(CANDIDATES, CANDIDATES + 1))
    for _, name, result, outcome in _all_judged(play, CANDIDATES + 1)[CANDIDATES:]:
        play.say(f"by the new texts, {name}: clear problem {result}, verdict {outcome}")
    lead.open("/context")
    lead.submit("/context/rollback", note="The round is over.")
    play.say("rolled back")


def _reported(play: Round, lead: Visitor) -> None:
    ((week,),) = play.rows("""select to_char(now(), 'IYYY-"W"IW')""")
    lead.open("/reports")
    lead.submit(f"/reports/{week}/again")
    ((text,),) = play.wait_for("select markdown from reports order by id desc limit 1")
    print(text)


if __name__ == "__main__":
    main()
