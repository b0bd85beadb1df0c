"""Certificates: only one that leads to a trusted root, for signing and in its time, counts."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from authority import Authority, open_authority, save
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from support import check_refused, check_words, run_cli

from mlopsc.bundle import Bundle, read_bundle, write_bundle
from mlopsc.errors import InputError, KeyFileError, SignatureError
from mlopsc.signing import sign
from mlopsc.trust.artefact import open_artefact
from mlopsc.trust.attest import make_signatures
from mlopsc.trust.dsse import dump
from mlopsc.trust.keys import Certificate, generate_keys, private_pem, public_pem
from mlopsc.trust.policy import TrustOptions, authorise, verify

SIGNATURE = "signature/model.sig"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class Signer:
    """A key, who certifies it, and a bundle to sign."""

    folder: Path
    root: Authority
    key: ec.EllipticCurvePrivateKey

    @property
    def bundle(self) -> Path:
        return self.folder / "digits.mlb"

    def sign(self, *chain: x509.Certificate) -> Path:
        sign(self.bundle, self.key, certificate=Certificate(chain), force=True)
        return self.bundle

    def trust(self, *roots: x509.Certificate) -> TrustOptions:
        path = save(self.folder / "roots.pem", *(roots or (self.root.certificate,)))
        return TrustOptions(roots=(path,))


@pytest.fixture
def signer(digits_bundle: Path, tmp_path: Path) -> Signer:
    shutil.copy(digits_bundle, tmp_path / "digits.mlb")
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key").write_bytes(private_pem(key, None))
    (tmp_path / "key.pub").write_bytes(public_pem(key.public_key()))
    return Signer(tmp_path, open_authority(), key)


def refused(path: Path, options: TrustOptions, *mentions: str) -> None:
    for check in (
        lambda: verify(path, options),
        lambda: authorise(open_artefact(path), options),
    ):
        with pytest.raises(SignatureError) as caught:
            check()
        check_words(caught.value.message, caught.value.hint, *mentions)


def test_certificate_of_the_root(signer: Signer) -> None:
    path = signer.sign(signer.root.certify(signer.key, "Ada"))
    (check,) = (c for c in verify(path, signer.trust()).checks if c.name == "signature")
    assert check.detail.startswith("CN=Ada, key sha256:")
    others = (open_authority("Other").certificate, signer.root.certificate)
    assert verify(path, signer.trust(*others))
    refused(path, TrustOptions(), "nobody is trusted", "--root")


def test_without_restriction_of_purpose(signer: Signer) -> None:
    path = signer.sign(signer.root.certify(signer.key, purposes=None))
    assert verify(path, signer.trust())


def test_intermediates(signer: Signer) -> None:
    department = signer.root.intermediate("Department")
    team = department.intermediate("Team")
    own = team.certify(signer.key)
    path = signer.sign(own, team.certificate, department.certificate)
    assert verify(path, signer.trust())
    assert verify(path, signer.trust(department.certificate, signer.root.certificate))
    refused(signer.sign(own, team.certificate), signer.trust(), "leads to none")
    refused(signer.sign(own), signer.trust(), "leads to none")


def test_signer_who_plays_authority(signer: Signer) -> None:
    """A certificate for signing certifies nobody."""
    middle = ec.generate_private_key(ec.SECP256R1())
    false = Authority(signer.root.certify(middle, "Middle"), middle)
    path = signer.sign(false.certify(signer.key), false.certificate)
    refused(path, signer.trust(), "leads to none")


def test_other_roots(signer: Signer) -> None:
    own = signer.root.certify(signer.key)
    same_name = open_authority("Root")
    for root in (open_authority("Other"), same_name):
        refused(signer.sign(own), signer.trust(root.certificate), "leads to none")
    refused(
        signer.sign(same_name.certify(signer.key), same_name.certificate), signer.trust(),
        "leads to none",
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"sign": False},
        {"with_usage": False},
        {"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)},
        {"purposes": (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION)},
    ],
    ids=str,
)
def test_certificate_for_something_else(options: dict[str, object], signer: Signer) -> None:
    """A finding: a web server's certificate by the same root could sign models."""
    path = signer.sign(signer.root.certify(signer.key, **options))  # type: ignore[arg-type]
    refused(path, signer.trust(), "not for signing", "digital signature")


