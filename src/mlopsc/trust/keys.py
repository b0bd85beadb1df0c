"""Keys and certificates: PEM files, ECDSA on P-256 or Ed25519.

A key is named by the SHA-256 of its public part (DER, SubjectPublicKeyInfo), ``sha256:hex``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from mlopsc.errors import KeyFileError, SignatureError
from mlopsc.outputs import atomic_file, check_free
from mlopsc.schema.common import Digest, digest_bytes

KeyType = Literal["ecdsa-p256", "ed25519"]
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

PUBLIC_SUFFIX: Final = ".pub"
_MAX_BYTES = 1 << 16
_HASH = hashes.SHA256()
# Order of P-256: with (r, s) also (r, order - s) is a signature. Only the smaller s counts, so that
# nobody without the key can make another signature out of one.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_MAX_PASSWORD = 1023  # bytes, of OpenSSL


@dataclass(frozen=True)
class Certificate:
    """A signer's certificate and those between it and a root.

    Attributes:
        chain: The signer's first.
    """

    chain: tuple[x509.Certificate, ...]

    @property
    def key(self) -> PublicKey:
        """The signer's public key.

        Raises:
            KeyFileError: It is of a kind that is not supported.
        """
        try:
            key = self.chain[0].public_key()
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _unsupported("the certificate") from error
        return _supported_public(key, "the certificate")

    @property
    def digests(self) -> tuple[Digest, ...]:
        """Digest of each certificate."""
        return tuple(digest_bytes(c.public_bytes(serialization.Encoding.DER)) for c in self.chain)

    @property
    def subject(self) -> str:
        """What the signer's certificate calls them, in one line."""
        return _one_line(self.chain[0].subject.rfc4514_string())


