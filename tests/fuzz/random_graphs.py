"""Random graphs over core operators, compiled for this machine and compared with the reference.

A graph has one to seven nodes over inputs and constants of drawn types and shapes. Operators that
are not continuous take only values that both sides compute exactly, so that a difference in the
last place cannot become a difference in the result.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mutants import close, run_original
from onnx import helper

import mlopsc
from mlopsc import pipeline
from mlopsc.errors import MlopscError, OpenShapeError, UnsupportedOpError
from mlopsc.importer import ImportOptions

OPSET = 21
MAX_NODES = 7
SAMPLES = 2  # sets of inputs per graph
BATCH = 10  # graphs compiled together
MAX_ELEMENTS = 4096
INTEGERS = ("int8", "uint8", "int32", "int64")
FLOATS = ("float32", "float64")
TYPES = ("float32", "float32", "float32", *FLOATS, *INTEGERS, "bool")
Shape = tuple[int, ...]
Draw = Callable[[Any], Any]


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    Attributes:
        name: Its name.
        dtype: Element type.
        shape: Static.
        exact: Whether every correct implementation computes the same bits.
        origins: The inputs it is computed from.
    """

    name: str
    dtype: str
    shape: Shape
    exact: bool = True
    origins: frozenset[str] = frozenset()


@dataclass
class Graph:
    """A graph that grows."""

    draw: Draw
    values: list[Value] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)

    def pick(self, *choices: Any) -> Any:
        """Draw one of ``choices``."""
        return self.draw(st.sampled_from(choices))

    def number(self, low: int, high: int) -> int:
        """Draw an integer."""
        return int(self.draw(st.integers(low, high)))

    def flag(self) -> bool:
        """Draw a truth value."""
        return bool(self.draw(st.booleans()))

    def add(self, op: str, inputs: Sequence[str], result: Value, **attributes: Any) -> None:
        """Add a node with one output."""
        self.nodes.append(
            helper.make_node(op, inputs, [result.name], name=f"n{len(self.nodes)}", **attributes)
        )
        origins = [v.origins for v in self.values if v.name in inputs]
        self.values.append(replace(result, origins=frozenset().union(*origins)))

    def result(self, dtype: str, shape: Sequence[int], exact: bool) -> Value:
        """Return a new value."""
        return Value(f"v{len(self.nodes)}", dtype, tuple(int(d) for d in shape), exact)

    def constant(self, array: Any) -> str:
        """Add a constant and return its name."""
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def operand(self, dtype: str, shape: Shape) -> Value:
        """Return a value or a constant of ``dtype`` that broadcasts to ``shape``."""
        fitting = [v for v in self.values if v.dtype == dtype and _broadcasts(v.shape, shape)]
        if fitting and self.flag():
            return self.draw(st.sampled_from(fitting))
        own = [d if self.flag() else 1 for d in shape][self.number(0, len(shape)) :]
        array = data(self.draw, dtype, tuple(own))
        return Value(self.constant(array), dtype, tuple(own))


def _broadcasts(shape: Shape, wanted: Shape) -> bool:
    return len(shape) <= len(wanted) and all(
        a in (1, b) for a, b in zip(reversed(shape), reversed(wanted), strict=False)
    )


