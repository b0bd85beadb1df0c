"""Models made to harm: each is small, and must be refused or imported within narrow limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from models import model, node, value
from onnx import TensorProto, helper, numpy_helper

HUGE = 1 << 40


def constant(name: str, numbers: Any, dtype: str = "int64") -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(numbers, dtype), name)


def folded(op: str, inputs: dict[str, Any], **attributes: Any) -> onnx.ModelProto:
    """Return a model that adds to its input the result of a node with constant inputs."""
    return model(
        [node(op, list(inputs), ["big"], **attributes), node("Cast", ["big"], ["f"], to=1),
         node("ReduceMax", ["f"], ["m"], keepdims=0), node("Add", ["x", "m"], ["y"])],
        [value("x", [2])],
        [value("y", [2])],
        {name: np.asarray(array) for name, array in inputs.items()},
    )  # fmt: skip


def sizes(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


def nested(depth: int) -> onnx.ModelProto:
    """Return ``If`` in ``If``, as deep as wanted."""
    graph = helper.make_graph([node("Identity", ["x"], ["r0"])], "g0", [], [value("r0", [2])])
    for level in range(1, depth):
        inner = node("If", ["c"], [f"r{level}"], then_branch=graph, else_branch=graph)
        if level > 2:  # each level holds the one below twice; that is a bomb of its own
            other = helper.make_graph(
                [node("Neg", ["x"], [f"n{level}"])], "n", [], [value(f"n{level}", [2])]
            )
            inner = node("If", ["c"], [f"r{level}"], then_branch=graph, else_branch=other)
        graph = helper.make_graph([inner], f"g{level}", [], [value(f"r{level}", [2])])
    return model(
        [node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)],
        [value("x", [2]), value("c", [], "bool")],
        [value("y", [2])],
    )


def function(name: str, calls: Sequence[str]) -> onnx.FunctionProto:
    """Return a function of one argument that calls others one after the other."""
    names = ["a", *(f"t{i}" for i in range(len(calls) - 1)), "r"]
    nodes = [
        helper.make_node(op, [names[i]], [names[i + 1]], domain="" if op == "Neg" else "evil")
        for i, op in enumerate(calls)
    ]
    return helper.make_function(
        "evil", name, ["a"], ["r"], nodes,
        [helper.make_opsetid("", 18), helper.make_opsetid("evil", 1)],
    )  # fmt: skip


def calling(functions: Sequence[onnx.FunctionProto]) -> onnx.ModelProto:
    return model(
        [node("f0", ["x"], ["y"], domain="evil")],
        [value("x", [2])],
        [value("y", [2])],
        functions=functions,
        domains=["evil"],
    )


def with_initializer(tensor: onnx.TensorProto) -> onnx.ModelProto:
    made = model([node("Add", ["x", "w"], ["y"])], [value("x", [2])], [value("y", [2])])
    made.graph.initializer.append(tensor)
    return made


def raw(shape: Sequence[int], data: bytes = b"", dtype: int = 1) -> onnx.TensorProto:
    return TensorProto(name="w", dims=shape, data_type=dtype, raw_data=data)


def shaped(shape: Sequence[int]) -> onnx.ModelProto:
    return model([node("Relu", ["x"], ["y"])], [value("x", shape)], [value("y", shape)])


def declared(shape: Sequence[int]) -> onnx.ModelProto:
    made = model([node("Relu", ["x"], ["y"])], [value("x", [2])], [value("y", shape)])
    made.graph.value_info.append(value("y", shape))
    return made


def doubled(levels: int) -> onnx.ModelProto:
    """Return a model whose tensor doubles with each node."""
    nodes = [node("Concat", [f"t{i}", f"t{i}"], [f"t{i + 1}"], axis=0) for i in range(levels)]
    result = node("ReduceMax", [f"t{levels}"], ["y"], keepdims=0)
    return model([*nodes, result], [value("t0", [2])], [value("y", [])])


def doubled_constant(levels: int) -> onnx.ModelProto:
    made = doubled(levels)
    made.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "t0"))
    made.graph.input[0].CopyFrom(value("x", []))
    made.graph.node[-1].output[0] = "m"
    made.graph.node.append(node("Add", ["x", "m"], ["y"]))
    return made


def looped(trips: int, depth: int = 1) -> onnx.ModelProto:
    """Return loops in loops around an addition, with constant counts."""
    body = helper.make_graph(
        [node("Identity", ["c0"], ["d0"]), node("Add", ["v0", "one"], ["w0"])],
        "b0", [value("i0", [], "int64"), value("c0", [], "bool"), value("v0", [1])],
        [value("d0", [], "bool"), value("w0", [1])],
    )  # fmt: skip
    for k in range(1, depth):
        body = helper.make_graph(
            [node("Identity", [f"c{k}"], [f"d{k}"]),
             node("Loop", ["n", f"c{k}", f"v{k}"], [f"w{k}"], body=body)],
            f"b{k}", [value(f"i{k}", [], "int64"), value(f"c{k}", [], "bool"), value(f"v{k}", [1])],
            [value(f"d{k}", [], "bool"), value(f"w{k}", [1])],
        )  # fmt: skip
    weights = {"n": np.array(trips, np.int64), "t": np.array(True), "one": np.ones(1, np.float32),
               "z": np.zeros(1, np.float32)}  # fmt: skip
    return model(
        [node("Loop", ["n", "t", "z"], ["r"], body=body), node("Add", ["x", "r"], ["y"])],
        [value("x", [1])], [value("y", [1])], weights,
    )  # fmt: skip


def cyclic() -> onnx.ModelProto:
    return model(
        [node("Add", ["x", "b"], ["a"]), node("Neg", ["a"], ["b"]), node("Relu", ["b"], ["y"])],
        [value("x", [2])],
        [value("y", [2])],
    )


def own_output() -> onnx.ModelProto:
    return model([node("Add", ["x", "y"], ["y"])], [value("x", [2])], [value("y", [2])])


def many_nodes(count: int) -> bytes:
    """Return a file of empty nodes: 2 bytes each, hundreds in memory."""
    made = model([], [value("x", [2])], [value("x", [2])])
    body = made.graph.SerializeToString() + b"\x0a\x00" * count
    del made.graph.node[:]
    made.ClearField("graph")
    size = helper_varint(len(body))
    return bytes(made.SerializeToString()) + b"\x3a" + size + body


def helper_varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def deep_message(depth: int) -> bytes:
    """Return graphs in attributes in nodes in graphs, written as bytes."""
    body = b""
    for _ in range(depth):
        attribute = b"\x0a\x01a\xa0\x01\x05\x32" + helper_varint(len(body)) + body
        inner = b"\x22\x02If\x2a" + helper_varint(len(attribute)) + attribute
        body = b"\x0a" + helper_varint(len(inner)) + inner
    made = model([node("Relu", ["x"], ["y"])], [value("x", [2])], [value("y", [2])])
    graph = made.graph.SerializeToString() + body
    made.ClearField("graph")
    return bytes(made.SerializeToString()) + b"\x3a" + helper_varint(len(graph)) + graph


def deep_type(depth: int) -> onnx.ModelProto:
    made = shaped([2])
    kind = made.graph.value_info.add(name="q").type
    for _ in range(depth):
        kind = kind.sequence_type.elem_type
    kind.tensor_type.elem_type = 1
    return made


# What must be refused, by name.
REFUSED: dict[str, Callable[[], onnx.ModelProto | bytes]] = {
    "cycle": cyclic,
    "node that takes its own output": own_output,
    "function that calls itself": lambda: calling([function("f0", ["f0"])]),
    "functions that call each other": lambda: calling(
        [function("f0", ["f1"]), function("f1", ["f0"])]
    ),
    "functions that double 40 times": lambda: calling(
        [*(function(f"f{i}", [f"f{i + 1}"] * 2) for i in range(40)), function("f40", ["Neg"])]
    ),
    "functions that call a chain of thousands": lambda: calling(
        [*(function(f"f{i}", [f"f{i + 1}"]) for i in range(3000)), function("f3000", ["f3001"])]
    ),
    "constant of 2^40": lambda: folded("ConstantOfShape", {"s": sizes(HUGE)}),
    "constant of 2^33": lambda: folded("ConstantOfShape", {"s": sizes(1 << 33)}),
    "constant of 2^64": lambda: folded("ConstantOfShape", {"s": sizes(1 << 32, 1 << 32)}),
    "constant of a negative size": lambda: folded("ConstantOfShape", {"s": sizes(-5)}),
    "expanded to 2^40": lambda: folded("Expand", {"v": np.ones(1, np.float32), "s": sizes(HUGE)}),
    "expanded to 2^66": lambda: folded(
        "Expand", {"v": np.ones(1, np.float32), "s": sizes(1 << 33, 1 << 33)}
    ),
    "tiled 2^40 times": lambda: folded("Tile", {"v": np.ones(1, np.float32), "s": sizes(HUGE)}),
    "tiled 2^62 times each way": lambda: folded(
        "Tile", {"v": np.ones((1, 1), np.float32), "s": sizes(1 << 62, 1 << 62)}
    ),
    "range of 2^40": lambda: folded(
        "Range", {"a": np.int64(0), "b": np.int64(HUGE), "c": np.int64(1)}
    ),
    "range of 2^62 floats": lambda: folded(
        "Range", {"a": np.float32(0), "b": np.float32(1e30), "c": np.float32(1)}
    ),
    "padded by 2^40": lambda: folded("Pad", {"v": np.ones(1, np.float32), "p": sizes(0, HUGE)}),
    "one-hot of depth 2^40": lambda: folded(
        "OneHot", {"i": sizes(1), "d": np.int64(HUGE), "v": np.array([0, 1], np.float32)}
    ),
    "enlarged 2^40 times": lambda: folded(
        "Resize",
        {
            "v": np.ones((1, 1), np.float32),
            "r": np.zeros(0, np.float32),
            "q": np.array([1, 1e12], np.float32),
        },
    ),
    "upsampled to 2^40": lambda: folded(
        "Resize",
        {
            "v": np.ones((1, 1), np.float32),
            "r": np.zeros(0, np.float32),
            "q": np.zeros(0, np.float32),
            "s": sizes(1, HUGE),
        },
    ),
    "constant that doubles 40 times": lambda: doubled_constant(40),
    "tensor that doubles 40 times": lambda: doubled(40),
    "tensor that doubles 70 times": lambda: doubled(70),
    "initializer of 2^40 elements without data": lambda: with_initializer(raw([HUGE])),
    "initializer of 2^64 elements": lambda: with_initializer(raw([1 << 32, 1 << 32], b"12345678")),
    "initializer with a negative size": lambda: with_initializer(raw([-2], b"12345678")),
    "initializer with negative sizes": lambda: with_initializer(raw([-1, -2], b"12345678")),
    "initializer with too little data": lambda: with_initializer(raw([2], b"1234567")),
    "initializer with too much data": lambda: with_initializer(raw([2], b"123456789")),
    "initializer of no type": lambda: with_initializer(raw([2], b"12345678", 0)),
    "initializer of an unknown type": lambda: with_initializer(raw([2], b"12345678", 99)),
    "input of 2^62 elements": lambda: shaped([1 << 31, 1 << 31]),
    "input of 2^60 elements": lambda: shaped([1 << 30, 1 << 30]),
    "input of 2^64 elements": lambda: shaped([1 << 16] * 4),
    "input of negative size": lambda: shaped([-2, 3]),
    "file of a million empty nodes": lambda: many_nodes(1_000_000),
    "messages nested 5000 deep": lambda: deep_message(5000),
    "bodies nested 90 deep": lambda: deep_message(90),
    "types nested 90 deep": lambda: deep_type(90),
}
# What may be refused or imported, but not take long or much.
BOUNDED: dict[str, Callable[[], onnx.ModelProto | bytes]] = {
    "branches nested 12 deep": lambda: nested(12),
    "branches nested 25 deep": lambda: nested(25),
    "loop of 2^62": lambda: looped(1 << 62),
    "loops of 1000 nested 4 deep": lambda: looped(1000, 4),
    "loops of 2 nested 12 deep": lambda: looped(2, 12),
    "output of another declared shape": lambda: declared([1 << 30, 1 << 30]),
    "functions in a row": lambda: calling(
        [*(function(f"f{i}", [f"f{i + 1}"]) for i in range(50)), function("f50", ["Neg"])]
    ),
}
