"""Packages that somebody tampered with, by what was touched. None may pass for the signed one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tampered_bundles import flipped
from workshop import SIGNATURES, Workshop, digest

from mlopsc.schema.common import canonical_json
from mlopsc.signing import sign

Change = Callable[[Path], object]
Cases = Iterator[tuple[str, Change]]
DESCRIPTOR, REPORT, PREPROCESSED = "model.json", "conformance.json", "bundle/manifest.json"


def put(name: str, data: bytes, package: Path) -> None:
    (package / name).parent.mkdir(parents=True, exist_ok=True)
    (package / name).write_bytes(data)


def rename(old: str, new: str, package: Path) -> None:
    (package / new).parent.mkdir(parents=True, exist_ok=True)
    (package / old).rename(package / new)


def instead(name: str, make: Callable[[Path], object], package: Path) -> None:
    (package / name).unlink(missing_ok=True)
    make(package / name)


def relist(package: Path, **changes: Any) -> None:
    """Make ``model.json`` agree with the files as they are, and change fields of it."""
    path = package / DESCRIPTOR
    info = json.loads(path.read_bytes())
    for entry in info["files"]:
        data = (package / entry["path"]).read_bytes()
        entry.update(digest=digest(data), size=len(data))
    path.write_text(canonical_json({**info, **changes}), encoding="utf-8")


def prove(package: Path) -> None:
    """Make the conformance report agree with ``model.json``."""
    path = package / REPORT
    report = json.loads(path.read_bytes())
    report["model_json"] = digest((package / DESCRIPTOR).read_bytes())
    path.write_text(canonical_json(report), encoding="utf-8")


def restate(package: Path) -> None:
    """Make the provenance agree with the files as they are."""
    path = package / "provenance.json"
    statement = json.loads(path.read_bytes())
    for subject in statement["subject"]:
        subject["digest"]["sha256"] = digest((package / subject["name"]).read_bytes())[7:]
    (dependency,) = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    bundle = json.loads((package / "model.json").read_bytes())["bundle"]
    dependency["digest"]["sha256"] = bundle.removeprefix("sha256:")
    path.write_text(canonical_json(statement), encoding="utf-8")


def of_files(shop: Workshop) -> Cases:
    """Every file of the package."""
    files = shop.files()
    names = list(files)
    for number, (name, data) in enumerate(files.items()):
        after = names[(number + 1) % len(names)]
        for what, made in {
            "first byte": flipped(data, 0), "middle byte": flipped(data, len(data) // 2, 0x80),
            "last byte": flipped(data, len(data) - 1), "truncated": data[:-1], "emptied": b"",
            "longer": data + b"\n", "that of another": files[after],
        }.items():  # fmt: skip
            yield f"{name}: {what}", partial(put, name, made)
        # A package without its report or its signature is one: not proven, or not signed. It is
        # refused because the signature says that there was a report, and because one is asked for.
        yield f"{name}: removed", lambda package, n=name: (package / n).unlink()
        yield f"{name}: renamed", partial(rename, name, f"{name}.bak")
        yield f"{name}: moved", partial(rename, name, f"moved/{name}")
        yield f"{name}: a link to the same", partial(link_to_copy, name)
        yield f"{name}: a folder", partial(instead, name, Path.mkdir)
        yield f"{name}: a pipe", partial(instead, name, os.mkfifo)


def link_to_copy(name: str, package: Path) -> None:
    """Replace a file by a link to identical content, outside of the package."""
    aside = package.parent / "aside"
    shutil.copyfile(package / name, aside)
    instead(name, lambda path: path.symlink_to(aside), package)


def link_inside(name: str, package: Path) -> None:
    """The same, inside of the package."""
    twin = next(p for p in sorted(package.rglob("*")) if p.is_file() and p != package / name)
    (package / name).write_bytes(twin.read_bytes())
    relist(package)
    instead(name, lambda path: path.symlink_to(os.path.relpath(twin, path.parent)), package)


def link_folder(name: str, package: Path) -> None:
    """Replace a folder by a link to a copy of it."""
    aside = package.parent / "aside.folder"
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(package / name, aside)
    shutil.rmtree(package / name)
    (package / name).symlink_to(aside)


def bind(path: Path) -> None:
    """Make a socket; its path must be short."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def of_strangers(shop: Workshop) -> Cases:
    """What a package must not hold."""
    for name in (
        ".hidden", "extra.bin", "lib/evil.so", "lib/libdigits.so", "signature/other.sig",
        "signature/model.sig.bak", "signature/deep/model.sig", "bundle/extra.json", "new/file",
        "include/new\nline.h", "include/esc\x1b[2J.h", "conformance.json.bak", "Model.json",
        "vectors/test_data_set_99/input_0.pb", "é", "bundle/sbom.cdx.json", "model.onnx",
    ):  # fmt: skip
        yield f"stranger {name!r}", partial(put, name, b"x")
    yield "stranger not UTF-8", lambda p: Path(os.fsdecode(os.fsencode(p) + b"/\xff")).touch()
    for name in ("new", "lib/new", "signature/new", "signature/model.sig.d"):
        yield f"empty folder {name}", lambda package, n=name: (package / n).mkdir()
    makers: dict[str, Callable[[Path], object]] = {
        "pipe": os.mkfifo,
        "socket": bind,
        "link to nowhere": lambda path: path.symlink_to("nowhere"),
        "link to itself": lambda path: path.symlink_to(path),
        "link to a device": lambda path: path.symlink_to("/dev/zero"),
        "link to a folder": lambda path: path.symlink_to("/"),
        "link out": lambda path: path.symlink_to("/etc/passwd"),
    }
    if os.geteuid() == 0:
        makers["device"] = lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    for what, make in makers.items():
        for name in ("extra", DESCRIPTOR, REPORT, "lib/libdigits.a", PREPROCESSED, *SIGNATURES):
            yield f"{name}: a {what}", partial(instead, name, make)
    for name in ("lib", "bundle", "signature", "vectors", "vectors/test_data_set_0"):
        yield f"{name}: a linked folder", partial(link_folder, name)
    for name in ("include/mlopsc.h", "examples/main.c", "bundle/lineage.json"):
        yield f"{name}: a link inside", partial(link_inside, name)
    for name in (DESCRIPTOR, REPORT, "lib/libdigits.a", *SIGNATURES):
        yield f"{name}: huge", partial(grow, name)
    if os.geteuid() != 0:
        for name in (DESCRIPTOR, REPORT, "lib/libdigits.a", "lib", "signature", *SIGNATURES):
            yield f"{name}: unreadable", lambda package, n=name: (package / n).chmod(0)