def data(draw: Draw, dtype: str, shape: Shape, *, odd: bool = True) -> Any:
    """Draw an array: a seed of normal numbers, sometimes with odd ones among them."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind in "iu":
        low = 0 if kind.kind == "u" else -9
        return rng.integers(low, 10, shape).astype(dtype)
    array = np.asarray(rng.standard_normal(shape) * 2).astype(dtype)
    if odd and array.size and draw(st.integers(0, 7)) == 0:
        # A single 0 would meet the compiler's 0 * x = 0, which is wrong for NaN: see test_fuzz.py.
        zeros = [0.0, -0.0] if array.size > 1 else []
        value = draw(st.sampled_from([*zeros, np.inf, -np.inf, np.nan]))
        array.reshape(-1)[rng.integers(array.size)] = value
    return array


def unary(g: Graph, x: Value) -> None:
    exact = ["Identity", "Neg", "Abs", "Relu", "Clip"]
    if x.dtype == "bool":
        return g.add("Not", [x.name], g.result("bool", x.shape, x.exact))
    if x.dtype not in FLOATS:
        op = g.pick("Identity", "Abs") if x.dtype == "uint8" else g.pick("Identity", "Abs", "Neg")
        return g.add(op, [x.name], g.result(x.dtype, x.shape, x.exact))
    smooth = ["Tanh", "Sigmoid", "Erf", "Softplus", "LeakyRelu", "Elu", "HardSigmoid", "Exp"]
    smooth += ["Sqrt", "Reciprocal", "Selu", "Softsign", "HardSwish", "Mish", "Sin", "Cos", "Log"]
    steps = ["Floor", "Ceil", "Round", "Sign"] if x.exact else []
    op = g.pick(*exact, *(smooth if x.dtype == "float32" else ["Sqrt"]), *steps)
    inputs = [x.name]
    if op == "Clip":
        limits = np.sort(np.array([g.number(-20, 20), g.number(-20, 20)], x.dtype) / 8)
        inputs += [g.constant(limits[0]), g.constant(limits[1])]
    kept = x.exact and op in (*exact, *steps, "Sqrt")
    return g.add(op, inputs, g.result(x.dtype, x.shape, kept))


def binary(g: Graph, x: Value) -> None:
    y = g.operand(x.dtype, x.shape)
    exact = x.exact and y.exact
    if x.dtype == "bool":
        op = g.pick("And", "Or", "Xor", "Equal")
        return g.add(op, [x.name, y.name], g.result("bool", x.shape, exact))
    names = [x.name, y.name] if g.flag() else [y.name, x.name]
    if exact and g.number(0, 3) == 0:
        op = g.pick("Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal")
        return g.add(op, names, g.result("bool", x.shape, True))
    if x.dtype in FLOATS:
        op = g.pick("Add", "Mul", "Max", "Min", "Sub", "Div")
        return g.add(op, names, g.result(x.dtype, x.shape, exact and op in ("Max", "Min")))
    return g.add(
        g.pick("Add", "Sub", "Mul", "Max", "Min"), names, g.result(x.dtype, x.shape, exact)
    )


def where(g: Graph, x: Value) -> None:
    condition, y = g.operand("bool", x.shape), g.operand(x.dtype, x.shape)
    exact = condition.exact and x.exact and y.exact
    g.add("Where", [condition.name, x.name, y.name], g.result(x.dtype, x.shape, exact))


def cast(g: Graph, x: Value) -> None:
    if x.dtype in FLOATS:  # what integers become of NaN and numbers out of range is undefined
        # Of float32 that is not exact, float64 keeps the error, which no tolerance would expect.
        to = g.pick(*(FLOATS if x.exact else ("float32", x.dtype)))
    else:
        to = g.pick("float32", "float64", "int8", "uint8", "int32", "int64", "bool")
    code = helper.np_dtype_to_tensor_dtype(np.dtype(to))
    g.add("Cast", [x.name], g.result(to, x.shape, x.exact), to=code)


def without_nan(g: Graph, x: Value) -> Value:
    """Return ``x`` with 0 for NaN: whether the reference finds one depends on where it stands."""
    if x.dtype not in FLOATS:
        return x
    g.add("IsNaN", [x.name], g.result("bool", x.shape, x.exact))
    names = [g.values[-1].name, g.constant(np.array(0, x.dtype)), x.name]
    g.add("Where", names, g.result(x.dtype, x.shape, x.exact))
    return g.values[-1]


def reduce(g: Graph, x: Value) -> None:
    if not x.shape or x.dtype == "bool":
        return binary(g, x)
    axes = sorted({g.number(0, len(x.shape) - 1) for _ in range(g.number(1, len(x.shape)))})
    keep = g.number(0, 1)
    x = without_nan(g, x)
    if x.exact and x.dtype in ("float32", "int32") and g.number(0, 4) == 0:
        shape = [1 if i == axes[0] else d for i, d in enumerate(x.shape)]
        shape = shape if keep else [d for i, d in enumerate(x.shape) if i != axes[0]]
        op = g.pick("ArgMax", "ArgMin")
        axis = axes[0] - (len(x.shape) if g.flag() else 0)
        return g.add(op, [x.name], g.result("int64", shape, True), axis=axis, keepdims=keep)
    ops = ["ReduceMax", "ReduceMin"]
    if x.dtype in ("float32", "float64"):
        ops += ["ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceProd"]
    elif x.dtype in ("int32", "int64"):
        ops += ["ReduceSum"]  # ONNX Runtime's products saturate where integers should wrap
    op = g.pick(*ops)
    shape = [1 if i in axes else d for i, d in enumerate(x.shape)]
    shape = shape if keep else [d for i, d in enumerate(x.shape) if i not in axes]
    given_axes = [a - (len(x.shape) if g.flag() else 0) for a in axes]
    inputs = [x.name, g.constant(np.array(given_axes, np.int64))]
    exact = x.exact and (op in ("ReduceMax", "ReduceMin") or x.dtype not in FLOATS)
    return g.add(op, inputs, g.result(x.dtype, shape, exact), keepdims=keep)


def softmax(g: Graph, x: Value) -> None:
    if not x.shape or x.dtype != "float32":
        return unary(g, x)
    axis = g.number(-len(x.shape), len(x.shape) - 1)
    op = g.pick("Softmax", "LogSoftmax")
    return g.add(op, [x.name], g.result(x.dtype, x.shape, False), axis=axis)


def matmul(g: Graph, x: Value) -> None:
    if len(x.shape) < 2 or x.dtype not in ("float32", "float64"):
        return movement(g, x)
    columns = g.number(1, 6)
    batch = tuple(d if g.flag() else 1 for d in x.shape[:-2])[g.number(0, len(x.shape) - 2) :]
    weight = g.constant(data(g.draw, x.dtype, (*batch, x.shape[-1], columns)))
    shape = (*x.shape[:-1], columns)
    if len(x.shape) == 2 and g.flag():
        turned = g.flag()
        array = g.constants[weight].T if turned else g.constants[weight]
        weight = g.constant(array)
        bias = g.constant(data(g.draw, x.dtype, (columns,)))
        return g.add("Gemm", [x.name, weight, bias], g.result(x.dtype, shape, False),
                     transB=int(turned), alpha=0.5, beta=2.0)  # fmt: skip
    return g.add("MatMul", [x.name, weight], g.result(x.dtype, shape, False))


def window(g: Graph, x: Value) -> None:
    if len(x.shape) != 4 or x.dtype != "float32":
        return movement(g, x)
    n, c, h, w = x.shape
    kernel = [g.number(1, min(3, h)), g.number(1, min(3, w))]
    strides = [g.number(1, 2), g.number(1, 2)]
    pads = [g.number(0, k - 1) for k in (*kernel, *kernel)]
    sizes = [
        (d + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i, d in enumerate((h, w))
    ]
    kind: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    op = g.pick("Conv", "MaxPool", "AveragePool")
    if op == "MaxPool":
        x = without_nan(g, x)
    if op == "Conv":
        groups = c if g.flag() else 1
        out = groups * g.number(1, 3)
        weight = g.constant(data(g.draw, x.dtype, (out, c // groups, *kernel)))
        result = g.result(x.dtype, (n, out, *sizes), False)
        return g.add("Conv", [x.name, weight], result, group=groups, **kind)
    if op == "AveragePool":
        kind["count_include_pad"] = g.number(0, 1)
    result = g.result(x.dtype, (n, c, *sizes), x.exact and op == "MaxPool")
    return g.add(op, [x.name], result, **kind)


def movement(g: Graph, x: Value) -> None:
    rank = len(x.shape)

    def add(op: str, shape: Sequence[int], *more: Any, **attributes: Any) -> None:
        inputs = [x.name, *("" if m is None else g.constant(m) for m in more)]
        g.add(op, inputs, g.result(x.dtype, shape, x.exact), **attributes)

    op = g.pick("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Slice", "Gather", "Pad", "Tile",
                "Expand", "Concat", "Flatten")  # fmt: skip
    if op == "Transpose" and rank:
        order = g.draw(st.permutations(range(rank)))
        return add(op, [x.shape[i] for i in order], perm=list(order))
    if op == "Unsqueeze" and rank < 5:
        axis = g.number(0, rank)
        return add(op, [*x.shape[:axis], 1, *x.shape[axis:]], np.array([axis], np.int64))
    if op == "Squeeze" and 1 in x.shape:
        axis = x.shape.index(1)
        return add(op, [d for i, d in enumerate(x.shape) if i != axis], np.array([axis - rank]))
    if op == "Slice" and rank:
        axis, step = g.number(0, rank - 1), g.pick(1, 2, -1, -2)
        begin, end = g.number(-7, 7), g.number(-7, 7)
        size = len(range(x.shape[axis])[begin:end:step])
        if size:
            shape = [size if i == axis else d for i, d in enumerate(x.shape)]
            return add(op, shape, *(np.array([v], np.int64) for v in (begin, end, axis, step)))
    if op == "Gather" and rank:
        axis = g.number(0, rank - 1)
        shape = (g.number(1, 3),) if g.flag() else ()
        indices = np.array(
            [g.number(-x.shape[axis], x.shape[axis] - 1) for _ in range(int(np.prod(shape)))],
            np.int64,
        ).reshape(shape)
        return add(op, [*x.shape[:axis], *shape, *x.shape[axis + 1 :]], indices, axis=axis)
    if op == "Pad" and rank and x.dtype in ("float32", "int32", "float64"):
        pads = [g.number(0, 2) for _ in range(2 * rank)]
        mode = g.pick("constant", "edge")
        shape = [d + pads[i] + pads[i + rank] for i, d in enumerate(x.shape)]
        return add(op, shape, np.array(pads, np.int64), mode=mode)
    if op == "Tile" and rank:
        times = [g.number(1, 2) for _ in x.shape]
        shape = [a * b for a, b in zip(x.shape, times, strict=True)]
        return add(op, shape, np.array(times, np.int64))
    if op == "Expand":
        shape = [g.number(1, 2), *(d if d > 1 else g.number(1, 3) for d in x.shape)]
        return add(op, shape, np.array(shape, np.int64))
    if op == "Concat" and rank:
        axis = g.number(0, rank - 1)
        fitting = [
            v for v in g.values if v.dtype == x.dtype and len(v.shape) == rank
            and all(i == axis or d == x.shape[i] for i, d in enumerate(v.shape))
        ]  # fmt: skip
        other = g.draw(st.sampled_from(fitting))
        shape = [d + other.shape[i] if i == axis else d for i, d in enumerate(x.shape)]
        result = g.result(x.dtype, shape, x.exact and other.exact)
        return g.add(op, [x.name, other.name], result, axis=axis - rank)
    if op == "Flatten" and rank:
        axis = g.number(0, rank)
        shape = [int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:]))]
        return add(op, shape, axis=axis)
    return add("Reshape", [int(np.prod(x.shape))], np.array([-1], np.int64))


def normalise(g: Graph, x: Value) -> None:
    # Parameters are finite: the order of their arithmetic is free, and infinities would show it.
    if len(x.shape) < 2 or x.dtype != "float32":
        return unary(g, x)
    if g.flag():
        size = (x.shape[-1],)
        scale, bias = (g.constant(data(g.draw, x.dtype, size, odd=False)) for _ in range(2))
        result = g.result(x.dtype, x.shape, False)
        return g.add("LayerNormalization", [x.name, scale, bias], result, axis=-1)
    size = (x.shape[1],)
    scale, bias, mean = (g.constant(data(g.draw, x.dtype, size, odd=False)) for _ in range(3))
    variance = g.constant(np.abs(data(g.draw, x.dtype, size, odd=False)) + np.float32(0.5))
    result = g.result(x.dtype, x.shape, False)
    return g.add("BatchNormalization", [x.name, scale, bias, mean, variance], result)


STEPS = (unary, unary, binary, binary, binary, where, cast, reduce, softmax, matmul, window, window,
         movement, movement, movement, normalise)  # fmt: skip


@st.composite
def graphs(draw: Draw) -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """Draw a model and inputs for it."""
    g = Graph(draw)
    for number in range(g.number(1, 3)):
        shape = tuple(draw(st.lists(st.integers(1, 5), max_size=4)))
        if g.number(0, 2) == 0:
            shape = (1, g.number(1, 4), g.number(3, 8), g.number(3, 8))
        name = f"x{number}"
        g.inputs.append(Value(name, g.pick(*TYPES), shape, origins=frozenset({name})))
    g.values += g.inputs
    for _ in range(g.number(1, MAX_NODES)):
        small = [v for v in g.values if np.prod(v.shape) <= MAX_ELEMENTS and len(v.shape) <= 5]
        recent = draw(st.sampled_from(small[-3:] if small else g.inputs))
        g.pick(*STEPS)(g, recent)
    used = {name for node in g.nodes for name in node.input}
    made = [v for v in g.values if v not in g.inputs]
    outputs = [v for v in made if v.name not in used] or made[-1:]
    inputs = [v for v in g.inputs if v.name in used]
    model = models.model(
        g.nodes,
        [models.value(v.name, v.shape, v.dtype) for v in inputs],
        [models.value(v.name, v.shape, v.dtype) for v in outputs],
        {k: a for k, a in g.constants.items() if k in used},
        opset=OPSET,
    )
    return model, [{v.name: data(draw, v.dtype, v.shape) for v in inputs} for _ in range(SAMPLES)]


Drawn = tuple[onnx.ModelProto, list[dict[str, Any]]]


def check(drawn: Sequence[Drawn]) -> Counter[str]:
    """Import, build, run and compare graphs, side by side in one model to save time.

    Raises:
        AssertionError: One computes something else than the reference.
        MlopscError: One cannot be compiled, for another reason than that it is not supported.
    """
    with tempfile.TemporaryDirectory(prefix="mlopsc-fuzz-") as name:
        folder = Path(name)
        answered = []
        for model, samples in drawn:
            answers = run_original(str(models.save(model, folder / "graph.onnx")), samples)
            if answers is not None:
                answered.append((model, samples, answers))
        figures = Counter({"refused by the reference": len(drawn) - len(answered)})
        if not answered:
            return figures
        path = models.save(_side_by_side([model for model, _, _ in answered]), folder / "m.onnx")
        try:
            options = ImportOptions(name="graphs")
            pipeline.build(path, ["host"], folder / "out", options=options, cache=False)
        except MlopscError as error:
            if len(drawn) > 1:
                return sum((check([one]) for one in drawn), Counter())
            if isinstance(error, UnsupportedOpError | OpenShapeError):
                return Counter({f"{type(error).__name__}: {error.message[:60]}": 1})
            raise AssertionError(f"{error.message}\n{describe(drawn[0][0])}") from error
        compiled = mlopsc.load(folder / "out" / "host")
        for number in range(SAMPLES):
            inputs = {
                f"g{i}_{name}": array
                for i, (_, samples, _) in enumerate(answered)
                for name, array in samples[number].items()
            }
            outputs = compiled(inputs)
            for i, (model, _, answers) in enumerate(answered):
                for output, value in answers[number].items():
                    got, expected = outputs[f"g{i}_{output}"], np.asarray(value)
                    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), output
                    text = f"{describe(model)}\n{output}: {got}\nexpected: {expected}"
                    assert close(got, expected), text
        figures["equal"] += len(answered)
        return figures


def _side_by_side(parts: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    joined = models.model([], [], [], opset=OPSET)
    for number, part in enumerate(parts):
        graph = onnx.compose.add_prefix(part, f"g{number}_").graph
        for name in ("node", "input", "output", "initializer"):
            getattr(joined.graph, name).extend(getattr(graph, name))
    return joined


def describe(model: onnx.ModelProto) -> str:
    """Return the graph as text."""
    return str(onnx.printer.to_text(model.graph))


def check_graphs(count: int, number: int) -> tuple[Counter[str], list[str]]:
    """Check ``count`` graphs; return what became of them, and the findings.

    Args:
        count: How many.
        number: The seed.
    """
    figures: Counter[str] = Counter()
    findings: list[str] = []
    batch = min(count, BATCH)

    @seed(number)
    @settings(
        max_examples=-(-count // batch), deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.lists(graphs(), min_size=batch, max_size=batch))
    def run(drawn: list[Drawn]) -> None:
        try:
            figures.update(check(drawn))
        except AssertionError as error:
            findings.append(str(error))
            print(f"finding {len(findings)}: {error}", flush=True)  # long before the end
        if sum(figures.values()) % 200 < batch:
            print(dict(figures), flush=True)

    run()
    return figures, findings
