"""Connections from the command line: made, tried with the example that is printed, changed, listed, replayed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text, update

from app.errors import ConnectionRefused, FieldMapError, NotFound
from app.intake import connections
from app.intake.connections import Wanted
from app.intake.example import Sender, shell
from app.intake.signatures import Options, Scheme
from app.settings import Settings
from app.tables import AuditEvent, Connection, Delivery
from app.vault import Vault
from app.web.app import create_app
from tests.factories import make_delivery, make_ticket
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

REPOSITORY = Path(__file__).resolve().parent.parent
MAP = {"external_id": {"path": "id"}, "status": {"path": "state", "values": {"4": "closed"}}}
SECRET = "correct-horse-battery"


@pytest.fixture
def app(engine: Engine, vault: Vault, settings: Settings) -> FastAPI:
    return create_app(engine=engine, vault=vault, settings=settings)


def wanted(name: str = "desk", scheme: str | None = "header", **values: Any) -> Wanted:  # noqa: ANN401  fields of Wanted
    options = values.pop("options", {"header": "X-Token"} if scheme in {"header", "hmac"} else {})
    return Wanted(name, scheme, options=options, **values)


def test_a_secret_is_made_where_none_is_given(session: Session, vault: Vault) -> None:
    kept = connections.add(session, vault, wanted())
    assert kept.made_secret is not None
    assert len(kept.made_secret) >= 32
    assert kept.connection.secret is not None
    assert vault.open(kept.connection.secret).decode() == kept.made_secret
    given = connections.add(session, vault, wanted("other", secret=SECRET))
    assert given.made_secret is None


def test_a_made_secret_of_standard_webhooks_has_its_form(session: Session, vault: Vault) -> None:
    made = connections.add(session, vault, wanted(scheme="standard")).made_secret
    assert made is not None
    assert made.startswith("whsec_")


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (wanted("Desk"), "small letters, digits and hyphens"),
        (wanted(""), "small letters, digits and hyphens"),
        (wanted("a" * 51), "small letters, digits and hyphens"),
        (wanted(scheme=None), "choose a scheme"),
        (wanted(scheme="file"), "choose a scheme"),
        (wanted(scheme="hmac", options={}), "the scheme hmac needs --header"),
        (wanted(scheme="basic"), "the scheme basic needs --user"),
        (wanted(scheme="standard", options={"header": "X"}), "--header: means nothing to the scheme standard"),
        (wanted(scheme="hmac", options={"header": "X", "digest": "md5"}), "--digest: "),
        (wanted(scheme="hmac", options={"header": "X Y"}), "--header: "),
        (wanted(secret="seven77"), "at least 8 characters"),
        (wanted(secret=""), "at least 8 characters"),
        (wanted(secret=f"{SECRET}\n"), "control characters"),
        (wanted(secret=f" {SECRET}"), "blanks at an end"),
        (wanted(secret="pässwörter"), "ASCII"),
        (wanted(scheme="path", secret="slash/slash"), "a token in an address"),
        (wanted(scheme="standard", secret="whsec_!!!!!!!!"), "base64"),
        (wanted(declared=("minutes", "mood")), "--supplies: mood is none of priority, category, minutes"),
    ],
)
def test_what_cannot_work_is_refused(session: Session, vault: Vault, asked: Wanted, reason: str) -> None:
    with pytest.raises(ConnectionRefused, match=reason) as caught:
        connections.add(session, vault, asked)
    assert not asked.secret or asked.secret not in str(caught.value)
    assert session.scalar(select(Connection)) is None


def test_a_field_map_is_checked_when_it_is_given(session: Session, vault: Vault) -> None:
    with pytest.raises(FieldMapError, match="status: missing"):
        connections.add(session, vault, wanted(field_map={"external_id": {"path": "id"}}))
    connections.add(session, vault, wanted(field_map=MAP))
    with pytest.raises(FieldMapError, match="at character 3"):
        connections.replace(session, vault, Wanted("desk", field_map={**MAP, "subject": {"path": "a..b"}}))


def test_a_name_is_taken_once(session: Session, vault: Vault) -> None:
    connections.add(session, vault, wanted())
    with pytest.raises(ConnectionRefused, match="exists already; to change it add --replace"):
        connections.add(session, vault, wanted())


def test_replacing_changes_what_is_given_and_nothing_else(session: Session, vault: Vault) -> None:
    connections.add(session, vault, wanted(scheme="hmac", secret=SECRET, declared=("priority",)))
    kept = connections.replace(session, vault, Wanted("desk", options={"prefix": "sha256="}, field_map=MAP))
    row = kept.connection
    assert (row.scheme, row.options) == ("hmac", {"header": "X-Token", "prefix": "sha256="})
    assert (row.field_map, row.declared) == (MAP, ["priority"])
    assert row.secret is not None
    assert (vault.open(row.secret), kept.made_secret) == (SECRET.encode(), None)


def test_another_scheme_gets_another_secret(session: Session, vault: Vault) -> None:
    """A token that has been sent in clear must not become a signing key."""
    connections.add(session, vault, wanted(secret=SECRET))
    kept = connections.replace(session, vault, Wanted("desk", "hmac", options={"header": "X-Signature"}))
    assert kept.made_secret not in {None, SECRET}
    assert kept.connection.options == {"header": "X-Signature"}


def test_each_change_is_an_event_that_tells_no_secret(session: Session, vault: Vault) -> None:
    made = connections.add(session, vault, wanted()).made_secret
    connections.replace(session, vault, Wanted("desk", field_map=MAP))
    connections.replace(session, vault, Wanted("desk", secret=SECRET))
    with pytest.raises(ConnectionRefused):
        connections.replace(session, vault, Wanted("desk", secret="short"))
    told = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
    assert {(event.actor, event.subject) for event in told} == {("command line", "connection:desk")}
    was = {"scheme": "header", "options": {"header": "X-Token"}, "field_map": None, "declared": None}
    assert [(event.action, event.before, event.after) for event in told] == [
        ("connection.added", None, {**was, "secret": "a new one"}),
        ("connection.changed", was, {**was, "field_map": MAP}),
        ("connection.changed", {**was, "field_map": MAP}, {**was, "field_map": MAP, "secret": "a new one"}),
    ]
    assert made is not None
    assert not [event for event in told if SECRET in str(event.after) or made in str(event.after)]


def test_replacing_what_is_not_there(session: Session, vault: Vault) -> None:
    with pytest.raises(NotFound, match="there is no connection called desk"):
        connections.replace(session, vault, wanted())


def test_the_list_counts(session: Session, vault: Vault) -> None:
    desk = connections.add(session, vault, wanted()).connection
    connections.add(session, vault, wanted("other"))
    make_ticket(session, connection=desk)
    last = make_delivery(session, connection=desk)
    make_delivery(session, connection=desk, state="parked", reason="x")
    session.execute(update(Connection).where(Connection.name == "desk").values(rejected=3))
    listed = connections.listed(session)
    assert [tuple(row)[:6] for row in listed] == [("desk", "header", 1, 2, 1, 3), ("other", "header", 0, 0, 0, 0)]
    assert listed[0].last_at is not None
    assert listed[0].last_at >= last.received_at
    assert listed[1].last_at is None


# --- the example that is printed

CASES: list[tuple[Scheme, dict[str, str]]] = [
    ("standard", {}),
    ("hmac", {"header": "X-Hub-Signature-256", "prefix": "sha256="}),
    ("hmac", {"header": "X-Signature", "digest": "sha1", "encoding": "base64"}),
    ("header", {"header": "X-Webhook-Secret", "delivery_id_header": "X-Delivery"}),
    ("header", {"header": "Authorization", "prefix": "Bearer "}),
    ("basic", {"user": "the hook's"}),
    ("path", {}),
]


def bash(script: str, *, folder: Path) -> str:
    done = subprocess.run(  # noqa: S603  what the user would paste
        ["/bin/sh", "-c", script], cwd=folder, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("scheme", "options"), CASES)
def test_the_example_works_as_it_is_pasted(
    app: FastAPI, session: Session, tmp_path: Path, scheme: Scheme, options: dict[str, str]
) -> None:
    kept = connections.add(session, app.state.vault, wanted(scheme=scheme, options=options))
    session.commit()
    with serving(app) as base:
        address = f"{base}/hooks/desk"
        script = shell(Sender(address, scheme, Options.model_validate(options), kept.made_secret or "", mapped=False))
        assert json.loads(bash(script, folder=tmp_path)) == {"status": "accepted"}
        wrong = (
            script.replace("whsec_", "whsec_AAAA", 1)
            if scheme == "standard"
            else script.replace("SECRET=", "SECRET=x", 1)
        )
        assert json.loads(bash(wrong, folder=tmp_path))["status"] == "rejected"
    assert session.scalars(select(Connection.rejected)).one() == 1
    assert len(session.scalars(select(Delivery)).all()) == 1


def test_the_example_for_a_foreign_system_takes_its_payload() -> None:
    sender = Sender("http://x/hooks/desk", "path", Options(), "", mapped=True)
    lines = shell(sender).splitlines()
    assert lines[:2] == ["SECRET='put your secret here'", "# payload.json holds one delivery of your system"]


# --- the command


class Cli:
    def __init__(self, database_url: str, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TICKETQC_")},  # noqa: TID251
            "TICKETQC_DATABASE_URL": database_url,
            "TICKETQC_DATA_DIR": str(folder / "data"),
            "PYTHONPATH": str(REPOSITORY),
            "COLUMNS": "200",
        }

    def __call__(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        """What it prints; what it says on standard error where it is to fail."""
        done = subprocess.run(  # noqa: S603  our own command
            [sys.executable, "-m", "app.cli", "connection", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            capture_output=True,
            input=stdin,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout


@pytest.fixture
def cli(database_url: str, tmp_path: Path) -> Cli:
    return Cli(database_url, tmp_path)


def field_map(cli: Cli, content: object) -> str:
    path = cli.folder / "map.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def payload(cli: Cli, content: Mapping[str, Any]) -> str:
    path = cli.folder / "one.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_a_connection_from_its_making_to_a_replay(cli: Cli, engine: Engine, session: Session) -> None:
    assert "There is no connection yet" in cli("list")
    file = payload(cli, {"external_id": "7", "status": "closed"})
    settings = Settings(_env_file=None, data_dir=cli.folder / "data")
    app = create_app(engine=engine, vault=Vault.load(settings), settings=settings)
    with serving(app) as base:
        cli.environment["TICKETQC_PORT"] = base.rpartition(":")[2]
        said = cli("add", "desk", "--scheme", "hmac", "--header", "X-Signature")
        assert f"desk is ready. Its address: {base}/hooks/desk\n" in said
        assert json.loads(bash(said.partition("Try it:\n\n")[2], folder=cli.folder)) == {"status": "accepted"}
        cli.environment["TICKETQC_BASE_URL"] = "https://not.this.example"
        assert cli("test", "desk", file, "--send") == '200 {"status":"accepted"}\n'
    assert "is the service running?" in cli("test", "desk", file, "--send", code=1)
    session.execute(update(Delivery).values(state="parked", reason="x"))
    session.commit()
    table = [cell.strip() for cell in cli("list").splitlines()[3].strip("│").split("│")]
    assert table[:6] == ["desk", "hmac", "0", "2", "2", "0"]
    assert cli("replay", "desk") == "2 parked deliveries are read again by the running service.\n"


def test_a_secret_from_standard_input_is_not_printed(cli: Cli, session: Session) -> None:
    said = cli("add", "desk", "--scheme", "path", "--secret", "-", stdin=f"{SECRET}\r\n")
    assert SECRET not in said
    assert "put your secret here" in said
    row = session.execute(text("select secret from connections")).scalar_one()
    vault = Vault.load(Settings(_env_file=None, data_dir=cli.folder / "data"))
    assert vault.open(row) == SECRET.encode()


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (
            {"external_id": {"path": "a b"}},
            [
                "ticketqc: external_id: `a b` is no JMESPath: unexpected at character 3",
                "ticketqc: status: missing, every ticket needs it",
            ],
        ),
        ("{", ["ticketqc: map.json: not valid JSON: Expecting property name enclosed in double quotes"]),
        ("[]", ["ticketqc: map.json: a field map is a JSON object"]),
    ],
)
def test_mistakes_are_lines_not_tracebacks(cli: Cli, content: object, lines: list[str]) -> None:
    field_map(cli, content)
    said = cli("add", "desk", "--scheme", "path", "--field-map", "map.json", code=1).splitlines()
    assert [line.partition(": line ")[0] for line in said] == lines


def test_trying_a_payload_shows_the_ticket_or_the_reason_and_stores_nothing(cli: Cli, session: Session) -> None:
    cli("add", "desk", "--scheme", "path", "--field-map", field_map(cli, MAP), "--supplies", "priority")
    shown = json.loads(cli("test", "desk", payload(cli, {"id": 7, "state": 4})))
    assert (shown["external_id"], shown["status"]) == ("7", "closed")
    refused = cli("test", "desk", payload(cli, {"id": 7, "state": 5}), code=1)
    assert refused == 'It would be parked: status: the value 5 is not in the field map; add it to "values"\n'
    cli("add", "desk", "--replace", "--field-map", field_map(cli, {**MAP, "status": {"path": "'closed'"}}))
    assert json.loads(cli("test", "desk", payload(cli, {"id": 7, "state": 5})))["status"] == "closed"
    assert session.scalar(select(Delivery)) is None
    assert session.scalars(select(Connection.declared)).one() == ["priority"]
    assert cli("test", "nobody", "one.json", code=1).startswith("ticketqc: there is no connection called nobody")
    assert (
        cli("test", "desk", "gone.json", code=1) == "ticketqc: gone.json: cannot be read (No such file or directory)\n"
    )
