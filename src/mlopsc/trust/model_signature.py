"""The signature of an artefact in the OpenSSF Model Signing format, v1.0.

A Sigstore bundle (v0.3) with a DSSE envelope around an in-toto statement that lists every file with
its SHA-256. ``model_signing verify`` checks it, on the folder of a package or an unzipped bundle.
Specification: https://github.com/ossf/model-signing-spec. What only this program knows is in the
predicate's field ``mlopsc``, which others pass over.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mlopsc.schema.attestation import STATEMENT_TYPE
from mlopsc.schema.common import Digest, Frozen
from mlopsc.schema.signing import MODEL_SIGNATURE, SIGNATURE_FOLDER
from mlopsc.trust.dsse import (
    IN_TOTO_TYPE,
    dump,
    open_envelope,
    parse,
    sign_payload,
    signer_of,
)
from mlopsc.trust.keys import Certificate, PrivateKey, PublicKey, public_pem

PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_SERIALIZATION: Final = {
    "method": "files",
    "hash_type": "sha256",
    "allow_symlinks": False,
    "ignore_paths": [SIGNATURE_FOLDER],
}


class Terms(Frozen):
    """What a signer says beside "these are the files".

    Attributes:
        kind: Of the artefact.
        digest: Of the artefact.
        attestations: Digest of the signed statements.
        expires: The last day on which the signature counts.
        allowed: What was allowed that is not safe, by the flag that allowed it.
        certificates: Digests of the signer's certificate and of those between it and a root.
    """

    schema_version: Literal[1] = 1
    kind: Literal["bundle", "package"]
    digest: Digest
    attestations: Digest
    expires: date | None = None
    allowed: tuple[str, ...] = ()
    certificates: tuple[Digest, ...] = ()


@dataclass(frozen=True)
class Signed:
    """What a signature says.

    Attributes:
        files: Digest of every file, by name.
        terms: What else the signer says.
    """

    files: Mapping[str, Digest]
    terms: Terms


def sign_files(
    name: str,
    files: Mapping[str, Digest],
    terms: Terms,
    key: PrivateKey,
    certificate: Certificate | None,
) -> bytes:
    """Return the signature of ``files``, as the content of ``model.sig``."""
    payload = json.dumps(_statement(name, files, terms), sort_keys=True).encode()
    envelope = sign_payload(payload, IN_TOTO_TYPE, key)
    return _bundle(envelope, _material(key.public_key(), certificate))


def read_certificate(data: bytes) -> Certificate | None:
    """Return the certificate that a signature carries, or None if it was made with a bare key.

    Raises:
        ValueError: It is no signature.
    """
    material = _parse(data).get("verificationMaterial")
    if not isinstance(material, dict):
        raise ValueError("it has no verification material")
    if "publicKey" in material:
        return None
    try:
        listed = material["x509CertificateChain"]["certificates"]
        chain = tuple(
            x509.load_der_x509_certificate(base64.b64decode(entry["rawBytes"], validate=True))
            for entry in listed
        )
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise ValueError("its certificates cannot be read") from error
    if not chain:
        raise ValueError("it has no certificate")
    return Certificate(chain)


def open_signature(data: bytes, key: PublicKey, certificate: Certificate | None) -> Signed:
    """Return what the signature in ``data`` says.

    Args:
        data: Content of ``model.sig``.
        key: Who must have made it.
        certificate: What ``read_certificate`` gave.

    Raises:
        ValueError: It is none, or not by ``key``.
    """
    envelope = _parse(data).get("dsseEnvelope")
    payload = open_envelope(envelope, IN_TOTO_TYPE, key)
    if _bundle(envelope, _material(key, certificate)) != data:
        raise ValueError("it names another key, or was edited")
    try:
        statement = json.loads(payload)
        (subject,) = statement["subject"]
        predicate = statement["predicate"]
        files = {r["name"]: f"sha256:{r['digest']}" for r in predicate["resources"]}
        terms = Terms.model_validate(predicate["mlopsc"])
        expected = _statement(subject["name"], files, terms)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError("what it signs cannot be read") from error
    if statement != expected:
        raise ValueError("what it signs contradicts itself")
    if terms.certificates != (() if certificate is None else certificate.digests):
        raise ValueError("its certificates are not those that were signed with it")
    return Signed(files, terms)


def named_signer(signatures: Mapping[str, bytes]) -> Digest | None:
    """Return the key that says to have signed, if there is one; nothing is checked."""
    try:
        return signer_of(parse(signatures[MODEL_SIGNATURE])["dsseEnvelope"])
    except (KeyError, TypeError, ValueError):
        return None


def _statement(name: str, files: Mapping[str, Digest], terms: Terms) -> dict[str, Any]:
    resources, whole = [], sha256()
    for path, digest in sorted(files.items()):
        value = digest.removeprefix("sha256:")
        whole.update(bytes.fromhex(value))
        resources.append({"name": path, "algorithm": "sha256", "digest": value})
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": whole.hexdigest()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": _SERIALIZATION,
            "resources": resources,
            "mlopsc": terms.model_dump(mode="json"),
        },
    }


def _material(key: PublicKey, certificate: Certificate | None) -> dict[str, Any]:
    if certificate is None:
        return {"publicKey": {"hint": sha256(public_pem(key)).hexdigest()}, "tlogEntries": []}
    raw = [c.public_bytes(serialization.Encoding.DER) for c in certificate.chain]
    certificates = [{"rawBytes": base64.b64encode(data).decode()} for data in raw]
    return {"x509CertificateChain": {"certificates": certificates}, "tlogEntries": []}


def _bundle(envelope: Any, material: dict[str, Any]) -> bytes:
    return dump(
        {
            "mediaType": _MEDIA_TYPE,
            "verificationMaterial": material,
            "dsseEnvelope": envelope,
        }
    )


def _parse(data: bytes) -> dict[str, Any]:
    document = parse(data)
    if not isinstance(document, dict):
        raise ValueError("it is no signature")
    return document
