"""Who may see what a message says of the inside: where the store is, who it is asked as, why it does not answer.

That is the holder of the root token or of an admin token, and whoever is on this machine. A request that a proxy has
passed on is not from this machine, though the proxy may be.
"""

from __future__ import annotations

from ipaddress import ip_address

from aiohttp import web

from admin.auth.actors import Admin, Root
from admin.http.context import ACTOR

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")  # RFC 7239, RFC 9110 §7.6.3, and what proxies do


def is_insider(request: web.Request) -> bool:
    """Whether the client that sent ``request`` may see what is inside."""
    if isinstance(request.get(ACTOR), Root | Admin):
        return True
    if any(header in request.headers for header in FORWARDED):
        return False
    try:
        return request.remote is None or ip_address(request.remote).is_loopback
    except ValueError:
        return False
