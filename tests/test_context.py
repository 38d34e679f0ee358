"""Context files become a Context, and what cannot be used is refused with file and line."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.context import FILES, READ_BY, Context, ContextError, parse, read_folder
from agents.documents import bullets, read_document
from agents.rubric import read_form
from agents.tokens import token_estimate

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).parent.parent / "context"


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return read_folder(FOLDER)


@pytest.fixture(scope="module")
def context(files: dict[str, str]) -> Context:
    return parse(files)


def problems(files: dict[str, str]) -> list[str]:
    with pytest.raises(ContextError) as caught:
        parse(files)
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


def changed(files: dict[str, str], file: str, old: str, new: str) -> tuple[dict[str, str], int]:
    """The files with one place edited, and the line of that place."""
    assert files[file].count(old) == 1
    line = files[file].count("\n", 0, files[file].index(old)) + 1
    return {**files, file: files[file].replace(old, new)}, line


# The shipped files


def test_the_shipped_rubric_holds_every_criterion_with_its_settings(context: Context) -> None:
    rubric = context.rubric
    assert rubric.pass_mark == 80
    assert [criterion.id for criterion in rubric.judged] == [
        "clear_problem",
        "work_requested",
        "work_performed",
        "root_cause",
        "resolution_confirmed",
        "follow_up",
        "communication",
        "correct_classification",
    ]
    assert [criterion.id for criterion in rubric.criteria if criterion.critical] == [
        "work_performed",
        "secrets_in_ticket",
    ]
    assert rubric["work_performed"].settled_by == ("no_agent_entry",)
    assert rubric["work_performed"].weight == 20
    assert sum(criterion.weight for criterion in rubric.criteria) == 100
    with pytest.raises(KeyError):
        rubric["no_such_criterion"]


def test_the_shipped_standards_name_categories_and_priorities(context: Context) -> None:
    assert context.categories[0] == "hardware"
    assert context.categories[-1] == "other"
    assert context.priorities == ("p1", "p2", "p3", "p4")
    assert len(context.rules) == 9
    assert {rule.id for rule in context.rules} >= {"security_incident", "reviewer_manipulation"}


def test_shipped_files_are_plain_ascii(files: dict[str, str]) -> None:
    assert [name for name, text in files.items() if not text.isascii()] == []


def test_parsing_is_quick_enough_for_every_start(files: dict[str, str]) -> None:
    def once() -> float:
        begin = time.process_time()  # other processes on the machine do not count
        parse(files)
        return time.process_time() - begin

    assert min(once() for _ in range(5)) < 0.03


# What agents read


def test_agents_read_standards_first_then_their_own_file(context: Context) -> None:
    for agent, names in READ_BY.items():
        documents = context.prefix_documents(agent)
        assert names[:2] == ("standards.md", f"{agent}.md")
        assert [document.partition("\n")[0] for document in documents] == [
            context.documents[name].partition("\n")[0] for name in names
        ]
        assert documents[0].startswith("# Standards of the service desk\n")


def test_agents_read_no_notes_no_settings_and_no_checks(context: Context) -> None:
    rubric = context.documents["qc_rubric.md"]
    for text in context.documents.values():
        assert "<!--" not in text
        assert "-->" not in text
        assert "ticketqc context lint" not in text
        assert "[[" not in text
        assert "\n\n\n" not in text
    assert "weight" not in rubric
    assert "pass_mark" not in rubric
    for criterion in context.rubric.judged:
        mark = " critical" if criterion.critical else ""
        assert f"## {criterion.title} {{#{criterion.id}}}{mark}\n" in rubric
        assert criterion.text in rubric
        assert criterion.text.count("- **") == 4
    for check in context.rubric.checked:
        assert check.id not in rubric
        assert check.text.count("- **") == 4


def test_a_comment_inside_an_item_is_not_sent_and_keeps_the_lines(files: dict[str, str]) -> None:
    edited, line = changed(
        files, "qc.md", "## How to decide {#qc_method}", "<!-- ## Not\nthis -->\n## How {#qc_method}"
    )
    context = parse(edited)
    assert "Not\nthis" not in context.documents["qc.md"]
    broken = {**edited, "qc.md": edited["qc.md"].replace("{#qc_method}", "{#QC}")}
    assert problems(broken)[0].startswith(f"qc.md:{line + 2}: error: the id")


def test_a_reference_is_read_as_the_id_alone(context: Context) -> None:
    assert "[[root_cause]]" in context.files["known_patterns.md"]
    assert "root_cause is not_met unless" in context.documents["known_patterns.md"]


def test_tokens_are_estimated_from_utf8_bytes() -> None:
    assert token_estimate("") == 0
    assert token_estimate("a" * 31) == 10
    assert token_estimate("a" * 32) == 11
    assert token_estimate("\N{SNOWMAN}" * 31) == 30
    assert token_estimate("\ud800") == 1


# Versions


def test_the_version_covers_every_byte_and_the_agent_hash_what_the_agent_reads(
    files: dict[str, str], context: Context
) -> None:
    assert len(context.version) == 64
    assert parse(dict(reversed(files.items()))).version == context.version
    for name in FILES:
        other = parse({**files, name: files[name] + "\n<!-- a note -->"})
        assert other.version != context.version
        for agent, names in READ_BY.items():
            assert (other.agent_hash(agent) == context.agent_hash(agent)) is (name not in names)


def test_line_endings_and_a_byte_order_mark_change_the_version_and_nothing_else(
    files: dict[str, str], context: Context
) -> None:
    other = parse({name: "\ufeff" + text.replace("\n", "\r\n") for name, text in files.items()})
    assert other.version != context.version
    assert other.documents == context.documents
    assert other.rubric == context.rubric


def test_the_text_hash_follows_the_words_and_not_the_settings(files: dict[str, str], context: Context) -> None:
    heavier, _ = changed(files, "qc_rubric.md", "- weight: 20", "- weight: 30")
    reworded, _ = changed(files, "qc_rubric.md", "Does the record say why the fault happened?", "Why did it happen?")
    before = context.rubric["work_performed"], context.rubric["root_cause"]
    assert parse(heavier).rubric["work_performed"].text_hash == before[0].text_hash
    assert parse(reworded).rubric["root_cause"].text_hash != before[1].text_hash
    assert before[0].text_hash == hashlib.sha256(before[0].text.encode()).hexdigest()


# Folders


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="there is no such folder"):
        read_folder(tmp_path / "nowhere")


def test_every_file_that_cannot_be_read_is_named(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "qc.md").unlink()
    (tmp_path / "triage.md").unlink()
    (tmp_path / "triage.md").mkdir()
    (tmp_path / "standards.md").write_bytes(b"# Standards\n\nOur caf\xe9\n")
    with pytest.raises(ContextError) as caught:
        read_folder(tmp_path)
    assert [str(problem) for problem in caught.value.problems] == [
        "standards.md:3: error: is not UTF-8 text; save it with the encoding UTF-8",
        "triage.md:1: error: cannot be read: Is a directory",
        f"qc.md:1: error: the file is missing in {tmp_path}",
    ]


def test_files_are_read_byte_exact(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode())
    assert read_folder(tmp_path)["qc.md"] == files["qc.md"].replace("\n", "\r\n")


# What parse refuses


def test_a_missing_and_an_unknown_file(files: dict[str, str]) -> None:
    others = {("coaching.md" if name == "qc.md" else name): text for name, text in files.items()}
    assert problems(others) == [
        "qc.md:1: error: the file is missing",
        "coaching.md:1: error: is not a context file: no agent would read it",
    ]


@pytest.mark.parametrize("bad", ["\0", "\ud800"])
def test_a_character_that_cannot_be_kept(files: dict[str, str], bad: str) -> None:
    edited, line = changed(files, "qc.md", "# Quality control", f"# Quality {bad}control")
    assert problems(edited) == [f"qc.md:{line}: error: holds a character that is not text; delete it"]


Case = tuple[str, str, str, int, str]
CASES: dict[str, Case] = {
    "heading without id": (
        "qc.md", "## How to decide {#qc_method}", "## How to decide", 0,
        'the heading "How to decide" has no id: end it with {#how_to_decide}',
    ),
    "underlined heading": (
        "qc.md", "## How to decide {#qc_method}", "Method\n------", 0,
        'the heading "Method" has no id: end it with {#method}',
    ),
    "id in capitals": (
        "qc.md", "{#qc_method}", "{#QcMethod}", 0,
        'the id "QcMethod" must be small letters, digits and _, and begin with a letter',
    ),
    "id without title": (
        "qc.md", "How to decide {#qc_method}", "{#qc_method}", 0,
        "the heading of qc_method has no title before {#qc_method}",
    ),
    "large heading after items": (
        "qc.md", "- Read to the end", "# More\n\n- Read to the end", 0,
        "a heading with one # belongs at the top; items begin with ##",
    ),
    "comment never closed": (
        "triage.md", "## Escalation {", "<!-- ## Escalation {", 0,
        "this comment is never closed: add -->",
    ),
    "id twice in one file": (
        "known_patterns.md", "{#vendor}", "{#restarted}", 0,
        "the id restarted already stands in known_patterns.md:10",
    ),
    "id twice in two files": (
        "qc.md", "{#qc_method}", "{#root_cause}", 0,
        "the id root_cause already stands in qc_rubric.md:",
    ),
    "front matter not YAML": (
        "qc_rubric.md", "pass_mark: 80", "pass_mark: [80", 1,
        "the settings between the --- lines are not valid YAML: ",
    ),
    "front matter a list": (
        "qc_rubric.md", "pass_mark: 80", "- 80", 0,
        "write the settings between the --- lines as `name: value`",
    ),
    "front matter nested": (
        "qc_rubric.md", "pass_mark: 80", "pass_mark:\n  - 80", 0,
        "write settings as `name: value`, one a line",
    ),
    "front matter twice": (
        "qc_rubric.md", "pass_mark: 80", "pass_mark: 80\npass_mark: 70", 1,
        "the setting pass_mark is given twice",
    ),
    "front matter with a control character": (
        "qc_rubric.md", "pass_mark: 80", "pass_mark: \x07", 0,
        "the settings between the --- lines are not valid YAML",
    ),
    "front matter too deep": (
        "qc_rubric.md", "pass_mark: 80", "pass_mark: " + "[" * 5000, 0,
        "the settings between the --- lines are not valid YAML",
    ),
    "front matter never ends": (
        "qc_rubric.md", "pass_mark: 80\n---\n", "pass_mark: 80\n", -1,
        "the settings that begin here never end: add a line ---",
    ),
    "pass mark not a number": (
        "qc_rubric.md", "pass_mark: 80", "pass_mark: eighty", 0,
        'pass_mark must be a number from 1 to 100, not "eighty"',
    ),
    "pass mark 0": (
        "qc_rubric.md", "pass_mark: 80", "pass_mark: 0", 0,
        'pass_mark must be a number from 1 to 100, not "0"',
    ),
    "pass mark 101": (
        "qc_rubric.md", "pass_mark: 80", "pass_mark: 101", 0,
        'pass_mark must be a number from 1 to 100, not "101"',
    ),
    "weight missing": (
        "qc_rubric.md", "{#root_cause}\n- weight: 10\n", "{#root_cause}\n", 0,
        "root_cause needs a line `- weight: 10` under its heading",
    ),
    "weight negative": (
        "qc_rubric.md", "{#root_cause}\n- weight: 10\n", "{#root_cause}\n- weight: -1\n", 1,
        'the weight of root_cause must be a number from 0 up, such as 10, not "-1"',
    ),
    "weight not a number": (
        "qc_rubric.md", "{#root_cause}\n- weight: 10\n", "{#root_cause}\n- weight: nan\n", 1,
        'the weight of root_cause must be a number from 0 up, such as 10, not "nan"',
    ),
    "kind missing": (
        "qc_rubric.md", "{#root_cause}\n- weight: 10\n- kind: judged\n", "{#root_cause}\n- weight: 10\n", 0,
        "root_cause needs a line `- kind: judged` under its heading",
    ),
    "kind unknown": (
        "qc_rubric.md", "{#root_cause}\n- weight: 10\n- kind: judged\n", "{#root_cause}\n- weight: 10\n- kind: ai\n", 2,
        'kind of root_cause must be judged or checked, not "ai"',
    ),
    "critical unknown": (
        "qc_rubric.md", "- critical: yes\n- settled by", "- critical: maybe\n- settled by", 0,
        'critical of work_performed must be no or yes, not "maybe"',
    ),
    "critical missing": (
        "qc_rubric.md", "- critical: yes\n- settled by", "- settled by", -3,
        "work_performed needs a line `- critical: no` under its heading",
    ),
    "no categories": (
        "standards.md", "{#categories}", "{#kinds}", -99,
        "there is no item {#categories} with a bullet for each of them",
    ),
    "category without explanation": (
        "standards.md", "- network: wired and wireless network, VPN, internet", "- network", 0,
        "write `- name: what belongs there`, the name in small letters, digits and _",
    ),
    "category with a space": (
        "standards.md", "- network: wired", "- the network: wired", 0,
        "write `- name: what belongs there`, the name in small letters, digits and _",
    ),
    "category twice": (
        "standards.md", "- printing: ", "- network: ", 0,
        "network already stands in line ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_parse_names_file_line_and_remedy(files: dict[str, str], case: Case) -> None:
    file, old, new, offset, message = case
    edited, line = changed(files, file, old, new)
    found = problems(edited)
    assert found[0].startswith(f"{file}:{max(line + offset, 1)}: error: {message}")
    assert len(found) == 1


def test_fewer_than_two_priorities(files: dict[str, str]) -> None:
    kept = [line for line in files["standards.md"].split("\n") if not line.startswith(("- p1", "- p2", "- p3"))]
    line = kept.index("## Priorities {#priorities}") + 1
    edited = {**files, "standards.md": "\n".join(kept)}
    assert problems(edited) == [f"standards.md:{line}: error: priorities needs at least two bullets"]


def test_a_rubric_without_criteria(files: dict[str, str]) -> None:
    found = problems({**files, "qc_rubric.md": "# Rubric\n"})
    assert found == ["qc_rubric.md:1: error: the rubric has no criterion"]


def test_every_problem_is_reported_at_once_in_order(files: dict[str, str]) -> None:
    edited, _ = changed(files, "qc.md", "{#qc_method}", "{#qc method}")
    edited, _ = changed(edited, "qc_rubric.md", "pass_mark: 80", "pass_mark: high")
    edited, _ = changed(edited, "standards.md", "- hardware: ", "- Hardware: ")
    assert [problem.partition(":")[0] for problem in problems(edited)] == ["standards.md", "qc_rubric.md", "qc.md"]


# Markdown as people write it


def test_without_a_pass_mark_it_is_80(files: dict[str, str]) -> None:
    edited, _ = changed(files, "qc_rubric.md", "---\npass_mark: 80\n---\n", "")
    assert parse(edited).rubric.pass_mark == 80


def test_settings_may_be_written_freely(files: dict[str, str]) -> None:
    edited, _ = changed(
        files,
        "qc_rubric.md",
        "- weight: 20\n- kind: judged\n- critical: yes\n- settled by: no_agent_entry\n",
        "\n* Weight : 12.5\n* KIND: Judged\n* critical: YES\n* settled by: no_agent_entry ,requester_unanswered,\n",
    )
    criterion = parse(edited).rubric["work_performed"]
    assert (criterion.weight, criterion.kind, criterion.critical) == (12.5, "judged", True)
    assert criterion.settled_by == ("no_agent_entry", "requester_unanswered")


def test_what_looks_like_a_heading_in_a_code_block_is_none() -> None:
    document = read_document("qc.md", "## One {#one}\n\n```\n## Two {#two}\n```\n\n    ## Three {#three}\n")
    assert [item.id for item in document.items] == ["one"]
    assert document.problems == ()


def test_items_know_where_they_and_their_bodies_begin() -> None:
    document = read_document("qc.md", "prose\n\n## One {#one}\n\n\ntext\n- a\n  - b\n- c\n\n1. d\n\n* e\n")
    item = document.items[0]
    assert (item.line, item.body_line, document.prose) == (3, 6, "prose")
    assert item.body.startswith("text\n- a")
    assert [(bullet.list, bullet.text, bullet.line) for bullet in bullets(item)] == [
        (1, "a\n  - b", 7),
        (1, "c", 9),
        (2, "e", 13),
    ]


def test_results_without_a_question_are_not_taken_for_settings() -> None:
    item = read_document("qc_rubric.md", '## A {#a}\n- weight: 1\n\n- **Met**: yes. Example: "x"\n').items[0]
    form = read_form(item)
    assert [name for name, _ in form.settings] == ["weight"]
    assert [name for name, _ in form.texts] == ["met"]
    assert form.question == ""
    assert form.setting("weight") == ("1", 2)
    assert form.setting("kind") is None
    assert read_form(replace(item, body="")).words == ""


# Anything else that a file may hold

PIECES = st.sampled_from(
    ["---\n", "## A {#a}\n", "## B {#a}\n", "# T\n", "- weight: 1\n", "- **Met**: x\n", "<!--", "-->", "```\n", "    ",
     "[[a]]", "[[", "\t",
     "\r", "\n", "> ", "1. ", "pass_mark: 1\n", "&x ", "*x ", "? ", "{", "[", ": ", "|\n", "!!int ",
     "{#", "}", "====\n", "\ufeff", "\u2028", "\x0b", "\0", "\\", "word "]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=40).map("".join))


def only_context_errors(files: dict[str, str], read: Callable[[dict[str, str]], object]) -> None:
    """Either it reads, or every problem points into its file."""
    with suppress(ContextError):
        read(files)
        return
    with pytest.raises(ContextError) as caught:
        read(files)
    for problem in caught.value.problems:
        text = files.get(problem.file, "")
        assert 1 <= problem.line <= text.count("\n") + text.count("\r") + 2


@given(st.dictionaries(st.sampled_from([*FILES, "other.md"]), TEXTS))
@settings(deadline=None, max_examples=100)
def test_arbitrary_files_raise_nothing_but_a_context_error(texts: dict[str, str]) -> None:
    only_context_errors(texts, parse)


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_a_file_with_anything_written_into_it_raises_nothing_but_a_context_error(data: st.DataObject) -> None:
    files = read_folder(FOLDER)
    name = data.draw(st.sampled_from(FILES))
    begin = data.draw(st.integers(0, len(files[name])))
    end = data.draw(st.integers(begin, min(begin + 300, len(files[name]))))
    only_context_errors({**files, name: files[name][:begin] + data.draw(TEXTS) + files[name][end:]}, parse)
