"""The messages of a session: what the agent of a host and a control plane say to each other. No I/O happens here.

A session is one WebSocket (RFC 6455) over TLS. The certificate that the agent shows says which host it is; nothing in a
message does. Each message is one JSON object, whose ``is`` names the kind. What the control plane says may come several
messages at a time, each on a line of its own: a host that has many others is sent thousands when it comes back.

    agent ──► control plane    requests, each with a number          answers come in any order
    control plane ──► agent    `Answer` or `Failure`, with the number of the request
    control plane ──► agent    updates, without a number: what the host is to know, in an order that can be applied

The first request is `Hello`. Nothing else is answered before it, and updates follow it: all of the environments that
have a member on the host, all hosts that these need, then `Loaded`; after that, each change. A host is named before
the first environment that needs it, and `HostGone` comes after the last one.

An environment is named whole once in a session (`EnvironmentIs`). After that, an agent that speaks version 2 or newer
is sent what it has otherwise than when it was named last (`EnvironmentChanged`), and an older one all of it again. With
version 3 an instance may be connected before it is committed (`PutInstance.connected`). The version that is spoken is
the lower one of the two ends, so agents and control planes may be upgraded in any order. An agent that cannot apply a
difference ends the session, and is sent everything in the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import TypeVar, get_args

import msgspec
from msgspec import Raw, Struct

from watcher.session.errors import SessionBroken
from watcher.session.lookups import Lookup, LookupFilter
from zones.hosts import Host
from zones.keys import PublicKey
from zones.model import State
from zones.names import EnvironmentId

T = TypeVar("T")

VERSION = 3  # of this protocol
DIFFERENCES = 2  # the version from which agents are sent differences
CONNECTED = 3  # the version from which a control plane knows of `PutInstance.connected`
ALL_HOSTS = "@hosts"  # in place of an environment's id: the documents of all hosts
SESSION_PATH = "/v1/session"
ENROLMENT_PATH = "/v1/enrolment"
AUTHORITY_PATH = "/v1/authority"
LEASE = 5.0  # seconds that other hosts wait for a host that has died; an agent renews its lease well within them
IDLE = 15.0  # seconds without a message from the agent after which its session ends: it renews its lease, if it lives
MAX_REQUEST = 1 << 20  # octets; of an acknowledgement of every environment that a host may have, and more
CONTROL_PLANE_NAME = "control-plane.interlock"  # a DNS name (SAN) of each control plane's certificate, and of no other;
# agents verify it by TLS itself, before they send anything, whatever the address that they have connected to
REFUSED_STATUS = 403  # of HTTP: the certificate is not the credential of a host; a control plane that cannot say: 503
REFUSED_CLOSE = 4403  # of the WebSocket: the credential of this session was ended
EXCERPT = 60  # octets of a bad message that an error quotes


class Close(IntEnum):
    """Why a control plane ends a session: the code of the close frame (RFC 6455 §7.4.2: 4000 to 4999 are private)."""

    CREDENTIAL = REFUSED_CLOSE
    """The credential is not good any more: the host was forgotten, or has shown a newer key."""
    REPLACED = 4002
    """The same agent has begun another session."""
    CROWDED = 4003
    """The host has too many sessions."""
    BROKEN = 4004
    """The agent sent what is no message."""
    IDLE = 4005
    """The agent sent nothing for `IDLE` seconds."""
    SLOW = 4006
    """The agent did not read what it was sent. It may come back: it is sent the newest state then."""
    GOING = 4007
    """The control plane ends: try another one."""


class _Message(Struct, frozen=True, tag_field="is", omit_defaults=True, forbid_unknown_fields=False):
    """A message. Fields that a later release adds are passed over."""


# Requests, from the agent


class _Request(_Message, frozen=True):
    number: int
    """Names the request in its answer; no two requests of a session have the same."""


class Hello(_Request, frozen=True, tag="hello"):
    """The first request. The answer is `Welcome`."""

    version: int
    """The newest version of the protocol that the agent speaks."""
    incarnation: str
    """What tells this agent from one with a copy of its state directory. One word."""
    where: str
    """Where the agent runs, in words, for whoever reads that two agents claim to be one host."""


class Register(_Request, frozen=True, tag="register"):
    """Writes the document of this host. The answer is `Counted`: the revision of all hosts.

    The control plane refuses a document of another host, and each public key without a proof.
    """

    host: Host
    """The document. Whether the host is draining is the control plane's to say, and not taken from here."""
    proofs: Mapping[PublicKey, str]
    """For each public key of ``host`` the proof that this host has the private one; see `key_proof_input`."""
    before: Host | None = None
    """The document that must be there until then. None: any, or none."""


