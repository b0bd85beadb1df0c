"""Signs artefacts, and checks signatures.

A signature has two files below ``signature/``: ``model.sig`` signs all files in OpenSSF's format;
``attestations.intoto.jsonl`` holds signed in-toto statements, one DSSE envelope a line: lineage and
provenance as they are in the artefact, and for packages the conformance report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mlopsc.errors import KeyFileError, SignatureError
from mlopsc.schema.attestation import CONFORMANCE_PREDICATE, Statement, resource
from mlopsc.schema.common import Digest, digest_bytes
from mlopsc.schema.package import DESCRIPTOR_FILE
from mlopsc.schema.signing import ATTESTATIONS, MODEL_SIGNATURE
from mlopsc.trust.artefact import Artefact, is_signed
from mlopsc.trust.dsse import IN_TOTO_TYPE, dump, open_envelope, parse, sign_payload
from mlopsc.trust.keys import (
    Certificate,
    PrivateKey,
    PublicKey,
    check_certificate,
    key_id,
)
from mlopsc.trust.model_signature import (
    Signed,
    Terms,
    named_signer,
    open_signature,
    read_certificate,
    sign_files,
)

UNPROVEN = "unproven"


@dataclass(frozen=True)
class Trusted:
    """Whom to believe.

    Attributes:
        keys: Public keys; one of them must have signed.
        roots: Certificates; or the signer's certificate must lead to one of them.
        allow_expired: Accept signatures and certificates whose time is over.
    """

    keys: Sequence[PublicKey] = ()
    roots: tuple[x509.Certificate, ...] = ()
    allow_expired: bool = False

    def __bool__(self) -> bool:
        """Whether there is anybody."""
        return bool(self.keys or self.roots)


@dataclass(frozen=True)
class Checked:
    """A signature that holds.

    Attributes:
        key: Who signed.
        subject: What a certificate that leads to a trusted root calls them, or "".
        terms: What they said.
    """

    key: Digest
    subject: str
    terms: Terms


def make_signatures(
    artefact: Artefact,
    key: PrivateKey,
    *,
    certificate: Certificate | None = None,
    expires: date | None = None,
    unproven: bool = False,
) -> dict[str, bytes]:
    """Return the files that sign ``artefact``, by name.

    Args:
        artefact: What to sign.
        key: Who signs.
        certificate: Says who the key belongs to.
        expires: The last day on which the signature counts.
        unproven: Sign a package that has no conformance report, or one that failed.

    Raises:
        KeyFileError: The certificate is of another key, or of a kind that is not supported.
        SignatureError: It is a package that is not proven.
    """
    if certificate is not None:
        _check_fits(key, certificate)
    allowed: tuple[str, ...] = ()
    if artefact.kind == "package" and (
        artefact.report is None or artefact.report.verdict != "pass"
    ):
        if not unproven:
            state = "was not run" if artefact.report is None else "failed"
            raise SignatureError(
                f"'{artefact.path}' is not proven: its conformance test {state}",
                hint=f"run 'mlopsc conform {artefact.path}' first, or sign it with --unproven, "
                "which is recorded",
            )
        allowed = (UNPROVEN,)
    envelopes = [sign_payload(p, IN_TOTO_TYPE, key) for p in _payloads(artefact)]
    attestations = b"".join(dump(envelope) + b"\n" for envelope in envelopes)
    terms = Terms(
        kind=artefact.kind,
        digest=artefact.digest,
        attestations=digest_bytes(attestations),
        expires=expires,
        allowed=allowed,
        certificates=() if certificate is None else certificate.digests,
    )
    return {
        ATTESTATIONS: attestations,
        MODEL_SIGNATURE: sign_files(artefact.name, artefact.files, terms, key, certificate),
    }


def check_signatures(artefact: Artefact, trusted: Trusted) -> Checked:
    """Check that somebody who is trusted has signed ``artefact`` as it is.

    Raises:
        SignatureError: It is not so.
    """
    if not is_signed(artefact):
        raise SignatureError(
            f"'{artefact.path}' is not signed",
            hint="have it signed ('mlopsc sign'), or accept it with --allow-unsigned",
        )
    if not trusted:
        raise SignatureError(
            f"'{artefact.path}' is signed by {_signer(artefact)}, and nobody is trusted",
            hint="say whom to trust: --key KEY.pub, or --root CERTIFICATE",
        )
    try:
        data = artefact.signatures[MODEL_SIGNATURE]
        certificate = read_certificate(data)
        subject = ""
        if certificate is not None:
            signed, key, subject = _by_certificate(artefact, data, certificate, trusted)
        else:
            signed, key = _by_key(artefact, data, trusted)
        _check_attestations(artefact, key)
    except KeyError as error:
        raise _bad(artefact, f"{error.args[0]} is missing") from error
    except ValueError as error:
        raise _bad(artefact, str(error)) from error
    terms = signed.terms
    if (terms.kind, terms.digest) != (artefact.kind, artefact.digest):
        raise _bad(artefact, f"it signs {terms.kind} {terms.digest}, and this is {artefact.digest}")
    if terms.attestations != digest_bytes(artefact.signatures[ATTESTATIONS]):
        raise _bad(artefact, f"{ATTESTATIONS} is not what was signed with it")
    if signed.files != artefact.files:
        changed = sorted(
            name
            for name in signed.files.keys() | artefact.files.keys()
            if signed.files.get(name) != artefact.files.get(name)
        )
        raise _bad(artefact, f"'{changed[0]}' is not what was signed")
    today = datetime.now(UTC).date()
    if terms.expires is not None and today > terms.expires and not trusted.allow_expired:
        raise SignatureError(
            f"the signature of '{artefact.path}' expired on {terms.expires}",
            hint="have it signed again, or accept it with --allow-expired",
        )
    return Checked(key_id(key), subject, terms)


def _by_key(artefact: Artefact, data: bytes, trusted: Trusted) -> tuple[Signed, PublicKey]:
    """Return what one of the trusted keys has signed, and that key."""
    failures = []
    for key in trusted.keys:
        try:
            return open_signature(data, key, None), key
        except ValueError as error:
            failures.append(str(error))
    raise ValueError(
        failures[0] if failures else f"{_signer(artefact)} made it, without certificate"
    )


def _by_certificate(
    artefact: Artefact, data: bytes, certificate: Certificate, trusted: Trusted
) -> tuple[Signed, PublicKey, str]:
    """Return what the owner of a certificate has signed, if it leads to a root or is trusted.

    What the certificate calls its owner counts only if it leads to a root.
    """
    try:
        key = certificate.key
    except KeyFileError as error:
        raise ValueError(error.message) from error
    subject = ""
    if key_id(key) not in {key_id(known) for known in trusted.keys}:
        if not trusted.roots:
            raise ValueError(f"{_signer(artefact)} made it")
        check_certificate(certificate, trusted.roots, expired=trusted.allow_expired)
        subject = certificate.subject
    return open_signature(data, key, certificate), key, subject


def _check_attestations(artefact: Artefact, key: PublicKey) -> None:
    """Check that the signed statements are those of the artefact, each once.

    Raises:
        ValueError: They are not.
        KeyError: There are none.
    """
    data = artefact.signatures[ATTESTATIONS]
    lines = data.split(b"\n")
    if lines.pop() != b"":
        raise ValueError(f"{ATTESTATIONS} is not whole")
    try:
        found = [open_envelope(parse(line), IN_TOTO_TYPE, key) for line in lines]
    except ValueError as error:
        raise ValueError(f"{ATTESTATIONS}: {error}") from error
    if found != _payloads(artefact):
        raise ValueError(f"{ATTESTATIONS} is about something else")


def _payloads(artefact: Artefact) -> list[bytes]:
    """Return the statements that are signed, in their order."""
    payloads = [data for _, data in sorted(artefact.statements.items())]
    if artefact.report is not None:  # that the package computes what the reference does
        claim = Statement(
            subject=(resource(DESCRIPTOR_FILE, artefact.digest),),
            predicate_type=CONFORMANCE_PREDICATE,
            predicate=artefact.report.model_dump(mode="json"),
        )
        payloads.append(claim.to_json().encode())
    return payloads


def _check_fits(key: PrivateKey, certificate: Certificate) -> None:
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyFileError("certificates need a key of kind ecdsa-p256; this one is ed25519")
    if key_id(certificate.key) != key_id(key.public_key()):
        raise KeyFileError("the certificate is of another key than the one that signs")


def _signer(artefact: Artefact) -> str:
    return f"key {named_signer(artefact.signatures) or 'unknown'}"


def _bad(artefact: Artefact, reason: str) -> SignatureError:
    return SignatureError(f"the signature of '{artefact.path}' does not hold: {reason}")
