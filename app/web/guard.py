"""Where a request may come from: a browser that was sent to this address by its own user. `auth` says who that is.

Two attacks are open to any web site that the user visits, and both are closed here: a form that posts to this address,
and a name of the attacker's that resolves to this machine (DNS rebinding), which would make his page one of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import Request  # noqa: TC002  FastAPI reads it from the signature

from app.errors import Forbidden

if TYPE_CHECKING:
    from app.settings import Settings

THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104  what a listener may be set to, never a host that is asked for
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def guard(request: Request) -> None:
    """Raises Forbidden where the request was not made for this address, or a change not by one of our own pages."""
    settings: Settings = request.app.state.settings
    if host_of(request.headers.get("host", "")) not in known_hosts(settings):
        raise Forbidden(
            "this service does not answer under this name. Open it at the address it printed when it started, "
            "or set TICKETQC_BASE_URL to the address that people use."
        )
    if request.method not in SAFE_METHODS and not from_our_pages(request):
        raise Forbidden("the request came from another site; nothing was changed. Use the buttons of these pages.")


def known_hosts(settings: Settings) -> frozenset[str]:
    """The names this service answers under, without ports."""
    named = {settings.host} - ANY_ADDRESS
    public = urlsplit(settings.base_url).hostname if settings.base_url else None
    return THIS_MACHINE | named | ({public} if public else frozenset())


def from_our_pages(request: Request) -> bool:
    """Browsers say where a request comes from and pages cannot forge it; what is no browser has nobody's rights."""
    if site := request.headers.get("sec-fetch-site"):
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def host_of(authority: str) -> str | None:
    """The host of a `Host` header, in lower case and without its port; None where it is none."""
    try:
        return urlsplit(f"//{authority}").hostname
    except ValueError:
        return None
