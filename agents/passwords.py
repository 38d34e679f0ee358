"""Secrets that only their name gives away: "password is X", `api_key=X`, "PIN: X", recovery keys.

The name is found first, then what joins it to a value, then the value is judged by how it is joined: after a colon
little is asked of it, in running prose it must look like nothing else. Ordinary words never count in prose.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Named(NamedTuple):
    start: int
    end: int
    kind: str


# --- names -----------------------------------------------------------------------------------------------------------

_PASSWORD = re.compile(
    r"(?:password|passwort|passwd|passphrase|passcode|kennwort|mot de passe|contrase[ñn]a|wachtwoord"
    r"|(?<![a-z])(?:pass|pwd?|psw|senha|parola|lösenord|has[łl]o))"
    r"(?:[ _-]?(?:[0-9]|new|old|neu|alt|temp)(?![a-z]))?(?![a-z])",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"(?:api[ _-]?key|(?:access|secret|client|private|account|auth|shared|session|refresh|bearer|app|webhook)"
    r"[ _-]?(?:access[ _-]?)?(?:key|secret|token)|(?<![a-z])(?:token|secret|bearer|authtoken))(?![a-z])",
    re.IGNORECASE,
)
_PIN = re.compile(  # without a colon or a verb, "PIN 4711" counts only in capitals, "pin code 4711" in any
    r"(?<![\w-])(?:"
    r"(?i:pin(?:[ -]?(?:code|number|nummer))?[\"']?"
    r"(?:\s{0,3}[:=]\s{0,3}|\s(?:is|was|lautet|ist|to|auf)\s(?:now\s|jetzt\s)?))"
    r"|PIN\s|(?i:pin[ -](?:code|number|nummer)\s))[\"'*]{0,2}([0-9]{4,8})(?!\w|[.:/-][0-9]|%|\s?(?:px|ms|mm))"
)
_CARD_CODE = re.compile(
    r"\b(?:cvv2?|cvc2?|card verification (?:code|value|number))\W{0,3}(?:is\s)?([0-9]{3,4})(?!\w)", re.IGNORECASE
)
_RECOVERY_KEY = re.compile(r"(?<![\w-])[0-9]{6}(?:-[0-9]{6}){7}(?![\w-])")  # BitLocker

# --- what joins a name to its value ----------------------------------------------------------------------------------

_FOR = (
    r"(?:[ \t]\([^()\n]{1,40}\)|[ \t](?:for|für|of|von|pour|para|voor)[ \t](?:[^\s:=]{1,40}[ \t]){0,3}[^\s:=]{1,60}?)?"
)
_VERB = r"[ \t](?:is|was|are|lautet|ist|war|est|es|è|has been|have been|wurde|will be)"
_ADVERB = r"[ \t](?:now|currently|jetzt|nun|just|again|wieder)"
_CHANGED = r"[ \t](?:(?:re)?set|changed|updated|reset|gesetzt|geändert)"
_TO = r"[ \t](?:to|auf|as)"
_ASSIGNED = re.compile(
    rf"{_FOR}(?:{_VERB})?(?:{_ADVERB})?(?:(?:{_CHANGED})?{_TO})?"  # not "password reset:", which begins a subject
    r"[\"'\])*_]{0,4}[ \t]{0,4}(?::=|=>|={1,3}|:|→|>(?=[^\s<]{1,128}</))[ \t]{0,8}(?P<next>\r?\n[ \t]{0,8})?",
    re.IGNORECASE,
)
_OPTION = re.compile(r"[ \t]")  # --password X
_IN_BRACKETS = re.compile(r"[ \t]\((?=[^\s()]{6,64}\))")  # my password (X) does not work
_SAID = re.compile(
    rf"{_FOR}(?:{_VERB})?(?:{_ADVERB})?(?:{_CHANGED})?(?:{_TO})?"
    r"(?:[ \t]be|[ \t]{1,3}(?P<dash>--?|[\u2013\u2014]))?[ \t]{1,3}[:(]?",
    re.IGNORECASE,
)

# --- values ----------------------------------------------------------------------------------------------------------

_QUOTED = re.compile(
    r"""(?:"([^"\n]{1,128})"|'([^'\n]{1,128})'|`([^`\n]{1,128})`|“([^”\n]{1,128})”|„([^“”\n]{1,128})[“”]|«([^»\n]{1,128})»)"""
)
_BARE = re.compile(r"""(?:(?!</|&[\w-]{1,30}=|[,;][\w -]{1,30}[=:]|\\n|&(?:amp|quot|lt|gt);)[^\s;"“”„«»`]){1,128}""")
_REST_OF_LINE = re.compile(r"""[.,;:)\]}>"'?*|\\ \t\r!]{0,20}(?:\n|$)""")
_TRAILING = ".,;:)]}>\"'?*|\\"
_PLACEHOLDER = re.compile(
    r"(.)\1*|<.*|\[.*|\{.*|!?\$.*|%.*%|.{0,2}(?:\*\*|xxx|XXX|\.\.\.|___|---|•|●|…).*|#\{.*|@.*|&lt.*", re.DOTALL
)
_CODE = re.compile(
    r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)+(?:[(\[].*)?|[\w$.]*[(\[].*|.*[)}\]]+;?|new|function|return", re.DOTALL
)
_ADDRESS = re.compile(r"(?i)[a-z]{2,12}://.*|www\..*|[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\\\\.*|/[\w/.-]*|[a-z]:\\.*")
_REFERENCE = re.compile(
    r"[A-Za-z]{1,8}[-_ ]?[0-9]+"
    r"|[0-9]+(?:st|nd|rd|th|x|h|d|min|days?|times|chars?|characters)?|[vV]?[0-9]+(?:[.,:/-][0-9]+)+"
)
_MARKS = "!@#$%^&*+=?~§€£"
_ORDINARY = frozenset(
    """password passwords passwort kennwort passphrase passcode pass reset resets resetting expired expires expiry wrong
    incorrect invalid required needed changed unchanged forgotten forgot locked unknown correct accepted rejected empty
    blank missing none null nil true false yes hidden removed redacted masked confidential secret secrets string text
    field see below above via sent same policy protected undefined optional known working done here self this user
    username admin login default example placeholder value object varchar char number int integer boolean prompt input
    manager vault keepass bitwarden lastpass 1password laps keychain encrypted hashed plaintext base64 utf8 utf-8 sha1
    sha256 sha512 md5 aes256 bcrypt oauth2 saml2 office365 o365 m365 windows10 windows11 win10 win11 exchange2019
    ntlmv2 smbv1 smbv2 smbv3 ipv4 ipv6 802.1x wpa2 wpa3 wpa2-psk wpa3-psk ctrl+alt+del ctrl+alt+delete
    strg+alt+entf""".split()  # noqa: SIM905  readable so
)
_LOGIN_NEARBY = re.compile(
    r"(?i)\b(?:user(?:[ _-]?(?:name|id))?|login|account|benutzer(?:name)?|e-?mail|utilisateur|usuario)\b"
    r"[^\n]{0,60}?[:=]"
)
_SHORTEST, _SHORTEST_IN_PROSE = 4, 6
_DIGIT_AND_MARK = re.compile(rf"(?=.*[0-9]).*[{re.escape(_MARKS)}]")
_NEARBY = 160  # characters before a name in which a login makes a plain word after "password:" credible


