"""Frontend *onnx*: reads an ONNX file and finds its external data, safely.

Nothing is executed. External data must lie in regular files inside the model's folder; it is not
read, only located: in the model that ``load_onnx`` returns, locations are absolute paths.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError

from mlopsc.errors import SourceError
from mlopsc.external_data import external_tensors, place_of, set_external, tensors
from mlopsc.resident import map_file
from mlopsc.schema.bundle import Source, StageName
from mlopsc.schema.common import digest_bytes
from mlopsc.schema.graph import ALIGN, INLINE_BYTES, StageGraph, Weight, weights_name

MAX_BYTES = (1 << 31) - 1  # a protobuf message cannot be larger
_MAX_NODES = 1 << 18
_MAX_SHARING = 4  # how often external data may be used by several tensors, on average
_MAX_CALLS = 64  # of functions inside functions
_HINT = "check that the file is complete and was exported as ONNX"


@dataclass(frozen=True)
class LoadedModel:
    """A checked model and where it came from."""

    proto: onnx.ModelProto
    source: Source

    def as_stage(self, name: StageName) -> StageGraph:
        """Return the model as it came, with its external data as weights."""
        model = onnx.ModelProto()
        model.CopyFrom(self.proto)
        weights: dict[int, Weight] = {}
        end = 0
        for tensor in external_tensors(model):
            place = place_of(tensor)
            path = Path(place.location)
            offset = end + -end % ALIGN
            end = offset + place.length
            data = map_file(path, place.offset, place.length)
            weights[offset] = Weight(data, path, place.offset)
            set_external(tensor, weights_name(name), offset, place.length)
        return StageGraph(name, bytes(model.SerializeToString()), weights)


def load_onnx(path: Path) -> LoadedModel:
    """Read ``path``.

    Raises:
        SourceError: The file is missing, truncated, or not a valid ONNX model.
    """
    try:
        _check_file(path, path.stat())
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"cannot read '{path}': {reason}; expected an ONNX file",
            hint="check the path",
        ) from error
    model = _parse(path, data)
    _check_nodes(path, model)
    for tensor in tensors(model):
        _check_shape(path, tensor)
    wanted, files = 0, {}
    outside = list(external_tensors(model))
    for tensor in outside:
        length, file, size = _locate(path, tensor)
        wanted, files[file] = wanted + length, size
    if wanted > _MAX_SHARING * sum(files.values()):
        raise SourceError(
            f"'{path}' takes {wanted} bytes of external data from files of "
            f"{sum(files.values())} bytes; expected at most {_MAX_SHARING} times as many",
            hint="let tensors that are equal be one tensor",
        )
    _check(path, model)
    producer = f"{model.producer_name} {model.producer_version}".strip()
    digest = digest_bytes(data, *map(_data_of, outside))
    return LoadedModel(model, Source(framework="onnx", producer=producer, digest=digest))


def _data_of(tensor: onnx.TensorProto) -> bytes | memoryview:
    """Return the data of a tensor that lay in another file and is located, or read if small."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return bytes(tensor.raw_data)
    place = place_of(tensor)
    return map_file(Path(place.location), place.offset, place.length)


def external_locations(path: Path) -> list[str]:
    """Return where the model at ``path`` says that its external data lies, unchecked and sorted.

    Raises:
        SourceError: It is no ONNX model, or does not say it.
        OSError: It cannot be read.
    """
    _check_file(path, path.stat())
    model = _parse(path, path.read_bytes())
    try:
        return sorted({place_of(tensor).location for tensor in external_tensors(model)})
    except ValueError as error:
        raise SourceError(
            f"external data in '{path}' cannot be found: {error}", hint=_HINT
        ) from error


def _check_file(path: Path, found: os.stat_result) -> None:
    """Refuse what must not be read: pipes and devices, which may never end, and too large files."""
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise SourceError(f"'{path}' is no regular file; expected an ONNX file", hint=_HINT)
    if found.st_size > MAX_BYTES:
        raise SourceError(
            f"'{path}' has {found.st_size} bytes; an ONNX file holds at most {MAX_BYTES}",
            hint="export the model with external data",
        )


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError, TypeError) as error:
        raise SourceError(
            f"'{path}' ({len(data)} bytes) is not an ONNX file, or is truncated", hint=_HINT
        ) from error
    if not model.HasField("graph") or not model.graph.output:
        raise SourceError(
            f"'{path}' ({len(data)} bytes) holds no graph with outputs; expected an ONNX model",
            hint=_HINT,
        )
    return model