class Renew(_Request, frozen=True, tag="renew"):
    """Renews the lease of this host, or takes it. The answer is `Renewed`."""

    is_able: bool
    """Whether this host can apply what it hears. If not, nobody waits for it; its names stay, for it lives."""


class Acknowledge(_Request, frozen=True, tag="acknowledge"):
    """Revisions that this host has programmed, and its resolvers serve. The answer is `Done`."""

    revisions: Mapping[str, int]
    """Environment, or `ALL_HOSTS`, → revision."""


class Wait(_Request, frozen=True, tag="wait"):
    """Answered once all other live hosts concerned have acknowledged the revision, with `Waited`."""

    id: str
    """An environment that has a member on this host, or had one until this revision; or `ALL_HOSTS`."""
    revision: int
    """The revision."""
    seconds: float
    """After so many it is answered even so, and names the hosts that lag."""
    hosts: tuple[str, ...] = ()
    """The hosts that are waited for. None of them: all that are concerned."""


class Connected(Struct, frozen=True):
    """A workload that its host has connected, and lets all other hosts of the environment reach."""

    address: str
    """Where it is connected; the instance may get another address."""
    beside: tuple[str, str]
    """Service and id of an instance that is ready on this host: so the host has heard of all other hosts."""


class PutInstance(_Request, frozen=True, tag="put"):
    """Commits an instance on this host; the first commit gives it its address. The answer is `Committed`.

    An instance of another host is taken over if that host's lease has ended; else it is refused.
    """

    environment: EnvironmentId
    """The environment."""
    service: str
    """The service, by the name that it had when the instance was attached."""
    instance: str
    """The instance."""
    state: State
    """The state that it is to be in."""
    address: str | None = None
    """The address that the instance had before, by which it is found if its service was renamed since."""
    region: str | None = None
    """The region of the instance. None: that of the host."""
    connected: Connected | None = None
    """How the workload is connected already. Where that is not so any more, the instance is committed as starting,
    whatever ``state`` says. None: it is not connected yet, or nobody waits for that."""


class SetState(_Request, frozen=True, tag="state"):
    """Changes the state of an instance of this host, if it is still there. The answer is `Done`."""

    environment: EnvironmentId
    """The environment."""
    service: str
    """The service; see `PutInstance`."""
    instance: str
    """The instance."""
    state: State
    """The state that it is to be in."""
    only_from: State | None = None
    """Changes it only from this state. None: from any."""
    address: str | None = None
    """The address of the instance; see `PutInstance`."""
    attached: bool | None = None
    """Whether it is attached here from now on. None: as it was."""


class RemoveInstance(_Request, frozen=True, tag="remove"):
    """Removes an instance of this host. The answer is `Removed`."""

    environment: EnvironmentId
    """The environment."""
    service: str
    """The service; see `PutInstance`."""
    instance: str
    """The instance."""
    address: str | None = None
    """The address of the instance; see `PutInstance`."""


class AskFate(_Request, frozen=True, tag="fate"):
    """Asks what has become of an instance that this host has committed. The answer is `Fate`."""

    environment: EnvironmentId
    """The environment."""
    service: str
    """The service; see `PutInstance`."""
    instance: str
    """The instance."""
    revision: int
    """The revision of the environment at which this host committed it last."""
    address: str | None = None
    """The address of the instance; see `PutInstance`."""


class AskGone(_Request, frozen=True, tag="ask_gone"):
    """Asks which of some environments, that this session has not named, are gone by a word. The answer is `Gone`.

    A host that was away has not heard `EnvironmentGone`, and what is merely missing it does not give up.
    """

    environments: tuple[EnvironmentId, ...]
    """The environments."""


