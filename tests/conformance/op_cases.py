"""One-operator models for every core operator: shapes, attributes and types that occur in exports.

Each case is independent; ``joined_model`` puts many of them side by side in one graph, so that one
build tests them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mlopsc.reference import run_graph

Array = np.ndarray[Any, Any]
OPSET = 20


@dataclass(frozen=True)
class Case:
    """One node with its inputs.

    Attributes:
        op: Operator.
        label: Unique within the operator.
        inputs: Run-time arrays and, as ``Const``, constants; None for an input left out.
        outputs: Number of outputs.
        attributes: Of the node.
    """

    op: str
    label: str
    inputs: tuple[Any, ...]
    outputs: int = 1
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.op.rpartition('::')[2]}_{self.label}"

    def nodes(self, inputs: list[str], outputs: list[str]) -> list[onnx.NodeProto]:
        domain, _, op = self.op.rpartition("::")
        return [
            helper.make_node(op, inputs, outputs, name=self.name, domain=domain, **self.attributes)
        ]


@dataclass(frozen=True)
class Const:
    value: Array


@dataclass(frozen=True)
class Group:
    """Cases that are joined in one model.

    Attributes:
        make: Returns them.
        opset: Version of ``ai.onnx``.
        slow: Whether they run on few emulated targets by default.
        hosted: Whether they run on the host only.
    """

    make: Callable[[], list[Case]]
    opset: int = OPSET
    slow: bool = False
    hosted: bool = False


def _rng(key: str) -> np.random.Generator:
    return np.random.default_rng(list(key.encode()))


def f(key: str, *shape: int, low: float = -3.0, high: float = 3.0) -> Array:
    return _rng(key).uniform(low, high, shape).astype(np.float32)


def i(key: str, *shape: int, dtype: str = "int32", low: int = -9, high: int = 10) -> Array:
    return _rng(key).integers(low, high, shape).astype(dtype)


def ints(*values: int) -> Const:
    return Const(np.array(values, np.int64))


def b(key: str, *shape: int) -> Array:
    return _rng(key).integers(0, 2, shape).astype(bool)


def _unary() -> list[Case]:
    plain = (
        "Abs Ceil Elu Exp Floor HardSigmoid HardSwish Identity LeakyRelu Neg Relu Sigmoid Sin Cos "
        "Softplus Tanh Erf"
    )
    cases = [Case(op, "f32", (f(op, 2, 3, 5),)) for op in plain.split()]
    cases += [
        Case(op, "wide", (f(op + "w", 64, low=-40, high=40),))
        for op in ("Exp", "Sigmoid", "Tanh", "Erf", "Softplus", "Elu", "Sin", "Cos")
    ]
    cases += [
        Case(op, "f32", (f(op, 2, 3, 5, low=0.01, high=9),)) for op in ("Log", "Sqrt", "Reciprocal")
    ]
    cases += [Case(op, "scalar", (f(op + "s"),)) for op in ("Relu", "Exp", "Neg")]
    cases += [Case(op, "i32", (i(op, 3, 4),)) for op in ("Abs", "Neg", "Identity")]
    cases += [Case(op, "i64", (i(op, 3, 4, dtype="int64"),)) for op in ("Abs", "Neg")]
    cases += [Case(op, "i8", (i(op, 3, 4, dtype="int8"),)) for op in ("Abs", "Neg")]
    cases += [
        Case("Elu", "alpha", (f("elua", 3, 4),), attributes={"alpha": 0.5}),
        Case("LeakyRelu", "alpha", (f("lra", 3, 4),), attributes={"alpha": 0.2}),
        Case("HardSigmoid", "ab", (f("hs", 3, 4),), attributes={"alpha": 0.3, "beta": 0.4}),
        Case("Not", "bool", (b("not", 3, 4),)),
    ]
    return cases


def _binary() -> list[Case]:
    cases = []
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum"):
        cases.append(Case(op, "same", (f(op, 2, 3, 4), f(op + "b", 2, 3, 4, low=0.5))))
        if op != "Sum":
            cases.append(Case(op, "i32", (i(op, 3, 4), i(op + "b", 3, 4, low=1))))
            cases.append(
                Case(op, "i64", (i(op, 3, 4, dtype="int64"), i(op + "b", 4, dtype="int64", low=1)))
            )
        cases.append(Case(op, "broadcast", (f(op + "c", 2, 1, 4), f(op + "d", 3, 1, low=0.5))))
        cases.append(Case(op, "scalar", (f(op + "e", 2, 3), Const(np.float32(1.5)))))
    for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
        cases.append(Case(op, "i32", (i(op, 4, 5, low=0, high=3), i(op + "b", 5, low=0, high=3))))
        cases.append(Case(op, "f32", (f(op, 4, 5), f(op + "b", 4, 5))))
    for op in ("And", "Or", "Xor"):
        cases.append(Case(op, "bool", (b(op, 4, 5), b(op + "b", 5))))
    for op in ("Max", "Min"):
        for dtype in ("int8", "uint8"):
            pair = (i(op, 3, 4, dtype=dtype, low=0), i(op + "b", 4, dtype=dtype, low=0))
            cases.append(Case(op, dtype, pair))
    cases += [
        Case("Max", "three", (f("m3a", 3, 4), f("m3b", 3, 4), f("m3c", 4))),
        Case("Sum", "three", (f("s3a", 3, 4), f("s3b", 3, 4), f("s3c", 4))),
        Case("Pow", "f32", (f("pow", 4, 5, low=0.1), f("powb", 4, 5))),
        Case("Pow", "square", (f("pows", 4, 5), Const(np.float32(2)))),
        Case("Pow", "cube", (f("powc", 4, 5), Const(np.float32(3)))),
        Case("PRelu", "channel", (f("pr", 1, 3, 4, 4), Const(f("prs", 3, 1, 1)))),
        Case("Where", "f32", (b("wh", 3, 4), f("wha", 3, 4), f("whb", 4))),
        Case(
            "Where",
            "i64",
            (b("wh", 3, 4), i("wha", 3, 4, dtype="int64"), i("whb", 1, dtype="int64")),
        ),
    ]
    return cases


def _conv() -> list[Case]:
    def conv(label: str, x: Array, w: Array, bias: bool = True, **attributes: Any) -> Case:
        inputs = [x, Const(w)] + ([Const(f(label + "bias", w.shape[0]))] if bias else [])
        return Case("Conv", label, tuple(inputs), attributes=attributes)

    cases = [
        conv("3x3", f("c1", 1, 3, 8, 9), f("w1", 5, 3, 3, 3), pads=[1, 1, 1, 1]),
        conv("valid_nobias", f("c2", 1, 4, 8, 8), f("w2", 8, 4, 3, 3), bias=False),
        conv(
            "stride2_same",
            f("c3", 1, 3, 9, 9),
            f("w3", 4, 3, 3, 3),
            strides=[2, 2],
            auto_pad="SAME_UPPER",
        ),
        conv("same_lower", f("c4", 1, 3, 8, 8), f("w4", 4, 3, 4, 4), auto_pad="SAME_LOWER"),
        conv("1x1", f("c5", 1, 8, 5, 5), f("w5", 16, 8, 1, 1)),
        conv("1x1_stride2", f("c5", 1, 8, 6, 6), f("w5", 16, 8, 1, 1), strides=[2, 2]),
        conv("dilated", f("c6", 1, 3, 10, 10), f("w6", 4, 3, 3, 3), dilations=[2, 2]),
        conv("depthwise", f("c7", 1, 8, 7, 7), f("w7", 8, 1, 3, 3), group=8, pads=[1, 1, 1, 1]),
        conv("multiplier", f("c8", 1, 4, 7, 7), f("w8", 8, 1, 3, 3), group=4),
        conv("grouped", f("c9", 1, 8, 6, 6), f("w9", 12, 4, 3, 3), group=2),
        conv("asymmetric", f("c10", 1, 2, 6, 7), f("w10", 4, 2, 3, 2), pads=[1, 0, 2, 1]),
        conv("batch2", f("c11", 2, 3, 6, 6), f("w11", 4, 3, 3, 3)),
        conv("1d", f("c12", 1, 4, 16), f("w12", 6, 4, 3), pads=[1, 1]),
        conv("3d", f("c13", 1, 2, 4, 5, 6), f("w13", 4, 2, 2, 3, 3)),
    ]
    for op, extra in (("MaxPool", {}), ("AveragePool", {})):
        cases += [
            Case(
                op,
                "2x2",
                (f(op, 1, 3, 8, 8),),
                attributes={"kernel_shape": [2, 2], "strides": [2, 2], **extra},
            ),
            Case(
                op,
                "3x3pad",
                (f(op + "p", 1, 3, 7, 7),),
                attributes={"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
            ),
            Case(
                op,
                "same",
                (f(op + "s", 1, 2, 7, 7),),
                attributes={"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"},
            ),
            Case(
                op,
                "ceil",
                (f(op + "c", 1, 2, 7, 7),),
                attributes={"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
            ),
            Case(
                op, "1d", (f(op + "d", 1, 2, 9),), attributes={"kernel_shape": [3], "strides": [2]}
            ),
        ]
    cases += [
        Case(
            "AveragePool",
            "include",
            (f("ai", 1, 2, 6, 6),),
            attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        ),
        Case("GlobalAveragePool", "2d", (f("gap", 1, 5, 4, 6),)),
        Case("GlobalMaxPool", "2d", (f("gmp", 1, 5, 4, 6),)),
        Case(
            "BatchNormalization",
            "2d",
            (
                f("bn", 1, 3, 4, 4),
                Const(f("bns", 3)),
                Const(f("bnb", 3)),
                Const(f("bnm", 3)),
                Const(f("bnv", 3, low=0.1)),
            ),
        ),
    ]
    return cases


def _matmul() -> list[Case]:
    return [
        Case("MatMul", "2d", (f("mm", 3, 8), Const(f("mmw", 8, 5)))),
        Case("MatMul", "vector", (f("mv", 1, 33), Const(f("mvw", 33, 17)))),
        Case("MatMul", "runtime", (f("mr", 4, 6), f("mrw", 6, 7))),
        Case("MatMul", "batched", (f("mb", 2, 3, 4, 5), f("mbw", 2, 3, 5, 6))),
        Case("MatMul", "broadcast", (f("mc", 2, 3, 4, 5), f("mcw", 5, 6))),
        Case("MatMul", "1d", (f("m1", 5), f("m1w", 5, 6))),
        Case("Gemm", "plain", (f("g", 3, 8), Const(f("gw", 8, 5)), Const(f("gb", 5)))),
        Case(
            "Gemm",
            "trans",
            (f("gt", 1, 8), Const(f("gtw", 5, 8)), Const(f("gtb", 5))),
            attributes={"transB": 1},
        ),
        Case(
            "Gemm",
            "scaled",
            (f("gs", 8, 3), Const(f("gsw", 8, 5)), Const(f("gsb", 1, 5))),
            attributes={"transA": 1, "alpha": 0.5, "beta": 2.0},
        ),
        Case("Gemm", "nobias", (f("gn", 3, 8), Const(f("gnw", 8, 5)))),
    ]


def _shape() -> list[Case]:
    x = f("shape", 2, 3, 4)
    return [
        Case("Reshape", "fixed", (x, ints(6, 4))),
        Case("Reshape", "infer", (x, ints(0, -1))),
        Case("Transpose", "perm", (x,), attributes={"perm": [2, 0, 1]}),
        Case("Transpose", "default", (x,)),
        Case("Transpose", "i8", (i("t8", 3, 4, dtype="int8"),)),
        Case("Flatten", "axis1", (x,), attributes={"axis": 1}),
        Case("Flatten", "axis2", (x,), attributes={"axis": 2}),
        Case("Squeeze", "axes", (f("sq", 1, 3, 1, 4), ints(0, 2))),
        Case("Squeeze", "all", (f("sqa", 1, 3, 1, 4),)),
        Case("Unsqueeze", "axes", (x, ints(0, -1))),
        Case("Concat", "axis1", (x, f("cc", 2, 5, 4)), attributes={"axis": 1}),
        Case(
            "Concat", "negative", (x, f("cd", 2, 3, 2), f("ce", 2, 3, 1)), attributes={"axis": -1}
        ),
        Case("Slice", "basic", (x, ints(0, 1), ints(2, 3), ints(1, 2))),
        Case("Slice", "step", (f("sl", 9, 4), ints(1), ints(8), ints(0), ints(3))),
        Case("Slice", "negative", (f("sn", 9, 4), ints(-1), ints(-10), ints(0), ints(-2))),
        Case("Slice", "noaxes", (x, ints(1, 0, 1), ints(2, 2, 99))),
        Case(
            "Split", "equal", (f("sp", 6, 4),), outputs=2, attributes={"axis": 0, "num_outputs": 2}
        ),
        Case("Split", "sizes", (f("sq2", 7, 4), ints(2, 5)), outputs=2, attributes={"axis": 0}),
        Case("Expand", "new", (f("ex", 3, 1), ints(2, 3, 4))),
        Case("Tile", "wraps", (f("tile", 2, 3, 4, 5), ints(1, 6, 4, 1))),  # clang's vectorizer
        Case("Tile", "twice", (x, ints(1, 2, 2))),
        Case(
            "Pad",
            "constant",
            (f("pd", 3, 4), ints(1, 0, 0, 2), Const(np.float32(1.5))),
            attributes={"mode": "constant"},
        ),
        Case("Pad", "zero", (f("pz", 3, 4), ints(0, 1, 1, 0))),
        Case("Pad", "reflect", (f("pr2", 5, 6), ints(1, 2, 2, 1)), attributes={"mode": "reflect"}),
        Case("Pad", "edge", (f("pe", 5, 6), ints(1, 2, 2, 1)), attributes={"mode": "edge"}),
        Case("Gather", "rows", (f("ga", 7, 4), i("gai", 5, dtype="int64", low=0, high=7))),
        Case(
            "Gather",
            "axis1",
            (f("gb2", 3, 7), i("gbi", 2, 2, dtype="int64", low=0, high=7)),
            attributes={"axis": 1},
        ),
        Case("Gather", "negative", (f("gc", 7, 4), i("gci", 5, dtype="int64", low=-7, high=0))),
        Case("Gather", "scalar", (f("gd", 7, 4), Const(np.int64(3)))),
        Case(
            "Cast",
            "f32_i32",
            (f("ca", 4, 5, low=-90, high=90),),
            attributes={"to": TensorProto.INT32},
        ),
        Case(
            "Cast",
            "u8_f32",
            (i("cb", 4, 5, dtype="uint8", low=0, high=256),),
            attributes={"to": TensorProto.FLOAT},
        ),
        Case(
            "Cast",
            "i64_f32",
            (i("cd3", 4, 5, dtype="int64"),),
            attributes={"to": TensorProto.FLOAT},
        ),
        Case(
            "Cast",
            "f32_bool",
            (i("ce3", 4, 5, low=-1, high=2).astype(np.float32),),
            attributes={"to": TensorProto.BOOL},
        ),
        Case("Cast", "bool_f32", (b("cf", 4, 5),), attributes={"to": TensorProto.FLOAT}),
        Case("Cast", "f32_f64", (f("cg", 4, 5),), attributes={"to": TensorProto.DOUBLE}),
        Case("Clip", "both", (f("cl", 4, 5), Const(np.float32(-1)), Const(np.float32(2)))),
        Case("Clip", "min", (f("cm", 4, 5), Const(np.float32(-1)))),
        Case("Clip", "max", (f("cn", 4, 5), None, Const(np.float32(1)))),
        Case("Clip", "i32", (i("co", 4, 5), Const(np.int32(-2)), Const(np.int32(3)))),
    ]


def _reductions() -> list[Case]:
    cases = []
    for op in ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"):
        axes = op == "ReduceSum"  # until opset 18 the others take attributes; both forms exist
        cases += [
            Case(op, "last", (f(op, 3, 4, 7), ints(-1))),
            Case(op, "two", (f(op + "2", 3, 4, 7), ints(0, 2)), attributes={"keepdims": 0}),
            Case(op, "all", (f(op + "a", 3, 4, 7),)),
        ]
        if axes:
            cases.append(Case(op, "i32", (i(op, 3, 4), ints(1))))
            row = i(op + "w", 2, 37).astype(np.int64)  # a whole number of vectors, and more
            cases.append(Case(op, "i64_row", (row, ints(1))))
    for op in ("Softmax", "LogSoftmax"):
        cases += [
            Case(op, "last", (f(op, 2, 3, 11),)),
            Case(op, "axis1", (f(op + "1", 2, 5, 3),), attributes={"axis": 1}),
            Case(op, "large", (f(op + "l", 1, 16, low=-90, high=90),)),
        ]
    return cases


def _more() -> list[Case]:
    x = f("more", 2, 3, 5)
    image = f("image", 1, 2, 4, 5)
    cases = [
        Case("ArgMax", "last", (x,), attributes={"axis": -1}),
        Case("ArgMax", "keep0", (x,), attributes={"axis": 1, "keepdims": 0}),
        Case("ArgMin", "last", (x,), attributes={"axis": -1}),
        Case("ArgMax", "ties", (i("ties", 4, 6, low=0, high=3),), attributes={"axis": 1}),
        *(
            Case(op, f"extreme_{name}", (np.full((2, 4), value, dtype),), attributes={"axis": 1})
            for op, name, value, dtype in (
                ("ArgMax", "u8", 0, np.uint8),
                ("ArgMax", "i8", -128, np.int8),
                ("ArgMax", "f32", -np.inf, np.float32),
                ("ArgMin", "u8", 255, np.uint8),
                ("ArgMin", "f32", np.inf, np.float32),
                ("Hardmax", "f32", -np.inf, np.float32),
            )
        ),
        Case(
            "ArgMax",
            "extreme_last",
            (np.full((2, 4), -np.inf, np.float32),),
            attributes={"axis": 1, "select_last_index": 1},
        ),
        Case("Softplus", "small", (f("spn", 8, low=-30, high=-12),)),
        Case("Trilu", "upper", (f("trilu", 4, 5),)),
        Case("Trilu", "lower", (f("trilu", 4, 5), Const(np.int64(1))), attributes={"upper": 0}),
        Case(
            "ConvTranspose",
            "2x",
            (image, Const(f("ctw", 2, 3, 3, 3))),
            attributes={"strides": [2, 2]},
        ),
        Case(
            "ConvTranspose",
            "pads",
            (image, Const(f("ctx", 2, 3, 3, 3)), Const(f("ctb", 3))),
            attributes={"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        ),
        Case(
            "GatherElements",
            "axis1",
            (f("ge", 3, 4), i("gei", 3, 2, dtype="int64", low=0, high=4)),
            attributes={"axis": 1},
        ),
        Case(
            "GatherElements",
            "negative",
            (f("gf", 3, 4), i("gfi", 2, 4, dtype="int64", low=-3, high=0)),
        ),
        Case("GatherND", "pairs", (f("gnd", 3, 4, 2), Const(np.array([[0, 1], [2, 3]], np.int64)))),
        Case("Mod", "f32", (f("mod", 3, 4), f("modb", 3, 4, low=0.5)), attributes={"fmod": 1}),
        Case("Mod", "i32", (i("mod", 3, 4), i("modb", 4, low=1, high=5))),
        Case("Mod", "i32_negative", (i("mode", 3, 4), i("modf", 4, low=-5, high=-1))),
        Case("Round", "half", (np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4, 0.6], np.float32),)),
        Case("ReduceProd", "last", (x, ints(-1))),
        Case("ReduceL1", "last", (x, ints(-1))),
        Case("ReduceL2", "last", (x, ints(1))),
        Case("ReduceSumSquare", "last", (x, ints(-1))),
        Case("ReduceLogSum", "last", (f("rls", 2, 3, 5, low=0.1), ints(-1))),
        Case("ReduceLogSumExp", "last", (x, ints(-1))),
        Case("Dropout", "inference", (x,)),
        Case("InstanceNormalization", "2d", (image, Const(f("ins", 2)), Const(f("inb", 2)))),
        Case("LayerNormalization", "last", (x, Const(f("lns", 5)), Const(f("lnb", 5)))),
        Case(
            "LayerNormalization",
            "axis1",
            (x, Const(f("lnt", 3, 5)), Const(f("lnc", 3, 5))),
            attributes={"axis": 1, "epsilon": 1e-3},
        ),
        Case("LRN", "5", (f("lrn", 1, 7, 3, 3),), attributes={"size": 5}),
        Case("Sign", "f32", (f("sign", 3, 4),)),
        Case("Sign", "i32", (i("sign", 3, 4),)),
        Case("DepthToSpace", "dcr", (f("dts", 1, 8, 2, 3),), attributes={"blocksize": 2}),
        Case(
            "DepthToSpace",
            "crd",
            (f("dtt", 1, 8, 2, 3),),
            attributes={"blocksize": 2, "mode": "CRD"},
        ),
        Case("SpaceToDepth", "2", (f("std", 1, 2, 4, 6),), attributes={"blocksize": 2}),
        Case(
            "Einsum", "matmul", (f("ea", 3, 4), f("eb", 4, 5)), attributes={"equation": "ij,jk->ik"}
        ),
        Case(
            "Einsum",
            "batched",
            (f("ec", 2, 3, 4), f("ed", 2, 4, 5)),
            attributes={"equation": "bij,bjk->bik"},
        ),
        Case(
            "Resize",
            "nearest",
            (image, None, None, ints(1, 2, 8, 10)),
            attributes={
                "mode": "nearest",
                "coordinate_transformation_mode": "asymmetric",
                "nearest_mode": "floor",
            },
        ),
        Case(
            "Resize",
            "linear",
            (image, None, None, ints(1, 2, 8, 10)),
            attributes={"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        ),
        Case(
            "Resize",
            "corners",
            (image, None, None, ints(1, 2, 7, 9)),
            attributes={"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        ),
        Case(
            "Resize",
            "scales",
            (image, None, Const(np.array([1, 1, 2, 2], np.float32))),
            attributes={
                "mode": "nearest",
                "coordinate_transformation_mode": "half_pixel",
                "nearest_mode": "round_prefer_floor",
            },
        ),
        Case("Mean", "three", (f("me", 3, 4), f("mf", 3, 4), f("mg", 4))),
        Case("Selu", "f32", (f("selu", 3, 4),)),
        Case("Celu", "f32", (f("celu", 3, 4),), attributes={"alpha": 0.5}),
        Case("Gelu", "exact", (f("gelu", 3, 4),)),
        Case("Gelu", "tanh", (f("gelt", 3, 4),), attributes={"approximate": "tanh"}),
        Case("Mish", "f32", (f("mish", 3, 4),)),
        Case("Softsign", "f32", (f("ssig", 3, 4),)),
        Case("ThresholdedRelu", "f32", (f("trel", 3, 4),), attributes={"alpha": 0.5}),
        Case("Shrink", "f32", (f("shr", 3, 4),), attributes={"lambd": 1.0, "bias": 0.5}),
        Case("Hardmax", "last", (x,)),
        Case("IsInf", "f32", (np.array([1, np.inf, -np.inf, np.nan], np.float32),)),
        Case("IsNaN", "f32", (np.array([1, np.inf, -np.inf, np.nan], np.float32),)),
    ]
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        cases.append(Case(op, "i32", (i(op, 3, 4), i(op + "b", 4))))
        cases.append(
            Case(
                op,
                "u8",
                (
                    i(op, 3, 4, dtype="uint8", low=0, high=256),
                    i(op + "b", 4, dtype="uint8", low=0, high=256),
                ),
            )
        )
    cases.append(Case("BitwiseNot", "i32", (i("bnot", 3, 4),)))
    for way in ("LEFT", "RIGHT"):
        cases.append(
            Case(
                "BitShift",
                way.lower(),
                (
                    i("bs", 3, 4, dtype="uint32", low=0, high=99),
                    i("bsb", 4, dtype="uint32", low=0, high=5),
                ),
                attributes={"direction": way},
            )
        )
    return cases


def special() -> list[Case]:
    """Elementwise operators on signed zeros, subnormals, infinities and NaN."""
    numbers = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        1e-40,
        -1e-40,
        3.4e38,
        -3.4e38,
        np.inf,
        -np.inf,
        np.nan,
        88.9,
        -104.5,
        0.5,
        -2.5,
        2.5,
    ]
    x = np.array(numbers, np.float32)
    y = np.repeat(x, len(x)), np.tile(x, len(x))
    ops = (
        "Abs Ceil Exp Floor Identity LeakyRelu Neg Relu Sigmoid Tanh Erf Log Sqrt Reciprocal "
        "HardSigmoid HardSwish Softplus Elu Sin Cos Sign"
    )
    cases = [Case(op, "special", (x,)) for op in ops.split()]
    cases += [
        Case(op, "special", y)
        for op in (
            "Add",
            "Sub",
            "Mul",
            "Div",
            "Max",
            "Min",
            "Equal",
            "Greater",
            "GreaterOrEqual",
            "Less",
            "LessOrEqual",
            "Pow",
        )
    ]
    slopes = (0.0, -0.0, 0.25)
    cases += [Case("PRelu", f"slope_{s}", (x, Const(np.array([s], np.float32)))) for s in slopes]
    cases += [Case(op, "alpha0", (x,), attributes={"alpha": 0.0}) for op in ("LeakyRelu", "Elu")]
    cases += [
        Case("HardSigmoid", "alpha0", (x,), attributes={"alpha": 0.0}),
        Case("Shrink", "special", (x,), attributes={"lambd": 0.75, "bias": 0.25}),
    ]
    cases += [Case("Clip", "special", (x, Const(np.float32(-1)), Const(np.float32(2))))]
    return cases


def cases() -> list[Case]:
    return [*_unary(), *_binary(), *_conv(), *_matmul(), *_shape(), *_reductions(), *_more()]


def joined_model(
    some: Sequence[Case], opset: int = OPSET
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return one model with the nodes of ``some`` side by side, and its inputs."""
    nodes, inputs, outputs, constants, arrays = [], [], [], [], {}
    for case in some:
        names = []
        for index, value in enumerate(case.inputs):
            name = f"{case.name}_i{index}"
            if value is None:
                names.append("")
                continue
            names.append(name)
            if isinstance(value, Const):
                constants.append(numpy_helper.from_array(value.value, name))
            else:
                arrays[name] = value
                inputs.append(
                    helper.make_tensor_value_info(
                        name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
                    )
                )
        made = [f"{case.name}_o{k}" for k in range(case.outputs)]
        nodes += case.nodes(names, made)
        outputs += [onnx.ValueInfoProto(name=name) for name in made]
    graph = helper.make_graph(nodes, "cases", inputs, outputs, constants)
    # Where TreeEnsemble begins, the older tree operators end.
    ml = 5 if any(case.op == "ai.onnx.ml::TreeEnsemble" for case in some) else 4
    domains = {"": opset, "ai.onnx.ml": ml, "ai.onnx.preview.training": 1}
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    _declare(typed, arrays)
    return typed, arrays


def _declare(model: onnx.ModelProto, arrays: dict[str, Array]) -> None:
    """Give outputs the shapes that inference does not find, those of loops."""
    unknown = [v for v in model.graph.output if not v.type.tensor_type.HasField("shape")]
    if not unknown:
        return
    results = run_graph(model.SerializeToString(), arrays)
    for value in unknown:
        array = results[value.name]
        dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
        value.CopyFrom(helper.make_tensor_value_info(value.name, dtype, array.shape))