def _check_nodes(path: Path, model: onnx.ModelProto) -> None:
    """Refuse functions that call themselves, and graphs that functions make too large."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    counts: dict[tuple[str, str, str], int] = {}

    def count(nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        if depth > _MAX_CALLS:
            raise SourceError(
                f"functions in '{path}' call each other more than {_MAX_CALLS} deep, or themselves",
                hint=_HINT,
            )
        total = 0
        for node in nodes:
            total += 1
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    total += count(graph.node, depth)
            key = (node.domain, node.op_type, node.overload)
            if key in functions:
                if key not in counts:
                    counts[key] = count(functions[key].node, depth + 1)
                total += counts[key]
            if total > _MAX_NODES:
                raise SourceError(
                    f"'{path}' has more than {_MAX_NODES} nodes once its functions are written out",
                    hint="split the model",
                )
        return total

    count(model.graph.node, 0)


def _check_shape(path: Path, tensor: onnx.TensorProto) -> None:
    """Refuse shapes that no tensor has, before anything is computed with them."""
    if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) > MAX_BYTES:
        raise SourceError(
            f"tensor '{tensor.name}' in '{path}' has shape {list(tensor.dims)[:8]}; expected sizes "
            f"from 0 on and at most {MAX_BYTES} elements",
            hint=_HINT,
        )


def _locate(path: Path, tensor: onnx.TensorProto) -> tuple[int, Path, int]:
    """Make the location of external data absolute; small data moves into the tensor.

    Returns:
        The bytes that the tensor takes, the file, and the size of that.
    """
    try:
        place = place_of(tensor)
    except ValueError as error:
        raise _bad_data(path, tensor, str(error)) from error
    file = _inside(path, tensor, place.location)
    available = file.stat().st_size
    if place.offset + place.length > available:
        raise _bad_data(
            path,
            tensor,
            f"it takes {place.length} bytes at {place.offset} of '{place.location}', which has "
            f"{available}",
        )
    if place.length > INLINE_BYTES:
        set_external(tensor, str(file), place.offset, place.length)
        return place.length, file, available
    with file.open("rb") as stream:
        stream.seek(place.offset)
        tensor.raw_data = stream.read(place.length)
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]
    return place.length, file, available


def _inside(path: Path, tensor: onnx.TensorProto, location: str) -> Path:
    """Return the regular file at ``location``, which must lie in the model's folder."""
    parts = PurePosixPath(location)
    folder = path.parent.resolve()
    try:
        file = (folder / parts).resolve()
        outside = (
            not location
            or parts.is_absolute()
            or ".." in parts.parts
            or any(c in location for c in "\\:\0")
            or folder not in file.parents
        )
        regular = not outside and stat.S_ISREG(file.stat().st_mode)
    except FileNotFoundError as error:
        raise _bad_data(path, tensor, f"there is no file '{location}'") from error
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, a circle of links
        raise _bad_data(path, tensor, f"'{location}': {error}") from error
    if outside:
        raise SourceError(
            f"external data of '{tensor.name}' lies at '{location}', outside the model's folder; "
            "expected a relative path inside it",
            hint="export the model again into one folder",
        )
    if not regular:
        raise _bad_data(path, tensor, f"'{location}' is no regular file")
    return file


def _bad_data(path: Path, tensor: onnx.TensorProto, reason: str) -> SourceError:
    return SourceError(
        f"external data of '{tensor.name}' in '{path}' cannot be used: {reason}", hint=_HINT
    )


def _check(path: Path, model: onnx.ModelProto) -> None:
    """Run ONNX's checker; it sees external data as tensors without elements."""
    external = list(external_tensors(model))
    kept = [onnx.TensorProto() for _ in external]
    for tensor, copy in zip(external, kept, strict=True):
        copy.CopyFrom(tensor)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.dims[:] = [0]
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise SourceError(
            f"'{path}' is not a valid ONNX model: {text[:400]}", hint=_HINT
        ) from error
    _restore(external, kept)


def _restore(tensors: Iterable[onnx.TensorProto], copies: Iterable[onnx.TensorProto]) -> None:
    for tensor, copy in zip(tensors, copies, strict=True):
        tensor.CopyFrom(copy)
