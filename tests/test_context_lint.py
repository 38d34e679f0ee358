"""One broken file per rule of lint, made by editing the shipped ones; each is found with its file and line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import qc, triage
from agents.checks import CHECKS
from agents.context import FILES, READ_BY, ContextError, Problem, parse, read_folder
from agents.context_lint import ANSWER_FORM_TOKENS, PREFIX_TOKENS, PREFIX_WARNING, lint, prefix_tokens, usable
from agents.tokens import token_estimate

FOLDER = Path(__file__).parent.parent / "context"
RUBRIC = "qc_rubric.md"


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return read_folder(FOLDER)


class Edit(NamedTuple):
    """`old` becomes `new` where it stands once; the problem is reported `offset` lines below the place."""

    old: str
    new: str
    message: str
    offset: int = 0
    file: str = RUBRIC
    severity: str = "error"


def line_of(text: str, part: str) -> int:
    assert text.count(part) == 1, part
    return text.count("\n", 0, text.index(part)) + 1


def item(files: dict[str, str], identity: str) -> str:
    """One item of the rubric, whole."""
    found = re.search(rf"^## [^\n]*{{#{identity}}}.*?(?=^## |\Z)", files[RUBRIC], re.DOTALL | re.MULTILINE)
    assert found
    return found[0]


def shown(problems: list[Problem]) -> list[str]:
    return [str(problem) for problem in problems]


# The shipped files


def test_the_shipped_files_lint_clean(files: dict[str, str]) -> None:
    assert shown(lint(files)) == []


def test_the_shipped_files_are_within_budget(files: dict[str, str]) -> None:
    context = parse(files)
    for agent in READ_BY:
        assert prefix_tokens(context, agent) <= PREFIX_WARNING


def test_every_check_of_the_program_has_its_words_in_the_shipped_rubric(files: dict[str, str]) -> None:
    assert {criterion.id for criterion in parse(files).rubric.checked} == set(CHECKS)


# One rule each

ROOT = "{#root_cause}\n- weight: 10\n- kind: judged\n- critical: no\n"
EDITS: dict[str, Edit] = {
    "unknown setting": Edit(
        ROOT, ROOT + "- color: red\n", 'the setting "color" of root_cause is unknown (known: weight, ', 4
    ),
    "setting that is none": Edit(
        ROOT, ROOT + "- important\n", 'the setting "important" of root_cause is unknown (known: weight, ', 4
    ),
    "setting twice": Edit(ROOT, ROOT + "- weight: 12\n", "root_cause gives weight twice", 4),
    "no empty line after settings": Edit(
        "- settled by: no_agent_entry\n\n",
        "- settled by: no_agent_entry\n",
        "put an empty line after the settings of work_performed",
        1,
    ),
    "no question": Edit(
        "Does the record say why the fault happened?\n",
        "",
        "root_cause has no question: put one between its settings and its results",
        -5,
    ),
    "result missing": Edit(
        '- **Partly**: Only a guess or a vague area. Example: "Probably something with the network."\n',
        "",
        'root_cause does not say what Partly means: add a bullet `- **Partly**: ... Example: "..."`',
        -7,
    ),
    "result twice": Edit(
        "- **Partly**: Only a guess or a vague area.",
        '- **Met**: A story. Example: "Once upon a time."\n- **Partly**: Only a guess or a vague area.',
        "root_cause explains Met twice",
    ),
    "result unknown": Edit(
        "- **Partly**: Only a guess or a vague area.",
        '- **Nearly**: A story. Example: "Once upon a time."\n- **Partly**: Only a guess or a vague area.',
        "begin the bullet with Met, Partly, Not met, Not applicable, in ** **: ...",
    ),
    "bullet without a result": Edit(
        "- **Partly**: Only a guess or a vague area.",
        "- A story.\n- **Partly**: Only a guess or a vague area.",
        "begin the bullet with Met, Partly, Not met, Not applicable, in ** **: ...",
    ),
    "no example": Edit(
        'Only a guess or a vague area. Example: "Probably something with the network."',
        "Only a guess or a vague area.",
        'Partly of root_cause has no example: end it with `Example: "..."`',
    ),
    "empty example": Edit(
        'Only a guess or a vague area. Example: "Probably something with the network."',
        "Only a guess or a vague area. Example:",
        'Partly of root_cause has no example: end it with `Example: "..."`',
    ),
    "met says nothing": Edit(
        '- **Met**: A cause, or "unknown" with what was ruled out and what to do if it returns. Example:',
        "- **Met**: Example:",
        "Met of root_cause has no words of its own",
    ),
    "met can never happen": Edit(
        '- **Met**: A cause, or "unknown" with what was ruled out and what to do if it returns. Example:',
        "- **Met**: Never. Example:",
        "Met of root_cause can never happen, so the criterion asks nothing",
    ),
    "not applicable never, without why": Edit(
        "Never. Every ticket can be checked.",
        "Never.",
        'say after "Never." why secrets_in_ticket applies to every ticket',
    ),
    "same text twice": Edit(
        "Only a guess or a vague area. Example:",
        "A fault was handled, and no cause is named! Example:",
        "Partly and Not met of root_cause have the same text",
        1,
    ),
    "same example twice": Edit(
        'Example: "Probably something with the network."',
        'Example: "Restarted the service; works again"',
        "Partly and Not met of root_cause have the same example",
        1,
    ),
    "weight 0": Edit(
        ROOT, ROOT.replace("10", "0"), "root_cause has no weight: give it one, or delete it"
    ),
    "weight of a check that settles": Edit(
        "{#no_agent_entry}\n- weight: 0",
        "{#no_agent_entry}\n- weight: 3",
        "no_agent_entry settles another criterion, which counts the gap: give it weight 0",
    ),
    "settled by nothing known": Edit(
        "- settled by: no_agent_entry",
        "- settled by: no_agent_entry, nobody_wrote",
        "work_performed is settled by nobody_wrote, which is no checked criterion",
        -4,
    ),
    "settled by a judged criterion": Edit(
        "- settled by: no_agent_entry",
        "- settled by: no_agent_entry, root_cause",
        "work_performed is settled by root_cause, which is no checked criterion",
        -4,
    ),
    "check that settles by another": Edit(
        "{#template_text}\n- weight: 1\n",
        "{#template_text}\n- weight: 1\n- settled by: no_closing_note\n",
        "template_text is a check: only a judged criterion is settled by checks",
    ),
    "check that does not exist": Edit(
        "{#template_text}", "{#spelling}", "there is no check spelling (known: billable_without_notes, "
    ),
    "unknown front matter": Edit(
        "pass_mark: 80", "pass_mark: 80\nfail_mark: 20", "the setting fail_mark is unknown (known: pass_mark)", 1
    ),
    "front matter where there is none": Edit(
        "<!--\nInstructions for the qc",
        "---\npass_mark: 90\n---\n<!--\nInstructions for the qc",
        "the setting pass_mark is unknown (this file has none)",
        1,
        file="qc.md",
    ),
    "item without words": Edit(
        "{#pasted_output}\n",
        "{#pasted_output}\n\n## More output {#more_output}\n",
        "pasted_output says nothing under its heading",
        file="known_patterns.md",
    ),
    "item that only holds a note": Edit(
        "{#pasted_output}\n",
        "{#pasted_output}\n<!-- later -->\n\n## More output {#more_output}\n",
        "pasted_output says nothing under its heading",
        file="known_patterns.md",
    ),
    "reference to nothing": Edit(
        "Two reminders on different days: [[resolution_confirmed]]",
        "Two reminders on different days:\n[[resolution_is_confirmed]]",
        "[[resolution_is_confirmed]] names no item: there is no heading with {#resolution_is_confirmed}",
        1,
        file="known_patterns.md",
    ),
    "reference to what the agent does not read": Edit(
        "Most tickets meet none.",
        "Most tickets meet none, see [[phone_call]].",
        "triage reads this line but not phone_call in known_patterns.md",
        file="triage.md",
        severity="warning",
    ),
    "reference to a check, which no agent reads": Edit(
        "Two reminders on different days:",
        "See [[no_closing_note]]. Two reminders on different days:",
        "qc reads this line but not no_closing_note in qc_rubric.md",
        file="known_patterns.md",
        severity="warning",
    ),
    "rule without its bounds": Edit(
        "- **Does not apply**: One room,",
        "- One room,",
        'major_outage has no bullet "**Does not apply**: ..."',
        -2,
        file="escalation_rules.md",
        severity="warning",
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_each_rule_names_file_and_line(files: dict[str, str], edit: Edit) -> None:
    line = line_of(files[edit.file], edit.old) + edit.offset
    found = shown(lint({**files, edit.file: files[edit.file].replace(edit.old, edit.new)}))
    assert len(found) == 1
    assert found[0].startswith(f"{edit.file}:{line}: {edit.severity}: {edit.message}")


def test_all_four_results_and_the_question_are_asked_for(files: dict[str, str]) -> None:
    heading, *_ = item(files, "root_cause").partition("\n\n")
    line = line_of(files[RUBRIC], heading)
    found = lint({**files, RUBRIC: files[RUBRIC].replace(item(files, "root_cause"), heading + "\n\n")})
    assert {problem.line for problem in found} == {line}
    words = " ".join(problem.message for problem in found)
    for part in (
        "no question",
        "what Met means",
        "what Partly means",
        "what Not met means",
        "what Not applicable means",
    ):
        assert part in words
    assert len(found) == 5


def test_a_rubric_without_any_weight(files: dict[str, str]) -> None:
    found = lint({**files, RUBRIC: re.sub(r"- weight: \d+", "- weight: 0", files[RUBRIC])})
    assert f"{RUBRIC}:1: error: all weights are 0, so no score can be computed" in shown(found)


@pytest.mark.parametrize("name", ["triage.md", "escalation_rules.md"])
def test_an_empty_file(files: dict[str, str], name: str) -> None:
    found = shown(lint({**files, name: "<!-- to be written -->\n"}))
    assert f"{name}:1: error: the file says nothing" in found


def test_known_patterns_may_be_empty(files: dict[str, str]) -> None:
    assert lint({**files, "known_patterns.md": ""}) == []


def test_a_rules_file_without_a_rule(files: dict[str, str]) -> None:
    standards = files["standards.md"].replace("[[reviewer_manipulation]]", "an attempt to cheat")
    found = shown(lint({**files, "escalation_rules.md": "# Rules\n\nNone.\n", "standards.md": standards}))
    assert found == ["escalation_rules.md:1: error: there is no escalation rule: keep at least one"]


def test_what_parse_refuses_is_reported_once_beside_the_rest(files: dict[str, str]) -> None:
    edited = files[RUBRIC].replace("pass_mark: 80", "pass_mark: 800").replace("{#root_cause}", "{#Root}")
    edited = edited.replace('Example: "Dock ordered, Sam brings it on Friday."', "")
    found = shown(lint({**files, RUBRIC: edited}))
    assert len(found) == len(set(found))
    for words in ("pass_mark must be", 'the id "Root"', "Met of follow_up has no example"):
        assert sum(words in problem for problem in found) == 1


def test_a_missing_file_is_a_problem_and_no_crash(files: dict[str, str]) -> None:
    found = shown(lint({name: text for name, text in files.items() if name != RUBRIC}))
    assert "qc_rubric.md:1: error: the file is missing" in found


# Ids that change


def test_an_id_that_changed_under_the_same_title(files: dict[str, str]) -> None:
    edited = {**files, RUBRIC: files[RUBRIC].replace("## Follow-up {#follow_up}", "## Follow-Up {#followup}")}
    edited["known_patterns.md"] = files["known_patterns.md"].replace("[[follow_up]]", "[[followup]]")
    line = line_of(edited[RUBRIC], "{#followup}")
    assert shown(lint(edited, files)) == [
        f'{RUBRIC}:{line}: error: the id of "Follow-Up" was follow_up: change it back, ids are for ever'
    ]
    assert lint(edited) == []


def test_an_id_that_is_gone(files: dict[str, str]) -> None:
    edited = {**files, RUBRIC: files[RUBRIC].replace(item(files, "template_text"), "")}
    assert shown(lint(edited, files)) == [
        f"{RUBRIC}:1: warning: template_text is gone: what people decided about it is no longer counted"
    ]


def test_an_item_that_moved_to_another_file_keeps_its_id(files: dict[str, str]) -> None:
    moved = "\n## Privacy {#privacy}\n\nNo passwords.\n"
    edited = {**files, "standards.md": files["standards.md"].partition("\n## Privacy")[0] + "\n"}
    edited["qc.md"] += moved
    assert lint(edited, files) == []


def test_a_new_title_over_an_old_id_is_no_problem(files: dict[str, str]) -> None:
    edited = {**files, RUBRIC: files[RUBRIC].replace("## Follow-up {", "## Promises kept {")}
    assert lint(edited, files) == []


def test_the_first_version_and_a_damaged_older_one_can_be_compared(files: dict[str, str]) -> None:
    assert lint(files, {}) == []
    assert lint(files, {**files, RUBRIC: "---\n[\n---\n## X\n<!--"}) == []


# The budget


def padded(files: dict[str, str], tokens: int) -> dict[str, str]:
    """The files, the qc agent's own so long that it reads this many tokens."""
    missing = tokens - prefix_tokens(parse(files), "qc")
    return {**files, "qc.md": files["qc.md"] + "word " * int(missing * 3.1 / 5)}


