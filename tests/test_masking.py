"""What counts as a secret in a ticket, what does not, and what masking leaves as it was."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.cards import passes_checksum
from agents.masking import find_secrets, revise
from agents.ticket import Masked, read_ticket
from tests.shared import shared_tickets

# Made-up keys are put together here, so that no scanner of this repository takes them for real.
BASE64_LINE = "MIIEpAIBAAKCAQEAx1n9vQ3bq7WJ0ZyT4c8sKp2LrVfHdEoGmBtYuNwXiCaQj5Rk"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{BASE64_LINE}\n{BASE64_LINE}\nAbCd12==\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "abc123_-XYZ"


def secrets(text: str) -> list[tuple[str, str]]:
    return [(secret.kind, text[secret.start : secret.end]) for secret in find_secrets(text)]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("password\u00a0:\u00a0Summer2026!", "password", "Summer2026!"),  # as a mail in HTML has it
        ("pass\u200bword: Summer\u00ad2026!", "password", "Summer\u00ad2026!"),
        ("4111\u00a01111\u202f1111\u00a01111", "card_number", "4111\u00a01111\u202f1111\u00a01111"),
        ("4111\u200b1111\u200b1111\u200b1111", "card_number", "4111\u200b1111\u200b1111\u200b1111"),
        ("\uff14\uff11\uff11\uff11 1111 1111 1111", "card_number", "\uff14\uff11\uff11\uff11 1111 1111 1111"),
        ("login\u2028PIN:\u00a04711", "pin", "4711"),
        ("key\u00a0AKIAIOSFODNN7\u200bEXAMPLE", "api_key", "AKIAIOSFODNN7\u200bEXAMPLE"),
        ("x\u200bAKIAIOSFODNN7EXAMPLE", "api_key", "AKIAIOSFODNN7EXAMPLE"),  # as it stands there
    ],
)
def test_a_secret_among_characters_that_nobody_sees_is_one(text: str, kind: str, value: str) -> None:
    assert secrets(text) == [(kind, value)]
    masked = revise(read_ticket({"external_id": "1", "description": text, "status": "closed"})).ticket.description
    assert len(masked) == len(text)
    assert value not in masked


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("password: Summer2026!", "password", "Summer2026!"),
        ("Password = Summer2026!", "password", "Summer2026!"),
        ("The password is Summer2026!, please change it.", "password", "Summer2026!"),
        ("temporary password is Harbour-Lamp-83, change it", "password", "Harbour-Lamp-83"),
        ("I have reset her password to Welcome#1 for today.", "password", "Welcome#1"),
        ("Password for j.doe@example.com: Xk29!bb", "password", "Xk29!bb"),
        ("The password for the guest Wi-Fi is Guest!2026.", "password", "Guest!2026"),
        ("password has been set to Qw3rty_99", "password", "Qw3rty_99"),
        ("Password:\nSummer2026!\nThanks", "password", "Summer2026!"),
        ("pw: abc123", "password", "abc123"),
        ("PW Abcd1234!", "password", "Abcd1234!"),
        ("my password (Summer2026!) does not work", "password", "Summer2026!"),
        ("user: anna\npass: sonnenschein", "password", "sonnenschein"),
        ('login: anna, password: "sonnenschein"', "password", "sonnenschein"),
        ("Kennwort: Sommer2026", "password", "Sommer2026"),
        ("Passwort für Anna lautet Sommer2026!", "password", "Sommer2026!"),
        ("Das Passwort ist jetzt Sommer#26", "password", "Sommer#26"),
        ("mot de passe : Soleil2026", "password", "Soleil2026"),
        ("your new password is: Sommer2026!x and", "password", "Sommer2026!x"),
        ("password is : Sommer2026!x", "password", "Sommer2026!x"),
        ("Your Password Is:\nSommer2026!x", "password", "Sommer2026!x"),
        ("your password is now: Sommer2026!x", "password", "Sommer2026!x"),
        ("password has been reset to: Sommer26", "password", "Sommer26"),
        ("the initial password is: Welcome2026! please change it", "password", "Welcome2026!"),
        ("Das neue Passwort lautet: Sommer2026!x", "password", "Sommer2026!x"),
        ("temporary password - Sommer2026!x", "password", "Sommer2026!x"),
        ("temporary password  -- Sommer2026!x", "password", "Sommer2026!x"),
        ("the password is  Sommer2026!x", "password", "Sommer2026!x"),
        ("temporary password for Anna \u2013 Sommer2026!x", "password", "Sommer2026!x"),
        ('{"user": "x", "password": "hunter22"}', "password", "hunter22"),
        ("DB_PASSWORD=p4ssWord99", "password", "p4ssWord99"),
        ("<password>Hidden99x</password>", "password", "Hidden99x"),
        ("Server=db;Password=Hidden99x;User Id=sa", "password", "Hidden99x"),
        ("mount --username anna --password Hidden-99x /mnt", "password", "Hidden-99x"),
        ("https://anna:Hidden99x@files.example.com/x", "password", "Hidden99x"),
        ("your PIN is 4711.", "pin", "4711"),
        ("PIN: 471199", "pin", "471199"),
        ("new PIN 4711", "pin", "4711"),
        ("pin code 4711 for the door", "pin", "4711"),
        ("card 4111 1111 1111 1111, CVV: 123", "card_code", "123"),
        ("key 123456-234567-345678-456789-567890-678901-789012-890123 works", "recovery_key",
         "123456-234567-345678-456789-567890-678901-789012-890123"),
        ("api_key=9f8e7d6c5b4a39281706", "api_key", "9f8e7d6c5b4a39281706"),
        ("client secret: aB3dE6gH9jK2mN5pQ8sT", "api_key", "aB3dE6gH9jK2mN5pQ8sT"),
        ("Authorization: Bearer aB3dE6gH9jK2mN5pQ8sT", "token", "aB3dE6gH9jK2mN5pQ8sT"),
        ("access_token=aB3dE6gH9jK2mN5pQ8sT&x=1", "token", "aB3dE6gH9jK2mN5pQ8sT"),
        ("use AKIA" + "IOSFODNN7EXAMPL2 for it", "api_key", "AKIA" + "IOSFODNN7EXAMPL2"),
        ("ghp_" + "a1B2" * 9, "token", "ghp_" + "a1B2" * 9),
        ("github_pat_" + "a1B2" * 9, "token", "github_pat_" + "a1B2" * 9),
        ("glpat-" + "a1B2" * 5, "token", "glpat-" + "a1B2" * 5),
        ("xoxb-" + "123-456-abcdef", "token", "xoxb-" + "123-456-abcdef"),
        ("sk-ant-" + "api03-" + "aB3_" * 8, "api_key", "sk-ant-" + "api03-" + "aB3_" * 8),
        ("AIza" + "Sy" + "b1C" * 11, "api_key", "AIza" + "Sy" + "b1C" * 11),
        (f"header {JWT} sent", "token", JWT),
        ("Card 4111 1111 1111 1111 was charged", "card_number", "4111 1111 1111 1111"),
        ("5500-0055-5555-5559", "card_number", "5500-0055-5555-5559"),
        ("3782 822463 10005", "card_number", "3782 822463 10005"),
        ("pay with 4111111111111111 please", "card_number", "4111111111111111"),
    ],
)  # fmt: skip
def test_found(text: str, kind: str, value: str) -> None:
    assert (kind, value) in secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        "password: ********",
        "Password: xxxxxxxx",
        "password: <your password>",
        "password: [hidden]",
        "password = ${DB_PASSWORD}",
        "password: %PASSWORD%",
        "password: {{ password }}",
        "password: ...",
        "password reset",
        "Password reset for Anna",
        "Password reset: please call me",
        "password: reset",
        "Subject: Forgotten password: urgent",
        "the password is incorrect",
        "the password is expired since 12.03.2026",
        "your password",
        "My password is not accepted anymore.",
        "password is case-sensitive",
        "The password is: incorrect",
        "the password was reset: please try again",
        "My password is: see below",
        "password - Office365",
        "Password reset: jsmith2",
        "PW reset: AB12345",
        "Password reset: INC0012345",
        "Password was reset: INC0012345",
        "Passwort ge\u00e4ndert: AS400",
        "Password changed: 14-Nov-2026",
        "Password updated: v2.3.1-rc1",
        "change your password - Ctrl+Alt+Del",
        "press Ctrl+Alt+Del to change the password",
        "Password \u2014 Windows11Pro",
        "the password - VPN2Office still fails",
        "forgot the password - OneDrive4Business not syncing",
        "Passwort ist: abgelaufen",
        "password expires: 2026-12-01",
        "the password was set to never expire",
        "forgot password - INC0012345",
        "password reset - Windows11 laptop",
        "password is now - as before - not accepted",
        "The password is required/expired",
        "password is 12 characters long",
        "password is valid for 90days",
        "reset my password to Office365",
        "password for Windows11 is unknown",
        "password was changed yesterday at 10:30",
        "change the password as described in KB0012345",
        "password policy: see https://example.com/policy2026",
        "password sent to anna.k1@example.com",
        "password: https://vault.example.com/item/1a2b3c",
        "password: getPassword()",
        "Pass `override=True1` to the function",
        "if ($pass = !$pass) { }",
        "password: this.form.password1",
        "passwordMask: true, hintText: 'Password'",
        "passwordHash: 5f4dcc3b5aa765d61d8327deb882cf99",
        "var token = null;",
        "Unexpected token: foo",
        "deviceToken: deviceTokenFromEvent",
        "token = android.os.BinderProxy@4229b328",
        "https://user:password@example.com",
        "https://user:****@example.com",
        "connector pin 13 is bent",
        "pin it to the taskbar",
        "spin: 4711",
        "pin: 12:30",
        "call me on +49 1511 1111 1111 11",
        "phone 0049 151 11111111",
        "timestamp 1407865123456",
        "order 4111111111111112",
        "IMEI 490154203237518",
        "IMEI: 35-209900-176148-1",
        "0.4111111111111111",
        "id=4111111111111111",
        "/items/4111111111111111",
        "barcode 4006381333931",
        "550e8400-e29b-41d4-a716-446655440000",
        "sha256 5500005555555559aa",
        "0000 0000 0000 0000",
        "IBAN DE89 3704 0044 0532 0130 00",
        "-----BEGIN RSA PRIVATE KEY-----\n(paste the key here)\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\n" + BASE64_LINE + "\n-----END CERTIFICATE-----",
        "at com.example.Main.run(Main.java:13) 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "AKIAIOSFODNN7EXAMPL2withmorebehind",
        "",
    ],
)
def test_not_a_secret(text: str) -> None:
    assert secrets(text) == []


def test_a_key_block_keeps_its_first_and_last_line() -> None:
    text = f"see:\n{PEM}\nthanks"
    found = find_secrets(text)
    assert [(secret.kind, text[secret.start : secret.end]) for secret in found] == [
        ("private_key", f"{BASE64_LINE}\n{BASE64_LINE}\nAbCd12==")
    ]


@pytest.mark.parametrize(
    "text",
    [
        PEM.replace("\n", "\\n"),
        PEM.partition("-----END")[0] + "and more words",
        PEM.replace("RSA", "OPENSSH"),
        PEM.replace("\n", "\r\n"),
        f"PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 2\n{BASE64_LINE}\n{BASE64_LINE}\nPrivate-MAC: 0a",
    ],
)
def test_other_forms_of_key_blocks(text: str) -> None:
    masked = revise(read_ticket({"external_id": "1", "status": "open", "description": text})).ticket.description
    assert BASE64_LINE[:20] not in masked
    assert len(masked) == len(text)


def test_every_text_is_masked_and_lines_know_where() -> None:
    pin = "PIN: 4711"
    raw = {
        "external_id": "PIN: 4711",
        "status": "closed",
        "subject": pin,
        "description": f"one\n\ntwo {pin} and {pin}",
        **dict.fromkeys(("requester", "assignee", "team", "queue", "priority", "category", "url"), pin),
        "entries": [{"author": pin, "body": f"first\n{pin}"}],
        "events": [{"from": pin, "to": "x"}],
        "resolution": {"code": pin, "note": pin},
        "extra": {"a": [{"b": pin}], "pin": 4711, "password": "hunter22", "n": 3, "flag": True, "none": None},
    }
    revision = revise(read_ticket(raw))
    dumped = revision.ticket.model_dump(mode="json")
    assert dumped.pop("external_id") == "PIN: 4711"
    assert "4711" not in json.dumps(dumped)
    assert "hunter22" not in json.dumps(dumped)
    assert (dumped["extra"]["n"], dumped["extra"]["flag"], dumped["extra"]["none"]) == (3, True, None)
    texts = {line.number: line.text for line in revision.lines}
    assert {texts[masked.line][masked.start : masked.end] for masked in revision.masked} == {"****"}
    parts = [revision.lines[masked.line - 1].part for masked in revision.masked]
    assert parts == ["subject", *["field"] * 5, *["description"] * 2, "entry:0", "resolution", "resolution"]


def test_a_key_over_several_lines_has_a_span_on_each() -> None:
    revision = revise(read_ticket({"external_id": "1", "status": "open", "subject": "s", "description": f"x\n{PEM}"}))
    first = 8  # subject, five fields, "x", the key's first line, and then
    assert revision.masked == (
        Masked(first + 1, 0, 64, "private_key"),
        Masked(first + 2, 0, 64, "private_key"),
        Masked(first + 3, 0, 8, "private_key"),
    )


def test_a_ticket_without_secrets_is_unchanged() -> None:
    ticket = read_ticket({"external_id": "1", "status": "closed", "description": "a\nb", "extra": {"x": ["y"]}})
    revision = revise(ticket)
    assert revision.ticket == ticket
    assert revision.masked == ()


def test_masking_twice_finds_nothing_more() -> None:
    text = f"password: Summer2026!\n{PEM}\n4111 1111 1111 1111, PIN: 4711, Bearer aB3dE6gH9jK2mN5pQ8sT"
    once = revise(read_ticket({"external_id": "1", "status": "open", "description": text}))
    again = revise(once.ticket)
    assert once.masked
    assert again.masked == ()
    assert again.ticket == once.ticket


@pytest.mark.parametrize("number", ["4111111111111111", "5500005555555559", "378282246310005"])
def test_one_wrong_digit_breaks_the_checksum(number: str) -> None:
    assert passes_checksum(number)
    assert not passes_checksum(number[:-1] + str((int(number[-1]) + 1) % 10))


words = st.sampled_from(
    [
        "password",
        "is",
        ":",
        "=",
        "\n",
        "Summer2026!",
        "PIN",
        "4711",
        "4111 1111 1111 1111",
        "eyJ",
        PEM,
        "token",
        "x",
        '"',
    ]
)
texts = st.one_of(
    st.text(max_size=200), st.lists(words, max_size=20).map(" ".join), st.lists(words, max_size=20).map("".join)
)


@given(texts, texts)
def test_masking_moves_nothing(subject: str, body: str) -> None:
    raw = {"external_id": "1", "status": "open", "subject": subject, "description": body}
    ticket = read_ticket(json.loads(json.dumps(raw).replace("\\u0000", "")))
    revision = revise(ticket)
    assert len(revision.ticket.description) == len(ticket.description)
    assert len(revision.ticket.description.splitlines()) == len(ticket.description.splitlines())
    for masked in revision.masked:
        text = revision.lines[masked.line - 1].text
        assert 0 <= masked.start < masked.end <= len(text)
        assert set(text[masked.start : masked.end]) <= {"*"} or revision.lines[masked.line - 1].part == "subject"


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "a",
            "1",
            "4 ",
            "password ",
            "password is ",
            'password="',
            "password for a b ",
            "token=",
            "AccountKey=",
            "sk-",
        ),
        *("=eyJ", "eyJaaaaaaaa.", "://a:", "-----BEGIN RSA PRIVATE KEY-----\n", PEM[:60], "PIN ", "\u00e4", "\n"),
        "user: x\npassword: hello\n",
    ],
)
def test_time_is_linear_on_hostile_text(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    started = time.perf_counter()
    find_secrets(text)
    assert time.perf_counter() - started < 5  # seconds; 0.4 at most when alone


def test_real_tickets_hold_few_and_take_little_time() -> None:
    tickets = [read_ticket(raw) for raw in shared_tickets()]
    seconds, flagged = [], 0
    for ticket in tickets:
        started = time.perf_counter()
        flagged += bool(revise(ticket).masked)
        seconds.append(time.perf_counter() - started)
    assert flagged <= 0.03 * len(tickets)  # 18 of 832, each of them right when read by eye
    assert sorted(seconds)[len(seconds) // 2] < 0.01  # 0.9 ms when alone
