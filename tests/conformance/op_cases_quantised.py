"""Cases for quantised operators, ties between two integers and saturation included."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto
from op_cases import Case, Const, f, i


def _scale(*values: float) -> Const:
    return Const(np.array(values if len(values) > 1 else values[0], np.float32))


def _zero(dtype: str, *values: int) -> Const:
    return Const(np.array(values if len(values) > 1 else values[0], dtype))


def u8(key: str, *shape: int) -> Any:
    return i(key, *shape, dtype="uint8", low=0, high=256)


def i8(key: str, *shape: int) -> Any:
    return i(key, *shape, dtype="int8", low=-128, high=128)


def _qdq() -> list[Case]:
    x = np.concatenate([np.arange(-6, 6.25, 0.25), [1e4, -1e4, 1e6, -1e6]]).astype(np.float32)
    image = f("qdq", 2, 3, 4, low=-9, high=9)
    rows = _scale(0.1, 0.03, 0.2)
    cases = [
        Case("QuantizeLinear", f"ties_{dtype}", (x[:count], _scale(0.5), _zero(dtype, zero)))
        for dtype, zero, count in (
            ("uint8", 128, None),
            ("int8", -3, None),
            ("uint16", 700, -4),
            ("int16", -5, -4),
        )
    ]
    cases += [
        Case("QuantizeLinear", "default", (x[:-2], _scale(0.25))),
        Case("QuantizeLinear", "axis", (image, rows, _zero("uint8", 3, 128, 250))),
        Case("QuantizeLinear", "last", (image, _scale(0.1, 0.2, 0.3, 0.4)),
             attributes={"axis": -1}),
        Case("QuantizeLinear", "i32", (i("qi32", 3, 4, low=-900, high=900), _scale(3))),
        Case("QuantizeLinear", "run_time", (f("qrt", 3, 4), f("qrts", low=0.1, high=1),
                                            np.array(7, np.uint8))),
        Case("QuantizeLinear", "block", (f("qb", 3, 6), Const(f("qbs", 3, 3, low=0.01, high=0.1)),
                                         Const(i8("qbz", 3, 3))),
             attributes={"axis": 1, "block_size": 2}),
        Case("DequantizeLinear", "u8", (u8("dq", 3, 4), _scale(0.1), _zero("uint8", 130))),
        Case("DequantizeLinear", "i8_axis", (i8("dqa", 2, 3, 4), rows, _zero("int8", -3, 0, 5))),
        Case("DequantizeLinear", "i32", (i("dqi", 3, 4, low=-99999, high=99999), _scale(0.001))),
        Case("DequantizeLinear", "i16", (i("dqs", 5, dtype="int16", low=-999, high=999),
                                         _scale(0.5), _zero("int16", 9))),
        Case("DequantizeLinear", "block", (i8("dqb", 3, 6), Const(f("dqbs", 3, 3)),
                                           Const(i8("dqbz", 3, 3))),
             attributes={"axis": 1, "block_size": 2}),
        Case("QuantizeLinear", "output", (x[:-2], _scale(0.3)),
             attributes={"output_dtype": TensorProto.INT8}),
        Case("DynamicQuantizeLinear", "mixed", (f("dyn", 4, 5),), outputs=3),
        Case("DynamicQuantizeLinear", "positive", (f("dynp", 4, 5, low=1),), outputs=3),
        Case("DynamicQuantizeLinear", "negative", (f("dynn", 4, 5, high=-1),), outputs=3),
    ]  # fmt: skip
    return cases


def _integer() -> list[Case]:
    def matmul(label: str, x: Any, y: Any, *zeros: Any) -> Case:
        return Case("MatMulInteger", label, (x, y, *zeros))

    def qmatmul(label: str, x: Any, y: Any, y_scale: Const, dtype: str) -> Case:
        zero = _zero(dtype, 130 if dtype == "uint8" else -4)
        y_zero = Const(np.zeros(y_scale.value.shape, y.dtype))
        inputs = (x, _scale(0.02), zero, y, y_scale, y_zero, _scale(0.7), zero)
        return Case("QLinearMatMul", label, inputs)

    x, w = u8("ci", 1, 3, 6, 7), i8("ciw", 4, 3, 3, 3)
    bias = Const(i("cib", 4, low=-999, high=999))
    padded = {"pads": [1, 1, 1, 1], "strides": [2, 2]}
    many = _scale(0.01, 0.02, 0.005, 0.03)

    def qconv(label: str, x: Any, w: Any, w_scale: Const, *bias: Const, **attributes: Any) -> Case:
        zero = _zero("uint8", 121)
        w_zero = Const(np.zeros(w_scale.value.shape, w.dtype))
        inputs = (x, _scale(0.05), zero, Const(w), w_scale, w_zero, _scale(0.9), zero, *bias)
        return Case("QLinearConv", label, inputs, attributes=attributes)

    return [
        matmul("u8", u8("mi", 3, 5), u8("miw", 5, 4), _zero("uint8", 12), _zero("uint8", 250)),
        matmul("i8", i8("mj", 2, 3, 5), i8("mjw", 5, 4)),
        matmul("columns", u8("mk", 3, 5), i8("mkw", 5, 4), _zero("uint8", 3),
               _zero("int8", 4, 0, -6, 7)),
        qmatmul("u8", u8("qm", 3, 5), i8("qmw", 5, 4), _scale(0.03), "uint8"),
        qmatmul("i8_channel", i8("qn", 3, 5), i8("qnw", 5, 4), many, "int8"),
        Case("ConvInteger", "zero", (x, Const(w), _zero("uint8", 128)), attributes=padded),
        Case("ConvInteger", "plain", (x, Const(w))),
        Case("ConvInteger", "deep", (u8("cd", 1, 600, 3, 3), Const(i8("cdw", 2, 600, 3, 3)))),
        Case("ConvInteger", "weights", (u8("cw", 1, 8, 3, 3), u8("cww", 2, 8, 2, 2),
                                        _zero("uint8", 3), _zero("uint8", 255))),
        qconv("tensor", x, w, _scale(0.02), bias, **padded),
        qconv("channel", x, w, many, bias),
        qconv("depthwise", x, i8("cg", 3, 1, 3, 3), _scale(0.02), group=3),
    ]  # fmt: skip


def cases() -> list[Case]:
    return [*_qdq(), *_integer()]
