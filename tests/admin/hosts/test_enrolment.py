"""How a host gets in: by a token, once, in time, and for itself alone; and who is let in by a certificate."""

from __future__ import annotations

import os
import ssl
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, WSServerHandshakeError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from admin.hosts.authority import load_authority
from admin.hosts.certificates import Authority, HostRequest
from tests.admin.api import Api
from tests.admin.hosts.agents import ControlPlane, Files, LightAgent, ask_enrolment, enrol, new_key, read_authority
from tests.admin.hosts.conftest import Enrol
from tests.waiting import until_true
from watcher.session.protocol import CONTROL_PLANE_NAME, SESSION_PATH
from watcher.session.token import EnrolmentToken

HOSTS = "/v1/hosts"


async def token_for(api: Api, host: str, **body: Any) -> str:
    made = await api.post(f"{HOSTS}/{host}/enrolments", body)
    assert made.status == 201, made
    assert made.body["host"] == host
    token: str = made.body["token"]
    return token


async def stranger(plane: ControlPlane, token: str, host: str = "h1") -> Files:
    """The files of one who has a token, and no certificate yet."""
    return Files(host, new_key(), authority=await read_authority(plane.url, token))


async def test_a_token_is_good_once(api: Api, plane: ControlPlane) -> None:
    token = await token_for(api, "h1", environments=["production"])
    files = await enrol(plane.url, "h1", token)
    credential = (await api.store.credentials.read())["h1"]
    assert credential.environments == ("production",)
    assert await api.store.credentials.enrolments() == {}
    status, body = await ask_enrolment(plane.url, await stranger(plane, token), token)
    assert (status, "was used already" in body["detail"]) == (403, True)
    assert (await api.store.credentials.read())["h1"] == credential
    async with LightAgent(plane.url, files):
        pass


async def test_a_host_whose_reply_was_lost_is_given_its_certificate_again(api: Api, plane: ControlPlane) -> None:
    token = await token_for(api, "h1")
    files = await enrol(plane.url, "h1", token)
    status, body = await ask_enrolment(plane.url, files, token)
    assert (status, body["certificate"] != files.certificate) == (200, True)
    assert plane.service.counts.enrolled == 1


async def test_a_token_is_for_one_host_until_its_time_or_until_there_is_a_newer_one(
    api: Api, plane: ControlPlane
) -> None:
    older = await token_for(api, "h1")
    newer = await token_for(api, "h1")
    brief = await token_for(api, "h3", seconds=1)
    await until_true(lambda: _is_over(api, "h3"))
    for host, token in (("h2", newer), ("h1", older), ("h3", brief)):
        status, _ = await ask_enrolment(plane.url, await stranger(plane, token, host), token)
        assert status == 403, host
    assert await api.store.credentials.read() == {}
    await enrol(plane.url, "h1", newer)


async def _is_over(api: Api, host: str) -> bool:
    return (await api.store.credentials.enrolments())[host].until <= await api.store.clock.milliseconds()


async def test_what_is_no_request_is_refused_and_costs_no_token(api: Api, plane: ControlPlane) -> None:
    token = await token_for(api, "h1")
    files = await stranger(plane, token)
    other_key = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    of_another_kind = other_key.sign(rsa.generate_private_key(65537, 2048), SHA256())
    of_another_curve = other_key.sign(ec.generate_private_key(ec.SECP384R1()), SHA256())
    others = [one.public_bytes(Encoding.PEM).decode() for one in (of_another_kind, of_another_curve)]
    wrong = ["", "no PEM", "x" * 20_000, *others]
    tampered = files.request().splitlines()
    tampered[-3] = tampered[-3][::-1]
    for request in [*wrong, "\n".join(tampered)]:
        status, body = await ask_enrolment(plane.url, files, token, request)
        assert (status, set(body)) == (400, {"type", "status", "detail"}), request
    for bad in ("", "ile_", token[:-4], "ilk_" + token[4:]):
        assert (await ask_enrolment(plane.url, files, bad))[0] == 400
    guess = str(EnrolmentToken(b"g" * 16, EnrolmentToken.parse(token).authority))
    assert (await ask_enrolment(plane.url, files, guess))[0] == 403
    await enrol(plane.url, "h1", token)


async def test_several_control_planes_have_one_authority(api: Api, plane: ControlPlane) -> None:
    async with ControlPlane(api.store) as other:
        token = await token_for(api, "h1")
        files = await enrol(other.url, "h1", token)
        async with LightAgent(plane.url, files) as agent:
            assert agent.welcome.version == 1


