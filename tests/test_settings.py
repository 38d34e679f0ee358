from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import SettingsError
from app.settings import REPOSITORY, load_settings


@pytest.fixture(autouse=True)
def _no_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _problems() -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value).splitlines()


def test_nothing_need_be_set(tmp_path: Path) -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.timezone) == ("127.0.0.1", 8000, "UTC")
    assert settings.data_dir == tmp_path / ".ticketqc"
    assert settings.context_dir == REPOSITORY / "context"
    assert settings.database_url is None
    assert settings.anthropic_api_key is None


def test_the_environment_sets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETQC_PORT", "9000")
    monkeypatch.setenv("TICKETQC_DATA_DIR", "some/where")
    monkeypatch.setenv("TICKETQC_TIMEZONE", "Europe/Berlin")
    monkeypatch.setenv("TICKETQC_BASE_URL", "https://qc.example.com/")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-test")
    settings = load_settings()
    assert settings.port == 9000
    assert settings.data_dir == tmp_path / "some/where"
    assert settings.timezone == "Europe/Berlin"
    assert settings.base_url == "https://qc.example.com"
    assert settings.anthropic_api_key is not None
    assert settings.anthropic_api_key.get_secret_value() == "sk-of-the-test"


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TICKETQC_DATA_DIR", "~/qc")
    assert load_settings().data_dir == tmp_path / "qc"


def test_an_env_file_is_read_and_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TICKETQC_PORT=9001\nTICKETQC_HOST=0.0.0.0\nANTHROPIC_API_KEY=sk-file\nOTHER=kept out\n")
    monkeypatch.setenv("TICKETQC_PORT", "9002")
    settings = load_settings()
    assert (settings.port, settings.host) == (9002, "0.0.0.0")  # noqa: S104  only read
    assert settings.anthropic_api_key is not None


def test_an_empty_value_means_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETQC_PORT", "")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    settings = load_settings()
    assert settings.port == 8000
    assert settings.anthropic_api_key is None


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_name_of_the_database_scheme_is_taken(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("TICKETQC_DATABASE_URL", f"{scheme}://qc:pw@db/qc")
    assert load_settings().database_url == "postgresql://qc:pw@db/qc"


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("TICKETQC_DATABASE_URL", "mysql://root:hunter2@db/x", "a PostgreSQL address such as"),
        ("TICKETQC_DATABASE_URL", "hunter2", "a PostgreSQL address such as"),
        ("TICKETQC_SECRET_KEY", "hunter2", "at least 32 characters"),
        ("TICKETQC_BASE_URL", "qc.example.com", "an address such as https://"),
        ("TICKETQC_BASE_URL", "http://[", "an address such as https://"),
        ("TICKETQC_PORT", "http", "a whole number from 1 to 65535"),
        ("TICKETQC_PORT", "0", "a whole number from 1 to 65535"),
        ("TICKETQC_PORT", "65536", "a whole number from 1 to 65535"),
        ("TICKETQC_TIMEZONE", "Mars/Olympus", "an IANA time zone"),
        ("TICKETQC_TIMEZONE", "../etc/passwd", "an IANA time zone"),
        ("TICKETQC_RETENTION_DAYS", "0", "a whole number of days"),
        ("TICKETQC_RETENTION_DAYS", "1.5", "a whole number of days"),
        ("ANTHROPIC_BASE_URL", "ftp://llm", "an address such as https://"),
        ("TICKETQC_SMTP_URL", "mail.example.com:hunter2", "an address such as smtp://"),
        ("TICKETQC_SMTP_URL", "http://me:hunter2@mail", "an address such as smtp://"),
        ("TICKETQC_SMTP_URL", "smtp://me:hunter2@", "an address such as smtp://"),
        ("TICKETQC_SMTP_URL", "smtp://hunter2@mail", "an address such as smtp://"),  # no password
        ("TICKETQC_SMTP_URL", "smtp://me:hunter2@mail:0", "an address such as smtp://"),
        ("TICKETQC_SMTP_URL", "smtp://me:hunter2@mail:smtp", "an address such as smtp://"),
        ("TICKETQC_SMTP_URL", "smtp://me:hunter2@mail/?tls=no", "an address such as smtp://"),
        ("TICKETQC_MAIL_FROM", "qc", "an e-mail address"),
        ("TICKETQC_MAIL_FROM", "a@example.com, b@example.com", "an e-mail address"),
        ("TICKETQC_MAIL_TO", "a@example.com, b", "e-mail addresses with commas"),
        ("TICKETQC_MAIL_TO", "a@example.com\nBcc: b@example.com", "e-mail addresses with commas"),
    ],
)
def test_a_bad_value_is_one_line_with_what_is_accepted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, accepted: str
) -> None:
    monkeypatch.setenv(name, value)
    (line,) = _problems()
    assert line.startswith(f"{name}: ")
    assert accepted in line
    assert "hunter2" not in line


def test_every_problem_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETQC_PORT", "x")
    monkeypatch.setenv("TICKETQC_TIMEZONE", "x")
    monkeypatch.setenv("TICKETQC_PROT", "8000")
    lines = _problems()
    assert [line.partition(":")[0] for line in lines] == [
        "TICKETQC_PROT",
        "known settings",
        "TICKETQC_PORT",
        "TICKETQC_TIMEZONE",
    ]


def test_an_unknown_name_is_an_error_that_lists_the_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETQC_PROT", "8000")
    unknown, known = _problems()
    assert unknown == "TICKETQC_PROT: there is no such setting; did you mean TICKETQC_PORT?"
    assert "TICKETQC_DATABASE_URL" in known
    assert "ANTHROPIC" not in known


def test_an_unknown_name_in_the_env_file_too() -> None:
    Path(".env").write_text("TICKETQC_ZZZ=1\n")
    assert _problems()[0] == "TICKETQC_ZZZ: there is no such setting"


def test_an_env_file_in_another_encoding() -> None:
    Path(".env").write_bytes("TICKETQC_HOST=größe\n".encode("latin-1"))
    (line,) = _problems()
    assert "not UTF-8" in line


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETQC_SECRET_KEY", "correct horse battery staple is a long one")
    monkeypatch.setenv("TICKETQC_DATABASE_URL", "postgresql://qc:hunter2@db/qc")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-hunter2")
    shown = repr(load_settings()) + str(load_settings())
    assert "horse" not in shown
    assert "hunter2" not in shown


MAIL = {
    "TICKETQC_SMTP_URL": "smtp://me:hunter2@mail.example.com:587",
    "TICKETQC_MAIL_FROM": "qc@example.com",
    "TICKETQC_MAIL_TO": " lead@example.com,manager@example.com , lead@example.com,",
}


def test_mail_is_set_up_by_three_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in MAIL.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.recipients == ("lead@example.com", "manager@example.com")
    assert "hunter2" not in repr(settings)
    assert settings.smtp_url is not None
    assert "hunter2" not in str(settings.smtp_url)


@pytest.mark.parametrize("left_out", MAIL)
def test_mail_that_is_set_up_halfway_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, left_out: str) -> None:
    for name, value in MAIL.items():
        if name != left_out:
            monkeypatch.setenv(name, value)
    (line,) = _problems()
    assert line.startswith(f"{left_out}: is missing, and mail needs it; give ")
    assert "hunter2" not in line
