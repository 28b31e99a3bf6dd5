"""The host that an agent runs on: its settings, its credential, and its connection to the control plane."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.control_plane.connection import ControlPlane
from agent.control_plane.credential import CredentialFiles
from agent.control_plane.enrolment import enrol
from agent.control_plane.errors import Unavailable
from agent.errors import CannotStart
from agent.identity import place
from agent.incarnation import load_incarnation
from interlock.errors import BadSetting, PartFailed
from interlock.settings.table import Settings
from support.endpoints import AutoEndpoint
from watcher.session.errors import BadToken
from watcher.session.token import EnrolmentToken
from watcher.session.view import SessionView


@dataclass(frozen=True, slots=True)
class HostSettings:
    """The settings that an agent cannot run without, checked to be there."""

    host: str
    """The id of this host."""
    endpoint: str | AutoEndpoint
    """Where other hosts reach this one's WireGuard, as they write it: ``192.0.2.1:51820``. Or it is found out."""
    directory: Path
    """Where the agent makes its sockets."""
    urls: tuple[str, ...]
    """Where the control planes listen for hosts."""
    enrol: str | None
    """The token by which this host enrols where it has no credential, or ``@`` and its file; None if none was given."""

    @classmethod
    def of(cls, settings: Settings) -> HostSettings:
        """Raises `BadSetting` where a setting is missing, and `PartFailed` where this user is not root."""
        if settings.host is None:
            raise BadSetting("which host is this? give --host or set INTERLOCK_HOST: its name cannot be an id")
        if settings.endpoint is None:
            raise BadSetting(
                "where do other hosts reach this one? give --endpoint ADDRESS:PORT, or --endpoint auto, or set"
                " INTERLOCK_ENDPOINT"
            )
        if settings.agent_dir is None:
            raise BadSetting("where are the agent's sockets to be? give --agent-dir or set INTERLOCK_AGENT_DIR")
        if not settings.api:
            raise BadSetting("where is the control plane? give --api https://ADDRESS:PORT or set INTERLOCK_API")
        if plain := [url for url in settings.api if not url.startswith("https://")]:
            raise BadSetting(f"the control plane is spoken to by TLS: write {plain[0]!r} as https://ADDRESS:PORT")
        if os.geteuid():
            raise PartFailed("'interlock agent' changes the network of its host: run it as root")
        endpoint = settings.endpoint if isinstance(settings.endpoint, AutoEndpoint) else str(settings.endpoint)
        return cls(settings.host, endpoint, settings.agent_dir, settings.api, settings.enrol)


async def connect(settings: Settings, host: HostSettings, view: SessionView) -> tuple[ControlPlane, bool]:
    """The connection to the control plane, and whether this agent is the successor of the last one in this place.

    A host without a credential, or with one that was ended, is enrolled if there is a token for it. Raises
    `CannotStart`.
    """
    incarnation, is_admitted = await load_incarnation(settings.state_dir)
    files = CredentialFiles(settings.state_dir)
    await asyncio.to_thread(files.remove_partials)
    is_enrolled = files.exist
    if not is_enrolled:
        if host.enrol is None:
            raise CannotStart(
                f"this host is not enrolled: run 'interlock host enrol {host.host}' where the admin token is, and give"
                " what it prints here as --enrol"
            )
        await enrol(host.urls, host.host, await asyncio.to_thread(_token, host.enrol), files)
    elif (owner := await asyncio.to_thread(files.owner)) != host.host:
        raise CannotStart(
            f"the credential in {settings.state_dir} is that of host {owner!r}, and not of {host.host!r}: is --host"
            " right? to make this another host, remove the state directory, and enrol it"
        )
    elif host.enrol is not None and (token := await asyncio.to_thread(_token_if_there, host.enrol)):
        await asyncio.to_thread(files.check_authority, token.authority)
    control_plane = ControlPlane(host.urls, files, incarnation, place(str(host.endpoint)), view)
    await control_plane.start()
    if is_enrolled and host.enrol and control_plane.is_refused:
        await enrol(host.urls, host.host, await asyncio.to_thread(_token, host.enrol), files)
        with suppress(Unavailable):
            await control_plane.begin_anew()
    return control_plane, is_admitted


def _token(given: str) -> EnrolmentToken:
    """The token that ``given`` is, or that is in the file that it names after an @. Raises `BadSetting`."""
    try:
        return EnrolmentToken.parse(Path(given[1:]).read_text("ascii") if given.startswith("@") else given)
    except BadToken as error:
        raise BadSetting(f"--enrol: {error}") from None
    except OSError as error:
        raise BadSetting(
            f"--enrol: the file {given[1:]} cannot be read: {error.strerror}: write the token to it that 'interlock"
            " host enrol' prints, or give the token itself"
        ) from None
    except UnicodeDecodeError:
        raise BadSetting(
            f"--enrol: the file {given[1:]} is no text: write the token to it that 'interlock host enrol' prints"
        ) from None


def _token_if_there(given: str) -> EnrolmentToken | None:
    """The token that ``given`` is or names; None where it is not there or no token: it was used, and may be gone."""
    try:
        return _token(given)
    except BadSetting:
        return None
