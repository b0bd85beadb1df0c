"""Signature files that somebody tampered with. None may count."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.x509.oid import NameOID
from workshop import ATTESTATIONS, MODEL_SIG, Workshop

from mlopsc.trust.dsse import IN_TOTO_TYPE, dump, sign_payload
from mlopsc.trust.keys import PrivateKey, key_id

Files = dict[str, bytes]
P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def edited(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return JSON values with one replaced, or removed if it is ``KeyError``."""
    made = json.loads(json.dumps(document))
    place = made
    for step in path[:-1]:
        place = place[step]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return made


def other_signature(text: str) -> Iterator[tuple[str, str]]:
    """Yield texts that some decoder or verifier would take for the signature ``text``."""
    raw = base64.b64decode(text)
    r, s = decode_dss_signature(raw)
    forms = {
        "other half": encode_dss_signature(r, P256 - s),
        "s plus order": encode_dss_signature(r, s + P256),
        "negative": raw[:4] + bytes([raw[4] ^ 0x80]) + raw[5:],
        "zero": encode_dss_signature(0, 0),
        "one": encode_dss_signature(1, 1),
        "trailing byte": raw + b"\0",
        "long length": raw[:1] + b"\x81" + raw[1:],
        "raw": r.to_bytes(32, "big") + s.to_bytes(32, "big"),
        "truncated": raw[:-1],
        "empty": b"",
        "zeros": bytes(64),
    }
    for what, data in forms.items():
        yield what, encoded(data)
    yield "space in base64", text[:10] + " " + text[10:]
    yield "newline in base64", text + "\n"
    yield "no padding", text.rstrip("=") if text.endswith("=") else text + "="
    yield "more padding", text + "===="
    yield "URL alphabet", text.replace("+", "-").replace("/", "_") + ("-" * ("+" not in text))
    if text.endswith("="):  # bits that decoders pass over
        body = text.rstrip("=")
        last = B64[B64.index(body[-1]) ^ 1]
        yield "spare bits", body[:-1] + last + text[len(body) :]
    yield "not base64", "%%%"
    yield "not ASCII", text[:-4] + "ééé="


def edits(envelope: tuple[Any, ...], document: Any, shop: Workshop) -> Iterator[tuple[str, Any]]:
    """Yield documents with a changed envelope at path ``envelope``."""
    at = document
    for step in envelope:
        at = at[step]
    sig = (*envelope, "signatures", 0)
    for what, text in other_signature(at["signatures"][0]["sig"]):
        yield f"signature {what}", edited(document, (*sig, "sig"), text)
    stranger = key_id(shop.stranger.public_key())
    for name in ("", stranger, stranger[7:], "\x1b[31m\nroot", "../../key", None, 5, [], "é"):
        yield f"keyid {name!r}", edited(document, (*sig, "keyid"), name)
    payload = base64.b64decode(at["payload"])
    payloads = {
        "space": payload + b" ", "nothing": b"", "null": b"null", "brackets": b"[" * 9000,
        "changed": payload.replace(b"subject", b"sUbject", 1),
        "digest": payload.replace(b'"sha256": "', b'"sha256": "0', 1),
    }  # fmt: skip
    for what, data in payloads.items():
        yield f"payload {what}", edited(document, (*envelope, "payload"), encoded(data))
        for kind in (IN_TOTO_TYPE, "application/json"):
            own = sign_payload(data, kind, shop.stranger)
            yield f"payload {what} as {kind} by stranger", edited(document, envelope, own)
            own["signatures"][0]["keyid"] = key_id(shop.key.public_key())
            yield f"payload {what} as {kind} in another name", edited(document, envelope, own)
    for key, who in ((shop.stranger, "stranger"), (shop.other_kind, "other kind")):
        own = sign_payload(payload, IN_TOTO_TYPE, key)
        yield f"same payload by {who}", edited(document, envelope, own)
        both = [*at["signatures"], *own["signatures"]]
        yield f"also by {who}", edited(document, (*envelope, "signatures"), both)
        yield f"first by {who}", edited(document, (*envelope, "signatures"), both[::-1])
    for path in ((*envelope, "payload"), (*envelope, "payloadType"), (*envelope, "signatures"), sig,
                 (*sig, "sig"), (*sig, "keyid")):  # fmt: skip
        for value in (KeyError, None, [], {}, 0, True, "x", 10**30):
            yield f"{'.'.join(map(str, path))} {value!r}", edited(document, path, value)
    for kind in ("application/json", "", IN_TOTO_TYPE + " ", IN_TOTO_TYPE.upper()):
        yield f"type {kind!r}", edited(document, (*envelope, "payloadType"), kind)
    twice = at["signatures"] * 2
    yield "same signature twice", edited(document, (*envelope, "signatures"), twice)
    yield "more in the envelope", edited(document, (*envelope, "more"), 1)
    yield "more in the signature", edited(document, (*sig, "more"), 1)