def test_expired_certificate(signer: Signer) -> None:
    path = signer.sign(signer.root.certify(signer.key, days=(-9, -3)))
    day = f"{datetime.now(UTC) - timedelta(3):%Y-%m-%d}"
    refused(path, signer.trust(), "expired", day, "--allow-expired")
    assert verify(path, replace(signer.trust(), allow_expired=True))
    refused(path, replace(signer.trust(open_authority().certificate), allow_expired=True),
            "leads to none")  # fmt: skip


@pytest.mark.parametrize("allow", [False, True])
def test_certificate_that_is_not_valid_yet(allow: bool, signer: Signer) -> None:
    """A finding: --allow-expired let it pass."""
    path = signer.sign(signer.root.certify(signer.key, days=(3, 9)))
    refused(path, replace(signer.trust(), allow_expired=allow), "leads to none")


def test_expired_intermediate(signer: Signer) -> None:
    team = signer.root.intermediate("Team", days=(-20, -2))
    path = signer.sign(team.certify(signer.key, days=(-10, 5)), team.certificate)
    refused(path, signer.trust(), "leads to none")
    assert verify(path, replace(signer.trust(), allow_expired=True))


def test_own_key_needs_no_root(signer: Signer) -> None:
    """Who trusts a key trusts it with any certificate; what that says of its owner is no fact."""
    path = signer.sign(open_authority("Nobody").certify(signer.key, "The chief"))
    found = verify(path, TrustOptions(keys=(signer.folder / "key.pub",)))
    (check,) = (c for c in found.checks if c.name == "signature")
    assert "chief" not in check.detail


def test_expiry_of_the_signature(signer: Signer) -> None:
    today = datetime.now(UTC).date()
    options = TrustOptions(keys=(signer.folder / "key.pub",))
    for days in (-400, -1, 0, 1, 400):
        expires = today + timedelta(days)
        if days < 0:
            with pytest.raises(InputError, match=str(expires)):
                sign(signer.bundle, signer.key, expires=expires, force=True)
            # As it was signed before that day.
            artefact = open_artefact(signer.bundle)
            signatures = make_signatures(artefact, signer.key, expires=expires)
            new = signer.bundle.with_suffix(".new")
            write_bundle(replace(artefact.require_bundle(), signatures=signatures), new)
            new.replace(signer.bundle)
            refused(signer.bundle, options, str(expires), "--allow-expired")
            assert verify(signer.bundle, replace(options, allow_expired=True))
        else:
            sign(signer.bundle, signer.key, expires=expires, force=True)
            assert any(
                str(expires) in check.detail for check in verify(signer.bundle, options).checks
            )


# What an attacker can do with a signature that has a certificate ---------------------------------


