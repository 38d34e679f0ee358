"""What leaves for a model, byte for byte: whoever changes it raises ENGINE_VERSION, which verdicts pin.

The context is the test's own: the team's files in context/ may change without a change of the engine.
After a change on purpose: raise ENGINE_VERSION, run `python -m tests.test_engine_version`, read the difference, and
append the new version's line to engine_versions.txt. A line of a version that was released is never changed; before the
first release, line 1 is renewed.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NoReturn

from agents import qc, triage
from agents.answer import InvalidAnswer, answered
from agents.context import parse, read_folder
from agents.gateway import Endpoint, Gateway
from agents.judge import ENGINE_VERSION
from tests.cast import MODEL, REPOSITORY, nonce_for, revision
from tests.double import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agents.gateway import Mode
    from agents.question import Question
    from tests.double.server import Profile

GOLDEN = REPOSITORY / "tests" / "golden"
REQUESTS = GOLDEN / "requests.txt"


def questions() -> Iterator[Question]:
    context = parse(read_folder(GOLDEN / "context"))
    missing = triage.IntakeField("missing")
    known = triage.Triage("network", "p2", dict.fromkeys(triage.INTAKE_FIELDS, missing), (), ())
    yield triage.question(revision(), context, model=MODEL, nonce_for=nonce_for)
    yield qc.question(revision(), context, model=MODEL, nonce_for=nonce_for, triage=known)
    yield qc.question(revision(), context, model=MODEL, nonce_for=nonce_for, triage=None, purpose="second")


def unreadable(_text: str) -> NoReturn:
    raise InvalidAnswer("findings lacks told")


def requests() -> str:
    """Every question with its repair, as the API gets it and as a server that needs a forced tool gets it."""
    return "\n".join((*_asked("anthropic", "format"), *_asked("llamacpp", "tool")))


def _asked(profile: Profile, mode: Mode) -> list[str]:
    with running(profile=profile) as double:
        gateway = Gateway(Endpoint(double.key, double.base_url, mode=mode))
        double.answer_with(lambda _body: "{}")
        for question in questions():
            answered(gateway.ask, question, unreadable)
        return [f"######## {mode} {number}\n{_shown(body)}" for number, body in enumerate(double.bodies, start=1)]


def _shown(body: dict[str, Any]) -> str:
    """Texts as lines, so that a difference can be read; the rest as JSON in the order in which it was sent."""
    rest = {name: value for name, value in body.items() if name not in {"system", "messages"}}
    system = (f"==== system {json.dumps({**block, 'text': ''})}\n{block['text']}" for block in body["system"])
    turns = (f"==== {turn['role']}\n{turn['content']}" for turn in body["messages"])
    return "\n".join((json.dumps(rest), *system, *turns, ""))


def test_a_model_reads_what_the_golden_file_shows() -> None:
    assert requests() == REQUESTS.read_text("utf-8")


def test_a_change_of_what_a_model_reads_is_a_new_engine_version() -> None:
    lines = (GOLDEN / "engine_versions.txt").read_text("utf-8").splitlines()
    versions = dict(line.split() for line in lines)
    assert list(versions) == [str(number) for number in range(1, len(lines) + 1)]
    assert versions.get(str(ENGINE_VERSION)) == hashlib.sha256(REQUESTS.read_bytes()).hexdigest()
    assert len(lines) == ENGINE_VERSION


if __name__ == "__main__":
    REQUESTS.write_text(requests(), "utf-8")
    print(f"{ENGINE_VERSION} {hashlib.sha256(REQUESTS.read_bytes()).hexdigest()}")  # noqa: T201  the line to append