def grow(name: str, package: Path) -> None:
    """Make a file of terabytes that takes no space."""
    os.truncate(package / name, 1 << 42)


def of_descriptors(shop: Workshop) -> Cases:
    """``model.json`` by somebody without the key."""
    raw = (shop.package / DESCRIPTOR).read_bytes()
    text = raw.decode()
    info = json.loads(text)
    for field, value in info.items():
        for what, new in {"null": None, "number": 3, "text": "x", "list": [],
                          "NaN": float("nan")}.items():  # fmt: skip
            if new != value:
                yield f"descriptor: {field} {what}", partial(relist, **{field: new})
    paths = ["../../x", "/etc/passwd", "lib/../lib/libdigits.a", "lib//libdigits.a", "./model.json",
             "lib/libdigits.a\0", "", ".", "lib", "x" * 5000, "/dev/zero", "new\nline",
             "\x1b[2J"]  # fmt: skip
    for path in paths:
        files = [{**info["files"][0], "path": path}, *info["files"]]
        changed = canonical_json({**info, "files": files}).encode()
        yield f"descriptor: lists {path[:30]!r}", partial(put, DESCRIPTOR, changed)
        changed = canonical_json({**info, "static_library": path}).encode()
        yield f"descriptor: library {path[:30]!r}", partial(put, DESCRIPTOR, changed)
    texts = {
        "compact": json.dumps(info).encode(), "space": raw + b" ", "BOM": b"\xef\xbb\xbf" + raw,
        "key twice": raw.replace(b'"name":', b'"name": "x",\n  "name":', 1), "nothing": b"",
        "brackets": b"[" * 100_000, "surrogate": raw.replace(b"digits", b"\\ud800", 1),
        "digits": text.replace('"abi_version": 1', '"abi_version": 1' + "0" * 5000).encode(),
        "newer": canonical_json({**info, "schema_version": 99}).encode(),
        "older": canonical_json({**info, "schema_version": 1}).encode(),
        "a file less": canonical_json({**info, "files": info["files"][1:]}).encode(),
        "a file twice": canonical_json({**info, "files": [*info["files"], info["files"][0]]})
        .encode(),
        "other order": canonical_json({**info, "files": info["files"][::-1]}).encode(),
        "other size": raw.replace(b'"size": ', b'"size": 1', 1),
    }  # fmt: skip
    for what, data in texts.items():
        assert data != raw, what
        yield f"descriptor: {what}", partial(put, DESCRIPTOR, data)


