"""Whatever is done to a signed bundle or package, it does not pass for the signed one."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tampered_bundles
import tampered_packages
from support import check_refused, check_words, run_cli, unchanged
from tampered_signatures import signatures
from workshop import SIGNATURES, TARGET, Workshop, copy, digest, open_workshop, spans

import mlopsc
from mlopsc.errors import (
    BrokenBundleError,
    BrokenPackageError,
    FormatVersionError,
    LockstepError,
    MismatchError,
    MlopscError,
    SignatureError,
)
from mlopsc.signing import sign
from mlopsc.trust.artefact import open_artefact
from mlopsc.trust.policy import TrustOptions, authorise, verify

OF_BUNDLES = (BrokenBundleError, FormatVersionError, LockstepError, SignatureError)
OF_PACKAGES = (BrokenPackageError, FormatVersionError, LockstepError, MismatchError, SignatureError)
LIMIT_S = 5.0
MEMORY = 3 << 30  # of address space; the program itself takes the most of it


@pytest.fixture(scope="module")
def shop(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return open_workshop(digits_folder, tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder to work in, with something around it that must stay as it is."""
    around, inside = tmp_path / "around", tmp_path / "around" / "inside"
    inside.mkdir(parents=True)
    (around / "escape").write_text("as it was")
    yield inside
    shutil.rmtree(inside)
    assert [p.name for p in around.iterdir()] == ["escape"]
    assert (around / "escape").read_text() == "as it was"


def trust(shop: Workshop) -> TrustOptions:
    return TrustOptions(keys=(shop.public,))


def tampered_bundle_signatures(shop: Workshop) -> Iterator[tuple[str, bytes]]:
    parts = shop.parts
    for what, change in signatures(shop, {name: parts[name] for name in SIGNATURES}):
        made = {name: change.get(name, data) for name, data in parts.items()}
        yield what, shop.assemble({name: data for name, data in made.items() if data is not None})


def tampered_package_signatures(
    shop: Workshop,
) -> Iterator[tuple[str, Callable[[Path], object]]]:
    files = {name: (shop.package / name).read_bytes() for name in SIGNATURES}

    def write(package: Path, change: dict[str, bytes | None]) -> None:
        for name, data in {**files, **change}.items():
            if data is None:
                (package / name).unlink()
            else:
                (package / name).write_bytes(data)

    for what, change in signatures(shop, files):
        yield what, lambda package, c=change: write(package, c)


BUNDLES = {**tampered_bundles.CATEGORIES, "signatures": tampered_bundle_signatures}
PACKAGES = {**tampered_packages.CATEGORIES, "signatures": tampered_package_signatures}


def outcome(check: Callable[[], object], kinds: tuple[type[MlopscError], ...]) -> str | None:
    """Return what is wrong with how ``check`` ends; None if it refuses as it should."""
    start = time.monotonic()
    try:
        check()
    except kinds as error:
        try:
            check_words(error.message, error.hint)
        except AssertionError as unclear:
            return f"unclear: {unclear}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    else:
        return "PASSED"
    took = time.monotonic() - start
    return None if took < LIMIT_S else f"took {took:.1f} s"


def test_what_nobody_tampered_with_is_accepted(shop: Workshop, place: Path) -> None:
    for data in (shop.bundle, shop.older, shop.assemble(shop.parts)):
        path = tampered_bundles.write(data, place / "m.mlb")
        assert verify(path, trust(shop)).artefact.kind == "bundle"
        assert authorise(open_artefact(path), trust(shop))[1] == ()
    assert shop.assemble(shop.parts) == shop.bundle
    for package, count in ((shop.package, 5), (shop.older_package, 4)):
        found = verify(copy(package, place / "p"), trust(shop))
        assert [check.verdict for check in found.checks].count("pass") == count


def test_enough_is_tried(shop: Workshop) -> None:
    of_bundles = {digest(data) for make in BUNDLES.values() for _, data in make(shop)}
    of_packages = {f"{k}: {n}" for k, make in PACKAGES.items() for n, _ in make(shop)}
    assert digest(shop.bundle) not in of_bundles
    assert len(of_bundles) >= 1000
    assert len(of_packages) >= 900