async def test_an_authority_that_vanishes_from_the_store_is_put_back(api: Api, plane: ControlPlane) -> None:
    before = await api.store.credentials.authority()
    await forget_authority(api)
    await until_true(lambda: has_authority(api, before), "the authority is put back")


async def test_a_control_plane_follows_the_authority_that_the_store_has(api: Api, plane: ControlPlane) -> None:
    url = plane.url
    await enrol(url, "h1", await token_for(api, "h1"))
    other = Authority.generate().pem
    await forget_authority(api, other)
    token = await token_for(api, "h2")  # names the authority that was brought back

    async def can_enrol() -> bool:
        try:
            files = await enrol(url, "h2", token)
        except (AssertionError, ClientError, OSError):
            return False
        async with LightAgent(url, files):
            return True

    await until_true(can_enrol, "a host enrols by the other authority")
    assert await api.store.credentials.authority() == other


async def forget_authority(api: Api, other: bytes | None = None) -> None:
    """Has the store lose its authority, or have ``other`` in its place."""
    key = api.store.connection.keys.authority
    async with api.store.connection.client() as redis:
        await (redis.set(key, other) if other else redis.delete(key))


async def has_authority(api: Api, wanted: bytes | None) -> bool:
    return await api.store.credentials.authority() == wanted


async def refusal(plane: ControlPlane, tls: ssl.SSLContext, name: str = CONTROL_PLANE_NAME) -> int:
    """The HTTP status of a session that is refused; 0 where TLS itself has failed."""
    async with ClientSession() as http:
        try:
            async with http.ws_connect(plane.url + SESSION_PATH, ssl=tls, server_hostname=name):
                return 101
        except WSServerHandshakeError as error:
            return error.status
        except (ClientError, OSError):
            return 0


async def test_only_a_certificate_of_the_authority_for_a_host_opens_a_session(
    api: Api, plane: ControlPlane, enrolled: Enrol
) -> None:
    files = await enrolled("h1")
    assert await refusal(plane, files.tls()) == 101
    none = Files("h1", files.key, authority=files.authority)
    assert await refusal(plane, none.tls()) == 401

    authority, forged = await load_authority(api.store), Authority.generate()
    request = HostRequest.parse(files.request())
    by_another = Files("h1", files.key, forged.certify_host("h1", request), files.authority)
    assert await refusal(plane, by_another.tls()) == 0

    renamed = Files("h2", files.key, authority.certify_host("h2", request), files.authority)
    assert await refusal(plane, renamed.tls()) == 403  # signed, but the store has no such credential
    new = Files("h1", new_key(), authority=files.authority)
    new.certificate = authority.certify_host("h1", HostRequest.parse(new.request()))
    assert await refusal(plane, new.tls()) == 403

    pair = authority.certify_control_plane([])
    of_a_plane = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    of_a_plane.load_verify_locations(cadata=files.authority)
    _load(of_a_plane, pair)
    assert await refusal(plane, of_a_plane) == 0  # it is good for servers alone


async def test_the_certificate_of_a_host_is_none_of_a_control_plane(plane: ControlPlane, enrolled: Enrol) -> None:
    files = await enrolled("h1")
    certificate = x509.load_pem_x509_certificate(files.certificate.encode())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert await refusal(plane, files.tls(), "another.name") == 0


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    descriptor = os.memfd_create("pair")
    os.write(descriptor, pem)
    context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    os.close(descriptor)


@pytest.mark.parametrize("body", [{"seconds": 0}, {"seconds": 10**9}, {"environments": ["No Id"]}, {"more": 1}])
async def test_an_enrolment_that_breaks_a_rule(api: Api, body: Any) -> None:
    assert (await api.post(f"{HOSTS}/h1/enrolments", body)).status == 400
    assert (await api.post(f"{HOSTS}/H_1/enrolments", {})).status == 400
    assert await api.store.credentials.enrolments() == {}


async def test_who_is_enrolled_is_listed(api: Api, plane: ControlPlane, enrolled: Enrol) -> None:
    async with LightAgent(plane.url, await enrolled("h1", environments=["staging"])) as agent:
        await agent.join("192.0.2.1:51820")
    await enrolled("h2")
    await token_for(api, "h3")
    listed = (await api.get(HOSTS)).body
    assert [(host["id"], host["environments"], host["enrolled"] is not None) for host in listed["hosts"]] == [
        ("h1", ["staging"], True)
    ]
    assert listed["unregistered"] == ["h2", "h3"]
    changed = await api.put(f"{HOSTS}/h1", {"environments": None})
    assert (changed.status, changed.body["environments"]) == (200, None)