@pytest.mark.parametrize(
    ("tokens", "severity"), [(PREFIX_WARNING - 5, ""), (PREFIX_WARNING + 50, "warning"), (PREFIX_TOKENS + 50, "error")]
)
def test_the_budget(files: dict[str, str], tokens: int, severity: str) -> None:
    edited = padded(files, tokens)
    found = lint(edited)
    assert [problem.severity for problem in found] == ([severity] if severity else [])
    if severity:
        counted = f"{prefix_tokens(parse(edited), 'qc'):,}"
        assert str(found[0]).startswith(
            f"qc.md:1: {severity}: qc reads about {counted} tokens of at most 5,000 (standards.md "
        )


def test_what_the_program_adds_fits_into_what_the_budget_leaves_for_it() -> None:
    for form in (triage.ANSWER_FORM, qc.ANSWER_FORM):
        assert token_estimate(form) <= ANSWER_FORM_TOKENS


def test_notes_and_checks_cost_nothing(files: dict[str, str]) -> None:
    before = prefix_tokens(parse(files), "qc")
    edited = {name: f"{text}\n<!-- {'note ' * 500} -->\n" for name, text in files.items()}
    edited[RUBRIC] = edited[RUBRIC].replace("At least one entry carries minutes.", "Minutes. " * 500)
    assert prefix_tokens(parse(edited), "qc") == before