@pytest.mark.parametrize("category", BUNDLES)
def test_tampered_bundle_is_refused(category: str, shop: Workshop, place: Path) -> None:
    wrong = []
    for name, data in BUNDLES[category](shop):
        path = tampered_bundles.write(data, place / "m.mlb")
        checks = {
            "verify": lambda p=path: verify(p, trust(shop)),
            "build": lambda p=path: authorise(open_artefact(p), trust(shop)),
        }
        for what, check in checks.items():
            if (problem := outcome(check, OF_BUNDLES)) is not None:
                wrong.append(f"{name}: {what}: {problem}")
    assert not wrong, "\n".join(wrong)
    assert [p.name for p in place.iterdir()] == ["m.mlb"]


@pytest.mark.parametrize("category", PACKAGES)
def test_tampered_package_is_refused(category: str, shop: Workshop, place: Path) -> None:
    wrong = []
    package = copy(shop.package, place / "p")
    for name, change in PACKAGES[category](shop):
        if category != "signatures":  # which are written anew each time
            copy(shop.package, package)
        change(package)
        problem = outcome(lambda p=package: verify(p, trust(shop)), OF_PACKAGES)
        if problem is not None:
            wrong.append(f"{name}: {problem}")
    assert not wrong, "\n".join(wrong)


def test_every_byte_outside_of_members_counts(shop: Workshop, place: Path) -> None:
    """Headers, padding, directory: each byte of the container follows from the members."""
    data = shop.bundle
    inside = {at for start, end in spans(data).values() for at in range(start, end)}
    outside = [at for at in range(len(data)) if at not in inside]
    assert len(outside) > 2000
    path = tampered_bundles.write(data, place / "m.mlb")
    with path.open("r+b", buffering=0) as file:
        for at in outside:
            for value in (data[at] ^ (0x01, 0x20, 0x80, 0xFF)[at % 4], data[at]):
                file.seek(at)
                file.write(bytes([value]))
                if value != data[at]:
                    with pytest.raises(BrokenBundleError):
                        open_artefact(path)
                        pytest.fail(f"byte {at} does not count")
    assert verify(path, trust(shop))


def test_random_bytes_count(shop: Workshop, place: Path) -> None:
    random_ = random.Random(20240517)  # noqa: S311 (repeatable)
    data = shop.bundle
    for _ in range(300):
        at, mask = random_.randrange(len(data)), random_.randrange(1, 256)
        path = tampered_bundles.write(tampered_bundles.flipped(data, at, mask), place / "m.mlb")
        assert outcome(lambda p=path: verify(p, trust(shop)), OF_BUNDLES) is None, (at, mask)
    package, files = copy(shop.package, place / "p"), shop.files()
    for _ in range(300):
        name = random_.choice(sorted(files))
        at, mask = random_.randrange(len(files[name])), random_.randrange(1, 256)
        (package / name).write_bytes(tampered_bundles.flipped(files[name], at, mask))
        assert outcome(lambda: verify(package, trust(shop)), OF_PACKAGES) is None, (name, at, mask)
        (package / name).write_bytes(files[name])
    assert verify(package, trust(shop))


def test_times_and_modes_of_files_do_not_count(shop: Workshop, place: Path) -> None:
    package = copy(shop.package, place / "p")
    for path in package.rglob("*"):
        path.chmod(0o755)
    assert verify(package, trust(shop))


def test_other_preprocessing_than_the_trained_one(shop: Workshop, place: Path) -> None:
    """The lock-step holds whatever is allowed: both digests are named, and nothing is built."""
    parts = {n: d for n, d in shop.parts.items() if n not in SIGNATURES}
    preprocess, _ = tampered_bundles.scaled(parts["preprocess.onnx"], b"")
    changed = tampered_bundles.redocumented({**parts, "preprocess.onnx": preprocess})
    digests = [digest(d) for d in (parts["preprocess.onnx"], preprocess)]
    path = tampered_bundles.write(shop.assemble(changed), place / "m.mlb")
    trusts = [
        TrustOptions(),
        TrustOptions(allow_unsigned=True),
        TrustOptions(keys=(shop.public,), allow_unsigned=True, allow_expired=True),
    ]
    for options in trusts:
        with pytest.raises(LockstepError) as caught:
            verify(path, options)
        check_words(caught.value.message, caught.value.hint, *digests)
        with pytest.raises(LockstepError, match=digests[0]):
            authorise(open_artefact(path), replace(options, unchecked=True))
    with unchanged(place):
        for flags in (("--allow-unsigned",), ("--unchecked",)):
            result = run_cli("build", path, "-t", TARGET, "-o", place / "out", *flags)
            check_refused(result, LockstepError, *digests)
        with pytest.raises(LockstepError, match=digests[1]):
            sign(path, shop.key)


