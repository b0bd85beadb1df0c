"""A small certificate authority."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

SIGNING = (ExtendedKeyUsageOID.CODE_SIGNING,)
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def usage(*, sign: bool = False, certify: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign, content_commitment=False, key_encipherment=not (sign or certify),
        data_encipherment=False, key_agreement=False, key_cert_sign=certify, crl_sign=certify,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Authority:
    """Whoever may make certificates.

    Attributes:
        certificate: Its own.
        key: Of that.
    """

    certificate: x509.Certificate
    key: Key

    def certify(
        self,
        key: Key,
        name: str = "Signer",
        *,
        days: tuple[float, float] = (-1, 1),
        sign: bool = True,
        purposes: tuple[ObjectIdentifier, ...] | None = SIGNING,
        with_usage: bool = True,
    ) -> x509.Certificate:
        """Return a certificate of a signer; ``days`` are from now."""
        made = _builder(key, name, days).issuer_name(self.certificate.subject)
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        if with_usage:
            made = made.add_extension(usage(sign=sign), critical=True)
        if purposes is not None:
            made = made.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        return self._sign(made)

    def intermediate(self, name: str, *, days: tuple[float, float] = (-30, 30)) -> Authority:
        """Return an authority that this one trusts."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _as_authority(_builder(key, name, days).issuer_name(self.certificate.subject), key)
        return Authority(self._sign(made), key)

    def _sign(self, made: x509.CertificateBuilder) -> x509.Certificate:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return made.add_extension(issuer, critical=False).sign(self.key, hashes.SHA256())


def open_authority(name: str = "Root", *, days: tuple[float, float] = (-60, 60)) -> Authority:
    """Return an authority that nobody has certified."""
    key = ec.generate_private_key(ec.SECP256R1())
    own = _builder(key, name, days)
    made = _as_authority(own.issuer_name(_name(name)), key)
    return Authority(made.sign(key, hashes.SHA256()), key)


def save(path: Path, *certificates: x509.Certificate) -> Path:
    pem = serialization.Encoding.PEM
    path.write_bytes(b"".join(c.public_bytes(pem) for c in certificates))
    return path


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(key: Key, name: str, days: tuple[float, float]) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days[0]))
        .not_valid_after(now + timedelta(days[1]))
        .add_extension(
            x509.SubjectAlternativeName([x509.RFC822Name("signer@example.org")]), critical=False
        )
    )


def _as_authority(made: x509.CertificateBuilder, key: Key) -> x509.CertificateBuilder:
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage(certify=True), critical=True)
        .add_extension(own, critical=False)
    )
