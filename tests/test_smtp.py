"""A message reaches a real server, or whoever sends it learns what is certain about it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app import smtp
from app.smtp import Undelivered, Unknown
from tests.postbox import PASSWORD, USER, postbox

if TYPE_CHECKING:
    from pathlib import Path


def letter(text: str = "Hello", *, to: str = "lead@example.com") -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = "qc@example.com"
    message["To"] = to
    message.set_content(text, cte="quoted-printable")
    return message


def server(port: int, *, tls: bool = False, user: str = "", password: str = "") -> smtp.Server:
    return smtp.Server("127.0.0.1", port, tls, user, password)


def test_a_text_arrives_as_it_was_sent() -> None:
    text = "First line\n.\n..two dots\nGrüße, 価格 $0.012 a ticket\n" + "long " * 400
    with postbox() as box:
        smtp.send(letter(text), by=server(box.port))
    (arrived,) = box.letters
    assert arrived.get_content().replace("\r\n", "\n").rstrip("\n") == text
    assert arrived["X-MailFrom"] is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example.com", smtp.Server("mail.example.com", 587, tls=False)),
        ("smtps://mail.example.com", smtp.Server("mail.example.com", 465, tls=True)),
        (
            "smtp://me%40example.com:p%40ss%2F@mail:25",
            smtp.Server("mail", 25, tls=False, user="me@example.com", password="p@ss/"),
        ),
    ],
)
def test_an_address_names_a_server(url: str, expected: smtp.Server) -> None:
    assert smtp.server(url) == expected
    assert "p@ss/" not in repr(smtp.server(url))


@pytest.mark.parametrize(("refusal", "permanent"), [("451 come back later", False), ("550 nobody\there\x1b[31m", True)])
def test_a_refusal_is_told_in_the_servers_words(refusal: str, *, permanent: bool) -> None:
    with postbox() as box:
        box.refusals["lead@example.com"] = [refusal]
        with pytest.raises(Undelivered) as caught:
            smtp.send(letter(), by=server(box.port))
    assert caught.value.permanent is permanent
    assert str(caught.value).startswith(f"the server refused it: {refusal[:3]} ")
    assert "\x1b" not in str(caught.value)
    assert box.letters == []


def test_nobody_there_is_no_reason_to_give_up() -> None:
    with postbox() as box:
        port = box.port
    with pytest.raises(Undelivered, match="Connection refused") as caught:
        smtp.send(letter(), by=server(port))
    assert not caught.value.permanent


def test_a_connection_that_ends_after_the_text_leaves_it_unknown() -> None:
    with postbox() as box:
        box.hangs_up_after_data = True
        with pytest.raises(Unknown, match="before the server said that it has it"):
            smtp.send(letter(), by=server(box.port))
    assert len(box.letters) == 1


def test_a_message_too_large_is_refused_for_good() -> None:
    with postbox(data_size_limit=2000) as box, pytest.raises(Undelivered) as caught:
        smtp.send(letter("x" * 4000), by=server(box.port))
    assert caught.value.permanent


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """For 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    day = timedelta(days=1)
    today = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), today, today + 3650 * day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


def test_a_password_goes_through_an_encrypted_connection_only(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with postbox(tls=tls, auth_required=True) as box:
        smtp.send(letter(), by=server(box.port, user=USER, password=PASSWORD))
        with pytest.raises(Undelivered, match="user and password were not accepted") as caught:
            smtp.send(letter(), by=server(box.port, user=USER, password="wrong"))
        assert caught.value.permanent
        with pytest.raises(Undelivered, match="530"):
            smtp.send(letter(), by=server(box.port))
    assert (len(box.letters), set(box.signed_in)) == (1, {USER})
    with postbox() as bare, pytest.raises(Undelivered, match="no encryption, so the password was not sent"):
        smtp.send(letter(), by=server(bare.port, user=USER, password=PASSWORD))
    assert (bare.letters, bare.signed_in) == ([], [])


def test_a_server_that_cannot_prove_who_it_is_gets_nothing(tls: ssl.SSLContext) -> None:
    with postbox(tls=tls) as box, pytest.raises(Undelivered, match=r"certificate of .* is not trusted") as caught:
        smtp.send(letter(), by=server(box.port))
    assert caught.value.permanent
    assert box.letters == []
