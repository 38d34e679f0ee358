"""What a secret in a ticket looks like: passwords in prose and in settings, keys, tokens, private keys, cards.

Three sources, in order of trust: vendors' key formats (the detector's rules plus newer ones), named values
("password is X", `api_key=X`), and numbers with a checksum. A named value counts only when it looks like one, because
a service desk writes "password reset", "password is incorrect" and `password: getPassword()` all day.
Every pattern is linear on hostile text: bounded repeats, and starts that cannot fall inside one another.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector

from agents.cards import find_cards
from agents.passwords import find_named, is_placeholder
from agents.prompt import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Secret(NamedTuple):
    """Characters start..end of a text hold a secret of this kind."""

    start: int
    end: int
    kind: str


def find_secrets(text: str) -> list[Secret]:
    """Every secret in the text, in order, none overlapping another; also one that is only seen where a person reads."""
    found = _found(text)
    if text.isascii() or all(_typed(char) == char for char in set(text)):
        return _apart(found)
    typed = [(part, position) for position, char in enumerate(text) if (part := _typed(char))]
    as_read = _found("".join(part for part, _ in typed))
    moved = (one._replace(start=typed[one.start][1], end=typed[one.end - 1][1] + 1) for one in as_read)
    return _apart([*found, *moved])


@functools.lru_cache(8_192)
def _typed(char: str) -> str:
    """The character as somebody would have typed it: plain blanks, breaks and widths; nothing for what is not seen."""
    match unicodedata.category(char):
        case "Zs":
            return " "
        case "Zl" | "Zp":
            return "\n"
        case "Cc":
            return char
        case "Nd":
            return str(unicodedata.decimal(char))
        case _:
            plain = unicodedata.normalize("NFKC", visible(char))
            return plain if len(plain) <= 1 and plain.isascii() else char


def _found(text: str) -> list[Secret]:
    named = (Secret(*where) for where in find_named(text))
    cards = (Secret(start, end, "card_number") for start, end in find_cards(text))
    return [*_private_keys(text), *_vendor_keys(text), *_web_tokens(text), *named, *cards]


def _apart(found: Iterable[Secret]) -> list[Secret]:
    """Overlapping finds become one that covers them all, of the first one's kind."""
    apart: list[Secret] = []
    for secret in sorted(found, key=lambda one: (one.start, -one.end)):
        if apart and secret.start < apart[-1].end:
            apart[-1] = apart[-1]._replace(end=max(apart[-1].end, secret.end))
        else:
            apart.append(secret)
    return apart


# --- vendors' formats ------------------------------------------------------------------------------------------------

# The detector's own search returns a group or the first hit only, its file scan starts processes, and its entropy rules
# flag hashes and stack traces: so only its rules are used, with a boundary on both sides. A rule comes with a literal
# that every match holds, so that a ticket without it never runs the rule. Left out because ordinary ticket text matches
# them: Artifactory (words in capitals), Twilio (ids, not secrets), IP addresses, keyword and entropy rules.
_BEFORE, _AFTER = r"(?<![A-Za-z0-9_-])(?:", r")(?![A-Za-z0-9_-])"


def _bounded(rule: str) -> re.Pattern[str]:
    return re.compile(_BEFORE + rule + _AFTER)


