"""Signs bundles and packages where they lie, and writes them to the log."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from mlopsc.bundle import write_bundle
from mlopsc.errors import InputError, OutputError
from mlopsc.outputs import atomic_file, atomic_folder
from mlopsc.resident import little_resident
from mlopsc.schema.common import Digest
from mlopsc.schema.signing import SIGNATURE_FOLDER
from mlopsc.trust.artefact import Artefact, check_lockstep, is_signed, open_artefact
from mlopsc.trust.attest import make_signatures
from mlopsc.trust.keys import Certificate, PrivateKey, key_id
from mlopsc.trust.log import record_artefact
from mlopsc.trust.revocations import read_revocations


def sign(
    path: Path,
    key: PrivateKey,
    *,
    certificate: Certificate | None = None,
    expires: date | None = None,
    unproven: bool = False,
    force: bool = False,
) -> tuple[Artefact, Digest]:
    """Sign the bundle or package at ``path`` and return it, with the key's name.

    Args:
        path: What to sign; a bundle gets new members, a package a folder ``signature``.
        key: Who signs.
        certificate: Says who the key belongs to.
        expires: The last day on which the signature counts.
        unproven: Sign a package that is not proven; this is recorded.
        force: Replace a signature.

    Raises:
        MlopscError: It is not whole, out of lock-step, revoked, not proven or signed already.
    """
    artefact = open_artefact(path)
    check_lockstep(artefact)
    if is_signed(artefact) and not force:
        raise OutputError(
            f"'{path}' is signed already", hint="add --force to replace the signature"
        )
    name = key_id(key.public_key())
    unsigned = replace(artefact, signatures={})  # who signs now replaces who has signed
    made_of = {**unsigned.ancestors(), f"key:{name}": "the key that signed it"}
    read_revocations().check(path, made_of)
    if expires is not None and expires < datetime.now(UTC).date():
        raise InputError(
            f"the signature would have expired on {expires}", hint="give a date to come"
        )
    signatures = make_signatures(
        artefact, key, certificate=certificate, expires=expires, unproven=unproven
    )
    if artefact.kind == "bundle":
        bundle = artefact.require_bundle()
        with little_resident(), atomic_file(path, force=True) as new:
            write_bundle(replace(bundle, signatures=signatures), new)
            record_artefact("sign", artefact, path, made_of=made_of)
    else:
        with atomic_folder(path / SIGNATURE_FOLDER, force=True) as folder:
            for member, data in signatures.items():
                (folder / Path(member).name).write_bytes(data)
            record_artefact("sign", artefact, path, made_of=made_of)
    return artefact, name
