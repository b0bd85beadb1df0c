"""Reads and writes bundles: what the members are, and that they belong together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from google.protobuf.message import DecodeError
from pydantic import ValidationError

from mlopsc.bundle.container import Chunk, Member, read_container, write_container
from mlopsc.bundle.signature import graph_signature
from mlopsc.bundle.vectors import Vector, decode_vectors, encode_vectors
from mlopsc.bundle.weights import find_weights
from mlopsc.errors import BrokenBundleError
from mlopsc.resident import map_file
from mlopsc.schema.bundle import (
    DOCUMENTS,
    MANIFEST_FILE,
    MANIFEST_VERSIONS,
    STAGES,
    Manifest,
    StageName,
    parse_manifest,
)
from mlopsc.schema.common import Digest, FileEntry, digest_bytes
from mlopsc.schema.graph import StageGraph, Weight, weights_name
from mlopsc.schema.signing import SIGNATURE_FILES

_WEIGHTS = ".weights"
_MAX_IN_MEMORY = 1 << 31  # of a graph or a tensor, in protobuf
_MEDIA_TYPES = {
    ".onnx": "application/onnx",
    ".pb": "application/x-protobuf",
    ".json": "application/json",
    _WEIGHTS: "application/octet-stream",
}


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        manifest: What it says of itself, in today's form.
        stages: The graphs, in order.
        vectors: The test vectors.
        documents: ``lineage.json``, ``provenance.json`` and ``sbom.cdx.json``; bundles of format
            version 1 have none.
        signatures: What is below ``signature/``, by full name.
        manifest_bytes: ``manifest.json`` as it is.
        format_version: Of the manifest as it is.
    """

    manifest: Manifest
    stages: tuple[StageGraph, ...]
    vectors: tuple[Vector, ...]
    documents: Mapping[str, bytes]
    signatures: Mapping[str, bytes] = field(default_factory=dict)
    manifest_bytes: bytes = b""
    format_version: int = MANIFEST_VERSIONS

    @property
    def digest(self) -> Digest:
        """Digest of the manifest, which names the digest of everything but the signatures."""
        return digest_bytes(self.manifest_bytes)

    def members(self) -> dict[str, Digest]:
        """Return the digest of everything that is signed, by name."""
        listed = {entry.path: entry.digest for entry in self.manifest.files}
        return {MANIFEST_FILE: self.digest, **listed}


def pack(
    manifest: Manifest,
    stages: Sequence[StageGraph],
    vectors: Sequence[Vector],
    documents: Mapping[str, bytes],
) -> Bundle:
    """Return the bundle whose manifest lists its members with their digests."""
    of_documents = [_entry(name, data) for name, data in documents.items()]
    files = (*list_files(manifest, stages, vectors), *of_documents)
    listed = manifest.model_copy(update={"files": tuple(sorted(files, key=lambda f: f.path))})
    return Bundle(
        listed,
        tuple(stages),
        tuple(vectors),
        dict(documents),
        manifest_bytes=listed.to_json().encode(),
    )


def list_files(
    manifest: Manifest, stages: Sequence[StageGraph], vectors: Sequence[Vector]
) -> tuple[FileEntry, ...]:
    """Return the entries of graphs, weights and vectors, which documents are about."""
    members = _contents(manifest, stages, vectors)
    return tuple(_entry(path, *chunks) for path, chunks in sorted(members.items()))


def _entry(path: str, *chunks: Chunk) -> FileEntry:
    return FileEntry(
        path=path,
        digest=digest_bytes(*chunks),
        size=sum(map(len, chunks)),
        media_type=_MEDIA_TYPES[Path(path).suffix],
    )


def write_bundle(bundle: Bundle, path: Path) -> None:
    """Write ``bundle``; the same bundle always gives the same bytes."""
    members = _contents(bundle.manifest, bundle.stages, bundle.vectors)
    members |= {name: [data] for name, data in bundle.documents.items()}
    listed = {entry.path: members[entry.path] for entry in bundle.manifest.files}
    signatures = {name: [data] for name, data in sorted(bundle.signatures.items())}
    write_container(path, {MANIFEST_FILE: [bundle.manifest_bytes], **listed, **signatures})


