"""Bundles that somebody tampered with, by what was touched. None may pass for the signed one."""

from __future__ import annotations

import base64
import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from workshop import MANIFEST, SIGNATURES, Workshop, digest, members, relisted, spans, with_manifest

from mlopsc.schema.bundle import MANIFEST_VERSIONS
from mlopsc.schema.common import canonical_json

Cases = Iterator[tuple[str, bytes]]
LOCAL = {"magic": (0, 4), "version": (4, 2), "flags": (6, 2), "method": (8, 2), "time": (10, 2),
         "date": (12, 2), "crc": (14, 4), "packed size": (18, 4), "size": (22, 4),
         "name length": (26, 2), "extra length": (28, 2)}  # fmt: skip
CENTRAL = {"magic": (0, 4), "made by": (4, 2), "version": (6, 2), "flags": (8, 2),
           "method": (10, 2), "time": (12, 2), "date": (14, 2), "crc": (16, 4),
           "packed size": (20, 4), "size": (24, 4), "name length": (28, 2),
           "extra length": (30, 2), "comment length": (32, 2), "disk": (34, 2),
           "internal": (36, 2), "external": (38, 4), "offset": (42, 4)}  # fmt: skip
END = {"magic": (0, 4), "disk": (4, 2), "start disk": (6, 2), "entries here": (8, 2),
       "entries": (10, 2), "directory size": (12, 4), "directory": (16, 4),
       "comment length": (20, 2)}  # fmt: skip
BAD_NAMES = [
    "../escape", "../../../../tmp/escape", "/etc/mlopsc", "//host/share", "C:/escape", "C:escape",
    "..\\escape", "a/../../escape", "./model.onnx", "vectors//x.pb", "vectors/", ".", "..",
    "signature/../model.onnx", "model.onnx ", "Model.onnx", "signature", "signature/other.sig",
    "new\nline", "esc\x1b[2J", "x" * 600, "lineage.json/x",
]  # fmt: skip


def flipped(data: bytes, at: int, mask: int = 1) -> bytes:
    made = bytearray(data)
    made[at] ^= mask
    return bytes(made)