def texts(data: bytes) -> dict[str, bytes]:
    """Return texts that some reader would take for the same JSON, or that harm one."""
    line = data.rstrip(b"\n")
    return {
        "space": data + b" ", "space in front": b" " + data, "BOM": b"\xef\xbb\xbf" + data,
        "UTF-16": data.decode().encode("utf-16"), "CRLF": line + b"\r\n", "nul": data + b"\0",
        "indented": json.dumps(json.loads(line.splitlines()[0]), indent=1).encode() + b"\n",
        "key twice": data.replace(b'{"', b'{"payload":"eA==","', 1),
        "escaped": data.replace(b"payload", b"p\\u0061yload", 1),
        "cut": data[: len(data) // 2], "empty": b"", "newline": b"\n", "null": b"null\n",
        "list": b"[]\n", "object": b"{}\n", "number": b"1\n", "not UTF-8": b"\xff" + data,
        "brackets": b"[" * 100_000 + b"\n", "NaN": b'{"a":NaN}\n', "digits": b"1" * 9000 + b"\n",
        "first byte": bytes([data[0] ^ 1]) + data[1:],
        "long": data + b"x" * (1 << 25),
        **{f"nested {n}": b'{"dsseEnvelope":' + b"[" * n + b"]" * n + b"}\n"
           for n in (300, 800, 900, 940, 960, 970, 980, 985, 990, 993, 996, 998, 2000)},
    }  # fmt: skip


def self_made(shop: Workshop, key: PrivateKey) -> Any:
    """Return verification material: a certificate of the right key, by whoever owns ``key``."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the chief\nof everything")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(shop.key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(1))
        .not_valid_after(now + timedelta(1))
        .sign(key, hashes.SHA256() if key is not shop.other_kind else None)  # type: ignore[arg-type]
    )
    raw = encoded(made.public_bytes(serialization.Encoding.DER))
    return {"x509CertificateChain": {"certificates": [{"rawBytes": raw}]}, "tlogEntries": []}


def of_model_signature(shop: Workshop, files: Mapping[str, bytes]) -> Iterator[tuple[str, Any]]:
    """Yield what replaces ``model.sig``: JSON values, or bytes."""
    data = files[MODEL_SIG]
    document = json.loads(data)
    yield from edits(("dsseEnvelope",), document, shop)
    yield from texts(data).items()
    material = ("verificationMaterial",)
    for what, value in {
        "certificate of itself": self_made(shop, shop.stranger),
        "certificate of itself, other kind": self_made(shop, shop.other_kind),
        "no certificate": {"x509CertificateChain": {"certificates": []}, "tlogEntries": []},
        "garbage certificate": {"x509CertificateChain": {"certificates": [{"rawBytes": "eA=="}]}},
        "both": {**document["verificationMaterial"], **self_made(shop, shop.stranger)},
        "nothing": {}, "null": None, "list": [], "text": "x",
    }.items():  # fmt: skip
        yield f"material {what}", edited(document, material, value)
    hint = (*material, "publicKey", "hint")
    for value in ("", "0" * 64, document["verificationMaterial"]["publicKey"]["hint"].upper(), 5):
        yield f"hint {value!r}", edited(document, hint, value)
    for path, value in {
        ("mediaType",): "application/vnd.dev.sigstore.bundle.v0.4+json",
        (*material, "tlogEntries"): [{}], (*material, "more"): 1, ("more",): 1,
        ("messageSignature",): {}, ("dsseEnvelope",): None,
    }.items():  # fmt: skip
        yield f"{'.'.join(path)} set", edited(document, path, value)
    for field in document:
        yield f"without {field}", edited(document, (field,), KeyError)


def of_attestations(shop: Workshop, files: Mapping[str, bytes]) -> Iterator[tuple[str, Any]]:
    """Yield what replaces the attestations, as bytes."""
    data = files[ATTESTATIONS]
    lines = data.splitlines(True)
    for number, line in enumerate(lines):
        rest = lines[:number] + lines[number + 1 :]
        yield f"line {number} dropped", b"".join(rest)
        yield f"line {number} twice", b"".join([*lines, line])
        yield (
            f"line {number} moved",
            b"".join([*lines[1:], lines[0]] if number == 0 else [line, *rest]),
        )
        yield f"line {number} alone", line if rest else line * 2
    first = json.loads(lines[0])
    for what, document in edits(("line",), {"line": first}, shop):
        yield f"line 0 {what}", dump(document.get("line")) + b"\n" + b"".join(lines[1:])
    yield from texts(data).items()
    yield "no last newline", data[:-1]
    yield "empty line", data + b"\n"
    yield "model signature as a line", data + files[MODEL_SIG] + b"\n"


def signatures(
    shop: Workshop, files: Mapping[str, bytes]
) -> Iterator[tuple[str, dict[str, bytes | None]]]:
    """Yield what replaces the signature files; None removes one."""
    sources: dict[str, Callable[..., Iterator[tuple[str, Any]]]] = {
        MODEL_SIG: of_model_signature,
        ATTESTATIONS: of_attestations,
    }
    for name, source in sources.items():
        yield f"{name}: removed", {name: None}
        for what, made in source(shop, files):
            data = made if isinstance(made, bytes) else dump(made)
            yield f"{name}: {what}", {name: data}
    yield "both removed", {ATTESTATIONS: None, MODEL_SIG: None}
    yield "both empty", {ATTESTATIONS: b"", MODEL_SIG: b""}
    yield "swapped", {ATTESTATIONS: files[MODEL_SIG], MODEL_SIG: files[ATTESTATIONS]}
