"""What people write when they write nothing, when they want an answer, and when a template was not filled in.

Word lists, so that a check stays free and explains itself. Each is made to miss rather than to accuse: a person reads
what a check says about them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Found(NamedTuple):
    """Characters start..end of one of the lines given."""

    line: int
    start: int
    end: int


# --- nothing said ----------------------------------------------------------------------------------------------------

_SAYING_NOTHING = frozenset(
    """fixed fix done ok okay okey resolved resolve solved solve closed close closing complete completed finished finish
    sorted handled success successful successfully works working worked good fine na n a none nil null nothing no yes
    test tbd todo x xx xxx see above below notes ticket issue problem request incident case task error it this that all
    everything is was has have been now the and as per up set thanks thank you regards cheers hi hello
    erledigt behoben gelöst geloest fertig geschlossen abgeschlossen gemacht passt ist wurde das problem jetzt nun danke
    siehe oben résolu resolu fait terminé termine clos fermé ferme resuelto hecho cerrado listo solucionado
    opgelost klaar gesloten risolto fatto chiuso""".split()  # noqa: SIM905  readable so
)
_MOST_WORDS = 8  # a longer text of such words alone does not occur


def says_nothing(text: str) -> bool:
    """True for an empty text and for one of empty words only: "Fixed.", "n/a", "Issue is resolved now, thanks"."""
    words = re.findall(r"\w+", text.casefold()[:200])
    return len(words) <= _MOST_WORDS and all(word in _SAYING_NOTHING for word in words)


# --- an answer wanted ------------------------------------------------------------------------------------------------

_QUOTED_MAIL = re.compile(
    r"\s*(?:>|On .{4,80} wrote:|Am .{4,80} schrieb|-{3,} ?(?:Original|Forwarded|Ursprüng)|From: |Von: )"
)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_WORD = re.compile(r"\S+")
_QUESTION = re.compile(r"\w\W{0,3}\?\W*$")
# A question or wish that closing the ticket answers, or a politeness.
_ANSWERED_BY_CLOSING = re.compile(
    r"\b(?:clos(?:e|ed|ing)|schlie(?:ß|ss)en|geschlossen|how are you|all right|alright|ok|right|oder)\s{0,2}\W{0,2}\?*$"
    r"|\b(?:can|could|may|might|please|bitte|kann|können)\b.{0,40}\b(?:close|closed|schlie(?:ß|ss)en|geschlossen)\b",
    re.IGNORECASE,
)
_STILL_BROKEN = re.compile(  # "n.?t": doesn't, doesnt, with either apostrophe
    r"\bstill\s+(?:not\b|no\b|(?:does|do|is|are|ca|wo)n.?t\b|cannot\b|(?:does|do|is|are) not\b"
    r"|ha(?:ve|ving|s)\b|gett?(?:ing)?\b|see(?:ing)?\b|fail|broken|the same|happen|occur|slow|crash|waiting"
    r"|an? (?:issue|problem|error))"
    r"|\b(?:does|do|did|is|are|was|has|have|will|would)(?:n.?t| not)\s+(?:help|work|fix|solve|resolve|start|print|open)"
    r"|\b(?:not|never|nicht)\s+(?:working|solved|fixed|resolved|better|gelöst|behoben|besser)\b"
    r"|\b(?<!not the )same\s+(?:problem|issue|error|result|behaviou?r|thing)\b"
    r"|\bno\s+(?:change|improvement|luck|success)\b"
    r"|\bany\s+(?:update|news|progress)\b|\bkeeps?\s+(?:crash|fail|happen|disconnect|drop|freez)"
    r"|\b(?:is|has)\s+(?:back|returned)\b.{0,20}\b(?:again|problem|error|issue)\b|\bhappened\s+again\b"
    r"|\b(?:geht|funktioniert|klappt|läuft)\s+(?:\w+\s+){0,2}nicht\b|\bimmer\s+noch\b|\bnoch\s+immer\b",
    re.IGNORECASE,
)
_STILL = re.compile(r"\b(?:still|again|noch)\b", re.IGNORECASE)
_WORKS = re.compile(
    r"\b(?:works?|working|solved|fixed|resolved|geht|funktioniert|läuft)\s+(?:\w+\s+)?(?:now|again|fine|well|great|perfectly|"
    r"jetzt|wieder|nun)\b|\bproblem (?:is )?(?:gone|solved|fixed)\b",
    re.IGNORECASE,
)
_THANKS = re.compile(
    r"\b(?:thanks?|thx|ty|cheers|great|perfect|brilliant|awesome|danke|dankeschön|merci|gracias|grazie|bedankt|obrigad[oa])\b",
    re.IGNORECASE,
)
_LONGEST_SENTENCE = 400  # characters


def wants_answer(lines: Sequence[str]) -> Found | None:
    """The sentence of a requester's message that asks, or says that it still fails; None for thanks and statements."""
    report: Found | None = None
    works = False
    for index, start, sentence in sentences(lines):
        found = Found(index, start, start + len(sentence))
        if _QUESTION.search(sentence) and not _ANSWERED_BY_CLOSING.search(sentence):
            return found
        if _STILL_BROKEN.search(sentence) and not (works and not _STILL.search(sentence)):
            report = report or found
        elif _WORKS.search(sentence):
            report, works = None, True  # "it did not work before; works now"
    return report