# One of these stands in every name above: most texts hold none, and need not be searched name by name.
_STEMS = {
    _PASSWORD: ("pass", "pw", "psw", "kenn", "contra", "wachtwoord", "has", "senha", "parola", "lösen"),
    _TOKEN: ("key", "token", "secret", "bearer"),
    _PIN: ("pin",),
    _CARD_CODE: ("cv", "card"),
    _RECOVERY_KEY: ("-",),
}


def find_named(text: str) -> Iterator[Named]:
    """Start, end and kind of every value that its name gives away."""
    lowered = text.lower()

    def each(names: re.Pattern[str]) -> Iterator[re.Match[str]]:
        return names.finditer(text) if any(stem in lowered for stem in _STEMS[names]) else iter(())

    for name in each(_PASSWORD):
        if (span := _after_password(text, name)) is not None:
            yield Named(*span, "password")
    for name in each(_TOKEN):
        if (span := _after_token(text, name.end())) is not None:
            yield Named(*span, "token" if "token" in name[0].lower() or "bearer" in name[0].lower() else "api_key")
    yield from (Named(*match.span(1), "pin") for match in each(_PIN))
    yield from (Named(*match.span(1), "card_code") for match in each(_CARD_CODE))
    yield from (Named(*match.span(), "recovery_key") for match in each(_RECOVERY_KEY))


