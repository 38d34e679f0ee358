"""Who sent this delivery. The scheme is the stored connection's; nothing in the request can choose another."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

TOLERANCE_SECONDS = 300  # of Standard Webhooks' own libraries, either way
STANDARD_PREFIX = "whsec_"
HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$"

Scheme = Literal["standard", "hmac", "header", "basic", "path"]


class Options(BaseModel):
    """How a connection's scheme is spelled by its sender; stored with the connection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    header: str = Field(default="", pattern=rf"{HEADER_NAME}|^$")
    prefix: str = Field(default="", max_length=40, pattern=r"^[\x20-\x7e]*$")
    encoding: Literal["hex", "base64"] = "hex"
    digest: Literal["sha1", "sha256"] = "sha256"
    user: str = Field(default="", max_length=200, pattern=r"^[^:\x00-\x1f]*$")
    delivery_id_header: str = Field(default="", pattern=rf"{HEADER_NAME}|^$")


@dataclass(frozen=True)
class Incoming:
    """What arrived, as bytes: header names in lower case, `token` from the address."""

    headers: Mapping[str, bytes]
    body: bytes
    token: bytes = b""

    def header(self, name: str) -> bytes:
        return self.headers.get(name.lower(), b"")


def verify(scheme: Scheme, *, secret: bytes, options: Options, incoming: Incoming, now: datetime) -> bool:
    """True if whoever sent this holds the secret. Malformed headers are a plain False; without a secret so is all."""
    return bool(secret) and _VERIFIERS[scheme](secret, options, incoming, now)


def delivery_id(scheme: Scheme, *, options: Options, incoming: Incoming) -> bytes:
    """The sender's own name of this delivery, the same over its retries; empty where it gives none."""
    if scheme == "standard":
        return incoming.header("webhook-id")
    return incoming.header(options.delivery_id_header) if options.delivery_id_header else b""


def standard_key(secret: bytes) -> bytes:
    """The signing key inside a Standard Webhooks secret. Raises ValueError if it is not base64 or holds nothing."""
    key = base64.b64decode(secret.removeprefix(STANDARD_PREFIX.encode()), validate=True)
    if not key:
        raise ValueError("an empty key")
    return key


def _standard(secret: bytes, _options: Options, incoming: Incoming, now: datetime) -> bool:
    moment = incoming.header("webhook-timestamp")
    name = incoming.header("webhook-id")
    if not name or not re.fullmatch(rb"[0-9]{1,12}", moment):
        return False
    if abs(now.timestamp() - int(moment)) > TOLERANCE_SECONDS:
        return False
    expected = hmac.digest(standard_key(secret), b".".join((name, moment, incoming.body)), "sha256")
    # During a rotation the header carries several, any may match; other versions than v1 are not ours to judge.
    candidates = [item.partition(b",") for item in incoming.header("webhook-signature").split(b" ")]
    given = [_from_base64(signature) for version, _, signature in candidates if version == b"v1"]
    return any(hmac.compare_digest(signature, expected) for signature in given)


def _body_hmac(secret: bytes, options: Options, incoming: Incoming, _now: datetime) -> bool:
    prefix = options.prefix.encode()
    given = incoming.header(options.header)
    if not given.startswith(prefix):
        return False
    decode = _from_hex if options.encoding == "hex" else _from_base64
    expected = hmac.digest(secret, incoming.body, options.digest)
    return hmac.compare_digest(decode(given[len(prefix) :]), expected)


def _shared_header(secret: bytes, options: Options, incoming: Incoming, _now: datetime) -> bool:
    return _same(incoming.header(options.header), options.prefix.encode() + secret)


def _basic(secret: bytes, options: Options, incoming: Incoming, _now: datetime) -> bool:
    kind, _, credentials = incoming.header("authorization").partition(b" ")
    return kind.lower() == b"basic" and _same(_from_base64(credentials.strip()), options.user.encode() + b":" + secret)


def _path_token(secret: bytes, _options: Options, incoming: Incoming, _now: datetime) -> bool:
    return _same(incoming.token, secret)


_VERIFIERS: Mapping[Scheme, Callable[[bytes, Options, Incoming, datetime], bool]] = {
    "standard": _standard,
    "hmac": _body_hmac,
    "header": _shared_header,
    "basic": _basic,
    "path": _path_token,
}


def _same(given: bytes, expected: bytes) -> bool:
    """Compared by hash, so that the time taken does not tell the secret's length either."""
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected).digest())


def _from_hex(text: bytes) -> bytes:
    """Empty, which equals no digest, where this is not hex."""
    return binascii.unhexlify(text) if re.fullmatch(rb"(?:[0-9A-Fa-f]{2})+", text) else b""


def _from_base64(text: bytes) -> bytes:
    """Empty, which equals no digest, where this is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
