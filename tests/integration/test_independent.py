"""Programs that know nothing of this one accept what it makes, and notice what was changed."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from authority import open_authority, save
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto.models.metadata import Envelope, Metadata
from in_toto_attestation.v1.statement import Statement
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey
from spdx_tools.spdx.parser.json.json_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
from support import copy_package

import mlopsc
from mlopsc.sbom.spdx import to_spdx
from mlopsc.signing import sign
from mlopsc.trust.keys import Certificate, generate_keys, load_private

KINDS = ("bundle", "host", "cortex-m7")
KEYS = ("ecdsa-p256", "ed25519")
SIGNATURE, ATTESTATIONS = "signature/model.sig", "signature/attestations.intoto.jsonl"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    for kind in KEYS:
        generate_keys(folder / kind, kind=kind, password=None)  # type: ignore[arg-type]
    return {kind: folder / kind for kind in KEYS}


@pytest.fixture(scope="module")
def proven(
    digits_bundle: Path,
    digits_packages: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """The bundle and two packages, not signed yet."""
    folder = tmp_path_factory.mktemp("proven")
    found = {"bundle": Path(shutil.copy(digits_bundle, folder))}
    for target in KINDS[1:]:
        found[target] = copy_package(digits_packages[target], folder)
        mlopsc.conform(found[target])
    return found


@pytest.fixture(scope="module")
def signed(
    proven: dict[str, Path], keys: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Path]:
    """Folders of everything by kind of key; bundles are unzipped. Not to be changed."""
    found = {}
    for kind, path in keys.items():
        folder = tmp_path_factory.mktemp(kind)
        for name, artefact in proven.items():
            found[name, kind] = unpacked(artefact, folder, path)
    return found


def unpacked(artefact: Path, folder: Path, key: Path, chain: Certificate | None = None) -> Path:
    """Return a folder with the files of an artefact, after signing a copy of it."""
    copy = folder / artefact.name
    if artefact.is_dir():
        shutil.copytree(artefact, copy)
        sign(copy, load_private(key), certificate=chain)
        return copy
    shutil.copyfile(artefact, copy)
    sign(copy, load_private(key), certificate=chain)
    with zipfile.ZipFile(copy) as archive:
        archive.extractall(folder / "bundle")
    return folder / "bundle"


def model_signing(method: str, folder: Path, *options: str | Path) -> int:
    """Return how OpenSSF's own program for model signatures ends."""
    command = [sys.executable, "-m", "model_signing", "verify", method, folder,
               "--signature", folder / SIGNATURE, *options]  # fmt: skip
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


@pytest.mark.parametrize("name", KINDS)
def test_model_signing_accepts(
    name: str, signed: dict[tuple[str, str], Path], keys: dict[str, Path], tmp_path: Path
) -> None:
    """OpenSSF's own program; it knows only ECDSA."""
    folder = tmp_path / "copy"
    shutil.copytree(signed[name, "ecdsa-p256"], folder)
    trust = ("--public_key", keys["ecdsa-p256"].with_suffix(".pub"))
    assert model_signing("key", folder, *trust) == 0
    some = next(p for p in sorted(folder.rglob("*.pb")))
    data = some.read_bytes()
    some.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert model_signing("key", folder, *trust) != 0
    some.write_bytes(data)
    (folder / "stranger").touch()
    assert model_signing("key", folder, *trust) != 0
    (folder / "stranger").unlink()
    other = tmp_path / "other"
    generate_keys(other, kind="ecdsa-p256", password=None)
    assert model_signing("key", folder, "--public_key", other.with_suffix(".pub")) != 0


@pytest.mark.parametrize("name", ["bundle", "cortex-m7"])
def test_model_signing_accepts_certificates(
    name: str, proven: dict[str, Path], keys: dict[str, Path], tmp_path: Path
) -> None:
    root = open_authority()
    team = root.intermediate("Team")
    key = keys["ecdsa-p256"]
    own = team.certify(load_private(key))
    folder = unpacked(proven[name], tmp_path, key, Certificate((own, team.certificate)))
    right = save(tmp_path / "root.pem", root.certificate)
    assert model_signing("certificate", folder, "--certificate_chain", right) == 0
    wrong = save(tmp_path / "wrong.pem", open_authority("Other").certificate)
    assert model_signing("certificate", folder, "--certificate_chain", wrong) != 0
    some = next(p for p in sorted(folder.rglob("*.pb")))
    some.write_bytes(some.read_bytes() + b"x")
    assert model_signing("certificate", folder, "--certificate_chain", right) != 0