def acknowledges(lines: Sequence[str]) -> bool:
    """True for a message that only thanks or says that it works."""
    said = any(_THANKS.search(sentence) or _WORKS.search(sentence) for _, _, sentence in sentences(lines))
    return said and wants_answer(lines) is None


def sentences(lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """The requester's own sentences: not what a mail quotes, not code, not the question mark of an address."""
    for index, line in prose(lines):
        if _QUOTED_MAIL.match(line):
            if not line.lstrip().startswith(">"):
                return  # the rest of the message is somebody else's
            continue
        for match in _SENTENCE.finditer(_WORD.sub(_without_address, line)):
            sentence = match[0][:_LONGEST_SENTENCE]
            if sentence.strip():
                lead = len(sentence) - len(sentence.lstrip())
                yield index, match.start() + lead, sentence.strip()


def _without_address(word: re.Match[str]) -> str:
    return " " * len(word[0]) if "://" in word[0] or word[0].startswith("www.") else word[0]


# --- a template not filled in ----------------------------------------------------------------------------------------

_THINGS = (
    r"(?:first|last|full|customer|client|user|requester|requestor|recipient|caller|contact|company|agent|technician|"
    r"engineer|manager|product|device|asset|your|their|vor|nach|kunden|benutzer|ticket|case|order|serial|phone|tracking)"
    r"[ _-]?(?:name|names|number|no|id|address|date|title|nummer|email|e-mail|link|tag|url|signature)"
)
_OF_TICKET = r"(?:ticket|requester|customer|recipient|assignee|current_user)(?:\.\w{2,30}){1,4}"
_BARE = r"(?:NAME|DATE|CUSTOMER|CLIENT|USER|COMPANY|TECHNICIAN|RECIPIENT|DEVICE|TICKET|SIGNATURE|LINK|TIME|DEPARTMENT)"
_OPEN, _CLOSE = r"(?:(?<![\w/\\@=.(-])(?:\[|<|\{\{?|%%?|\$\{)\s?)", r"(?:\s?(?:\]|>|\}\}?|%%?)(?![\w/\\@=(-]|\.\w))"
_TEMPLATES = (
    # "Dear [customer]", "Hi {{ name }}": whatever stands in brackets, a greeting goes to a person
    re.compile(
        r"^\W{0,3}(?:dear|hi|hello|hallo|guten tag|liebe[r]?|sehr geehrte[r]?|bonjour|hola)\s"
        r"(?:(?:mr|ms|mrs|frau|herr)\.?\s)?"
        r"(?:\[(?![~@])[^\]\n]{2,40}\]|\{{1,2}[^}\n]{2,40}\}{1,2}|%[\w ]{2,40}%|<(?!/)[^>@\n]{2,40}>)(?=\W|$)",
        re.IGNORECASE,
    ),
    re.compile(
        rf"{_OPEN}(?:insert|replace with|fill in|describe|bitte einfügen|einfügen|your|ihr|ihre)\s"
        rf"[^\]>}}%\n]{{2,60}}{_CLOSE}",
        re.IGNORECASE,
    ),
    re.compile(rf"{_OPEN}(?:{_THINGS}|{_OF_TICKET}){_CLOSE}", re.IGNORECASE),
    re.compile(rf"(?<!\w)\[{_BARE}\](?!\w|\()"),
    re.compile(r"\blorem ipsum\b", re.IGNORECASE),
    re.compile(r"^\W{0,4}(?:TODO|TBD|FIXME)\b(?=\s*(?::|$)|\s\w)"),
    re.compile(r":\s{0,3}_{4,}\s*$"),
)
_FORM_LABEL = re.compile(
    r"^\W{0,4}((?:root )?cause|resolution|solution|steps taken|actions? taken|work (?:performed|done)"
    r"|confirmed (?:with|by)|next steps?|follow[- ]?up|ursache|lösung|maßnahmen?|durchgeführte arbeiten)"
    r"\W{0,3}:\W{0,3}$",
    re.IGNORECASE,
)
_ANY_LABEL = re.compile(r"^\W{0,4}[\w /-]{3,40}:")


def left_over_template(lines: Sequence[str]) -> Found | None:
    """The first place where an agent's text still shows the template it was made from; code and logs do not count."""
    readable = dict(prose(lines))
    for index, line in readable.items():
        for pattern in _TEMPLATES:
            if match := pattern.search(line):
                return Found(index, *match.span())
        if _FORM_LABEL.match(line) and _unfilled(lines[index + 1 :]):
            return Found(index, 0, len(line))
    return None


def _unfilled(following: Sequence[str]) -> bool:
    """Nothing follows a form's label, or only the next label."""
    return not following or _ANY_LABEL.match(following[0]) is not None


# --- prose -----------------------------------------------------------------------------------------------------------

_FENCES = re.compile(r"```|~~~|\{code(?::[^}]{0,40})?\}|\{noformat\}|</?pre\b|\{quote\}", re.IGNORECASE)
_INLINE_CODE = re.compile(r"`[^`\n]{1,200}`")


def prose(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The lines outside code blocks; inline code is blanked so that positions hold."""
    inside = False
    for index, line in enumerate(lines):
        fences = len(_FENCES.findall(line))
        if fences:
            inside ^= bool(fences % 2)
            continue
        if not inside and not line.startswith(("    ", "\t")):
            yield index, _INLINE_CODE.sub(lambda match: " " * len(match[0]), line)
