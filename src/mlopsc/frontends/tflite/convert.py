"""Converts a TFLite file with tf2onnx, and holds the result's quantisation against the file's."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any, Final

import onnx

from mlopsc.errors import ConversionError
from mlopsc.frontends.base import versions_of
from mlopsc.frontends.tflite.file import TfliteFile

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

    logger = logging.getLogger("tf2onnx")
    logger.setLevel(logging.CRITICAL)
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setLevel(logging.ERROR)
    for name in ("tf2onnx.tfonnx", "tf2onnx"):
        logging.getLogger(name).addHandler(handler)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            model, _ = tf2onnx.convert.from_tflite(str(file.path), opset=OPSET)
    except Exception as error:
        text = " ".join(str(error).split())
        raise ConversionError(
            f"{versions_of('tf2onnx')} fails on '{file.path}': {type(error).__name__}: "
            f"{text[:300]} {' '.join(said.getvalue().split())[:200]}".rstrip()
        ) from error
    foreign = (
        node.op_type
        for node in _nodes(model.graph)
        if node.domain not in ("", "ai.onnx") or node.op_type.startswith("TFL_")
    )
    left = sorted(set(foreign))
    if left:
        raise ConversionError(
            f"{versions_of('tf2onnx')} has no conversion of {', '.join(left)}, which '{file.path}' "
            "holds",
            hint="convert the SavedModel, or replace the operator",
        )
    return model


def _nodes(graph: Any) -> list[Any]:
    found = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _nodes(attribute.g)
    return found


def _rename(model: Any, file: TfliteFile) -> None:
    """Give inputs and outputs the names that users know them by."""
    graph = model.graph
    names = {t.place: t.name for t in (*file.inputs, *file.outputs)}
    taken = {name for node in _nodes(graph) for name in (*node.input, *node.output)}
    taken |= {tensor.name for tensor in graph.initializer}
    # What is called so inside steps aside.
    aside = {name: f"{name}__inside" for name in names.values() if name in taken - set(names)}
    rename = {**aside, **names}
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = rename.get(value.name, value.name)
    for tensor in graph.initializer:
        tensor.name = rename.get(tensor.name, tensor.name)
    for node in _nodes(graph):
        for list_ in (node.input, node.output):
            for number, name in enumerate(list_):
                list_[number] = rename.get(name, name)
    missing = {t.name for t in (*file.inputs, *file.outputs)} - {
        value.name for value in (*graph.input, *graph.output)
    }
    if missing:
        raise ConversionError(
            f"{versions_of('tf2onnx')} loses the input or output '{min(missing)}' of '{file.path}'"
        )


def _open_batch(model: Any) -> None:
    """Name open first axes ``batch``; what else is open keeps a name by its place."""
    for value in (*model.graph.input, *model.graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_param = "batch" if axis == 0 else f"{value.name}_{axis}"
