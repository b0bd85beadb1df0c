"""Transposed convolutions become convolutions with more features, whose results are interleaved.

With stride ``s`` the result at ``y`` takes only the taps ``k`` with ``k = y + pad (mod s)``. The
results of one remainder are a convolution of their own, of stride 1 and ``ceil(K / s)`` taps; those
of all ``s x s`` remainders are features of one, and ``DepthToSpace`` lays them beside each other.
Source: Shi et al., "Is the deconvolution layer the same as a convolutional layer?" (2016).

Works on the joined graph in normal form, before ``layout``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mlopsc.lower.forms import (
    Array,
    add_constant,
    describe,
    groups_of,
    part_of,
    replace_by,
    shape_of,
)
from mlopsc.schema.target import Accuracy


def use_interleaved_convolutions(model: ir.Model, accuracy: Accuracy) -> ir.Model:
    """Rewrite ``model`` in place and return it.

    Args:
        model: A graph in normal form.
        accuracy: ``strict`` forbids taps of zeros, where strides do not divide the kernel: they
            make NaN of infinite inputs that no tap should see.
    """
    for node in list(model.graph):
        if node.op_type == "ConvTranspose" and not node.domain and _fits(node, accuracy):
            _rewrite(model.graph, node)
    return model


def _fits(node: ir.Node, accuracy: Accuracy) -> bool:
    weight, output = node.inputs[1], node.outputs[0]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or weight.const_value is None or output.dtype != ir.DataType.FLOAT:
        return False
    if bias is not None and bias.const_value is None:
        return False
    plain = "auto_pad" not in node.attributes or node.attributes["auto_pad"].as_string() == "NOTSET"
    kernel, strides = shape_of(weight)[2:], _integers(node, "strides", 1)
    if not plain or "output_shape" in node.attributes or len(kernel) != 2:
        return False
    if len(set(strides)) != 1 or set(_integers(node, "dilations", 1)) != {1}:
        return False
    if groups_of(node) != 1:
        return False
    if accuracy == "strict" and any(k % s for k, s in zip(kernel, strides, strict=True)):
        return False
    if not np.isfinite(weight.const_value.numpy()).all():
        return False
    full = _full(node)
    ends = [b + o for b, o in zip(_before(node), shape_of(output)[2:], strict=True)]
    return all(end <= size for end, size in zip(ends, full, strict=True))


def _rewrite(graph: ir.Graph, node: ir.Node) -> None:
    x, weight, output = node.inputs[0], node.inputs[1], node.outputs[0]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    name, stride = str(output.name), _integers(node, "strides", 1)[0]
    w, full = _phases(weight.const_value.numpy(), stride), _full(node)
    n, features = shape_of(output)[:2]
    pads = [t - 1 for t in w.shape[2:]] * 2
    inputs = [x, add_constant(graph, w, f"{weight.name}_{name}_phases")]
    if bias is not None:
        repeated = np.tile(bias.const_value.numpy(), stride * stride)
        inputs.append(add_constant(graph, repeated, f"{bias.name}_{name}_phases"))
    made = [ir.Node("", "Conv", inputs, [ir.AttrInt64s("pads", pads)], name=node.name)]
    shape = [n, w.shape[0], *(size // stride for size in full)]
    describe(made[-1].outputs[0], f"{name}_phases", output, shape)
    if stride > 1:
        shuffle = [ir.AttrInt64("blocksize", stride), ir.AttrString("mode", "DCR")]
        made.append(ir.Node("", "DepthToSpace", made[-1].outputs, shuffle))
        describe(made[-1].outputs[0], f"{name}_whole", output, [n, features, *full])
    _, _, *sizes = shape_of(output)
    if sizes != full:
        begins = zip((2, 3), _before(node), sizes, strict=True)
        bounds = {axis: (begin, begin + size) for axis, begin, size in begins}
        made.append(part_of(graph, made[-1].outputs[0], bounds, f"{name}_part"))
    replace_by(graph, node, made)


def _phases(w: Array, stride: int) -> Array:
    """Return weights ``[C, F, K, L]`` as ``[s s F, C, ceil(K / s), ceil(L / s)]``, flipped."""
    missing = [(0, 0), (0, 0), *((0, -k % stride) for k in w.shape[2:])]
    channels, features, *sizes = (wide := np.pad(w, missing)).shape
    taps = [size // stride for size in sizes]
    split = wide.reshape(channels, features, taps[0], stride, taps[1], stride)
    phases = split[:, :, ::-1, :, ::-1, :].transpose(3, 5, 1, 0, 2, 4)
    return phases.reshape(stride * stride * features, channels, *taps)


def _full(node: ir.Node) -> list[int]:
    """Return the spatial sizes of the interleaved result, of which the output is a part."""
    stride = _integers(node, "strides", 1)[0]
    kernel, sizes = shape_of(node.inputs[1])[2:], shape_of(node.inputs[0])[2:]
    return [stride * (n + -(-k // stride) - 1) for n, k in zip(sizes, kernel, strict=True)]


def _before(node: ir.Node) -> Sequence[int]:
    return _integers(node, "pads", 0)[:2]


def _integers(node: ir.Node, name: str, default: int) -> Sequence[int]:
    found = node.attributes.get(name)
    return [default, default] if found is None else list(found.as_ints())
