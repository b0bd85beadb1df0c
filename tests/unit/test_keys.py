"""Keys: two kinds, in files that only their owner reads; everything else is refused clearly."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from support import check_refused, check_words, run_cli, unchanged

from mlopsc.errors import KeyFileError, OutputError
from mlopsc.trust.keys import (
    PrivateKey,
    generate_keys,
    is_encrypted,
    is_signed,
    key_id,
    load_certificates,
    load_private,
    load_public,
    private_pem,
    public_pem,
    sign_bytes,
)

KINDS = ("ecdsa-p256", "ed25519")
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
FOREIGN: dict[str, Callable[[], object]] = {
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "DSA": lambda: dsa.generate_private_key(2048),
    "Ed448": ed448.Ed448PrivateKey.generate,
    "X25519": x25519.X25519PrivateKey.generate,
}
GARBAGE = {
    "empty": b"",
    "text": b"hello",
    "binary": bytes(range(256)),
    "no key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    "no base64": b"-----BEGIN PUBLIC KEY-----\n%%%\n-----END PUBLIC KEY-----\n",
    "long": b"x" * (1 << 17),
}


def refused(load: Callable[[Path], object], path: Path, *mentions: str) -> str:
    with pytest.raises(KeyFileError) as caught:
        load(path)
    check_words(caught.value.message, caught.value.hint, path, *mentions)
    return caught.value.message


@pytest.mark.parametrize("password", [None, b"correct horse"])
@pytest.mark.parametrize("kind", KINDS)
def test_keys_come_back(kind: str, password: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "key"
    public = generate_keys(path, kind=kind, password=password)  # type: ignore[arg-type]
    private = load_private(path, password)
    assert key_id(private.public_key()) == key_id(load_public(tmp_path / "key.pub"))
    assert key_id(public) == key_id(private.public_key())
    assert is_encrypted(path) == (password is not None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["key", "key.pub"]
    signature = sign_bytes(private, b"this")
    assert is_signed(public, signature, b"this")
    assert not is_signed(public, signature, b"that")
    for wrong in (b"", b"x", signature[:-1], signature + b"\0", bytes(len(signature))):
        assert not is_signed(public, wrong, b"this")


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_owner_reads_a_private_key(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("an older file that everybody may read")
    path.chmod(0o666)
    generate_keys(path, kind=kind, password=None, force=True)  # type: ignore[arg-type]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_replaced_without_force(tmp_path: Path) -> None:
    generate_keys(tmp_path / "key", kind="ed25519", password=None)
    (tmp_path / "other.pub").write_text("of somebody else")
    with unchanged(tmp_path):
        for name in ("key", "other"):
            with pytest.raises(OutputError, match="exists already"):
                generate_keys(tmp_path / name, kind="ed25519", password=None)


@pytest.mark.parametrize("kind", KINDS)
def test_passwords(kind: str, tmp_path: Path) -> None:
    generate_keys(tmp_path / "locked", kind=kind, password=b"right")  # type: ignore[arg-type]
    generate_keys(tmp_path / "open", kind=kind, password=None)  # type: ignore[arg-type]
    refused(load_private, tmp_path / "locked", "needs a password", "--password-file")
    for wrong in (b"wrong", b"x" * 5000, b"\0"):
        message = refused(lambda p, w=wrong: load_private(p, w), tmp_path / "locked")
        assert "password is wrong" in message
    refused(lambda p: load_private(p, b"right"), tmp_path / "open", "has no password")


def test_password_that_is_too_long(tmp_path: Path) -> None:
    """A finding: the library's own exception came through."""
    with unchanged(tmp_path), pytest.raises(KeyFileError, match="2000 bytes"):
        generate_keys(tmp_path / "key", kind="ed25519", password=b"x" * 2000)


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_other_kinds_of_keys_are_refused(make: Callable[[], PrivateKey], tmp_path: Path) -> None:
    key = make()
    (tmp_path / "key").write_bytes(private_pem(key, None))
    (tmp_path / "key.pub").write_bytes(public_pem(key.public_key()))
    for load, name in ((load_private, "key"), (load_public, "key.pub")):
        refused(load, tmp_path / name, "P-256", "Ed25519")


@pytest.mark.parametrize("kind", KINDS)
def test_public_and_private_are_not_confused(kind: str, tmp_path: Path) -> None:
    generate_keys(tmp_path / "key", kind=kind, password=None)  # type: ignore[arg-type]
    refused(load_private, tmp_path / "key.pub", "private key")
    refused(load_public, tmp_path / "key", "is a private key", "key.pub")


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_key(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    refused(load_private, path)
    refused(load_public, path)
    refused(lambda p: load_certificates((p,)), path)


def test_key_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        refused(load_private, path, "expected a private key")
        refused(load_public, path, "expected a public key")
        refused(lambda p: load_certificates((p,)), path, "expected a certificate")


def test_other_encodings_of_the_same_key_have_its_name() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    again = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    assert key_id(again) == key_id(key)


def test_signature_has_no_twin() -> None:
    """A finding: (r, order - s) is a signature of the same, which anybody can compute."""
    key = ec.generate_private_key(ec.SECP256R1())
    for number in range(50):
        data = str(number).encode()
        r, s = decode_dss_signature(sign_bytes(key, data))
        assert is_signed(key.public_key(), encode_dss_signature(r, s), data)
        twin = encode_dss_signature(r, ORDER - s)
        key.public_key().verify(twin, data, ec.ECDSA(hashes.SHA256()))  # to others it is one
        assert not is_signed(key.public_key(), twin, data)


def test_signature_of_ed25519_has_no_twin() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    order = (1 << 252) + 27742317777372353535851937790883648493
    signature = sign_bytes(key, b"this")
    s = int.from_bytes(signature[32:], "little") + order
    assert not is_signed(key.public_key(), signature[:32] + s.to_bytes(32, "little"), b"this")


# The command line --------------------------------------------------------------------------------


def test_keygen(tmp_path: Path) -> None:
    key = tmp_path / "key"
    no_password = {"MLOPSC_KEY_PASSWORD": ""}
    with unchanged(tmp_path):
        check_refused(run_cli("keygen", "-o", key), KeyFileError, "no password", "--no-password")
        check_refused(run_cli("keygen", "-o", key, env=no_password), KeyFileError, "no password")
        result = run_cli("keygen", "-o", key, "--password-file", tmp_path / "missing")
        check_refused(result, KeyFileError, "missing")
        result = run_cli("keygen", "-o", key, env={"MLOPSC_KEY_PASSWORD": "x" * 2000})
        check_refused(result, KeyFileError, "2000")
        result = run_cli("keygen", "-o", key, "--type", "rsa", "--no-password")
        assert result.returncode == 2
        assert "ecdsa-p256" in result.stderr
    result = run_cli("keygen", "-o", key, "--no-password")
    assert (result.returncode, result.stderr) == (0, "")
    assert key_id(load_public(tmp_path / "key.pub")) in result.stdout
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with unchanged(tmp_path):
        result = run_cli("keygen", "-o", key, "--no-password")
        check_refused(result, OutputError, "exists already", "--force")
    (tmp_path / "password").write_text("from a file\nnot this\n")
    result = run_cli("keygen", "-o", key, "--password-file", tmp_path / "password", "--force")
    assert result.returncode == 0
    assert load_private(key, b"from a file")
    result = run_cli("keygen", "-o", key, "--force", env={"MLOPSC_KEY_PASSWORD": "variable"})
    assert result.returncode == 0
    assert load_private(key, b"variable")