_VENDOR_RULES: tuple[tuple[str, str, re.Pattern[str]], ...] = tuple(
    (literal, kind, _bounded(rule))
    for literal, kind, rule in (
        ("AKIA", "api_key", AWSKeyDetector.denylist[0].pattern),
        ("ASIA", "api_key", AWSKeyDetector.denylist[0].pattern),
        ("AccountKey=", "api_key", AzureStorageKeyDetector.denylist[0].pattern),
        ("gh", "token", GitHubTokenDetector.denylist[0].pattern),
        ("github_pat_", "token", r"github_pat_[A-Za-z0-9_]{22,255}"),
        ("gl", "token", r"gl[a-z]{2,6}-[A-Za-z0-9_-]{20,255}"),
        ("GR1348941", "token", r"GR1348941[A-Za-z0-9_-]{20,50}"),
        ("T3BlbkFJ", "api_key", r"sk-[A-Za-z0-9_-]{20,150}T3BlbkFJ[A-Za-z0-9_-]{20,150}"),
        ("sk-ant-", "api_key", r"sk-ant-[A-Za-z0-9_-]{20,255}"),
        ("-us", "api_key", MailchimpDetector.denylist[0].pattern),
        ("pypi-AgE", "token", r"pypi-AgE[A-Za-z0-9_-]{70,500}"),
        ("npm_", "token", r"npm_[A-Za-z0-9]{36}"),
        ("SG.", "api_key", SendGridDetector.denylist[0].pattern),
        ("xox", "token", SlackDetector.denylist[0].pattern),
        ("xapp-", "token", r"xapp-[A-Za-z0-9-]{20,255}"),
        ("hooks.slack.com", "token", SlackDetector.denylist[1].pattern),
        ("sq0csp-", "token", SquareOAuthDetector.denylist[0].pattern),
        ("k_live_", "api_key", StripeDetector.denylist[0].pattern),
        ("k_test_", "api_key", r"[rs]k_test_[0-9a-zA-Z]{24,255}"),
        (":", "token", r"[0-9]{8,10}:[A-Za-z0-9_-]{35}"),
        (".", "token", DiscordBotTokenDetector.denylist[0].pattern),
        ("AIza", "api_key", r"AIza[0-9A-Za-z_-]{35}"),
        ("GOCSPX-", "api_key", r"GOCSPX-[A-Za-z0-9_-]{28}"),
        ("8Q~", "api_key", r"[A-Za-z0-9_.~-]{3}8Q~[A-Za-z0-9_.~-]{31,34}"),
        ("hf_", "token", r"hf_[A-Za-z0-9]{34,40}"),
    )
)
_USER_AND_PASSWORD_IN_URL = BasicAuthDetector.denylist[0]
_WEB_TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]{8,}+={0,2}\.[\w-]{4,}+={0,2}(?:\.[\w-]*+)?", re.ASCII)


def _vendor_keys(text: str) -> Iterator[Secret]:
    for literal, kind, rule in _VENDOR_RULES:
        if literal in text:
            yield from (Secret(*match.span(), kind) for match in rule.finditer(text))
    if "://" in text:
        for match in _USER_AND_PASSWORD_IN_URL.finditer(text):
            if not is_placeholder(match[1]):
                yield Secret(*match.span(1), "password")


def _web_tokens(text: str) -> Iterator[Secret]:
    if "eyJ" in text:
        for match in _WEB_TOKEN.finditer(text):
            if JwtTokenDetector.is_formally_valid(match[0]):
                yield Secret(*match.span(), "token")


# --- private keys ----------------------------------------------------------------------------------------------------

_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|Private-Lines: ?[0-9]{1,4}")
_KEY_ENDS = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|Private-MAC")
# Lines of base64, armour headers and blank lines, with real or escaped (\n) line ends.
_KEY_BODY = re.compile(
    r"(?:[A-Za-z0-9+/=]{16,}+|[A-Za-z0-9-]{3,20}: [^\n\\]{1,80}|[A-Za-z0-9+/=]{1,15}(?=\s|\\)|\s|\\[nr])*+"
)


def _private_keys(text: str) -> Iterator[Secret]:
    """What stands between a key's first and last line; without a last line, as far as it still looks like a key."""
    position = 0
    while begins := _KEY_BEGINS.search(text, position):
        body = _KEY_BODY.match(text, begins.end())
        stop = body.end() if body else begins.end()
        if _KEY_ENDS.match(text, stop) is None:
            stop = begins.end() + len(text[begins.end() : stop].rstrip())
        position = max(stop, begins.end())
        start, end = _trimmed(text, begins.end(), stop)
        if sum(character.isalnum() for character in text[start:end]) >= 40:  # noqa: PLR2004  fewer is a template
            yield Secret(start, end, "private_key")


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    inner = text[start:end]
    return start + len(inner) - len(inner.lstrip()), start + len(inner.rstrip())
