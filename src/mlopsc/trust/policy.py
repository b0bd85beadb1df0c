"""Decides whether an artefact may be used: whole, signed by whom one trusts, and not revoked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mlopsc.errors import MismatchError, SignatureError
from mlopsc.package_reader import LoadedPackage
from mlopsc.schema.build_options import UNCHECKED, UNSIGNED
from mlopsc.trust.artefact import (
    Artefact,
    check_lockstep,
    is_signed,
    listed_preprocessing,
    open_artefact,
    package_ancestors,
)
from mlopsc.trust.attest import Checked, Trusted, check_signatures
from mlopsc.trust.keys import load_certificates, load_public
from mlopsc.trust.revocations import read_revocations

KEY_VARIABLE: Final = "MLOPSC_VERIFY_KEY"


@dataclass(frozen=True)
class TrustOptions:
    """Whom and what a user trusts.

    Attributes:
        keys: Public keys; those of ``MLOPSC_VERIFY_KEY`` if there are none.
        roots: Root certificates.
        revocations: Revocation lists, beside the user's own.
        allow_unsigned: Accept what nobody has signed.
        allow_expired: Accept signatures and certificates whose time is over.
        unchecked: Do not look at the signature of what is built.
    """

    keys: tuple[Path, ...] = ()
    roots: tuple[Path, ...] = ()
    revocations: tuple[Path, ...] = ()
    allow_unsigned: bool = False
    allow_expired: bool = False
    unchecked: bool = False

    def trusted(self) -> Trusted:
        """Return the keys and certificates themselves.

        Raises:
            KeyFileError: One cannot be used.
        """
        named = [Path(p) for p in os.environ.get(KEY_VARIABLE, "").split(os.pathsep) if p]
        return Trusted(
            keys=tuple(load_public(path) for path in (self.keys or named)),
            roots=load_certificates(self.roots),
            allow_expired=self.allow_expired,
        )


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        verdict: ``pass``, or ``note`` where there was nothing to check.
        detail: What was found.
    """

    name: str
    verdict: Literal["pass", "note"]
    detail: str


@dataclass(frozen=True)
class Verification:
    """An artefact that may be used, and why.

    Attributes:
        artefact: It.
        checks: What was looked at.
    """

    artefact: Artefact
    checks: tuple[Check, ...]


def verify(path: Path, options: TrustOptions) -> Verification:
    """Check everything that can be known of the artefact at ``path`` without running it.

    Raises:
        MlopscError: It must not be used; see ``mlopsc.errors``.
    """
    artefact = open_artefact(path)
    checks = [
        Check("whole", "pass", f"{len(artefact.files)} files match their digests"),
        _lockstep(artefact),
    ]
    trusted = options.trusted()
    signer: Checked | None = None
    if is_signed(artefact) or not options.allow_unsigned:
        signer = check_signatures(artefact, trusted)
    checks.append(_signature(signer))
    if artefact.kind == "package":
        checks.append(_conformance(artefact))
    _check_revoked(artefact, options)
    checks.append(Check("revocation", "pass", "nothing it was made of is revoked"))
    return Verification(artefact, tuple(checks))


def authorise(artefact: Artefact, options: TrustOptions) -> tuple[str, tuple[str, ...]]:
    """Decide whether packages may be built of a bundle.

    Returns:
        Who signed it, for the record: a key, ``unsigned`` or ``unchecked``; and the flags that
        allowed what is not safe.

    Raises:
        MlopscError: They may not.
    """
    check_lockstep(artefact)
    _check_revoked(artefact, options)
    trusted = options.trusted()
    if options.unchecked:
        return UNCHECKED, ("unchecked",)
    if not is_signed(artefact):
        if trusted and not options.allow_unsigned:
            raise SignatureError(
                f"'{artefact.path}' is not signed, and only signed bundles are trusted",
                hint="have it signed ('mlopsc sign'), or accept it with --allow-unsigned",
            )
        return UNSIGNED, ("allow-unsigned",) if trusted else ()
    checked = check_signatures(artefact, trusted)
    return checked.key, ("allow-expired",) if options.allow_expired else ()


def refuse_revoked(package: LoadedPackage, lists: tuple[Path, ...] = ()) -> None:
    """Refuse to run a package that is revoked, or made of something that is.

    Raises:
        RevokedError: It is.
        BrokenPackageError: What says of what it was made is damaged.
        LogError: A revocation list does not hold.
    """
    revoked = read_revocations(lists)
    if revoked.entries:
        revoked.check(package.path, package_ancestors(package))


def _check_revoked(artefact: Artefact, options: TrustOptions) -> None:
    revoked = read_revocations(options.revocations)
    revoked.check(artefact.path, artefact.ancestors())


def _lockstep(artefact: Artefact) -> Check:
    check_lockstep(artefact)
    manifest = artefact.manifest
    if manifest is None or manifest.trained_with is None:
        return Check("lock-step", "note", "which preprocessing trained the model is not recorded")
    if artefact.kind == "package" and listed_preprocessing(manifest) is None:
        return Check("lock-step", "note", "only the bundle can be checked")
    return Check("lock-step", "pass", f"preprocessing {manifest.trained_with} trained the model")


def _signature(signer: Checked | None) -> Check:
    if signer is None:
        return Check("signature", "note", "not signed")
    parts = [signer.subject, f"key {signer.key}"]
    if signer.terms.expires is not None:
        parts.append(f"until {signer.terms.expires}")
    if signer.terms.allowed:
        parts.append(f"although {', '.join(signer.terms.allowed)}")
    return Check("signature", "pass", ", ".join(filter(None, parts)))


def _conformance(artefact: Artefact) -> Check:
    report = artefact.report
    if report is None:
        return Check("conformance", "note", "not run yet: 'mlopsc conform'")
    if report.verdict != "pass":
        raise MismatchError(
            f"'{artefact.path}' does not compute what the reference does",
            hint="conformance.json in the package has the details",
        )
    return Check("conformance", "pass", f"{report.vectors} vectors, {report.runner}")
