"""Signed artefacts to tamper with, and the tools that do it."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

import mlopsc
from mlopsc.bundle import Bundle, pack, write_bundle
from mlopsc.bundle.container import write_container
from mlopsc.schema.common import canonical_json
from mlopsc.signing import sign
from mlopsc.trust.keys import PrivateKey, generate_keys, load_private

MANIFEST = "manifest.json"
MODEL_SIG = "signature/model.sig"
ATTESTATIONS = "signature/attestations.intoto.jsonl"
SIGNATURES = (ATTESTATIONS, MODEL_SIG)
TARGET = "cortex-m7"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def members(data: bytes) -> dict[str, bytes]:
    """Return the members of a bundle, in their order."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def spans(data: bytes) -> dict[str, tuple[int, int]]:
    """Return where the content of every member begins and ends in the file."""
    found = {}
    with zipfile.ZipFile(BytesIO(data)) as archive:
        for info in archive.infolist():
            at = info.header_offset + 26
            lengths = int.from_bytes(data[at : at + 2], "little") + int.from_bytes(
                data[at + 2 : at + 4], "little"
            )
            start = info.header_offset + 30 + lengths
            found[info.filename] = (start, start + info.file_size)
    return found


def relisted(parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Make the manifest agree with the members as they are, as who has no key can."""
    manifest = json.loads(parts[MANIFEST])
    known = {entry["path"]: entry for entry in manifest["files"]}
    manifest["files"] = [
        {"media_type": known.get(name, {}).get("media_type", "application/octet-stream"),
         "path": name, "digest": digest(data), "size": len(data)}
        for name, data in sorted(parts.items())
        if name != MANIFEST and name not in SIGNATURES
    ]  # fmt: skip
    return {**parts, MANIFEST: canonical_json(manifest).encode()}


def with_manifest(parts: Mapping[str, bytes], change: Callable[[Any], object]) -> dict[str, bytes]:
    """Return the members with a manifest that ``change`` has been at."""
    manifest = json.loads(parts[MANIFEST])
    change(manifest)
    return {**parts, MANIFEST: canonical_json(manifest).encode()}


@dataclass(frozen=True)
class Workshop:
    """A bundle and a package, signed, and everything that an attacker may have.

    Attributes:
        folder: Where everything lies.
        key: Signs the artefacts; an attacker has not this one.
        public: Of ``key``; whom the victim trusts.
        stranger: A key of the attacker, of the same kind.
        other_kind: The same, of the other kind.
        bundle: The signed bundle.
        older: An older version of it, signed by the same key.
        package: The signed package.
        older_package: Made of the older bundle, signed by the same key; not proven.
    """

    folder: Path
    key: PrivateKey
    public: Path
    stranger: PrivateKey
    other_kind: PrivateKey
    bundle: bytes
    older: bytes
    package: Path
    older_package: Path

    @property
    def parts(self) -> dict[str, bytes]:
        """Members of the bundle."""
        return members(self.bundle)

    def assemble(self, parts: Mapping[str, bytes]) -> bytes:
        """Return a container as it must be, with any members."""
        path = self.folder / "assembled"
        write_container(path, {name: [data] for name, data in parts.items()})
        return path.read_bytes()

    def signed(self, parts: Mapping[str, bytes], key: PrivateKey) -> bytes:
        """Return the bundle that a usable set of members makes, signed by ``key``."""
        path = self.folder / "signed.mlb"
        unsigned = {name: data for name, data in parts.items() if name not in SIGNATURES}
        path.write_bytes(self.assemble(unsigned))
        sign(path, key)
        return path.read_bytes()

    def files(self) -> dict[str, bytes]:
        """Files of the package."""
        paths = sorted(p for p in self.package.rglob("*") if p.is_file())
        return {p.relative_to(self.package).as_posix(): p.read_bytes() for p in paths}


def changed_manifest(bundle: Bundle, **changes: Any) -> Bundle:
    """Return ``bundle`` with other fields in its manifest, and no signature."""
    manifest = bundle.manifest.model_copy(update=changes)
    made = pack(manifest, bundle.stages, bundle.vectors, bundle.documents)
    return replace(made, signatures={})


def open_workshop(digits: Path, folder: Path) -> Workshop:
    """Import what is in the folder ``digits``, and sign two versions, and a package of each."""
    given = np.load(digits / "vectors.npz")
    np.savez(folder / "vectors.npz", **{name: given[name][:2] for name in given})
    bundle = mlopsc.import_model(
        digits / "digits.onnx",
        folder / "digits.mlb",
        preprocess=digits / "preprocess.onnx",
        vectors=folder / "vectors.npz",
    )
    trained_with = next(stage.digest for stage in bundle.stages if stage.name == "preprocess")
    keys = {}
    for name, kind in (("key", "ecdsa-p256"), ("stranger", "ecdsa-p256"), ("other", "ed25519")):
        generate_keys(folder / name, kind=kind, password=None)  # type: ignore[arg-type]
        keys[name] = load_private(folder / name)
    for version in ("1.0", "0.9"):
        path = folder / f"{version}.mlb"
        write_bundle(changed_manifest(bundle, version=version, trained_with=trained_with), path)
        sign(path, keys["key"])
        mlopsc.build(path, TARGET, folder / version, keys=[folder / "key.pub"])
        if version == "1.0":
            mlopsc.conform(folder / version / TARGET)
        sign(folder / version / TARGET, keys["key"], unproven=version != "1.0")
    return Workshop(
        folder,
        keys["key"],
        folder / "key.pub",
        keys["stranger"],
        keys["other"],
        (folder / "1.0.mlb").read_bytes(),
        (folder / "0.9.mlb").read_bytes(),
        folder / "1.0" / TARGET,
        folder / "0.9" / TARGET,
    )


def copy(package: Path, folder: Path) -> Path:
    """Return a fresh copy of a package, in the same place each time."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(package, folder)
    return folder
