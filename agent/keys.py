"""WireGuard's key pairs (Curve25519, RFC 7748), and the files that a host keeps its own in.

This is the adapter to cryptography.
"""

from __future__ import annotations

import contextlib
import hmac
import os
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from agent.errors import CannotStart
from support.files import remove_partial, write_whole
from watcher.session.protocol import key_proof_input
from zones.keys import PublicKey

OCTETS = 32
KEY, NEXT_KEY = "wireguard.key", "wireguard.next.key"


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key. It is never logged, and leaves this machine only where a user asks for a file with it."""

    octets: bytes = field(repr=False)
    """The key, clamped (RFC 7748 §5)."""

    def __post_init__(self) -> None:
        if len(self.octets) != OCTETS:
            raise ValueError(f"a private key has {OCTETS} octets, not {len(self.octets)}")

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new key, from the system's randomness."""
        return cls(_clamp(X25519PrivateKey.generate().private_bytes_raw()))

    @classmethod
    def parse(cls, text: str) -> PrivateKey:
        """The key that ``text`` is the base64 of. Raises ``ValueError``, with a message that does not show ``text``."""
        try:
            return cls(b64decode(text.strip(), validate=True))
        except ValueError:
            raise ValueError(
                f"this is not a private key: it is {OCTETS} octets in base64, as 'wg genkey' prints"
            ) from None

    @property
    def text(self) -> str:
        """The key in base64."""
        return b64encode(self.octets).decode()

    @property
    def public(self) -> PublicKey:
        """Its public key, in base64."""
        return PublicKey(
            b64encode(X25519PrivateKey.from_private_bytes(self.octets).public_key().public_bytes_raw()).decode()
        )

    def prove(self, host: str, challenge: PublicKey) -> str:
        """The proof, for who has sent ``challenge``, that ``host`` has this key: see `key_proof_input`."""
        shared = X25519PrivateKey.from_private_bytes(self.octets).exchange(
            X25519PublicKey.from_public_bytes(b64decode(challenge))
        )
        return hmac.new(shared, key_proof_input(host, self.public), "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Keyring:
    """The host's key on its disk, and during a rotation the next one. All files have mode 0600."""

    directory: Path
    """Where the files are."""

    def load(self) -> PrivateKey:
        """The key in use, created if there is none. Raises `CannotStart`."""
        # One that was being written when its agent was killed is a private key that nobody would ever remove.
        remove_partial(self.directory / KEY)
        remove_partial(self.directory / NEXT_KEY)
        return load_or_make(self.directory / KEY)

    def next(self) -> PrivateKey | None:
        """The next key of a rotation that did not end; None where there is none. Raises `CannotStart`."""
        try:
            return load(self.directory / NEXT_KEY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CannotStart(f"{self.directory / NEXT_KEY}: {error.strerror}") from None

    def prepare(self) -> PrivateKey:
        """Creates the next key."""
        key = PrivateKey.generate()
        store(key, self.directory / NEXT_KEY)
        return key

    def switch(self) -> None:
        """Makes the next key the one in use."""
        (self.directory / NEXT_KEY).replace(self.directory / KEY)

    def discard_next(self) -> None:
        """Removes the next key."""
        (self.directory / NEXT_KEY).unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes both keys."""
        self.discard_next()
        (self.directory / KEY).unlink(missing_ok=True)


def load_or_make(path: Path) -> PrivateKey:
    """The key in the file ``path``, which is created for this user alone where missing. Raises `CannotStart`."""
    try:
        with contextlib.suppress(FileNotFoundError):
            return load(path)
        key = PrivateKey.generate()
        store(key, path)
    except OSError as error:
        raise CannotStart(f"the key {path} cannot be kept: {error.strerror}") from None
    return key


def load(path: Path) -> PrivateKey:
    """The key in the file ``path``. Raises `CannotStart` where other users could read it, and ``OSError``."""
    with path.open("r", encoding="ascii") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise CannotStart(
                f"the key {path} can be read by others: chmod 600 it, or remove it to have a new one made"
            )
        try:
            return PrivateKey.parse(file.read())
        except ValueError as error:
            raise CannotStart(f"{path}: {error}: remove it to have a new one made") from None


def store(key: PrivateKey, path: Path) -> None:
    """Writes ``key`` to ``path``, whole or not at all, mode 0600. Raises ``OSError``."""
    write_whole(path, f"{key.text}\n".encode("ascii"), 0o600)


def _clamp(octets: bytes) -> bytes:
    # RFC 7748 §5. X25519 would do it by itself; done here, as by `wg genkey`, all programs show the key alike.
    return bytes([octets[0] & 248, *octets[1:31], octets[31] & 127 | 64])
