"""The gate's own certificate authority: made anew with each gate, known to sandboxes alone, and its key is nowhere but in memory.

To be imported only where there are secrets: `cryptography` takes megabytes that a colony without any goes without.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from colony import egress
from egress.policy import since_boot

LIFETIME = timedelta(days=3650)  # of the authority; a gate may run for long
HOSTS_LIFETIME = timedelta(days=30)  # of what it signs
RENEWED_SECONDS = 86_400.0  # after which a host gets another one
KEPT = 256  # certificates of hosts
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Colony egress gate")])


class Authority:
    """For one thread."""

    def __init__(self, clock: Callable[[], float] = since_boot) -> None:
        self._clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = (
            _begun(_NAME, self._key, LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self._contexts: dict[str, tuple[float, ssl.SSLContext]] = {}  # with when each was made

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(Encoding.PEM)

    def context(self, host: str) -> ssl.SSLContext:
        """What the gate needs to be that host to a sandbox. It speaks HTTP/1.1 only, and TLS from 1.2 on."""
        made_at, found = self._contexts.get(host, (0.0, None))
        if found is None or self._clock() - made_at > RENEWED_SECONDS:
            if len(self._contexts) >= KEPT:
                self._contexts.clear()
            found = self._made(host)
            self._contexts[host] = self._clock(), found
        return found

    def _made(self, host: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.IPAddress(ipaddress.ip_address(host)) if egress.is_address(host) else x509.DNSName(host)
        certificate = (
            _begun(x509.Name([]), key, HOSTS_LIFETIME)
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.sni_callback = lambda _, asked, __: None if _is_same(asked, host) else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        with open(os.memfd_create("certificate"), "wb") as file:  # the module takes nothing but files; this one is in memory
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM))
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return context


def _begun(subject: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + lifetime)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    """It signs certificates, or else handshakes."""
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _is_same(asked: str | None, host: str) -> bool:
    """Whether the name that TLS asks for is the one that the tunnel was asked for."""
    try:
        return asked is None or egress.normal(asked) == host
    except ValueError:
        return False