class AskState(_Request, frozen=True, tag="mesh"):
    """Asks how far the hosts are that share an environment with this one. The answer is `MeshState`."""


class Certify(_Request, frozen=True, tag="certify"):
    """Prepares a new credential of this host. The answer is `Certified`.

    The first session that shows it makes it the only one: all that show the one before it end. If the answer is lost,
    the one before it is still good.
    """

    request: str
    """A certificate signing request (RFC 2986) for the new key, in PEM."""


class Examined(_Request, frozen=True, tag="examined"):
    """The facts that the control plane has asked for with `Examine`. The answer is `Done`."""

    ask: int
    """Which `Examine` it answers."""
    facts: str
    """The facts about this host, in JSON: `agent.examine.facts`."""


class Seen(_Request, frozen=True, tag="seen"):
    """Look-ups that the resolvers of this host have answered, of those that `Watch` asks for. The answer is `Done`.

    The first one after a `Watch` says that the agent knows what is asked. Its answer says by ``changed`` whether
    somebody still watches.
    """

    lookups: tuple[Lookup, ...] = ()
    """The look-ups, in the order in which they came here."""
    left_out: Mapping[str, int] = {}
    """How many more were left out since the request before, by the environment of their clients (empty: none)."""
    resolvers: int = 0
    """How many resolvers of this host give look-ups now."""


class Leave(_Request, frozen=True, tag="leave"):
    """Removes this host: its document, its lease and its credential. The answer is `Done`, and the session ends."""


Request = (
    Hello
    | Register
    | Renew
    | Acknowledge
    | Wait
    | PutInstance
    | SetState
    | RemoveInstance
    | AskFate
    | AskGone
    | AskState
    | Certify
    | Examined
    | Seen
    | Leave
)
"""What an agent may ask. Each is about the host of the session, and about no other."""


# Answers, from the control plane


class _Answer(_Message, frozen=True):
    number: int
    """The number of the request."""


class Welcome(_Answer, frozen=True, tag="welcome"):
    """The session has begun."""

    version: int
    """The version of the protocol that is spoken from here on."""
    challenge: PublicKey
    """The control plane's X25519 public key of this session, for the proofs of `Register`."""
    host: Host | None = None
    """The document of this host as the store has it. None: it is not registered."""


class Counted(_Answer, frozen=True, tag="counted"):
    """The request was done."""

    revision: int
    """The revision of what it changed."""


class Renewed(_Answer, frozen=True, tag="renewed"):
    """The lease was renewed."""

    milliseconds: int
    """The store's time, in Unix milliseconds."""
    rival: str = ""
    """Where another agent runs that has claimed to be this host lately, in words; empty for none."""


class Waited(_Answer, frozen=True, tag="waited"):
    """The wait is over."""

    lagging: tuple[str, ...] = ()
    """The live hosts whose acknowledgement was still to come at the deadline."""


class Committed(_Answer, frozen=True, tag="committed"):
    """The instance is committed."""

    revision: int
    """The revision of the environment that has it."""
    service: str
    """The present name of its service."""
    address: str
    """Its address."""
    enabled: bool
    """Whether the environment's private networking is switched on."""
    is_starting: bool = False
    """Whether the instance is starting now; control planes of version 2 do not say so."""


class Removed(_Answer, frozen=True, tag="removed"):
    """The instance is not there any more."""

    revision: int | None = None
    """The revision of the environment without it. None: it was not there, or was not this host's."""


class Fate(_Answer, frozen=True, tag="became"):
    """What has become of an instance."""

    fate: str
    """``here``, ``removed``, ``lost`` or ``unknown``: see `agent.attach.record.Fate`."""


class Gone(_Answer, frozen=True, tag="are_gone"):
    """The environments that are gone: deleted by somebody, or there, and without a member on this host."""

    environments: tuple[EnvironmentId, ...]
    """Of those that were asked for."""


class MeshState(_Answer, frozen=True, tag="state_is"):
    """How far the hosts are that share an environment with the one that asks, itself included."""

    live: tuple[str, ...]
    """Those that live and are able."""
    acknowledged: Mapping[str, Mapping[str, int]]
    """The newest revision that each has acknowledged, by environment (or `ALL_HOSTS`) and host."""


