"""`ticketqc review` with the local demonstration model on ten real tickets: what it got right and wrong, honestly.

    .venv/bin/python -m bench.local_model [--data-dir DIR]      (goes on where it stopped, if DIR is kept)

The first five tickets closed as "Needs more info" and the first five closed as "Fixed", without the code that says so.
A person closed the first kind because the report was not clear enough to work on, so a judge that agrees with people
finds their problem not met or partly met, and the other kind's met. The baseline calls every problem clear.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.double import REPOSITORY
from bench.review import TICKETS

EACH = 5
UNCLEAR, CLEAR = "Needs more info", "Fixed"
CRITERION = "clear_problem"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="where the weights are, or will be; default a temporary folder")
    arguments = parser.parse_args()
    if not TICKETS.exists():
        sys.exit(f"skipped: the shared tickets are not at {TICKETS}")
    with tempfile.TemporaryDirectory() as folder:
        codes, file = _chosen(Path(folder))
        report = review_locally(file, data_dir=arguments.data_dir or Path(folder) / "data")
    _print(report, codes)


def _chosen(folder: Path) -> tuple[dict[str, str], Path]:
    """The resolution code of each chosen ticket, and a file of them without what would give it away."""
    codes: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    for line in TICKETS.read_bytes().splitlines():  # bytes: text has line separators of its own
        row = json.loads(line)
        code = (row["resolution"] or {}).get("code")
        if code in {UNCLEAR, CLEAR} and list(codes.values()).count(code) < EACH:
            codes[row["external_id"]] = code
            del row["labels"]
            rows.append({**row, "resolution": {"note": row["resolution"]["note"]}})
    file = folder / "ten.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return codes, file


def review_locally(file: Path, *, data_dir: Path) -> dict[str, Any]:
    """What the command says of a file with the local model; it goes on from its journal of replies."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")},  # noqa: TID251
        "TICKETQC_WORKER_MODEL": "local",
        "TICKETQC_DATA_DIR": str(data_dir),
    }
    command = [sys.executable, "-m", "app.cli", "review", str(file), "--json"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if not done.stdout:
        sys.exit(f"review failed ({done.returncode})")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _print(report: dict[str, Any], codes: dict[str, str]) -> None:
    right = judged = 0
    for ticket in report["tickets"]:
        finding = next((one for one in ticket["findings"] if one["criterion"] == CRITERION), {"result": "none"})
        code, result = codes[ticket["external_id"]], finding["result"]
        said_unclear = result in {"partly", "not_met"}
        scored = said_unclear or result == "met"
        agrees = scored and said_unclear == (code == UNCLEAR)
        judged += scored
        right += agrees
        unscored = sum(1 for one in ticket["findings"] if one["result"] == "unscored")
        word = "agrees" if agrees else "disagrees" if scored else "not scored"
        print(f"{ticket['external_id']:10} people: {code:16} clear problem: {result:10} {word:10} "
              f"verdict {ticket['verdict']}, {unscored} of {len(ticket['findings'])} criteria unscored")  # fmt: skip
        for seen in ticket["observations"]:
            print(f"{'':10}   {seen['agent']}: {seen['code']} {seen['subject']}")
    totals = report["totals"]
    print(f"\n{totals['model']}: right {right} of {judged} scored, {len(codes) - judged} not scored; "
          f"calling every problem clear is right on {EACH} of {len(codes)}")  # fmt: skip
    print(f"{totals['seconds']:.0f} s, {totals['seconds'] / len(codes):.0f} s a ticket; tokens {totals['tokens']}")


if __name__ == "__main__":
    main()
