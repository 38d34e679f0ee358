"""One message to one address by SMTP. Whoever sends learns one of three things: accepted, not accepted, or unknown."""

from __future__ import annotations

import re
import smtplib
import ssl
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from app.errors import TicketqcError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

TIMEOUT = 30.0  # seconds for each step; a server that greylists or scans may think for a while
SUBMISSION, SUBMISSION_TLS = 587, 465
START_MAIL, DONE = 354, range(200, 300)
PERMANENT = 500
LONGEST_REPLY = 300  # characters of a server's own words


class Undelivered(TicketqcError):  # noqa: N818  the name says it
    """The server has not accepted the message. `permanent`: nor will it, until somebody changes something."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class Unknown(TicketqcError):  # noqa: N818  the name says it
    """The message was handed over and no answer came: the server may have it."""


@dataclass(frozen=True)
class Server:
    """`tls` from the first byte; else by STARTTLS where the server offers it."""

    host: str
    port: int
    tls: bool
    user: str = ""
    password: str = field(default="", repr=False)


def server(url: str) -> Server:
    """The server of a checked TICKETQC_SMTP_URL."""
    parts = urlsplit(url)
    tls = parts.scheme == "smtps"
    port = parts.port or (SUBMISSION_TLS if tls else SUBMISSION)
    return Server(parts.hostname or "", port, tls, unquote(parts.username or ""), unquote(parts.password or ""))


def send(message: EmailMessage, *, by: Server) -> None:
    """The server has accepted the message. Raises Undelivered, or Unknown where the connection ended too late."""
    sender, recipient = str(message["From"]), str(message["To"])
    with _refusals_in_words(by), _connected(by, greeting=sender.partition("@")[2]) as smtp:
        _secure(smtp, by)
        _step(smtp.mail(sender))
        _step(smtp.rcpt(recipient))
        _step(smtp.docmd("DATA"), expected=range(START_MAIL, START_MAIL + 1))
        _step(_hand_over(smtp, message.as_bytes()))


def _hand_over(smtp: smtplib.SMTP, text: bytes) -> tuple[int, bytes]:
    """From the first byte on nobody can tell whether it has arrived until the server says so."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", text).removesuffix(b"\r\n")
    try:
        smtp.send(re.sub(rb"(?m)^\.", b"..", lines) + b"\r\n.\r\n")
        return smtp.getreply()
    except (OSError, smtplib.SMTPException) as error:
        raise Unknown(f"the connection ended before the server said that it has it ({_reason(error)})") from None


@contextmanager
def _connected(by: Server, *, greeting: str) -> Iterator[smtplib.SMTP]:
    """We say whom we send for, not this machine's name: to look that up takes time and tells others about it."""
    if by.tls:
        context = ssl.create_default_context()
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(by.host, by.port, greeting, timeout=TIMEOUT, context=context)
    else:
        smtp = smtplib.SMTP(by.host, by.port, greeting, TIMEOUT)
    try:
        yield smtp
    finally:
        with suppress(OSError, smtplib.SMTPException):
            smtp.quit()
        smtp.close()


@contextmanager
def _refusals_in_words(by: Server) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        said = f"the certificate of {by.host} is not trusted: {error.verify_message}"
        raise Undelivered(said, permanent=True) from None
    except (OSError, smtplib.SMTPException) as error:
        raise Undelivered(f"{by.host}: {_reason(error)}", permanent=_is_permanent(error)) from None


def _secure(smtp: smtplib.SMTP, by: Server) -> None:
    """Signed in where there is a password, which crosses no network in the open."""
    smtp.ehlo()
    if not by.tls and smtp.has_extn("starttls"):
        smtp.starttls(context=ssl.create_default_context())
        smtp.ehlo()
    elif not by.tls and by.user:
        raise Undelivered("the server offers no encryption, so the password was not sent", permanent=True)
    if by.user:
        smtp.login(by.user, by.password)


def _step(reply: tuple[int, bytes], *, expected: range = DONE) -> None:
    code, words = reply
    if code not in expected:
        raise Undelivered(f"the server refused it: {code} {_said(words)}", permanent=code >= PERMANENT)


def _is_permanent(error: Exception) -> bool:
    code = getattr(error, "smtp_code", 0)
    return isinstance(error, smtplib.SMTPNotSupportedError | ssl.SSLError) or code >= PERMANENT


def _reason(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"user and password were not accepted ({error.smtp_code} {_said(error.smtp_error)})"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_said(error.smtp_error)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _said(words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LONGEST_REPLY]