class Certified(_Answer, frozen=True, tag="certified"):
    """The new credential."""

    certificate: str
    """The host's certificate, in PEM."""


class Done(_Answer, frozen=True, tag="done"):
    """The request was done."""

    changed: bool = True
    """Whether it changed anything."""


Answer = Welcome | Counted | Renewed | Waited | Committed | Removed | Fate | Gone | MeshState | Certified | Done
"""What a request is answered with when it was done."""


class Failure(_Answer, frozen=True, tag="failed"):
    """The request was not done. Nothing changed, unless ``kind`` is ``unavailable``."""

    kind: str
    """One of `KINDS`."""
    text: str
    """What is wrong and what to do, in one line."""


KINDS = {
    "unavailable": "the store or this control plane cannot do it now: try again, or ask another control plane",
    "lease": "another agent is this host, and lives",
    "conflict": "somebody else was first: look again, and decide again",
    "missing": "something that the request names does not exist",
    "invalid": "the request breaks a rule of the model",
    "refused": "the request is well formed, and this host may not do that",
    "taken": "another host has this key or this endpoint",
}
"""The kinds of a `Failure`, and what each means."""


# Updates, from the control plane


class EnvironmentIs(_Message, frozen=True, tag="environment"):
    """The newest document of an environment that has a member on this host."""

    id: EnvironmentId
    """The environment."""
    revision: int
    """The revision of ``document``."""
    document: Raw
    """The environment, as `zones.document` encodes it."""
    digest: str = ""
    """Its digest, as the store has it. Empty, as from an older control plane: that of ``document``."""


class EnvironmentChanged(_Message, frozen=True, tag="environment_changed"):
    """The newest revision of an environment, by what it has otherwise than the one that was named last."""

    id: EnvironmentId
    """The environment."""
    before: int
    """The revision that was named last."""
    revision: int
    """The newest one."""
    difference: Raw
    """What has changed, as `zones.parts` encodes it."""
    digest: str
    """The digest of the newest revision."""


class EnvironmentUnreadable(_Message, frozen=True, tag="environment_unreadable"):
    """The newest document of an environment that has a member on this host cannot be used: the one before it stays.

    It names the environment, as `EnvironmentIs` does. An `EnvironmentIs` or `EnvironmentChanged` that follows ends it.
    """

    id: EnvironmentId
    """The environment."""
    reason: str
    """What is wrong with the document."""


class EnvironmentGone(_Message, frozen=True, tag="gone"):
    """The environment was deleted, or has no member on this host any more. Somebody has said so: it is no absence."""

    id: EnvironmentId
    """The environment."""


class HostIs(_Message, frozen=True, tag="host"):
    """The document of this host, or of one that shares an environment with it."""

    host: Host
    """The document."""
    is_down: bool = False
    """Whether the host is down: its instances are not answered."""


class HostGone(_Message, frozen=True, tag="host_gone"):
    """The host was forgotten, or shares no environment with this one any more."""

    id: str
    """The host."""


class HostUnreadable(_Message, frozen=True, tag="host_unreadable"):
    """The document of a host that is concerned cannot be read: what was known of it stays."""

    id: str
    """The host."""
    reason: str
    """What is wrong with the document."""


class HostsAre(_Message, frozen=True, tag="hosts"):
    """All changes of hosts up to this revision have been named. The agent acknowledges it, as `ALL_HOSTS`."""

    revision: int
    """The revision of all hosts."""


class Loaded(_Message, frozen=True, tag="loaded"):
    """All environments and hosts have been named: one that was not named does not exist here.

    It is an absence: the agent's guard judges it (`watcher.guard`). It is said again, with another epoch, when the
    control plane goes on with another data set: then what the session has named, and not taken back, is all.
    """

    epoch: str | None
    """The data set that the store holds. None: it is empty."""


class Held(_Message, frozen=True, tag="held"):
    """What the control plane holds on to though it has vanished from the store, for the reports of the host."""

    texts: tuple[str, ...]
    """A sentence each; none: nothing is held any more."""


