"""Converts a TFLite file with tf2onnx, and holds the result's quantisation against the file's."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any, Final

import onnx

from mlopsc.errors import ConversionError
from mlopsc.frontends.base import versions_of
from mlopsc.frontends.libraries import listening, words
from mlopsc.frontends.onnx_names import all_nodes, rename_values
from mlopsc.frontends.tflite.file import TfliteFile

CONVERTER: Final = "tf2onnx"
OPSET: Final = 18  # the newest that tf2onnx writes


def to_onnx(file: TfliteFile, path: Path) -> None:
    """Write ``file`` as ONNX to ``path``, its inputs and outputs called as users do.

    Raises:
        ConversionError: tf2onnx cannot; the message says at which operator.
    """
    model = _converted(file)
    _rename(model, file)
    _open_batch(model)
    onnx.save_model(model, path)


def _converted(file: TfliteFile) -> Any:
    import tf2onnx

    with listening(CONVERTER) as said, contextlib.redirect_stdout(io.StringIO()):
        try:
            model, _ = tf2onnx.convert.from_tflite(str(file.path), opset=OPSET)
        except Exception as error:
            raise ConversionError(
                f"{versions_of(CONVERTER)} fails on '{file.path}': {words(error, *said)}"
            ) from error
    foreign = (
        node.op_type
        for node in all_nodes(model.graph)
        if node.domain not in ("", "ai.onnx") or node.op_type.startswith("TFL_")
    )
    left = sorted(set(foreign))
    if left:
        raise ConversionError(
            f"{versions_of(CONVERTER)} has no conversion of {', '.join(left)}, which '{file.path}' "
            "holds",
            hint="convert the SavedModel, or replace the operator",
        )
    return model


def _rename(model: Any, file: TfliteFile) -> None:
    """Give inputs and outputs the names that users know them by."""
    graph = model.graph
    names = {t.place: t.name for t in (*file.inputs, *file.outputs)}
    rename_values(graph, names)
    missing = {t.name for t in (*file.inputs, *file.outputs)} - {
        value.name for value in (*graph.input, *graph.output)
    }
    if missing:
        raise ConversionError(
            f"{versions_of(CONVERTER)} loses the input or output '{min(missing)}' of '{file.path}'"
        )


def _open_batch(model: Any) -> None:
    """Name open first axes ``batch``; what else is open keeps a name by its place."""
    for value in (*model.graph.input, *model.graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_param = "batch" if axis == 0 else f"{value.name}_{axis}"