def read_bundle(path: Path) -> Bundle:
    """Read and check a bundle: every member is there, whole, and nothing else is.

    Raises:
        BrokenBundleError: It is not a bundle, or is damaged.
        FormatVersionError: It is newer than this program.
    """
    try:
        before = _state(path)
        found = read_container(path)
        if next(iter(found), None) != MANIFEST_FILE:
            raise ValueError(f"it does not begin with {MANIFEST_FILE}")
        contents = {name: _content(path, name, member) for name, member in found.items()}
        if _state(path) != before:  # what is mapped is not what was checked
            raise ValueError("it changed while it was read")
        raw = bytes(contents.pop(MANIFEST_FILE).data)
        manifest, version = _manifest(raw, path)
    except OSError as error:
        raise _broken(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise _broken(path, str(error)) from error
    signatures = {n: bytes(contents.pop(n).data) for n in SIGNATURE_FILES if n in contents}
    order = [entry.path for entry in manifest.files]
    expected = [MANIFEST_FILE, *order, *sorted(signatures)]
    known = set(expected)
    strangers = [name for name in found if name not in known]
    missing = [name for name in expected if name not in found]
    if strangers or missing:
        what = (
            f"holds '{strangers[0]}', which its manifest does not list"
            if strangers
            else (f"lacks '{missing[0]}', which its manifest lists")
        )
        raise _broken(path, f"it {what}")
    if list(found) != expected or order != sorted(set(order)):
        raise _broken(path, "its members are not in their order")
    for entry in manifest.files:
        if (found[entry.path].digest, found[entry.path].size) != (entry.digest, entry.size):
            raise _broken(
                path,
                f"member '{entry.path}' has digest {found[entry.path].digest}; the manifest says "
                f"{entry.digest}: it was altered",
            )
    documents = {n: bytes(contents.pop(n).data) for n in DOCUMENTS if n in contents}
    if version > 1 and len(documents) < len(DOCUMENTS):
        raise _broken(path, f"it lacks one of {', '.join(DOCUMENTS)}")
    bundle = Bundle(manifest, (), (), documents, signatures, raw, version)
    return _assemble(path, bundle, contents)


def _manifest(data: bytes, path: Path) -> tuple[Manifest, int]:
    try:
        return parse_manifest(data, f"'{path}'")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{MANIFEST_FILE}, field {where!r}: {first['msg']}") from error
    except ValueError as error:
        raise ValueError(f"{MANIFEST_FILE}: {error}") from error


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes when a file does."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _content(path: Path, name: str, member: Member) -> Weight:
    """Return the content of a member, mapped from the file."""
    if member.size == 0:
        return Weight(memoryview(b""))
    if member.size > _MAX_IN_MEMORY and not name.endswith(_WEIGHTS):
        raise ValueError(f"member '{name}' has {member.size} bytes; only weights are so large")
    data = map_file(path, member.offset, member.size)
    if not name.endswith(_WEIGHTS):
        return Weight(memoryview(bytes(data)))
    return Weight(data, path.resolve(), member.offset)


def _assemble(path: Path, bundle: Bundle, members: Mapping[str, Weight]) -> Bundle:
    """Return ``bundle`` with its graphs and vectors."""
    manifest = bundle.manifest
    vectors = {
        k.removeprefix("vectors/"): bytes(v.data)
        for k, v in members.items()
        if k.startswith("vectors/")
    }
    try:
        graphs = tuple(_graph(s.name, members) for s in manifest.stages)
        _check_graphs(manifest, graphs)
        decoded = decode_vectors(vectors, manifest.vectors.count, manifest.inputs, manifest.outputs)
        made = replace(bundle, stages=graphs, vectors=tuple(decoded))
        if set(_contents(manifest, graphs, decoded)) != set(members):
            raise ValueError("its manifest lists members that belong to no stage or vector")
        return made
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


def _contents(
    manifest: Manifest, stages: Sequence[StageGraph], vectors: Sequence[Vector]
) -> dict[str, Sequence[Chunk]]:
    """Return the content of graphs, weights and vectors, in pieces."""
    members: dict[str, Sequence[Chunk]] = {}
    for stage in stages:
        members[f"{stage.name}.onnx"] = [stage.model]
        if stage.weights:
            members[weights_name(stage.name)] = list(stage.weight_chunks())
    for name, data in encode_vectors(vectors, manifest.inputs, manifest.outputs).items():
        members[f"vectors/{name}"] = [data]
    return members


def _broken(path: Path, reason: str) -> BrokenBundleError:
    return BrokenBundleError(
        f"'{path}' is not a usable bundle: {reason}",
        hint="make it again with 'mlopsc import'",
    )
