"""Payment card numbers in free text: known issuers, their lengths, their grouping and the checksum."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Contiguous, or grouped as cards print them, one and the same separator throughout: phone numbers, serials and ids are
# grouped otherwise. A "+" before it is a phone number, a "." a decimal, "-" or a letter an identifier.
_CANDIDATE = re.compile(
    r"(?<![\w.+-])(?<!\+ )"
    r"(?:(?P<plain>[0-9]{13,19})"
    r"|[0-9]{4}(?P<four>[ -])[0-9]{4}(?P=four)[0-9]{4}(?P=four)[0-9]{1,4}(?:(?P=four)[0-9]{1,3})?"
    r"|[0-9]{4}(?P<amex>[ -])[0-9]{6}(?P=amex)[0-9]{4,5})"
    r"(?![\w-]|[.,][0-9]|[ -][0-9])"
)
_ISSUERS = (  # first digits -> allowed lengths
    (re.compile(r"4"), {13, 16, 19}),  # Visa
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), {16}),  # Mastercard
    (re.compile(r"3[47]"), {15}),  # American Express
    (re.compile(r"3(?:0[0-5]|09|[689])"), {14}),  # Diners Club
    (re.compile(r"6011|64[4-9]|65"), {16, 19}),  # Discover
    (re.compile(r"35(?:2[89]|[3-8])"), {16, 19}),  # JCB
    (re.compile(r"62|81"), {16, 17, 18, 19}),  # UnionPay
    (re.compile(r"50[123]8|5893|6304|6759|676[123]"), {13, 14, 15, 16, 17, 18, 19}),  # Maestro
)
_NOT_A_CARD = re.compile(
    r"(?i)(?:imei|iccid|ean|gtin|isbn|sku|serial|tracking|order|iban|article)\W{0,3}(?:\w{1,8}\W{1,3})?$"
)
_CARD_WORD = re.compile(r"(?i)card|karte|visa|amex|maestro|carte|tarjeta|carta")
_CONTEXT = 40  # characters before the number that may name what it is


def find_cards(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each card number."""
    for match in _CANDIDATE.finditer(text):
        if _is_card(match, before=text[max(0, match.start() - _CONTEXT) : match.start()]):
            yield match.span()


def _is_card(match: re.Match[str], *, before: str) -> bool:
    digits = re.sub(r"[ -]", "", match[0])
    if not _issued(digits) or len(set(digits)) == 1 or not passes_checksum(digits):
        return False
    named = _CARD_WORD.search(before) is not None
    # A bare 13-digit number is more often a barcode, and one inside an address or after "#" an id.
    doubtful = match["plain"] is not None and (len(digits) == 13 or before[-1:] in set("/=#@&?:"))  # noqa: PLR2004
    return named or not (doubtful or _NOT_A_CARD.search(before))


def _issued(digits: str) -> bool:
    return any(prefix.match(digits) and len(digits) in lengths for prefix, lengths in _ISSUERS)


def passes_checksum(digits: str) -> bool:
    """The Luhn check: every second digit from the right doubled, nines cast out."""
    total = sum(map(int, digits[-1::-2])) + sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return total % 10 == 0
