"""Certificates (X.509, RFC 5280): the platform's authority, and those that it signs. This adapts cryptography to it.

    authority       signs the other two, and is what agents trust
    control plane   shown to agents: serverAuth, and the name that no other certificate has
    host            shown by an agent: clientAuth, and the id of the host as its common name

All keys are of the curve P-256. A certificate of a host is good for long, for the store decides whether its key is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from admin.hosts.errors import BadAuthority, BadRequest
from watcher.session.protocol import CONTROL_PLANE_NAME

EARLIER = timedelta(days=1)  # that a certificate is good before it was made, for hosts whose clocks are behind
AUTHORITY_LIFE = timedelta(days=30 * 365)
HOST_LIFE = timedelta(days=10 * 365)  # longer than a host lives
CONTROL_PLANE_LIFE = timedelta(days=30)  # each process makes a new one every day
MAX_REQUEST = 8192  # octets of a certificate signing request; one for a key of P-256 has 400

_PublicKey = ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class HostRequest:
    """A certificate signing request that was signed with the key that it is for."""

    fingerprint: str
    """SHA-256 of the public key (SubjectPublicKeyInfo), in hexadecimal digits."""
    key: _PublicKey = field(repr=False)
    """The public key."""

    @classmethod
    def parse(cls, text: str) -> HostRequest:
        """The request that ``text`` has in PEM. Whom it names is passed over. Raises `BadRequest`."""
        try:
            if len(text) > MAX_REQUEST:
                raise ValueError
            request = x509.load_pem_x509_csr(text.encode())
            key, is_signed = request.public_key(), request.is_signature_valid
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            raise BadRequest("this is no certificate signing request in PEM") from None
        if not is_signed or not isinstance(key, _PublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise BadRequest("the request must be for a key of the curve P-256, and signed with it")
        return cls(_fingerprint(key), key)


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """What a host has shown: a certificate that the authority has signed."""

    host: str
    """The host that it is for."""
    fingerprint: str
    """SHA-256 of its public key, as in `HostRequest`."""

    @classmethod
    def parse(cls, der: bytes) -> ShownCertificate:
        """What ``der`` says, whose signature was checked. Raises `BadRequest` where it is no certificate of a host."""
        try:
            certificate = x509.load_der_x509_certificate(der)
            names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (ValueError, x509.ExtensionNotFound):
            raise BadRequest("the certificate cannot be read") from None
        if len(names) != 1 or list(usage) != [ExtendedKeyUsageOID.CLIENT_AUTH]:
            raise BadRequest("this is no certificate of a host")
        return cls(str(names[0].value), _fingerprint(certificate.public_key()))


@dataclass(frozen=True, slots=True)
class Authority:
    """The platform's certificate authority."""

    certificate: x509.Certificate
    """Its certificate, which it has signed itself."""
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    """Its private key, which only control planes and the store have."""

    @classmethod
    def generate(cls) -> Authority:
        """A new authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "interlock authority")])
        builder = _builder(name, name, key.public_key(), AUTHORITY_LIFE).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        signed = builder.add_extension(_usage(sign=True), critical=True).sign(key, SHA256())
        return cls(signed, key)

    @classmethod
    def parse(cls, pem: bytes) -> Authority:
        """The authority that ``pem`` holds, as `pem` gives it. Raises `BadAuthority`."""
        try:
            certificate, key = x509.load_pem_x509_certificate(pem), load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise BadAuthority("the certificate authority in the store cannot be read") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise BadAuthority("the key of the certificate authority in the store is of another kind")
        return cls(certificate, key)

    @property
    def pem(self) -> bytes:
        """Its private key and its certificate."""
        return _pem(self.key) + self.certificate.public_bytes(Encoding.PEM)

    @property
    def certificate_pem(self) -> str:
        """Its certificate, which is no secret."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def digest(self) -> bytes:
        """SHA-256 of its certificate in DER, by which enrolment tokens name it."""
        return sha256(self.certificate.public_bytes(Encoding.DER)).digest()

    def certify_control_plane(self, names: Iterable[str]) -> bytes:
        """A new private key and its certificate, in PEM, for a control plane with the addresses or names ``names``."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [x509.DNSName(CONTROL_PLANE_NAME), *map(_general_name, dict.fromkeys(names))]
        certificate = self._sign("interlock control plane", key.public_key(), CONTROL_PLANE_LIFE, is_server=True,
                                 alternatives=alternatives)  # fmt: skip
        return _pem(key) + certificate.public_bytes(Encoding.PEM)

    def certify_host(self, host: str, request: HostRequest) -> str:
        """The certificate, in PEM, of ``host`` for the key of ``request``."""
        certificate = self._sign(host, request.key, HOST_LIFE, is_server=False)
        return certificate.public_bytes(Encoding.PEM).decode()

    def _sign(
        self,
        name: str,
        key: _PublicKey,
        life: timedelta,
        *,
        is_server: bool,
        alternatives: Iterable[x509.GeneralName] = (),
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if is_server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(subject, self.certificate.subject, key, life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if names := list(alternatives):
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, SHA256())


def _builder(subject: x509.Name, issuer: x509.Name, key: _PublicKey, life: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _fingerprint(key: object) -> str:
    assert hasattr(key, "public_bytes")
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
