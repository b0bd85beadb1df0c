"""Reads and writes the bundle's zip."""

from __future__ import annotations

import itertools
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError
from pydantic import ValidationError

from mlopsc.bundle.signature import graph_signature
from mlopsc.bundle.vectors import Vector, decode_vectors, encode_vectors
from mlopsc.bundle.weights import find_weights, map_file
from mlopsc.errors import BrokenBundleError
from mlopsc.schema.bundle import STAGES, Manifest, StageName
from mlopsc.schema.common import FileEntry, digest_bytes
from mlopsc.schema.graph import ALIGN, StageGraph, Weight, weights_name

_Chunk = bytes | memoryview
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PADDING_ID = 0xD935  # extra field id used for alignment padding (APK Signature Scheme, zipalign)
_RESERVED = ("lineage.json", "sbom.cdx.json")  # and what lies below signature/
_WEIGHTS = ".weights"
_MEDIA_TYPES = {
    ".onnx": "application/onnx",
    ".pb": "application/x-protobuf",
    _WEIGHTS: "application/octet-stream",
}
_LOCAL_HEADER = 30  # bytes of a member's header before its name
_ZIP64_EXTRA = 20  # bytes that a size of 64 bits adds to it
_LARGE = 1 << 30  # bytes beyond which sizes are written with 64 bits


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        manifest: What it says of itself.
        stages: The graphs, in order.
        vectors: The test vectors.
    """

    manifest: Manifest
    stages: tuple[StageGraph, ...]
    vectors: tuple[Vector, ...]

    @property
    def digest(self) -> str:
        """Digest of the manifest, which names the digest of everything else."""
        return digest_bytes(self.manifest.to_json().encode())


def pack(manifest: Manifest, stages: Sequence[StageGraph], vectors: Sequence[Vector]) -> Bundle:
    """Return the bundle whose manifest lists its members with their digests."""
    members = _members(manifest, stages, vectors)
    entries = tuple(
        FileEntry(
            path=path,
            digest=digest_bytes(*chunks),
            size=sum(map(len, chunks)),
            media_type=_MEDIA_TYPES[Path(path).suffix],
        )
        for path, chunks in sorted(members.items())
    )
    return Bundle(manifest.model_copy(update={"files": entries}), tuple(stages), tuple(vectors))


def write_bundle(bundle: Bundle, path: Path) -> None:
    """Write ``bundle``; the same bundle always gives the same bytes."""
    members = _members(bundle.manifest, bundle.stages, bundle.vectors)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "manifest.json", [bundle.manifest.to_json().encode()])
        for entry in bundle.manifest.files:
            _add(archive, entry.path, members[entry.path])


def read_bundle(path: Path) -> Bundle:
    """Read and check a bundle: every member is there, whole, and nothing else is.

    Raises:
        BrokenBundleError: It is not a bundle, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "manifest.json" not in names:
                raise _broken(path, "it has no manifest.json")
            manifest = Manifest.model_validate_json(archive.read("manifest.json"))
            members = {e.path: _read(archive, e.path, path) for e in manifest.files}
    except (OSError, zipfile.BadZipFile, EOFError, RuntimeError, zlib.error) as error:
        raise _broken(path, f"{error}") from error
    except KeyError as error:
        raise _broken(path, f"a member is missing: {error.args[0]}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _broken(path, f"manifest.json, field '{where}': {first['msg']}") from error
    known = {"manifest.json", *members}
    strangers = [n for n in names if n not in known and not _is_reserved(n)]
    if strangers or len(names) != len(set(names)):
        raise _broken(path, f"it holds members that its manifest does not list: {strangers[:3]}")
    for entry in manifest.files:
        if digest_bytes(members[entry.path].data) != entry.digest:
            raise _broken(path, f"member '{entry.path}' does not match its digest")
    return _assemble(path, manifest, members)


def _is_reserved(name: str) -> bool:
    return name in _RESERVED or name.startswith("signature/")


def _read(archive: zipfile.ZipFile, name: str, path: Path) -> Weight:
    """Return the content of a member; stored weights are mapped from the file.

    Raises:
        BadZipFile: It is damaged.
    """
    info = archive.getinfo(name)
    if not name.endswith(_WEIGHTS) or info.compress_type != zipfile.ZIP_STORED:
        return Weight(memoryview(archive.read(name)))
    with archive.open(name):  # checks the local header
        pass
    with path.open("rb") as file:
        file.seek(info.header_offset + _LOCAL_HEADER - 4)
        name_size, extra_size = struct.unpack("<HH", file.read(4))
    start = info.header_offset + _LOCAL_HEADER + name_size + extra_size
    try:
        return Weight(map_file(path, start, info.file_size), path.resolve(), start)
    except ValueError as error:
        raise zipfile.BadZipFile(f"member '{name}' is not whole") from error


def _assemble(path: Path, manifest: Manifest, members: Mapping[str, Weight]) -> Bundle:
    vectors = {
        k.removeprefix("vectors/"): bytes(v.data)
        for k, v in members.items()
        if k.startswith("vectors/")
    }
    try:
        graphs = tuple(_graph(s.name, members) for s in manifest.stages)
        _check_graphs(manifest, graphs)
        return Bundle(
            manifest,
            graphs,
            tuple(
                decode_vectors(vectors, manifest.vectors.count, manifest.inputs, manifest.outputs)
            ),
        )
    except KeyError as error:
        raise _broken(path, f"member '{error.args[0]}' is not listed in its manifest") from error
    except (ValueError, DecodeError) as error:
        raise _broken(path, str(error)) from error


def _graph(stage: StageName, members: Mapping[str, Weight]) -> StageGraph:
    block = members.get(weights_name(stage), Weight(memoryview(b"")))
    return find_weights(stage, bytes(members[f"{stage}.onnx"].data), block)


def _check_graphs(manifest: Manifest, graphs: Sequence[StageGraph]) -> None:
    """Check that the graphs, one after the other, are what the manifest says.

    Raises:
        ValueError: They are not.
    """
    names = [graph.name for graph in graphs]
    if "model" not in names or names != [name for name in STAGES if name in names]:
        raise ValueError(f"its stages are {names}; expected some of {list(STAGES)} in this order")
    signatures = [graph_signature(graph.model) for graph in graphs]
    for (_, given), (wanted, _) in itertools.pairwise(signatures):
        if set(given) != set(wanted):
            raise ValueError("the outputs of a stage are not the inputs of the next")
    if (signatures[0][0], signatures[-1][1]) != (manifest.inputs, manifest.outputs):
        raise ValueError("its graphs have another signature than its manifest")


def _members(
    manifest: Manifest, stages: Sequence[StageGraph], vectors: Sequence[Vector]
) -> dict[str, Sequence[_Chunk]]:
    """Return the content of every member but the manifest, in pieces."""
    members: dict[str, Sequence[_Chunk]] = {}
    for stage in stages:
        members[f"{stage.name}.onnx"] = [stage.model]
        if stage.weights:
            members[weights_name(stage.name)] = list(stage.weight_chunks())
    for name, data in encode_vectors(vectors, manifest.inputs, manifest.outputs).items():
        members[f"vectors/{name}"] = [data]
    return members


def _add(archive: zipfile.ZipFile, name: str, chunks: Sequence[_Chunk]) -> None:
    info = zipfile.ZipInfo(name, date_time=_EPOCH)
    info.create_system = 3
    info.external_attr = 0o644 << 16
    info.file_size = sum(map(len, chunks))
    large = info.file_size > _LARGE
    assert archive.fp is not None  # noqa: S101 - open for writing, so it has a file
    header = archive.fp.tell() + _LOCAL_HEADER + len(name.encode()) + (_ZIP64_EXTRA if large else 0)
    padding = -(header + 4) % ALIGN
    info.extra = struct.pack("<HH", _PADDING_ID, padding) + b"\0" * padding
    with archive.open(info, "w", force_zip64=large) as member:
        for chunk in chunks:
            member.write(chunk)


def _broken(path: Path, reason: str) -> BrokenBundleError:
    return BrokenBundleError(
        f"'{path}' is not a usable bundle: {reason}",
        hint="make it again with 'mlopsc import'",
    )