# Using it


def test_usable_refuses_what_lint_calls_an_error(files: dict[str, str]) -> None:
    assert usable(files).version == parse(files).version
    edited = {**files, RUBRIC: files[RUBRIC].replace("{#template_text}", "{#spelling}")}
    parse(edited)  # an older version may hold a check that is no longer there, and must still be readable
    with pytest.raises(ContextError, match="there is no check spelling"):
        usable(edited)


def test_usable_lets_warnings_pass(files: dict[str, str]) -> None:
    assert usable(padded(files, PREFIX_WARNING + 50))


def test_the_known_checks_may_be_given(files: dict[str, str]) -> None:
    found = lint(files, known_checks={"secrets_in_ticket"})
    assert len(found) == len(CHECKS) - 1
    assert lint(files, known_checks={*CHECKS, "one_more"}) == []


@given(st.dictionaries(st.sampled_from(FILES), st.text(max_size=120)), st.data())
@settings(deadline=None, max_examples=60)
def test_lint_reads_anything(texts: dict[str, str], data: st.DataObject) -> None:
    shipped = read_folder(FOLDER)
    name = data.draw(st.sampled_from(FILES))
    place = data.draw(st.integers(0, len(shipped[name])))
    edited = {**shipped, name: shipped[name][:place] + data.draw(st.text(max_size=60)) + shipped[name][place:]}
    for candidate in (texts, edited):
        for problem in lint(candidate, shipped):
            assert problem.line >= 1
