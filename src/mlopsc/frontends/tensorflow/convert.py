"""Converts frozen graphs to ONNX with tf2onnx, for the frontends of TensorFlow and Keras.

Sizes are bound before: what reads shapes at run time then folds to constants in TensorFlow itself,
and loops over tensor lists become recurrent operators. The inputs' open dimensions are declared
open again afterwards, so that the import binds, and records, the same sizes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import onnx

from mlopsc.errors import ConversionError, SourceError
from mlopsc.frontends import onnx_names
from mlopsc.frontends.base import versions_of
from mlopsc.frontends.libraries import listening, words
from mlopsc.frontends.tensorflow.graph import BATCH, FrozenGraph, Tensor, all_nodes, node_of
from mlopsc.frontends.tensorflow.handlers import BICUBIC_TOLERANCE, HANDLERS, is_bicubic, mend
from mlopsc.frontends.tensorflow.library import import_tensorflow
from mlopsc.frontends.tensorflow.operators import refuse_strings

OPSET: Final = 18  # the newest that tf2onnx writes
# Functions with these are not inlined: XLA would compile them.
_KEPT_APART: Final = ("_XlaMustCompile", "_noinline", "_implements")
CONVERTER: Final = "tf2onnx"


def to_onnx(frozen: FrozenGraph, bind: Mapping[str, int], path: Path, source: str) -> float | None:
    """Write ``frozen`` as ONNX to ``path``, its inputs and outputs called as users do.

    Returns:
        How far ONNX's operators are from TensorFlow's, where that is more than rounding.

    Raises:
        ConversionError: tf2onnx cannot; the message says at which operator.
        OpenShapeError: A dimension has no size.
        SourceError: The graph cannot be read.
    """
    import_tensorflow()
    refuse_strings(frozen.graph_def, source)
    _check_types(frozen, source)
    graph_def, inputs, outputs = _inlined(frozen, bind, source)
    refuse_strings(graph_def, source)
    model = _converted(graph_def, inputs, outputs, source)
    _check_converted(model, source)
    mend(model)
    _rename(model, dict(zip(inputs, frozen.inputs, strict=True)), outputs, frozen.outputs)
    _open_dimensions(model, frozen.inputs, bind)
    onnx.save_model(model, path)
    return BICUBIC_TOLERANCE if any(map(is_bicubic, onnx_names.all_nodes(model.graph))) else None


def _check_types(frozen: FrozenGraph, source: str) -> None:
    for tensor in (*frozen.inputs, *frozen.outputs):
        if tensor.dtype in ("string", "resource", "variant"):
            raise ConversionError(
                f"{source} takes or gives '{tensor}'; expected numbers",
                hint="export a signature that takes and gives numbers, and choose it with "
                "--signature",
            )


def _inlined(
    frozen: FrozenGraph, bind: Mapping[str, int], source: str
) -> tuple[Any, list[str], list[str]]:
    """Return a graph with shapes bound and without calls, and its inputs and outputs.

    What runs loops stays a function: that is what tf2onnx has patterns for.
    """
    tf = import_tensorflow()
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2
    from tensorflow.python.framework import convert_to_constants
    from tensorflow.python.grappler import tf_optimizer

    graph_def = convert_to_constants.disable_lower_using_switch_merge(_with_shapes(frozen, bind))
    for function in graph_def.library.function:
        for name in ("api_implements", *_KEPT_APART):
            function.attr.pop(name, None)
    for node in all_nodes(graph_def):
        for name in _KEPT_APART:
            node.attr.pop(name, None)
    inputs = [tensor.place for tensor in frozen.inputs]
    outputs = [tensor.place for tensor in frozen.outputs]
    config = config_pb2.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.min_graph_nodes = -1  # small graphs, too
    rewrite.optimizers.append("function")
    rewrite.function_optimization = rewriter_config_pb2.RewriterConfig.AGGRESSIVE
    try:
        with tf.Graph().as_default():
            meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def)
        ends = meta_graph_pb2.CollectionDef()
        ends.node_list.value.extend(inputs + outputs)
        meta_graph.collection_def["train_op"].CopyFrom(ends)
        inlined = tf_optimizer.OptimizeGraph(config, meta_graph)
    except (ValueError, TypeError, KeyError, tf.errors.OpError) as error:
        text = " ".join(str(error).split())
        raise SourceError(f"{source} holds a graph that makes no sense: {text[:300]}") from error
    return inlined, inputs, outputs


def _with_shapes(frozen: FrozenGraph, bind: Mapping[str, int]) -> Any:
    """Return the graph with placeholders of known shapes, and nothing else said about shapes."""
    graph_def = type(frozen.graph_def)()
    graph_def.CopyFrom(frozen.graph_def)
    shapes = {node_of(i.place): i.bound(bind) for i in frozen.inputs}
    for node in graph_def.node:
        node.attr.pop("_output_shapes", None)
        if node.op == "Placeholder" and node.name in shapes:
            shape = node.attr["shape"].shape
            shape.Clear()
            for size in shapes[node.name]:
                shape.dim.add(size=size)
    return graph_def


def _converted(graph_def: Any, inputs: list[str], outputs: list[str], source: str) -> Any:
    import tf2onnx

    with contextlib.suppress(ImportError):  # mends what tf2onnx 1.17 does with NumPy 2
        from keras.src.export.tf2onnx_lib import patch_tf2onnx

        patch_tf2onnx()
    with listening(CONVERTER) as said:
        try:
            model, _ = tf2onnx.convert.from_graph_def(
                graph_def,
                input_names=inputs,
                output_names=list(dict.fromkeys(outputs)),
                opset=OPSET,
                custom_op_handlers=dict(HANDLERS),
            )
        except Exception as error:  # it raises whatever comes
            raise ConversionError(
                f"{versions_of(CONVERTER)} cannot convert {source}: {words(error, *said)}"
            ) from error
    return model


def _check_converted(model: onnx.ModelProto, source: str) -> None:
    """Refuse a graph in which operators of TensorFlow are left.

    Raises:
        ConversionError: With their names.
    """
    left = sorted(
        {
            f"{node.op_type} ('{node.name}')"
            for node in onnx_names.all_nodes(model.graph)
            if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type)
        }
    )
    if left:
        raise ConversionError(
            f"{versions_of(CONVERTER)} cannot convert {source}: it knows no ONNX for "
            f"{', '.join(left[:5])}" + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        )


def _rename(
    model: onnx.ModelProto,
    inputs: Mapping[str, Tensor],
    outputs: list[str],
    wanted: tuple[Tensor, ...],
) -> None:
    """Give inputs and outputs the names that users know, in the signature's order."""
    graph = model.graph
    given = {value.name: value for value in graph.input}
    declared = {value.name: value for value in graph.output}
    values = []
    for place, tensor in inputs.items():
        value = given.get(place)
        if value is None:  # nothing reads it, but whoever calls the model gives it
            value = onnx.helper.make_tensor_value_info(
                place, onnx.helper.np_dtype_to_tensor_dtype(_numpy(tensor.dtype)), tensor.shape
            )
        values.append(value)
    names = {place: tensor.name for place, tensor in inputs.items()}
    copies, results = [], []
    made = {name for node in graph.node for name in node.output} - set(names)
    for place, tensor in zip(outputs, wanted, strict=True):
        value = onnx.ValueInfoProto()
        value.CopyFrom(declared[place])
        value.name = tensor.name
        results.append(value)
        if place in made:
            made.remove(place)
            names[place] = tensor.name
        else:  # an input, or something that is an output already
            copies.append((place, tensor.name))
    names = onnx_names.rename_values(graph, names, [tensor.name for tensor in wanted])
    kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in values]
    for value, tensor in zip(kept, inputs.values(), strict=True):
        value.name = tensor.name
    del graph.input[:], graph.output[:]
    graph.input.extend(kept)
    graph.output.extend(results)
    graph.node.extend(
        onnx.helper.make_node("Identity", [names.get(place, place)], [name])
        for place, name in copies
    )


def _numpy(name: str) -> Any:
    import ml_dtypes
    import numpy as np

    return np.dtype(getattr(ml_dtypes, name, name))


def _open_dimensions(
    model: onnx.ModelProto, inputs: tuple[Tensor, ...], bind: Mapping[str, int]
) -> None:
    """Declare open what was open in TensorFlow: the import binds it to the same size."""
    for value, tensor in zip(model.graph.input, inputs, strict=True):
        kind = value.type.tensor_type
        kind.shape.ClearField("dim")
        for axis, (size, bound) in enumerate(
            zip(tensor.shape or (), tensor.bound(bind), strict=True)
        ):
            dim = kind.shape.dim.add()
            if size is not None:
                dim.dim_value = bound
            elif axis == 0:
                dim.dim_param = BATCH