def test_package_made_of_a_bundle_out_of_lockstep(shop: Workshop, place: Path) -> None:
    """What a package keeps of its bundle must be in lock-step, too."""
    package = copy(shop.package, place / "p")
    manifest = package / "bundle" / "manifest.json"
    old = next(s.digest for s in _bundle(shop, place).stages if s.name == "preprocess")
    text = manifest.read_text(encoding="utf-8")
    assert text.count(old) >= 2  # what trained the model, and what is shipped
    manifest.write_text(
        text.replace(f'"trained_with": "{old}"', f'"trained_with": "sha256:{"0" * 64}"')
    )
    tampered_packages.relist(package, bundle=digest(manifest.read_bytes()))
    tampered_packages.restate(package)
    tampered_packages.relist(package)
    tampered_packages.prove(package)
    for name in SIGNATURES:
        (package / name).unlink()
    with pytest.raises(LockstepError) as caught:
        verify(package, TrustOptions(allow_unsigned=True))
    check_words(caught.value.message, caught.value.hint, old, "0" * 64)


def _bundle(shop: Workshop, place: Path) -> mlopsc.Bundle:
    return mlopsc.bundle.read_bundle(tampered_bundles.write(shop.bundle, place / "m.mlb"))


# The command line --------------------------------------------------------------------------------

BOMBS = ("bomb", "bomb as a member", "many members")
SAMPLE = {
    "bytes": ("zip comment",),
    "zips": (*BOMBS, "named '../escape'", f"declared size {1 << 40}", "named 'esc\\x1b[2J'"),
    "manifests": ("manifest: brackets", "manifest: many digits"),
    "consistent": ("consistent, documents too: graph", "consistent, signed by stranger: graph"),
}  # fmt: skip
BUILT = {"bomb", "zip comment", "consistent, signed by stranger: graph"}  # the others are verified


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
@pytest.mark.slow
@pytest.mark.parametrize("category", SAMPLE)
def test_tampered_bundle_on_the_command_line(category: str, shop: Workshop, place: Path) -> None:
    """Within narrow limits of memory, with one message, and nothing written anywhere."""
    cases = dict(BUNDLES[category](shop))
    for name in SAMPLE.get(category, ()):
        path = tampered_bundles.write(cases[name], place / "m.mlb")
        with unchanged(place.parent):
            verb = ("build", "-t", TARGET, "-o", place / "out") if name in BUILT else ("verify",)
            start = time.monotonic()
            result = run_cli(*verb, path, "--key", shop.public, cwd=place, before=limited)
            assert time.monotonic() - start < 4 * LIMIT_S
            kind = next(k for k in (*OF_BUNDLES, MlopscError) if k.exit_code == result.returncode)
            assert kind in OF_BUNDLES, (name, result.stderr)
            check_refused(result, kind)
            assert (result.stdout, "\x1b" in result.stderr) == ("", False)


@pytest.mark.parametrize(
    ("category", "name"),
    [
        ("files", "lib/libdigits.a: middle byte"), ("files", "lib/libdigits.a: a pipe"),
        ("strangers", "signature: a linked folder"), ("strangers", "model.json: huge"),
        ("strangers", "lib/libdigits.a: huge"), ("reports", "report: mismatch"),
        ("strangers", "stranger 'include/esc\\x1b[2J.h'"), ("strangers", "stranger not UTF-8"),
    ],
)  # fmt: skip
def test_tampered_package_on_the_command_line(
    category: str, name: str, shop: Workshop, place: Path
) -> None:
    package = copy(shop.package, place / "p")
    dict(PACKAGES[category](shop))[name](package)
    result = run_cli("verify", package, "--key", shop.public)
    kind = next(k for k in (*OF_PACKAGES, MlopscError) if k.exit_code == result.returncode)
    assert kind in OF_PACKAGES, (name, result.stderr)
    check_refused(result, kind, package)
    assert "\x1b" not in result.stderr


def test_pipe_as_a_bundle(shop: Workshop, place: Path) -> None:
    """A finding: reading it never ended."""
    os.mkfifo(place / "m.mlb")
    os.mkfifo(place / "m")
    for name in ("m.mlb", "m"):
        check_refused(
            run_cli("verify", place / name, "--key", shop.public), BrokenBundleError, name
        )
