"""Who sent a delivery: the vendors' schemes by their published or computed vectors, and everything malformed."""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from app.intake.signatures import Incoming, Options, Scheme, delivery_id, verify

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = b"s3cr3t-for-tests"
BODY = '{"id":7,"subject":"Zoë"}'.encode()
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)

# The vector that the Standard Webhooks project publishes.
STANDARD_SECRET = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STANDARD_TIME = datetime.fromtimestamp(1614265330, tz=UTC)
STANDARD_SIGNATURE = b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
STANDARD_HEADERS = {
    "webhook-id": b"msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": b"1614265330",
    "webhook-signature": STANDARD_SIGNATURE,
}
STANDARD_BODY = b'{"test": 2432232314}'


def standard(
    headers: Mapping[str, bytes] | None = None,
    *,
    now: datetime = STANDARD_TIME,
    body: bytes = STANDARD_BODY,
    secret: bytes = STANDARD_SECRET,
) -> bool:
    named = {f"webhook-{name}": value for name, value in (headers or {}).items()}
    incoming = Incoming(headers={**STANDARD_HEADERS, **named}, body=body)
    return verify("standard", secret=secret, options=Options(), incoming=incoming, now=now)


def signed(
    signature: bytes, options: Mapping[str, str] | None = None, *, body: bytes = BODY, secret: bytes = KEY
) -> bool:
    chosen = Options.model_validate({"header": "X-Signature", **(options or {})})
    incoming = Incoming(headers={"x-signature": signature}, body=body)
    return verify("hmac", secret=secret, options=chosen, incoming=incoming, now=NOW)


def test_standard_webhooks_published_vector() -> None:
    assert standard()
    assert not standard(body=STANDARD_BODY + b" ")
    assert not standard({"id": b"msg_other"})
    assert standard(secret=STANDARD_SECRET.removeprefix(b"whsec_"))


def test_standard_webhooks_any_of_several_signatures_may_match() -> None:
    """During a rotation the header carries one by each secret, and versions that we do not know."""
    wrong = b"v1," + base64.b64encode(b"x" * 32)
    assert standard({"signature": b" ".join([wrong, STANDARD_SIGNATURE])})
    assert standard({"signature": b"v1a,AAAA " + STANDARD_SIGNATURE})
    assert not standard({"signature": wrong + b" " + wrong})
    assert not standard({"signature": STANDARD_SIGNATURE.replace(b"v1,", b"v1a,")})


@pytest.mark.parametrize(("seconds", "accepted"), [(300, True), (301, False), (-300, True), (-301, False)])
def test_standard_webhooks_time_is_within_five_minutes(seconds: int, accepted: bool) -> None:  # noqa: FBT001  a case
    assert standard(now=STANDARD_TIME + timedelta(seconds=seconds)) is accepted


@pytest.mark.parametrize(
    "headers",
    [
        {"signature": b"v1"},  # no comma
        {"signature": b"v1,"},
        {"signature": b"v1,not base64!"},
        {"signature": b"v1,g0hM9SsE"},
        {"signature": b"v1,AAA"},  # base64 of a wrong length
        {"signature": b"\xff\xfe,\xff"},
        {"signature": b""},
        {"signature": b" , ,, v1"},
        {"timestamp": b""},
        {"timestamp": b"soon"},
        {"timestamp": b"1614265330.5"},
        {"timestamp": b"-1614265330"},
        {"timestamp": b"1e9"},
        {"timestamp": b"9" * 400},
        {"timestamp": "١٦١٤٢٦٥٣٣٠".encode()},
        {"id": b""},
    ],
)
def test_standard_webhooks_malformed_headers_are_a_bad_signature(headers: dict[str, bytes]) -> None:
    assert not standard(headers)


def test_standard_webhooks_body_that_is_not_utf8_is_signed_like_any_other() -> None:
    assert not standard(body=b"\xff\xfe{")