def with_chain(path: Path, change: Callable[[list[bytes]], Sequence[bytes]]) -> Path:
    """Change the certificates in a signature."""
    bundle: Bundle = read_bundle(path)
    document = json.loads(bundle.signatures[SIGNATURE])
    place = document["verificationMaterial"]["x509CertificateChain"]
    now = [base64.b64decode(entry["rawBytes"]) for entry in place["certificates"]]
    place["certificates"] = [{"rawBytes": base64.b64encode(data).decode()} for data in change(now)]
    signatures = {**bundle.signatures, SIGNATURE: dump(document)}
    new = path.with_suffix(".new")  # the weights are mapped from the old one
    write_bundle(replace(bundle, signatures=signatures), new)
    return new.replace(path)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def test_certificates_are_signed_too(signer: Signer) -> None:
    """A finding: others of the same key, or more of them, went unnoticed."""
    team = signer.root.intermediate("Team")
    other = signer.root.certify(signer.key, "The chief")
    own = team.certify(signer.key, "Ada")
    changes: dict[str, Callable[[list[bytes]], Sequence[bytes]]] = {
        "another of the same key": lambda now: [der(other)],
        "one more": lambda now: [*now, der(other)],
        "twice": lambda now: [*now, now[-1]],
        "the root, too": lambda now: [*now, der(signer.root.certificate)],
        "other order": lambda now: now[::-1],
        "one less": lambda now: now[:1],
        "of another key": lambda now: [der(signer.root.certify(_key(), "Ada")), *now[1:]],
        "twin": lambda now: [twin(own), *now[1:]],
        "trailing byte": lambda now: [now[0] + b"\0", *now[1:]],
        "garbage": lambda now: [b"x"],
        "none": lambda now: [],
        "RSA": lambda now: [der(signer.root.certify(rsa.generate_private_key(65537, 2048)))],
        "P-384": lambda now: [der(signer.root.certify(ec.generate_private_key(ec.SECP384R1())))],
        "line break in the name": lambda now: [der(signer.root.certify(_key(), "a\nb\x1b[2J"))],
        "untrusted, with a line break": lambda now: [der(open_authority().certify(_key(), "a\nb"))],
        "itself": lambda now: [der(open_authority("a\nb").certificate)],
    }  # fmt: skip
    for change in changes.values():
        path = signer.sign(own, team.certificate)
        assert verify(path, signer.trust())
        with_chain(path, change)
        refused(path, signer.trust())
        refused(path, TrustOptions(keys=(signer.folder / "key.pub",)))


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def twin(certificate: x509.Certificate) -> bytes:
    """Return a certificate that says the same and holds as well, by who has no key."""
    r, s = decode_dss_signature(certificate.signature)
    data, other = der(certificate), encode_dss_signature(r, ORDER - s)
    old = certificate.signature
    made = data.replace(bytes([3, len(old) + 1, 0]) + old, bytes([3, len(other) + 1, 0]) + other)
    grown = len(made) - len(data)
    return made[:2] + (int.from_bytes(made[2:4], "big") + grown).to_bytes(2, "big") + made[4:]


def test_twin_is_a_certificate(signer: Signer) -> None:
    own = signer.root.certify(signer.key)
    again = x509.load_der_x509_certificate(twin(own))
    again.verify_directly_issued_by(signer.root.certificate)
    assert again != own


# The command line --------------------------------------------------------------------------------


def test_certificates_on_the_command_line(signer: Signer) -> None:
    team = signer.root.intermediate("Team")
    folder = signer.folder
    own = save(folder / "own.pem", team.certify(signer.key, "Ada"))
    other = save(folder / "other.pem", team.certify(_key()))
    chain = save(folder / "team.pem", team.certificate)
    root = save(folder / "root.pem", signer.root.certificate)
    expired = save(folder / "expired.pem", signer.root.certify(signer.key, days=(-9, -3)))
    given = ("sign", signer.bundle, "--key", folder / "key")
    check_refused(run_cli(*given, "--certificate", other), KeyFileError, "another key")
    check_refused(run_cli(*given, "--certificate", folder / "key.pub"), KeyFileError, "key.pub")
    assert run_cli(*given, "--chain", chain).returncode == 2
    generate_keys(folder / "ed", kind="ed25519", password=None)
    result = run_cli("sign", signer.bundle, "--key", folder / "ed", "--certificate", own)
    check_refused(result, KeyFileError, "ecdsa-p256")
    assert run_cli(*given, "--certificate", own, "--chain", chain).returncode == 0
    result = run_cli("verify", signer.bundle, "--root", root)
    assert result.returncode == 0
    assert "CN=Ada" in result.stdout
    result = run_cli("verify", signer.bundle, "--root", other)
    check_refused(result, SignatureError, "leads to none")
    check_refused(run_cli("verify", signer.bundle, "--root", folder / "x"), KeyFileError, "x")
    assert run_cli(*given, "--certificate", expired, "--force").returncode == 0
    check_refused(run_cli("verify", signer.bundle, "--root", root), SignatureError, "expired")
    assert run_cli("verify", signer.bundle, "--root", root, "--allow-expired").returncode == 0
