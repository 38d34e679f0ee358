"""`ticketqc context ...` on the shipped files, on broken ones, and on what is no folder at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.context import FILES, parse, read_folder
from app.commands.context import context_app

SHIPPED = Path(__file__).parent.parent / "context"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may break; it stands in the current directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(SHIPPED, tmp_path / "ours"))


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(context_app, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_lint_of_good_files_ends_with_the_tokens_of_each_agent(folder: Path) -> None:
    code, out, _ = run("lint", str(folder))
    assert code == 0
    assert out.startswith("ours: nothing to mend; tokens before each ticket (at most 5,000): triage 2,")
    assert ", qc 4," in out
    assert parse(read_folder(folder)).version[:12] in out


def test_lint_uses_the_configured_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "qc.md").write_text("")
    monkeypatch.setenv("TICKETQC_CONTEXT_DIR", str(folder))
    code, out, _ = run("lint")
    assert (code, out.splitlines()[0]) == (1, "ours/qc.md:1: error: the file says nothing")


def test_lint_of_errors_ends_with_1(folder: Path) -> None:
    rubric = folder / "qc_rubric.md"
    rubric.write_text(rubric.read_text().replace("pass_mark: 80", "pass_mark: 200"))
    code, out, _ = run("lint", "ours")
    assert code == 1
    assert out.splitlines() == [
        'ours/qc_rubric.md:2: error: pass_mark must be a number from 1 to 100, not "200"',
        "Errors: 1 of 1 problems. These files cannot be released as they are.",
    ]


def test_lint_of_warnings_ends_with_0(folder: Path) -> None:
    rules = folder / "escalation_rules.md"
    rules.write_text(rules.read_text().replace("- **Does not apply**: One room", "- One room"))
    code, out, _ = run("lint", "ours")
    assert code == 0
    assert "has no bullet" in out
    assert "ours: warnings: 1;" in out


def test_lint_against_an_older_copy_reports_changed_ids(folder: Path) -> None:
    patterns = folder / "known_patterns.md"
    patterns.write_text(patterns.read_text().replace("{#vendor}", "{#resolved_by_vendor}"))
    code, out, _ = run("lint", "ours", "--against", str(SHIPPED))
    assert code == 1
    assert 'the id of "Resolved by a vendor" was vendor' in out
    assert run("lint", "ours")[0] == 0


def test_list_names_each_file_its_readers_and_the_version(folder: Path) -> None:
    code, out, _ = run("list", "ours")
    assert code == 0
    for name in FILES:
        assert name in out
    assert "triage, qc" in out
    assert parse(read_folder(folder)).version in out


@pytest.mark.parametrize("name", ["qc_rubric.md", "qc_rubric"])
def test_show_prints_a_file_as_agents_read_it(folder: Path, name: str) -> None:
    code, out, _ = run("show", name, "--folder", "ours")
    assert code == 0
    assert out == parse(read_folder(folder)).documents["qc_rubric.md"] + "\n"


def test_show_of_an_unknown_file_lists_the_known_ones() -> None:
    code, _, err = run("show", "rubric")
    assert code == 2
    assert err == f"There is no context file rubric. There are: {', '.join(FILES)}.\n"


@pytest.mark.parametrize("command", [["lint", "nowhere"], ["list", "nowhere"], ["show", "qc", "--folder", "nowhere"]])
def test_a_folder_that_is_not_there_is_a_clear_error(folder: Path, command: list[str]) -> None:
    assert folder.is_dir()
    code, out, err = run(*command)
    assert (code, out) == (1, "")
    assert err == "nowhere:1: error: there is no such folder; give the one that holds the context files\n"


@pytest.mark.parametrize("command", [["lint", "ours"], ["list", "ours"], ["show", "qc", "--folder", "ours"]])
def test_a_file_that_is_missing_is_a_clear_error(folder: Path, command: list[str]) -> None:
    (folder / "triage.md").unlink()
    code, out, err = run(*command)
    assert (code, out) == (1, "")
    assert err == "ours/triage.md:1: error: the file is missing in ours\n"