@pytest.mark.parametrize(
    ("vendor", "signature", "options"),
    [
        (
            "jira, github",
            b"sha256=060fce1aadd7227e7fcc8bb9bf24dc1f2c2c01506967c3695ed54e123d423526",
            {"prefix": "sha256="},
        ),
        (
            "intercom, zammad",
            b"sha1=8278988b76d5433d6e9b4ea7836de7781aa70b8c",
            {"prefix": "sha1=", "digest": "sha1"},
        ),
        (
            "autotask",
            b"sha1=gniYi3bVQz1um06ng23neBqnC4w=",
            {"prefix": "sha1=", "digest": "sha1", "encoding": "base64"},
        ),
    ],
)
def test_hmac_vectors(vendor: str, signature: bytes, options: dict[str, str]) -> None:
    assert signed(signature, options), vendor
    assert not signed(signature, options, body=BODY + b"\n")
    assert not signed(signature, options, secret=KEY + b"x")
    assert not signed(signature.partition(b"=")[2], options)  # without the prefix
    other = "base64" if options.get("encoding", "hex") == "hex" else "hex"
    assert not signed(signature, {**options, "encoding": other})


def test_hmac_in_hex_may_differ_in_case() -> None:
    assert signed(b"sha256=060FCE1AADD7227E7FCC8BB9BF24DC1F2C2C01506967C3695ED54E123D423526", {"prefix": "sha256="})


@pytest.mark.parametrize(
    "given", [b"", b"sha256=", b"sha256=zz", b"sha256=06", b"sha256=060", b"\xff\xfe", b"=" * 9000]
)
def test_hmac_malformed_headers_are_a_bad_signature(given: bytes) -> None:
    assert not signed(given, {"prefix": "sha256="})
    assert not signed(given, {"prefix": "sha256=", "encoding": "base64"})


def test_hmac_empty_body_is_signed_too() -> None:
    digest = base64.b64encode(hmac.digest(KEY, b"", "sha256"))
    assert signed(digest, {"encoding": "base64"}, body=b"")


def shared(value: bytes, **options: str) -> bool:
    chosen = Options.model_validate({"header": "X-Token", **options})
    incoming = Incoming(headers={"x-token": value}, body=b"")
    return verify("header", secret=KEY, options=chosen, incoming=incoming, now=NOW)


def test_shared_header() -> None:
    assert shared(KEY)
    assert shared(b"Bearer " + KEY, prefix="Bearer ")
    assert not shared(KEY, prefix="Bearer ")
    assert not shared(KEY[:-1])
    assert not shared(KEY.upper())
    assert not shared(b"")
    assert not shared(b"\xff")


def basic(credentials: bytes) -> bool:
    incoming = Incoming(headers={"authorization": credentials}, body=b"")
    return verify("basic", secret=b"s3cret:\xc3\xab", options=Options(user="hook"), incoming=incoming, now=NOW)


def test_basic() -> None:
    token = base64.b64encode("hook:s3cret:ë".encode())
    assert basic(b"Basic " + token)
    assert basic(b"basic  " + token)
    assert not basic(b"Bearer " + token)
    assert not basic(token)
    assert not basic(b"Basic " + base64.b64encode(b"other:s3cret"))
    assert not basic(b"Basic !!!")
    assert not basic(b"")


def path(token: bytes) -> bool:
    return verify("path", secret=KEY, options=Options(), incoming=Incoming({}, b"", token=token), now=NOW)


def test_path_token() -> None:
    assert path(KEY)
    assert not path(b"")
    assert not path(KEY + b"/")


@pytest.mark.parametrize("scheme", ["standard", "hmac", "header", "basic", "path"])
def test_without_a_secret_nothing_is_accepted(scheme: Scheme) -> None:
    """An HMAC by an empty key is easy to make, and an empty token easier."""
    empty = base64.b64encode(hmac.digest(b"", BODY, "sha256"))
    headers = {"x-token": b"", "authorization": b"Basic Og==", "x-signature": empty}
    options = Options(header="X-Signature", encoding="base64")
    incoming = Incoming(headers=headers, body=BODY)
    assert not verify(scheme, secret=b"", options=options, incoming=incoming, now=NOW)


def test_delivery_id_is_the_schemes_or_the_configured_headers() -> None:
    incoming = Incoming(headers={"webhook-id": b"msg_1", "x-delivery": b"77"}, body=b"")
    assert delivery_id("standard", options=Options(), incoming=incoming) == b"msg_1"
    assert delivery_id("hmac", options=Options(delivery_id_header="X-Delivery"), incoming=incoming) == b"77"
    assert delivery_id("hmac", options=Options(), incoming=incoming) == b""
    assert delivery_id("path", options=Options(delivery_id_header="X-Other"), incoming=incoming) == b""


@pytest.mark.parametrize(
    "options", [{"header": "X Y"}, {"header": "X:\r\nY"}, {"digest": "md5"}, {"user": "a:b"}, {"unknown": "1"}]
)
def test_options_that_no_sender_could_mean(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(options)
