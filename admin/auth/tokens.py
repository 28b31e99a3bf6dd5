"""Bearer tokens (RFC 6750): how a token is made and recognized, and how the root token is kept.

A token is a prefix and 256 random bits. Scanners that look for leaked secrets find it by the prefix. A plain SHA-256 is
enough of a digest: nobody can guess 256 random bits, so a slow hash, which slows down guessing, would gain nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from pathlib import Path

from admin.errors import BadTokenFile
from support.files import write_whole

PREFIX = "ilk_"
RANDOM_BYTES = 32

_MADE = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")  # 32 octets in base64
_KEPT = re.compile(r"[A-Za-z0-9._~+/-]{32,256}=*")  # RFC 6750 §2.1, and too long for a password that a person made up


def make_token() -> str:
    """A new token."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def make_token_id() -> str:
    """A new id for a token. It is not secret, so it may be logged."""
    return secrets.token_hex(6)


def digest(token: str) -> str:
    """The digest of ``token``, which the store keeps: it recognizes the token, and cannot be used instead of it."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def is_well_formed(token: str) -> bool:
    """Whether `make_token` can have made ``token``; if not, a look-up in the store is not needed."""
    return _MADE.fullmatch(token) is not None


def redact(text: str) -> str:
    """``text`` for a log: a token in it, which a client may have sent in the wrong place, is cut out."""
    return _MADE.sub(PREFIX + "…", text)


def load_or_create_root_token(path: Path) -> tuple[str, bool]:
    """The root token that the file ``path`` holds, and whether the token was made just now, because there was no file.

    Raises `BadTokenFile` if other users can read the file or it holds no token, and ``OSError``.
    """
    if not path.exists() and _create(path):
        return _load(path), True
    return _load(path), False


def _create(path: Path) -> bool:
    try:
        write_whole(path, f"{make_token()}\n".encode(), 0o600, replace=False)
    except FileExistsError:  # another process was first
        return False
    return True


def _load(path: Path) -> str:
    with path.open(encoding="ascii", errors="replace") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        token = file.read(1024).strip()
    if mode & 0o077:
        raise BadTokenFile(
            f"{path} has mode {mode:04o}, so others may have read the root token: delete it to have a new one made,"
            f" or run 'chmod 600 {path}' if you are sure that nobody has"
        )
    if not _KEPT.fullmatch(token):
        what = "is empty" if not token else "does not hold a token"
        raise BadTokenFile(f"{path} {what}: delete it to have one made, or write 32 to 256 URL-safe characters to it")
    return token