def of_reports(shop: Workshop) -> Cases:
    """``conformance.json`` by somebody without the key."""
    raw = (shop.package / REPORT).read_bytes()
    report = json.loads(raw)
    for field, value in report.items():
        for what, new in {"null": None, "zero": 0, "text": "x", "list": []}.items():
            if new != value:
                changed = canonical_json({**report, field: new}).encode()
                yield f"report: {field} {what}", partial(put, REPORT, changed)
    output = report["outputs"][0]
    for field, new in {"max_absolute": 0.0, "tolerance": 1e9, "first_differing": [0, 0],
                       "max_relative": float("nan"), "max_ulp": 10**400}.items():  # fmt: skip
        changed = canonical_json({**report, "outputs": [{**output, field: new}]}).encode()
        yield f"report: {field} {new!s:.9}", partial(put, REPORT, changed)
    for what, data in {
        "mismatch": raw.replace(b'"pass"', b'"mismatch"'), "space": raw + b" ",
        "key twice": raw.replace(b'"runner"', b'"runner": "x", "runner"', 1),
        "brackets": b"[" * 100_000,
        "of another": raw.replace(report["model_json"].encode(), b"sha256:" + b"0" * 64),
        "compact": json.dumps(report, sort_keys=True).encode(),
    }.items():  # fmt: skip
        yield f"report: {what}", partial(put, REPORT, data)


def of_consistent(shop: Workshop) -> Cases:
    """Packages in which everything agrees but the signature."""
    lists = {DESCRIPTOR, REPORT, "provenance.json", *SIGNATURES}
    for name, data in shop.files().items():
        if name in lists or name.startswith("bundle/"):
            continue
        for who, key in (("nobody", None), ("stranger", shop.stranger)):
            change = partial(forge, name, data + b"\n", key)
            yield f"consistent, signed by {who}: {name}", change
    for who, key in (("nobody", None), ("stranger", shop.stranger), ("other", shop.other_kind)):
        yield f"library, signed by {who}", partial(forge, "lib/libdigits.a", b"evil", key)
    yield "of the older bundle", partial(mix, shop, "bundle")
    yield "signature of the older package", partial(mix, shop, "signature")
    for name in SIGNATURES:
        data = (shop.older_package / name).read_bytes()
        yield f"{name} of the older package", partial(put, name, data)
    for name in ("lineage.json", "provenance.json"):
        yield f"without {name} of the bundle", partial(forget, f"bundle/{name}")


def forge(name: str, data: bytes, key: Any, package: Path) -> None:
    """Change a file, make everything agree with it, and sign, if there is a key."""
    put(name, data, package)
    restate(package)
    relist(package)
    prove(package)
    if key is not None:
        sign(package, key, force=True)


def mix(shop: Workshop, folder: str, package: Path) -> None:
    shutil.rmtree(package / folder)
    shutil.copytree(shop.older_package / folder, package / folder)
    relist(package)


def forget(name: str, package: Path) -> None:
    """Take a document out, and make everything agree with that."""
    (package / name).unlink()
    info = json.loads((package / DESCRIPTOR).read_bytes())
    left = [entry for entry in info["files"] if entry["path"] != name]
    (package / DESCRIPTOR).write_text(canonical_json({**info, "files": left}), encoding="utf-8")
    path = package / "provenance.json"
    statement = json.loads(path.read_bytes())
    statement["subject"] = [s for s in statement["subject"] if s["name"] != name]
    path.write_text(canonical_json(statement), encoding="utf-8")
    relist(package)
    prove(package)


CATEGORIES: dict[str, Callable[[Workshop], Cases]] = {
    "files": of_files,
    "strangers": of_strangers,
    "descriptors": of_descriptors,
    "reports": of_reports,
    "consistent": of_consistent,
}
