"""Which operators are quantised, what counts as a layer, and where to find its output.

Requires: a graph in normal form. A *layer* is a node that computes, with the activation behind it;
nodes that only move elements, or clamp them, follow the layer in front of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import onnx

from mlopsc.quantizer.cones import cone_nodes

LAYER_OPS: Final = frozenset(
    {
        "Add", "AveragePool", "Celu", "Concat", "Conv", "ConvTranspose", "Elu", "Gelu", "Gemm",
        "GlobalAveragePool", "HardSigmoid", "HardSwish", "InstanceNormalization",
        "LayerNormalization", "LeakyRelu", "MatMul", "Mish", "Mul", "PRelu", "ReduceMean",
        "Resize", "Selu", "Sigmoid", "Softmax", "Softplus", "Softsign", "Sub", "Tanh",
    }
)  # fmt: skip
ACTIVATIONS: Final = frozenset({"Clip", "Relu"})
FOLLOWERS: Final = ACTIVATIONS | {
    "DepthToSpace", "Flatten", "Gather", "GlobalMaxPool", "MaxPool", "Pad", "Reshape", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
QUANTISED_OPS: Final = frozenset(
    {
        "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger",
        "QLinearConv", "QLinearMatMul", "QuantizeLinear",
    }
)  # fmt: skip
_DEQUANTIZED = "_DequantizeLinear_Output"  # the quantiser's name for a tensor after quantisation


@dataclass(frozen=True)
class Layer:
    """A node that computes.

    Attributes:
        name: Of the node.
        op: Operator.
        tensor: Its output.
        activated: The output of the activation that alone reads it, or its own.
    """

    name: str
    op: str
    tensor: str
    activated: str


def layers_of(graph: onnx.GraphProto) -> list[Layer]:
    """Return the layers of a graph, in the order they run."""
    readers = _readers(graph)
    outputs = {value.name for value in graph.output}
    floats = _float_tensors(graph)
    cones = cone_nodes(graph)
    found = []
    for node in graph.node:
        if node.op_type not in LAYER_OPS or node.domain or node.output[0] not in floats:
            continue
        if node.name in cones:
            continue
        tensor = activated = node.output[0]
        behind = readers.get(tensor, [])
        if len(behind) == 1 and behind[0].op_type in ACTIVATIONS and tensor not in outputs:
            activated = behind[0].output[0]
        found.append(Layer(node.name, node.op_type, tensor, activated))
    return found


def _float_tensors(graph: onnx.GraphProto) -> set[str]:
    values = [*graph.value_info, *graph.output]
    return {v.name for v in values if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}


def nodes_in_float(graph: onnx.GraphProto, layers: Collection[str]) -> set[str]:
    """Return the nodes that stay in float with the layers ``layers``, these among them.

    What only moves or clamps elements is computed in the arithmetic of the layer that it follows,
    and in front of layers that all stay in float, in theirs. Cones stay in float anyway, and so
    does an activation of an output: the quantiser would clamp the output itself.
    """
    found = set(layers)
    makers = {name: node for node in graph.node for name in node.output}
    readers = _readers(graph)
    movers = [node for node in graph.node if node.op_type in FOLLOWERS and not node.domain]
    for node in movers:
        maker = makers.get(node.input[0])
        if maker is not None and maker.name in found:
            found.add(node.name)
    for node in reversed(movers):
        behind = [reader.name for name in node.output for reader in readers.get(name, [])]
        if behind and found.issuperset(behind):
            found.add(node.name)
    outputs = {value.name for value in graph.output}
    clamps = {n.name for n in graph.node if n.op_type in ACTIVATIONS and n.input[0] in outputs}
    return found | clamps | cone_nodes(graph)


def neighbours(graph: onnx.GraphProto, layers: Iterable[Layer]) -> list[tuple[str, str]]:
    """Return the pairs of layers of which the second takes what the first gives, moved at most."""
    names = {layer.name for layer in layers}
    makers = {name: node for node in graph.node for name in node.output}

    def before(node: onnx.NodeProto) -> Iterator[str]:
        for value in node.input:
            maker = makers.get(value)
            if maker is not None and maker.name in names:
                yield maker.name
            elif maker is not None and maker.op_type in FOLLOWERS:
                yield from before(maker)

    found = [(first, n.name) for n in graph.node if n.name in names for first in before(n)]
    return list(dict.fromkeys(found))


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that read each tensor."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def tensor_pairs(layers: Iterable[Layer], quantized: onnx.GraphProto) -> dict[str, tuple[str, str]]:
    """Return which tensors show a layer's output in the float and the quantised graph, by layer."""
    there = {name for node in quantized.node for name in node.output}
    found = {}
    for layer in layers:
        for tensor in (layer.activated, layer.tensor):
            name = next((n for n in (tensor + _DEQUANTIZED, tensor) if n in there), None)
            if name is not None:
                found[layer.name] = (tensor, name)
                break
    return found


def quantized_layers(layers: Iterable[Layer], quantized: onnx.GraphProto) -> set[str]:
    """Return the layers all whose float operands are dequantised, and whose output is quantised."""
    made = {n: node for node in quantized.node for n in node.output}
    there = {node.name: node for node in quantized.node}
    floats = {t.name for t in quantized.initializer if t.data_type == onnx.TensorProto.FLOAT}
    into = {n for node in quantized.node if node.op_type == "QuantizeLinear" for n in node.input}
    activated = {
        node.input[0] for node in quantized.node
        if node.op_type in ACTIVATIONS and node.output[0] in into
    }  # fmt: skip

    def is_integer(name: str) -> bool:
        return name in made and made[name].op_type == "DequantizeLinear"

    found = set()
    for layer in layers:
        node = there.get(layer.name)
        if node is None:
            continue
        operands = [node.input[0], *(n for n in node.input[1:] if n in floats or n in made)]
        scales = node.op_type == "Resize"  # its sizes are float constants
        if node.output[0] in into | activated and all(
            map(is_integer, operands[:1] if scales else operands)
        ):
            found.add(layer.name)
    return found