def statements(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(folder.rglob("*.json")):
        if path.name in ("lineage.json", "provenance.json"):
            yield path.relative_to(folder).as_posix(), json.loads(path.read_bytes())
    for number, line in enumerate((folder / ATTESTATIONS).read_bytes().splitlines()):
        payload = base64.b64decode(json.loads(line)["payload"])
        yield f"attestation {number}", json.loads(payload)
    envelope = json.loads((folder / SIGNATURE).read_bytes())["dsseEnvelope"]
    yield SIGNATURE, json.loads(base64.b64decode(envelope["payload"]))


@pytest.mark.parametrize("name", KINDS)
def test_in_toto_reads_the_statements(name: str, signed: dict[tuple[str, str], Path]) -> None:
    folder = signed[name, "ecdsa-p256"]
    found = dict(statements(folder))
    assert len(found) == (2 + 2 + 1 if name == "bundle" else 3 + 4 + 1)
    for where, document in found.items():
        statement = Statement.copy_from_pb(
            json_format.ParseDict(document, Statement([], "", {}).pb)
        )
        statement.validate()
        assert statement.pb.subject, where
        prefix = "bundle/" if where.startswith("bundle/") else ""
        for subject in statement.pb.subject:
            path = folder / subject.name
            if not prefix and path.exists():
                assert hashlib.sha256(path.read_bytes()).hexdigest() == subject.digest["sha256"]


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("name", KINDS)
def test_in_toto_verifies_the_envelopes(
    name: str, kind: str, signed: dict[tuple[str, str], Path], keys: dict[str, Path], tmp_path: Path
) -> None:
    folder = signed[name, kind]
    public = serialization.load_pem_public_key(keys[kind].with_suffix(".pub").read_bytes())
    other = tmp_path / "other"
    generate_keys(other, kind=kind, password=None)  # type: ignore[arg-type]
    stranger = serialization.load_pem_public_key(other.with_suffix(".pub").read_bytes())
    lines = (folder / ATTESTATIONS).read_bytes().splitlines()
    lines.append(json.dumps(json.loads((folder / SIGNATURE).read_bytes())["dsseEnvelope"]).encode())
    for line in lines:
        (tmp_path / "envelope").write_bytes(line)
        envelope = Metadata.load(str(tmp_path / "envelope"))
        assert isinstance(envelope, Envelope)
        keyid = json.loads(line)["signatures"][0]["keyid"]
        key = SSlibKey.from_crypto(public, keyid)
        assert set(envelope.verify([key], threshold=1)) == {keyid}
        with pytest.raises(VerificationError):
            envelope.verify([SSlibKey.from_crypto(stranger, keyid)], threshold=1)
        envelope.payload += b" "
        with pytest.raises(VerificationError):
            envelope.verify([key], threshold=1)


@pytest.mark.parametrize("kind", KEYS)
def test_envelope_by_hand(
    kind: str, signed: dict[tuple[str, str], Path], keys: dict[str, Path]
) -> None:
    """As the specifications of DSSE and of our names of keys say, with nothing but cryptography."""
    public = serialization.load_pem_public_key(keys[kind].with_suffix(".pub").read_bytes())
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    envelope = json.loads((signed["bundle", kind] / SIGNATURE).read_bytes())["dsseEnvelope"]
    body, form = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    (signature,) = envelope["signatures"]
    assert signature["keyid"] == "sha256:" + hashlib.sha256(der).hexdigest()
    raw = base64.b64decode(signature["sig"])

    def verify(message: bytes) -> None:
        pae = b"DSSEv1 %d %b %d %b" % (len(form), form, len(message), message)
        if isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(raw, pae)
        else:
            assert isinstance(public, ec.EllipticCurvePublicKey)
            public.verify(raw, pae, ec.ECDSA(hashes.SHA256()))

    verify(body)
    with pytest.raises(InvalidSignature):
        verify(body + b" ")


@pytest.mark.parametrize("name", KINDS)
def test_bills_of_materials_are_valid(name: str, signed: dict[tuple[str, str], Path]) -> None:
    text = (signed[name, "ecdsa-p256"] / "sbom.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = JsonLikeDictParser().parse(json.loads(to_spdx(text)))
    assert validate_full_spdx_document(document) == []


@pytest.mark.tool("unzip")
def test_unzip_finds_no_fault(
    proven: dict[str, Path], keys: dict[str, Path], tmp_path: Path
) -> None:
    path = Path(shutil.copy(proven["bundle"], tmp_path))
    sign(path, load_private(keys["ed25519"]))
    done = subprocess.run(["unzip", "-t", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "No errors detected" in done.stdout
    assert "warning" not in done.stdout + done.stderr


def test_onnx_reads_the_members(signed: dict[tuple[str, str], Path]) -> None:
    folder = signed["bundle", "ecdsa-p256"]
    manifest = json.loads((folder / "manifest.json").read_bytes())
    stages = [f"{stage['name']}.onnx" for stage in manifest["stages"]]
    assert stages == ["preprocess.onnx", "model.onnx"]
    values: dict[str, Any] = {}
    given = folder / "vectors" / "test_data_set_0"
    tensor = onnx.load_tensor(given / "input_0.pb")
    values[tensor.name] = onnx.numpy_helper.to_array(tensor)
    for stage in stages:
        onnx.checker.check_model(folder / stage, full_check=True)
        session = ort.InferenceSession(folder / stage)
        names = [output.name for output in session.get_outputs()]
        fed = {i.name: values[i.name] for i in session.get_inputs()}
        values |= dict(zip(names, session.run(names, fed), strict=True))
    expected = onnx.load_tensor(given / "output_0.pb")
    assert (values[expected.name] == onnx.numpy_helper.to_array(expected)).all()


@pytest.mark.parametrize("name", KINDS)
def test_digests_are_those_of_sha256sum(name: str, signed: dict[tuple[str, str], Path]) -> None:
    """Everything is listed: what the artefact lists, and what the signature does."""
    folder = signed[name, "ecdsa-p256"]
    listing = "manifest.json" if name == "bundle" else "model.json"
    listed = {e["path"]: e["digest"] for e in json.loads((folder / listing).read_bytes())["files"]}
    signed_files = dict(statements(folder))[SIGNATURE]["predicate"]["resources"]
    all_files = {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file() and p.parent.name != "signature"
    }
    assert {r["name"]: r["digest"] for r in signed_files} == all_files
    proven = {"conformance.json"} if name != "bundle" else set()
    assert listed.keys() == all_files.keys() - {listing} - proven
    assert all(digest == f"sha256:{all_files[path]}" for path, digest in listed.items())
