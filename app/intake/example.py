"""A delivery as its sender would send it: as shell lines to paste, and as a request for `connection test --send`."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.intake.signatures import Options, Scheme, standard_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

TICKET = {
    "external_id": "EXAMPLE-1",
    "subject": "Printer on floor 2 prints blank pages",
    "description": "Since this morning every page from the printer in room 2.14 is blank.",
    "requester": "Ana Ruiz",
    "status": "closed",
    "entries": [
        {"author": "Sam Okoro", "author_role": "agent", "body": "Replaced the empty toner, test page fine."},
        {"author": "Ana Ruiz", "author_role": "requester", "body": "Works again, thank you."},
    ],
}
PAYLOAD = "payload.json"


@dataclass(frozen=True)
class Sender:
    """What the other side is told of a connection. `secret` is "" where we do not know it any more."""

    address: str  # of the hook, without a token
    scheme: Scheme
    options: Options
    secret: str = field(repr=False)
    mapped: bool  # our own JSON would not fit its field map


def shell(sender: Sender) -> str:
    """Lines for a POSIX shell with openssl and curl that send one delivery."""
    secret = f"SECRET={shlex.quote(sender.secret or 'put your secret here')}"
    if sender.mapped:
        payload = f"# {PAYLOAD} holds one delivery of your system"
    else:
        payload = f"printf %s {shlex.quote(json.dumps(TICKET))} > {PAYLOAD}"
    signing, arguments, suffix = _signing(sender)
    if sender.options.delivery_id_header:
        arguments = [*arguments, f'-H "{sender.options.delivery_id_header}: $(openssl rand -hex 12)"']
    call = ["curl -sS", "-H 'Content-Type: application/json'", *arguments, f"--data-binary @{PAYLOAD}"]
    return "\n".join([secret, payload, *signing, " \\\n  ".join([*call, f'"{sender.address}{suffix}"'])])


def _signing(sender: Sender) -> tuple[list[str], list[str], str]:
    """Lines that compute, arguments of curl, and what follows the address."""
    options = sender.options
    match sender.scheme:
        case "standard":
            return _standard_lines()
        case "hmac":
            digest = f'openssl dgst -{options.digest} -hmac "$SECRET"'
            end = "-r" if options.encoding == "hex" else "-binary"
            tail = "cut -d' ' -f1" if options.encoding == "hex" else "openssl base64 -A"
            line = f"SIGNATURE=$({digest} {end} < {PAYLOAD} | {tail})"
            return [line], [f'-H "{options.header}: "{shlex.quote(options.prefix)}"$SIGNATURE"'], ""
        case "header":
            return [], [f'-H "{options.header}: "{shlex.quote(options.prefix)}"$SECRET"'], ""
        case "basic":
            return [], [f'-u {shlex.quote(options.user)}":$SECRET"'], ""
        case "path":
            return [], [], "/$SECRET"


def _standard_lines() -> tuple[list[str], list[str], str]:
    key = "KEY=$(printf %s \"${SECRET#whsec_}\" | openssl base64 -d -A | od -An -vtx1 | tr -d ' \\n')"
    digest = 'openssl dgst -sha256 -mac HMAC -macopt "hexkey:$KEY" -binary | openssl base64 -A'
    lines = [
        key,
        'ID="msg_$(openssl rand -hex 12)"; NOW=$(date +%s)',
        f'SIGNATURE=$( (printf %s "$ID.$NOW."; cat {PAYLOAD}) | {digest})',
    ]
    headers = ["webhook-id: $ID", "webhook-timestamp: $NOW", "webhook-signature: v1,$SIGNATURE"]
    return lines, [f'-H "{header}"' for header in headers], ""


@dataclass(frozen=True)
class Signed:
    headers: Mapping[str, str] = field(repr=False)
    address: str = field(repr=False)  # a path token is part of it


def sign(sender: Sender, *, body: bytes, now: datetime) -> Signed:
    """The request that carries this body, as the connection's sender would make it."""
    headers, suffix = _signed_headers(sender, body=body, now=now)
    if sender.options.delivery_id_header:
        headers[sender.options.delivery_id_header] = secrets.token_hex(12)
    return Signed({"Content-Type": "application/json", **headers}, sender.address + suffix)


def _signed_headers(sender: Sender, *, body: bytes, now: datetime) -> tuple[dict[str, str], str]:
    options, key = sender.options, sender.secret.encode()
    match sender.scheme:
        case "standard":
            name, moment = f"msg_{secrets.token_hex(12)}", str(int(now.timestamp()))
            digest = hmac.digest(standard_key(key), f"{name}.{moment}.".encode() + body, "sha256")
            signature = f"v1,{base64.b64encode(digest).decode()}"
            return {"webhook-id": name, "webhook-timestamp": moment, "webhook-signature": signature}, ""
        case "hmac":
            digest = hmac.digest(key, body, options.digest)
            text = digest.hex() if options.encoding == "hex" else base64.b64encode(digest).decode()
            return {options.header: options.prefix + text}, ""
        case "header":
            return {options.header: options.prefix + sender.secret}, ""
        case "basic":
            return {"Authorization": f"Basic {base64.b64encode(options.user.encode() + b':' + key).decode()}"}, ""
        case "path":
            return {}, f"/{sender.secret}"