def is_placeholder(value: str) -> bool:
    """Masks, templates, variables and words that stand where a secret would."""
    return _PLACEHOLDER.fullmatch(value) is not None or value.lower().strip("'\".,;:!?") in _ORDINARY


def _after_password(text: str, name: re.Match[str]) -> tuple[int, int] | None:
    if joined := _ASSIGNED.match(text, name.end()):
        return _assigned(text, joined, login_before=_login_before(text, name.start()))
    if text.endswith("--", 0, name.start()) and (option := _OPTION.match(text, name.end())):
        value = _value(text, option.end())
        return value.span if value and _looks_secret(value, least=_SHORTEST) else None
    if name[0].lower() == "pass":
        return None  # in a sentence it is the verb
    said = _IN_BRACKETS.match(text, name.end()) or _SAID.match(text, name.end())
    value = _value(text, said.end()) if said else None
    if said is None or value is None:
        return None
    if said.re is _SAID and said["dash"] and not _DIGIT_AND_MARK.search(value.text):
        return None  # what a dash begins is mostly the next thought
    return value.span if _credible_in_prose(value, bare=not said[0].strip(" \t(:")) else None


class _Value(NamedTuple):
    text: str
    start: int
    quoted: bool

    @property
    def span(self) -> tuple[int, int]:
        return self.start, self.start + len(self.text)


def _value(text: str, position: int) -> _Value | None:
    if quoted := _QUOTED.match(text, position):
        group = quoted.lastindex or 0
        return _Value(quoted[group], quoted.start(group), quoted=True)
    bare = _BARE.match(text, position)
    stripped = bare[0].rstrip(_TRAILING) if bare else ""
    return _Value(stripped, position, quoted=False) if stripped else None


def _assigned(text: str, joined: re.Match[str], *, login_before: bool) -> tuple[int, int] | None:
    value = _value(text, joined.end())
    if value is None or not _looks_secret(value, least=_SHORTEST):
        return None
    alone = _REST_OF_LINE.match(text, value.span[1]) is not None
    if joined["next"] and not (alone and _classes(value.text) > 1):
        return None
    plain = value.text.isalpha() or (_classes(value.text) == 1 and not value.text.isdigit())
    return value.span if not plain or (login_before and alone) else None


def _looks_secret(value: _Value, *, least: int) -> bool:
    """Long enough, and none of what stands after a name without being its value."""
    text = value.text
    if len(text) < least or is_placeholder(text) or _ADDRESS.fullmatch(text):
        return False
    return value.quoted or _CODE.fullmatch(text) is None


def _credible_in_prose(value: _Value, *, bare: bool) -> bool:
    """In a sentence the next word is usually just the next word: letters and digits or marks mixed, no reference."""
    if not _looks_secret(value, least=_SHORTEST_IN_PROSE) or _REFERENCE.fullmatch(value.text):
        return False
    classes = _classes(value.text)
    return classes >= 3 if bare and not value.quoted else classes >= 2  # noqa: PLR2004  kinds of characters


def _classes(text: str) -> int:
    """How many kinds of characters: capitals, small letters, digits, marks. A leading capital alone is a sentence's."""
    inner = text[1:] if text[:1].isupper() and text[1:].islower() else text
    return sum(
        (
            any(character.isupper() for character in inner),
            any(character.islower() for character in inner),
            any(character.isdigit() for character in inner),
            any(character in _MARKS for character in inner),
        )
    )


def _login_before(text: str, position: int) -> bool:
    return _LOGIN_NEARBY.search(text, max(0, position - _NEARBY), position) is not None


_TOKEN_JOINED = re.compile(
    r"[\"'\])*_]{0,4}[ \t]{0,4}"
    r"(?:(?::=|=>|={1,3}|:|>(?=[^\s<]{16,512}</)|[ \t]is[ \t])[ \t]{0,8}|(?<=[rR])[ \t])[\"'`]?"
)
_TOKEN_VALUE = re.compile(r"[A-Za-z0-9+/=_.~-]{16,512}")
_LETTERS_AND_DIGITS = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])")


def _after_token(text: str, position: int) -> tuple[int, int] | None:
    joined = _TOKEN_JOINED.match(text, position)
    value = _TOKEN_VALUE.match(text, joined.end()) if joined else None
    if value is None or not _LETTERS_AND_DIGITS.match(value[0]):
        return None
    if is_placeholder(value[0]) or _CODE.fullmatch(value[0]):
        return None
    return value.span()
