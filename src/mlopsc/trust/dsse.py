"""Dead Simple Signing Envelopes: a payload, its type and a signature of both.

Specification: https://github.com/secure-systems-lab/dsse (v1).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError
from securesystemslib.signer._signature import Signature

from mlopsc.schema.common import Digest
from mlopsc.trust.keys import PrivateKey, PublicKey, is_signed, key_id, sign_bytes

IN_TOTO_TYPE: Final = "application/vnd.in-toto+json"


def sign_payload(payload: bytes, payload_type: str, key: PrivateKey) -> dict[str, Any]:
    """Return an envelope as JSON values."""
    envelope = Envelope(payload, payload_type, {})
    name = key_id(key.public_key())
    signature = Signature(name, sign_bytes(key, envelope.pae()).hex())
    envelope.signatures = {name: signature}
    made: dict[str, Any] = envelope.to_dict()
    return made


def open_envelope(document: Any, payload_type: str, key: PublicKey) -> bytes:
    """Return the payload of an envelope.

    Args:
        document: The envelope as JSON values.
        payload_type: What it must hold.
        key: Who must have signed it.

    Raises:
        ValueError: It is no such envelope, or not signed by ``key``.
    """
    envelope = _parse(document)
    if envelope.payload_type != payload_type:
        raise ValueError(f"it holds {envelope.payload_type!r}; expected {payload_type!r}")
    (signature,) = envelope.signatures.values()
    if signature.keyid != key_id(key) or not is_signed(
        key, bytes.fromhex(signature.signature), envelope.pae()
    ):
        raise ValueError(f"it is signed by key {signature.keyid}, not by {key_id(key)}")
    payload: bytes = envelope.payload
    return payload


def signer_of(document: Any) -> Digest:
    """Return the key that an envelope says has signed it.

    Raises:
        ValueError: It is no envelope.
    """
    (signature,) = _parse(document).signatures.values()
    return str(signature.keyid)


def dump(document: Any) -> bytes:
    """Return JSON values in one line."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def parse(line: bytes) -> Any:
    """Return the JSON values in what ``dump`` gave.

    Raises:
        ValueError: It is something else.
    """
    try:
        document = json.loads(line)
        again = dump(document)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is no JSON document") from error
    if again != line:
        raise ValueError("it was edited")
    return document


def _parse(document: Any) -> Envelope:
    """Return an envelope with one signature, which has no other parts.

    Raises:
        ValueError: It is none.
    """
    try:
        envelope = Envelope.from_dict(json.loads(json.dumps(document)))
        if len(envelope.signatures) != 1:
            raise ValueError(f"it has {len(envelope.signatures)} signatures; expected one")
        (signature,) = envelope.signatures.values()
        if signature.unrecognized_fields or envelope.to_dict() != document:
            raise ValueError("it holds more than an envelope does")
        if re.fullmatch(r"sha256:[0-9a-f]{64}", signature.keyid) is None:
            raise ValueError("it does not name the key that made it")
    except (KeyError, TypeError, AttributeError, FormatError, RecursionError) as error:
        raise ValueError("it is no signed envelope") from error
    return envelope
