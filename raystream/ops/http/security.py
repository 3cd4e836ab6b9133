"""Who may ask: the right host name, no other site's page, and whoever has the token.

A browser sends requests to this server for any page that its user opens, so that a server on
loopback alone is open to all sites. Three things keep them out. The ``Host`` is one of ours: a name
that somebody else points at this machine is refused (DNS rebinding). The ``Origin``, where a
browser says it, is this server. And the token travels in ``Authorization``, which no page of
another site can set without being asked about it first; there are no cookies, so nothing is sent
along unknowingly.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raystream.errors import ConfigError
from raystream.ops.http.answers import Refused

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "raystream",
}
"""Sent with every answer: nothing from elsewhere runs in our pages, and nobody frames them."""

_TOKEN_BYTES = 32


def new_token() -> str:
    """Make a token that nobody guesses."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


@dataclass(frozen=True, slots=True)
class Door:
    """What is asked of whoever comes: ``token`` None where all may read, and nobody change."""

    token: str | None
    hosts: frozenset[str] = LOOPBACK

    def check_host(self, hosts: Sequence[str]) -> None:
        """Refuse a request that was sent to a name that is not ours."""
        if len(hosts) != 1 or host_of(hosts[0]) not in self.hosts:
            raise Refused(
                403,
                "wrong_host",
                "this server does not answer to that host name",
                hint="use one of its own, or start it with --allow-host NAME",
            )

    def check_origin(self, origins: Sequence[str], host: str, site: str | None) -> None:
        """Refuse what a page of another site sends; whoever is no browser says no origin."""
        ours = {f"http://{host.lower()}", f"https://{host.lower()}"}
        if any(origin.lower() not in ours for origin in origins) or site == "cross-site":
            raise Refused(403, "wrong_origin", "pages of other sites may not ask this server")

    def check_token(self, authorization: Sequence[str], *, changes: bool) -> None:
        """Refuse whoever has not the token."""
        if self.token is None:
            if changes:
                raise Refused(
                    403,
                    "read_only",
                    "a server without a token changes nothing",
                    hint="start it without --no-token",
                )
            return
        scheme, _, given = (authorization[0] if len(authorization) == 1 else "").partition(" ")
        # Compared whole whatever is given: time tells nothing of the token.
        right = hmac.compare_digest(_bytes(given.strip()), _bytes(self.token))
        if scheme.lower() != "bearer" or not right:
            raise Refused(
                401,
                "no_token" if not authorization else "wrong_token",
                "the token of this server is asked for",
                hint="send `Authorization: Bearer TOKEN`; it was printed when the server started",
            )


def door(host: str, token: str | None, allowed: Iterable[str] = ()) -> Door:
    """Decide who may come in to a server that is bound to a host.

    Raises: ConfigError where more than this machine would reach it without a token.
    """
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"bound to {host} the server is reached by other machines, and needs a token",
            hint="leave --no-token out, or bind it to 127.0.0.1",
        )
    if token is not None and len(token) < 16:
        raise ConfigError("a token has at least 16 characters", hint="let the server make one")
    names = {host_of(name) for name in allowed}
    if host not in ("", "0.0.0.0", "::"):  # noqa: S104  it is compared with, not bound to
        names.add(host_of(f"[{host}]" if ":" in host else host))
    return Door(token, LOOPBACK | names)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches what is bound to a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(host: str) -> str:
    """Give the name in a ``Host`` header, without its port; empty where it is none.

    >>> host_of("LocalHost:8900"), host_of("[::1]:8900"), host_of("a:b:c")
    ('localhost', '::1', '')
    """
    name, port = host.lower(), ""
    if name.startswith("["):
        name, closed, rest = name[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            return ""
        port = rest[1:]
    elif ":" in name:
        name, _, port = name.partition(":")
    return name if not port or (port.isdecimal() and port.isascii()) else ""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