class Stale(_Message, frozen=True, tag="stale"):
    """The store does not answer the control plane: what it says is as of a time that has passed."""

    since: float | None
    """Since when, in Unix seconds. None: the store answers again."""


class Confirmed(_Message, frozen=True, tag="confirmed"):
    """Somebody has confirmed that what has vanished is deleted: nothing is held on to any more."""


class Examine(_Message, frozen=True, tag="examine"):
    """Asks for facts about this host, for `interlock doctor`. The agent sends `Examined`, within a second or never."""

    ask: int
    """Names the question in `Examined`."""
    question: str
    """What is asked about, in JSON: `agent.examine.question`."""


class Watch(_Message, frozen=True, tag="watch"):
    """Asks for look-ups, from now on, with `Seen`. It takes the place of the one before; the session ends it."""

    filters: tuple[LookupFilter, ...] = ()
    """Which look-ups are asked for: those that one of these wants. None of them: nobody watches any more."""
    most: int = 0
    """How many a second are asked for at most; the agent counts the others."""


Update = (
    EnvironmentIs
    | EnvironmentChanged
    | EnvironmentUnreadable
    | EnvironmentGone
    | HostIs
    | HostGone
    | HostUnreadable
    | HostsAre
    | Loaded
    | Held
    | Stale
    | Confirmed
    | Examine
    | Watch
)
"""What a control plane says without being asked."""


class Enrolment(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of the request at `ENROLMENT_PATH`, which needs no certificate.

    It is JSON, and so is the reply: an `Enrolled` with status 200, or a problem document (RFC 9457) with another one.
    `AUTHORITY_PATH` has the certificate of the authority, in PEM.
    """

    host: str
    """The host that asks. The subject of its certificate will have it as its one common name."""
    token: str
    """The token that ``interlock host enrol`` printed for this host; it can be used once."""
    request: str
    """A certificate signing request (RFC 2986) for the host's key, in PEM."""


class Enrolled(Struct, frozen=True):
    """The host is enrolled; its token is used up. Fields that a later release adds are passed over."""

    certificate: str
    """The host's certificate, in PEM."""


def key_proof_input(host: str, key: PublicKey) -> bytes:
    """What a proof is computed over.

    The proof that a host has the private half of ``key`` is HMAC-SHA-256 in hexadecimal digits, over these octets, by
    the shared secret of that private key and `Welcome.challenge` (X25519, RFC 7748 §6.1). Who has the private key and
    who has sent the challenge can compute it, and nobody else.
    """
    return b"interlock host key\n%s\n%s" % (host.encode(), key.encode())


def encode(message: Request | Answer | Failure | Update) -> bytes:
    """The message as JSON."""
    return _encoder.encode(message)


def join_messages(messages: Iterable[bytes]) -> bytes:
    """``messages``, as `encode` has made them, to be sent at once. None of them has a line break."""
    return b"\n".join(messages)


def split_messages(read: bytes | str) -> list[bytes]:
    """The messages in ``read``, which came at once."""
    return (read.encode() if isinstance(read, str) else read).split(b"\n")


def decode_request(read: bytes | str) -> Request:
    """The request in ``read``. Raises `SessionBroken`."""
    return _decode(_requests, read, "an agent")


def decode_message(read: bytes | str) -> Answer | Failure | Update | None:
    """The answer or update in ``read``; None for a kind that this release does not know. Raises `SessionBroken`."""
    kind = _decode(_kinds, read, "the control plane").kind
    return _decode(_messages, read, "the control plane") if kind in _KNOWN else None


def _decode(decoder: msgspec.json.Decoder[T], read: bytes | str, sender: str) -> T:
    try:
        return decoder.decode(read)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SessionBroken(f"{sender} sent {read[:EXCERPT]!r}, which is no message: {error}") from None


class _Kind(Struct, frozen=True):
    kind: str = msgspec.field(name="is")


_KNOWN = {one.__struct_config__.tag for one in (*get_args(Answer), *get_args(Update), Failure)}
_encoder = msgspec.json.Encoder()
_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_messages: msgspec.json.Decoder[Answer | Failure | Update] = msgspec.json.Decoder(Answer | Failure | Update)
_kinds = msgspec.json.Decoder(_Kind)
