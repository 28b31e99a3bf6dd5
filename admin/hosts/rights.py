"""What a host may do: the rules, without I/O. Which host that is, is never a question: it is that of the session."""

from __future__ import annotations

from msgspec.structs import replace

from admin.hosts.errors import BadRequest, NotAllowed
from admin.hosts.proofs import Challenge
from store.credentials import Credential
from watcher.session.protocol import Hello, Register
from zones.hosts import Host

LONGEST_WORD = 64  # characters of an incarnation
LONGEST_WHERE = 200  # characters


def check_hello(hello: Hello) -> None:
    """Raises `BadRequest` unless the session can begin with ``hello``."""
    if hello.version < 1:
        raise BadRequest(f"no control plane speaks version {hello.version} of the protocol: update the agent")
    word = hello.incarnation
    if not (word.isascii() and word.isalnum() and len(word) <= LONGEST_WORD):
        raise BadRequest(f"the incarnation is not one word of at most {LONGEST_WORD} letters and digits")
    if not hello.where.isprintable() or len(hello.where) > LONGEST_WHERE:
        raise BadRequest(f"'where' is not a text of at most {LONGEST_WHERE} characters that can be printed")


def check_document(host: str, request: Register, challenge: Challenge) -> None:
    """Raises `NotAllowed` unless ``request`` is about ``host``, and proves each of its public keys."""
    for document in (request.host, request.before):
        if document is not None and document.id != host:
            raise NotAllowed(f"this session is of the host {host!r}, and the document is of {document.id!r}")
    for key in filter(None, (request.host.public_key, request.host.next_public_key)):
        if not challenge.is_met(host, key, request.proofs.get(key, "")):
            raise NotAllowed(f"the host {host!r} has not proved that it has the private key of {key}")


def may_place(credential: Credential, environment: str) -> bool:
    """Whether the host may place instances in ``environment``."""
    return credential.environments is None or environment in credential.environments


def not_assigned(host: str, environment: str) -> NotAllowed:
    """The error of a host that may not place instances in ``environment``."""
    return NotAllowed(
        f"the host {host!r} may not place instances in the environment {environment!r}: place it there by the API, or"
        f" enrol the host for that environment"
    )


def with_drain(document: Host, known: Host | None) -> Host:
    """``document``, which drains as ``known`` does: that is not the agent's to say."""
    return replace(document, draining=known.draining if known else False)