def replaced(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def of_members(shop: Workshop) -> Cases:
    """Containers in the right form, with other members."""
    parts = shop.parts
    names = list(parts)
    for number, (name, data) in enumerate(parts.items()):
        after = names[(number + 1) % len(names)]
        swapped = {**parts, name: parts[after], after: data}
        first = {name: data, **{n: d for n, d in parts.items() if n != name}}
        last = {**{n: d for n, d in parts.items() if n != name}, name: data}
        others = {n: d for n, d in parts.items() if n != name}
        renamed = {("x" + n[1:] if n == name else n): d for n, d in parts.items()}
        variants: dict[str, dict[str, bytes]] = {
            "first byte": {**parts, name: flipped(data, 0)},
            "middle byte": {**parts, name: flipped(data, len(data) // 2, 0x80)},
            "last byte": {**parts, name: flipped(data, len(data) - 1)},
            "truncated": {**parts, name: data[:-1]},
            "longer": {**parts, name: data + b"\n"},
            "emptied": {**parts, name: b""},
            "removed": others,
            "renamed": renamed,
            "swapped": swapped,
        }
        if number:
            variants["listed and changed"] = relisted({**parts, name: data + b" "})
            variants["moved to the front"] = first
        if number < len(names) - 1:
            variants["moved to the end"] = last
        for what, made in variants.items():
            yield f"{name}: {what}", shop.assemble(made)


def directory(data: bytes) -> tuple[list[int], int]:
    """Return where the entries of the directory begin, and the end record."""
    end = data.rindex(b"PK\5\6")
    at = int.from_bytes(data[end + 16 : end + 20], "little")
    found = []
    while data[at : at + 4] == b"PK\1\2":
        found.append(at)
        at += 46 + sum(struct.unpack_from("<3H", data, at + 28))
    return found, end


def of_headers(shop: Workshop) -> Cases:
    """Every field of the container, with values that mean something to some reader."""
    data = shop.bundle
    entries, end = directory(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        starts = [info.header_offset for info in archive.infolist()]
    places = [
        *((f"local {n}", starts[n], LOCAL) for n in (0, 3, len(starts) - 1)),
        *((f"central {n}", entries[n], CENTRAL) for n in (0, len(entries) - 1)),
        ("end", end, END),
    ]
    for what, start, fields in places:
        for field, (offset, width) in fields.items():
            now = data[start + offset : start + offset + width]
            values = {flipped(now, 0), flipped(now, width - 1, 0x80), b"\xff" * width,
                      b"\0" * width, b"\x08" + b"\0" * (width - 1)} - {now}  # fmt: skip
            for value in sorted(values):
                yield f"{what}: {field} {value.hex()}", replaced(data, start + offset, value)


def of_bytes(shop: Workshop) -> Cases:
    """The file as a whole."""
    data = shop.bundle
    for name, (start, end) in spans(data).items():
        yield f"raw byte of {name}", flipped(data, (start + end) // 2)
        yield f"padding before {name}", flipped(data, start - 1)
        yield f"name of {name}", data.replace(name.encode(), b"X" + name[1:].encode(), 1)
    for part in range(20):
        yield f"cut at {part}/20", data[: len(data) * part // 20]
    yield "last byte missing", data[:-1]
    yield "first byte missing", data[1:]
    for what, extra in {"zero": b"\0", "newline": b"\n", "itself": data,
                        "script": b"#!/bin/sh\n", "end record": data[-22:]}.items():  # fmt: skip
        yield f"behind: {what}", data + extra
        yield f"in front: {what}", extra + data
    yield "zip comment", replaced(data, len(data) - 2, b"\5\0") + b"hello"
    yield "between members and directory", data.replace(b"PK\1\2", b"\0PK\1\2", 1)
    yield "two directories", data + data[directory(data)[0][0] :]


def rewritten(parts: Mapping[str, bytes], **options: Any) -> bytes:
    """Return a zip by the standard library."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **options) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data, options.get("compression"))
    return stream.getvalue()


def with_member(data: bytes, name: str, content: bytes, mode: int = 0, **options: Any) -> bytes:
    """Return a bundle to which the standard library added a member."""
    stream = io.BytesIO(data)
    info = zipfile.ZipInfo("~" * len(name))
    info.external_attr = mode << 16
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(info, content, **options)
    return renamed(stream.getvalue(), name)


def of_zips(shop: Workshop) -> Cases:
    """What other zip tools would take for the same."""
    data, parts = shop.bundle, shop.parts
    kinds = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED,
             "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}  # fmt: skip
    for what, kind in kinds.items():
        yield f"rewritten: {what}", rewritten(parts, compression=kind)
        yield f"member added: {what}", with_member(data, "extra.bin", b"x", compress_type=kind)
    for name in parts:
        yield f"twice: {name}", with_member(data, name, parts[name])
    for name in ("model.onnx", MANIFEST, SIGNATURES[0]):
        yield (
            f"twice, the other one first: {name}",
            with_member(shop.assemble({**parts, name: parts[name][::-1]}), name, parts[name]),
        )
    for name in BAD_NAMES:
        yield f"named {name[:30]!r}", with_member(data, name, b"x")
        listed = relisted({**parts, name: b"x"})
        placed = {("~" * min(len(name), 512) if n == name else n): d for n, d in listed.items()}
        yield f"named and listed {name[:30]!r}", renamed(shop.assemble(placed), name[:512])
    for what, mode in {"link": stat.S_IFLNK, "folder": stat.S_IFDIR, "pipe": stat.S_IFIFO,
                       "device": stat.S_IFBLK, "owner": stat.S_ISUID}.items():  # fmt: skip
        yield f"entry with the mode of a {what}", with_member(data, "x", b"/etc/passwd", mode)
        entries, _ = directory(data)
        yield (
            f"member with the mode of a {what}",
            replaced(data, entries[2] + 38, struct.pack("<I", (mode | 0o777) << 16)),
        )
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in parts:
            archive.writestr(name, bytes(1 << 20))
        archive.writestr("bomb.weights", bytes(1 << 26))
    yield "bomb", bomb.getvalue()
    yield "bomb inside", with_member(data, "bomb.zip", bomb.getvalue())
    yield "bomb as a member", shop.assemble({**parts, "model.weights": bomb.getvalue()})
    yield "bundle in a bundle", shop.assemble({**parts, "model.onnx": data})
    yield "overlapping members", overlapping(data)
    yield "no members", b"PK\5\6" + bytes(18)
    yield "many members", shop.assemble(relisted({**parts, **{f"v{n}": b"" for n in range(9000)}}))
    for size in (1 << 31, (1 << 32) - 2, 1 << 40, (1 << 63) - 1, (1 << 64) - 1):
        yield f"declared size {size}", declared(data, size)


def renamed(data: bytes, name: str) -> bytes:
    """Give the member that is called by as many tildes another name, which may be any."""
    entries, _ = directory(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        number = archive.namelist().index("~" * len(name))
        start = archive.infolist()[number].header_offset
    for at in (start + 30, entries[number] + 46):
        data = replaced(data, at, name.encode())
    return data


def overlapping(data: bytes) -> bytes:
    """Return a zip whose entries all refer to the first member."""
    entries, _ = directory(data)
    for at in entries:
        data = replaced(data, at + 42, bytes(4))
    return data


def declared(data: bytes, size: int) -> bytes:
    """Return a zip whose first member says that it has ``size`` bytes, with 64 bits if needed."""
    name = MANIFEST.encode()
    wide = struct.pack("<HHQQ", 1, 16, size, size)
    packed = min(size, 0xFFFFFFFF)
    version = 45 if size > 1 << 30 else 20
    before = 30 + len(name) + len(wide)
    padding = struct.pack("<HH", 0xD935, -(before + 4) % 64) + bytes(-(before + 4) % 64)
    header = struct.pack("<4s5H3I2H", b"PK\3\4", version, 0, 0, 0, 33, 0, packed, packed,
                         len(name), len(wide) + len(padding))  # fmt: skip
    return header + name + wide + padding + data[128:]


def of_manifests(shop: Workshop) -> Cases:
    """Manifests by somebody without the key; everything else agrees with them."""
    parts = shop.parts
    raw = parts[MANIFEST]
    text = raw.decode()
    manifest = json.loads(text)
    count = f'"count": {manifest["vectors"]["count"]}'
    assert count in text
    for field, value in manifest.items():
        other: Any = {str: "other", int: 7, list: [], dict: {}}.get(type(value))
        for what, new in {"other": other, "null": None, "number": 3, "text": "x", "list": [1],
                          "NaN": float("nan"), "huge": 10**400}.items():  # fmt: skip
            if new != value and canonical_json({**manifest, field: new}) != text:
                yield (
                    f"manifest: {field} {what}",
                    shop.assemble(with_manifest(parts, lambda m, f=field, n=new: m.update({f: n}))),
                )
        yield (
            f"manifest: without {field}",
            shop.assemble(with_manifest(parts, lambda m, f=field: m.pop(f))),
        )
    for version in (0, 1, 2, MANIFEST_VERSIONS + 1, 99, -1, True, 2.0, "2"):
        yield (
            f"manifest: version {version!r}",
            shop.assemble(with_manifest(parts, lambda m, v=version: m.update(schema_version=v))),
        )
    texts = {
        "compact": json.dumps(manifest, sort_keys=True).encode(),
        "unsorted": json.dumps(dict(reversed(manifest.items())), indent=2).encode() + b"\n",
        "no last newline": raw[:-1],
        "space": raw + b" ",
        "key twice": text.replace('"name":', '"name": "evil",\n  "name":', 1).encode(),
        "BOM": b"\xef\xbb\xbf" + raw,
        "UTF-16": text.encode("utf-16"),
        "not UTF-8": raw.replace(b"digits", b"dig\xffts", 1),
        "surrogate": text.replace("digits", "\\ud800", 1).encode(),
        "nothing": b"",
        "null": b"null\n",
        "list": b"[]\n",
        "brackets": b"[" * 100_000,
        "nested": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "nested field": text.replace('"bound": {', '"bound": {"x": ' + "[" * 900 + "]" * 900 + ",",
                                     1).encode(),
        "many digits": text.replace(count, '"count": 1' + "0" * 5000, 1).encode(),
        "infinite": text.replace(count, '"count": 1e999', 1).encode(),
        "count": text.replace(count, '"count": 1000000000000', 1).encode(),
        "digest in capitals": raw.replace(digest(parts["model.onnx"])[7:].encode(),
                                          digest(parts["model.onnx"])[7:].upper().encode()),
    }  # fmt: skip
    for what, new in texts.items():
        yield f"manifest: {what}", shop.assemble({**parts, MANIFEST: new})


def scaled(model: bytes, weights: bytes) -> tuple[bytes, bytes]:
    """Return a graph with its first floating-point constant changed."""
    proto = onnx.load_model_from_string(model)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and not tensor.external_data:
            array = numpy_helper.to_array(tensor) * np.float32(1.5)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
            return proto.SerializeToString(deterministic=True), weights
    raise AssertionError("no constant to change")


def of_consistent(shop: Workshop) -> Cases:
    """Bundles in which everything agrees but the signature."""
    parts = shop.parts
    unsigned = {name: data for name, data in parts.items() if name not in SIGNATURES}
    preprocess, _ = scaled(parts["preprocess.onnx"], b"")
    model, _ = scaled(parts["model.onnx"], b"")
    weights = np.frombuffer(parts["model.weights"], np.float32) * np.float32(1.01)
    other = onnx.load_model_from_string(parts["model.onnx"])
    other.doc_string = "the same graph"
    second = parts["vectors/test_data_set_1/input_0.pb"]
    changes: dict[str, dict[str, bytes]] = {
        "preprocessing": {"preprocess.onnx": preprocess},
        "graph": {"model.onnx": model},
        "same graph, other bytes": {"model.onnx": other.SerializeToString(deterministic=True)},
        "weights": {"model.weights": weights.tobytes()},
        "vector": {"vectors/test_data_set_0/input_0.pb": second},
        "bill": {"sbom.cdx.json": parts["sbom.cdx.json"].replace(b"digits", b"digitz", 1)},
        "empty bill": {"sbom.cdx.json": b"{}"},
    }  # fmt: skip
    for what, change in changes.items():
        yield f"consistent: {what}", shop.assemble(relisted({**parts, **change}))
        yield f"consistent, no signature: {what}", shop.assemble(relisted({**unsigned, **change}))
    for what, change in list(changes.items())[1:4]:
        made = redocumented(relisted({**unsigned, **change}))
        yield f"consistent, documents too: {what}", shop.assemble({**made, **signature(parts)})
        for who, key in (("stranger", shop.stranger), ("other kind", shop.other_kind)):
            yield f"consistent, signed by {who}: {what}", shop.signed(made, key)
    forgotten = with_manifest(unsigned, lambda m: m.update(trained_with=None))
    yield "lock-step taken out", shop.assemble({**forgotten, **signature(parts)})
    yield "lock-step taken out, signed by stranger", shop.signed(forgotten, shop.stranger)


def signature(parts: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: parts[name] for name in SIGNATURES}


def redocumented(parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Make the statements agree with the members, as who has no key can."""
    made = dict(parts)
    for name in ("lineage.json", "provenance.json"):
        statement = json.loads(made[name])
        for subject in statement["subject"]:
            subject["digest"]["sha256"] = digest(made[subject["name"]])[7:]
        made[name] = canonical_json(statement).encode()
    return relisted(made)


def of_older(shop: Workshop) -> Cases:
    """Signatures of something else by the right key."""
    parts, older = shop.parts, members(shop.older)
    of_package = {name: (shop.package / name).read_bytes() for name in SIGNATURES}
    for what, source in {"older bundle": older, "package": of_package}.items():
        yield f"signature of the {what}", shop.assemble({**parts, **signature(source)})
        for name in SIGNATURES:
            yield f"{name} of the {what}", shop.assemble({**parts, name: source[name]})
    yield "signature of this on the older", shop.assemble({**older, **signature(parts)})
    for name in parts:
        if parts[name] != older[name]:
            yield f"{name} of the older bundle", shop.assemble({**parts, name: older[name]})
    lines = parts[SIGNATURES[0]].splitlines(True) + older[SIGNATURES[0]].splitlines(True)
    for number, line in enumerate(lines):
        for place in range(2):
            mixed = parts[SIGNATURES[0]].splitlines(True)
            if mixed[place] != line:
                mixed[place] = line
                yield (
                    f"attestation {number} in place {place}",
                    shop.assemble({**parts, SIGNATURES[0]: b"".join(mixed)}),
                )


def payload_of(envelope: Mapping[str, Any]) -> Any:
    return json.loads(base64.b64decode(envelope["payload"]))


CATEGORIES: dict[str, Callable[[Workshop], Cases]] = {
    "members": of_members,
    "headers": of_headers,
    "bytes": of_bytes,
    "zips": of_zips,
    "manifests": of_manifests,
    "consistent": of_consistent,
    "older": of_older,
}


def write(data: bytes, path: Path) -> Path:
    path.write_bytes(data)
    return path