def key_id(key: PublicKey) -> Digest:
    """Return the name of a key."""
    return digest_bytes(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def public_pem(key: PublicKey) -> bytes:
    """Return a public key as PEM."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def generate_keys(
    path: Path, *, kind: KeyType, password: bytes | None, force: bool = False
) -> PublicKey:
    """Write a new private key to ``path`` (mode 0600) and the public one beside it, ``path.pub``.

    Raises:
        KeyFileError: The password is too long.
        OutputError: One exists already (without ``force``), or cannot be written.
    """
    if password is not None and len(password) > _MAX_PASSWORD:
        raise KeyFileError(
            f"the password has {len(password)} bytes; expected {_MAX_PASSWORD} at most",
            hint="choose a shorter one",
        )
    key: PrivateKey
    if kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    public = path.with_name(path.name + PUBLIC_SUFFIX)
    check_free(path, force=force)
    with atomic_file(public, force=force) as new_public, atomic_file(path, force=force) as new:
        new_public.write_bytes(public_pem(key.public_key()))
        new.touch(mode=0o600)
        new.write_bytes(private_pem(key, password))
    return key.public_key()


def private_pem(key: PrivateKey, password: bytes | None) -> bytes:
    """Return a private key as PEM, encrypted if there is a password."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def is_encrypted(path: Path) -> bool:
    """Whether a private key needs a password.

    Raises:
        KeyFileError: It cannot be read.
    """
    return b"ENCRYPTED" in _read(path, "a private key")


def load_private(path: Path, password: bytes | None = None) -> PrivateKey:
    """Read a private key.

    Raises:
        KeyFileError: It is none, is of another kind, or the password is wrong or missing.
    """
    data = _read(path, "a private key")
    try:
        key = serialization.load_pem_private_key(data, password)
    except TypeError as error:
        needs = password is None
        raise KeyFileError(
            f"the private key '{path}' {'needs a password' if needs else 'has no password'}",
            hint="give it at the prompt, in MLOPSC_KEY_PASSWORD or with --password-file"
            if needs
            else "leave the password out",
        ) from error
    except ValueError as error:
        wrong = b"ENCRYPTED" in data
        raise KeyFileError(
            f"'{path}' is no PEM file of a private key"
            + (", or the password is wrong" if wrong else ""),
            hint="give the right password" if wrong else "'mlopsc keygen -o KEY' makes one",
        ) from error
    except UnsupportedAlgorithm as error:
        raise _unsupported(path) from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise _unsupported(path)


def load_public(path: Path) -> PublicKey:
    """Read a public key.

    Raises:
        KeyFileError: It is none, or of another kind.
    """
    data = _read(path, "a public key")
    if b"PRIVATE KEY" in data:
        raise KeyFileError(
            f"'{path}' is a private key; expected a public one",
            hint=f"give '{path}{PUBLIC_SUFFIX}', and keep the private key to yourself",
        )
    return parse_public(data, f"'{path}'")


def parse_public(data: bytes, what: str) -> PublicKey:
    """Return the public key in a PEM text.

    Raises:
        KeyFileError: It is none, or of another kind.
    """
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{what} is no PEM file of a public key") from error
    return _supported_public(key, what)


def load_certificates(paths: tuple[Path, ...]) -> tuple[x509.Certificate, ...]:
    """Read certificates, in their order.

    Raises:
        KeyFileError: A file holds none.
    """
    found: list[x509.Certificate] = []
    for path in paths:
        try:
            found += x509.load_pem_x509_certificates(_read(path, "a certificate"))
        except ValueError as error:
            raise KeyFileError(f"'{path}' is no PEM file of certificates") from error
    return tuple(found)


def sign_bytes(key: PrivateKey, data: bytes) -> bytes:
    """Return the signature of ``data``: ECDSA with SHA-256, or Ed25519."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(_HASH)))
    return encode_dss_signature(r, min(s, _ORDER - s))


def is_signed(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` is that of ``data`` by ``key``."""
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        else:
            key.verify(signature, data, ec.ECDSA(_HASH))
            return decode_dss_signature(signature)[1] <= _ORDER // 2
    except (InvalidSignature, ValueError):
        return False
    return True


def check_certificate(
    certificate: Certificate, roots: tuple[x509.Certificate, ...], *, expired: bool
) -> None:
    """Check that a certificate leads to one of ``roots``, is for signing, and is valid today.

    Args:
        certificate: With what lies between it and the root.
        roots: Whom to trust.
        expired: Accept one that is not valid any more: as it was when it became valid.

    Raises:
        SignatureError: It is not so.
    """
    leaf = certificate.chain[0]
    now = datetime.now(UTC)
    if now > leaf.not_valid_after_utc and not expired:
        raise SignatureError(
            f"the signer's certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}",
            hint="have the artefact signed again, or accept it with --allow-expired",
        )
    permit = verification.ExtensionPolicy.permit_all()
    policy = (
        verification.PolicyBuilder()
        .store(verification.Store(list(roots)))
        .time(min(leaf.not_valid_before_utc, now) if expired else now)
        .extension_policies(
            ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(), ee_policy=permit
        )
    )
    try:
        policy.build_client_verifier().verify(leaf, list(certificate.chain[1:]))
    except (verification.VerificationError, UnsupportedAlgorithm, ValueError) as error:
        raise SignatureError(
            f"the signer's certificate ({certificate.subject}) leads to none of the "
            f"trusted roots: {_one_line(str(error))[:200]}",
            hint="check --root, or get the artefact from its owner",
        ) from error
    if not _may_sign(leaf):
        raise SignatureError(
            f"the signer's certificate ({certificate.subject}) is not for signing",
            hint="use one whose key usage has 'digital signature', and whose extended key usage, "
            "if it has one, 'code signing'",
        )


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions
        if not found.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            return False
        purposes = set(found.get_extension_for_class(x509.ExtendedKeyUsage).value)
        return bool(purposes & _PURPOSES)
    except x509.ExtensionNotFound as error:
        return error.oid == x509.ExtendedKeyUsage.oid  # for everything
    except ValueError:
        return False


# A certificate for a web server, by the same root, is none for models.
_PURPOSES = {
    ExtendedKeyUsageOID.CODE_SIGNING,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}


def _one_line(text: str) -> str:
    """Return ``text`` without what could disguise a message."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _supported_public(key: object, what: str) -> PublicKey:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise _unsupported(what)


def _unsupported(what: object) -> KeyFileError:
    return KeyFileError(f"the key of {what} is of a kind that is not supported; expected ECDSA on "
                        "P-256 or Ed25519")  # fmt: skip


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise KeyFileError(
            f"cannot read '{path}': {error.strerror or error}; expected {what}"
        ) from error
    if len(data) > _MAX_BYTES:
        raise KeyFileError(f"'{path}' is too long to be {what}")
    return data


def password_from_environment() -> bytes | None:
    """Return what ``MLOPSC_KEY_PASSWORD`` holds, if it is set."""
    found = os.environ.get("MLOPSC_KEY_PASSWORD")
    return None if found is None else found.encode()
