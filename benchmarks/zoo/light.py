"""The ``light`` models that the onnx package ships, with random weights in place of constants.

These files hold no weights: a ``ConstantOfShape`` of 0.02 stands for each large one, small ones are
initializers of one value. With them outputs are the same for every input, and a compiler could
fold what depends on them. Each is replaced by random values of its shape for its role.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper

Array = np.ndarray[Any, Any]
FOLDER = Path(onnx.backend.test.__file__).parent / "data" / "light"
NAMES = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet",
    "squeezenet", "vgg19", "zfnet512",
)  # fmt: skip

_KEEP = ("AveragePool", "Concat", "Transpose", "Reshape", "Dropout", "LRN")

# How a weight is used: by which operator, as which of its inputs, the operators behind that, and
# the gain that keeps the second moment of what it is applied to.
Use = tuple[str, int, frozenset[str], float]


def light(name: str) -> onnx.ModelProto:
    """Return one of ``NAMES`` with random weights."""
    model = onnx.load(FOLDER / f"light_{name}.onnx")
    graph = model.graph
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    found = {t.name: t.dims for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    made = [n for n in graph.node if n.op_type == "ConstantOfShape"]
    found |= {n.output[0]: shapes[n.input[0]].tolist() for n in made}
    uses = _uses(graph)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    drawn = [
        numpy_helper.from_array(_draw(rng, tuple(shape), uses[weight]), weight)
        for weight, shape in sorted(found.items())
        if weight in uses
    ]
    nodes = [n for n in graph.node if n.op_type != "ConstantOfShape"]
    read = {value for node in nodes for value in node.input}
    others = [t for t in graph.initializer if t.name in read - set(found)]
    inputs = [i for i in graph.input if i.name not in shapes]
    for field, values in (("node", nodes), ("initializer", drawn + others), ("input", inputs)):
        graph.ClearField(field)  # type: ignore[arg-type]
        getattr(graph, field).extend(values)
    model.ir_version = 8  # in which initializers need not be inputs, and so are constants
    return model


def _uses(graph: onnx.GraphProto) -> dict[str, Use]:
    """Return how each value is used, looking through Unsqueeze."""
    readers = defaultdict(list)
    makers = {name: node for node in graph.node for name in node.output}

    def gain(name: str) -> float:
        node = makers.get(name)
        kind = node.op_type if node is not None else ""
        if kind in _KEEP:
            return gain(node.input[0])
        if kind == "MaxPool":  # the largest of nine
            return gain(node.input[0]) / 3
        return 2.0 if kind == "Relu" else 1.0

    for node in graph.node:
        for position, name in enumerate(node.input):
            readers[name].append((node, position))

    def use(name: str) -> Use | None:
        if not readers[name]:
            return None
        node, position = readers[name][0]
        if node.op_type == "Unsqueeze":
            return use(node.output[0])
        behind = frozenset(n.op_type for n, _ in readers[node.output[0]])
        return node.op_type, position, behind, gain(node.input[0])

    return {name: found for name in list(readers) if (found := use(name)) is not None}


def _draw(rng: np.random.Generator, shape: tuple[int, ...], use: Use) -> Array:
    """Return random values for one weight.

    Weights of layers keep the second moment, but for what goes into a Softmax, which would find one
    class certain. Where an activation is added to another (``Sum``), its scale is below 1, or
    activations would double from block to block.
    """
    op, position, behind, gain = use
    if op in ("Conv", "Gemm") and position == 1:  # [outputs, inputs, ...]
        gain = 0.1 if "Softmax" in behind else gain
        values = rng.standard_normal(shape) * (gain / np.prod(shape[1:])) ** 0.5
    elif (op, position) in {("BatchNormalization", 1), ("Mul", 1)}:
        values = rng.uniform(0.8, 1.2, shape) * (0.6 if "Sum" in behind else 1.0)
    elif (op, position) == ("BatchNormalization", 4):
        values = rng.uniform(0.8, 1.25, shape)
    else:  # biases and means
        values = rng.standard_normal(shape) * 0.1
    return values.astype(np.float32)
