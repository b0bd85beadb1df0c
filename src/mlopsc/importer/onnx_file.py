"""Frontend *onnx*: reads an ONNX file, with its external data, safely.

Nothing is executed. External data must lie inside the model's folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from mlopsc.errors import SourceError
from mlopsc.schema.bundle import Source
from mlopsc.schema.common import digest_bytes

MAX_BYTES = (1 << 31) - 1  # a protobuf message cannot be larger
_HINT = "check that the file is complete and was exported as ONNX"


@dataclass(frozen=True)
class LoadedModel:
    """A checked model and where it came from."""

    proto: onnx.ModelProto
    source: Source


def load_onnx(path: Path) -> LoadedModel:
    """Read ``path``.

    Raises:
        SourceError: The file is missing, truncated, or not a valid ONNX model.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(
            f"cannot read '{path}': {error.strerror or error}; expected an ONNX file",
            hint="check the path",
        ) from error
    if len(data) > MAX_BYTES:
        raise SourceError(
            f"'{path}' has {len(data)} bytes; an ONNX file holds at most {MAX_BYTES}",
            hint="export the model with external data",
        )
    model = _parse(path, data)
    _load_external(path, model)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise SourceError(
            f"'{path}' is not a valid ONNX model: {text[:400]}", hint=_HINT
        ) from error
    producer = f"{model.producer_name} {model.producer_version}".strip()
    return LoadedModel(
        model, Source(framework="onnx", producer=producer, digest=digest_bytes(data))
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


def _load_external(path: Path, model: onnx.ModelProto) -> None:
    tensors = [t for t in model.graph.initializer if uses_external_data(t)]
    for tensor in tensors:
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        parts = PurePosixPath(location)
        if not location or parts.is_absolute() or ".." in parts.parts or "\\" in location:
            raise SourceError(
                f"external data of '{tensor.name}' lies at '{location}', outside the model's "
                "folder; expected a relative path inside it",
                hint="export the model again into one folder",
            )
    try:
        load_external_data_for_model(model, str(path.parent))
    except (onnx.checker.ValidationError, OSError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise SourceError(
            f"external data of '{path}' cannot be read: {text[:300]}", hint=_HINT
        ) from error
