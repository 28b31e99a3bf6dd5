"""The files that pages refer to: the style sheet, the scripts, what is vendored. They lie in the package.

Each is read once and kept, packed too. A page names it with a digest of its content, so browsers keep it for ever, and
have the new one after an upgrade.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from aiohttp import hdrs, web

PATH = "/console/assets/"

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "LICENSE": "text/plain"}
_FOREVER = "public, max-age=31536000, immutable"  # seconds; what is behind the address never changes


@dataclass(frozen=True, slots=True)
class Asset:
    """A file, as it is sent."""

    content: bytes
    """What is in it."""
    packed: bytes
    """The same, packed with gzip."""
    media_type: str
    """Its media type."""
    digest: str
    """A digest of its content."""


def address_of(name: str) -> str:
    """The address of the file ``name`` below ``assets/``, for a page."""
    return f"{PATH}{_assets()[name].digest}/{name}"


async def get_asset(request: web.Request) -> web.Response:
    """Give a file that pages refer to."""
    asset = _assets().get(request.match_info["name"])
    if asset is None or asset.digest != request.match_info["digest"]:
        raise web.HTTPNotFound
    is_packed = "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "")
    headers = {hdrs.CACHE_CONTROL: _FOREVER, hdrs.VARY: hdrs.ACCEPT_ENCODING}
    if is_packed:
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    body = asset.packed if is_packed else asset.content
    return web.Response(body=body, content_type=asset.media_type, charset="utf-8", headers=headers)


@cache
def _assets() -> Mapping[str, Asset]:
    found = {}
    folder = resources.files(__package__) / "assets"
    for directory, prefix in ((folder, ""), (folder / "vendor", "vendor/")):
        for file in directory.iterdir():
            if file.is_file() and (media_type := _TYPES.get(file.name.rpartition(".")[2])):
                content = file.read_bytes()
                digest = hashlib.sha256(content).hexdigest()[:16]
                found[prefix + file.name] = Asset(content, gzip.compress(content, mtime=0), media_type, digest)
    return found
