"""Cases for operators that are loops or runtime functions, and for arithmetic on integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from op_cases import Array, Case, Const, f, i, ints

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
EDGES = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1e-40, -1e-40, 3e-4, 1.5, -2.5, 30.0, -89.0, 89.3, -95.0,
     3.4e38, np.inf, -np.inf, np.nan],
    np.float32,
)  # fmt: skip


def _order(key: str, *shape: int) -> Array:
    """Return numbers of which some are equal."""
    return i(key, *shape, low=-3, high=4).astype(np.float32)


def _trigonometry() -> list[Case]:
    ops = ("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cosh", "Sinh", "Tan")
    # A tangent may be 4 ULP off, which at a pole is far off: away from them.
    return [
        case
        for op in ops
        for case in (
            Case(op, "special", (EDGES[: 15 if op == "Tan" else None],)),
            Case(op, "f32", (f(op, 40, low=-1.4, high=1.4),)),
            Case(op, "scalar", (f(op + "s", low=1, high=1.4),)),
        )
    ]


def _scatter() -> list[Case]:
    data = f("sc", 3, 5, 4)
    places = np.array([[[0, -1, 2, 4]], [[1, 1, 0, -5]]], np.int64)
    updates = f("scu", 2, 1, 4)
    rows = np.array([[[0, 1], [2, -1]], [[0, 1], [-3, 4]]], np.int64)
    slices = f("scs", 2, 2, 4)
    cases = []
    for how in ("none", "add", "mul", "max", "min"):
        reduction = {"reduction": how}
        elements = (data, places, updates)
        cases += [
            Case("ScatterElements", how, elements, attributes={"axis": 1, **reduction}),
            Case("ScatterND", how, (data, rows, slices), attributes=reduction),
        ]
    several = np.array([[2], [0], [2], [-2]], np.int64)
    many = (f("scm", 5), several, f("scn", 4))
    cases += [
        Case("ScatterND", "several_add", many, attributes={"reduction": "add"}),
        Case("ScatterND", "several", many),
        Case(
            "ScatterElements",
            "negative_axis_i64",
            (
                i("sci", 3, 4, dtype="int64"),
                i("scj", 3, 2, low=-4, high=4),
                i("sck", 3, 2, dtype="int64"),
            ),
            attributes={"axis": -1, "reduction": "add"},
        ),
    ]
    return cases


def _cumulative() -> list[Case]:
    cases = []
    for exclusive in (0, 1):
        for reverse in (0, 1):
            options = {"exclusive": exclusive, "reverse": reverse}
            label = f"{exclusive}{reverse}"
            x = f("cs" + label, 3, 5, 2)
            wide = i("ci", 4, 3, dtype="int64")
            cases += [
                Case("CumSum", f"f32_{label}", (x, ints(1)), attributes=options),
                Case("CumSum", f"last_{label}", (x, Const(np.int64(-1))), attributes=options),
                Case("CumSum", f"i64_{label}", (wide, ints(0)), attributes=options),
            ]
    cases.append(Case("CumSum", "one", (f("c1", 3, 1), ints(1))))
    return cases


def _selection() -> list[Case]:
    x = _order("tk", 4, 7, 3)
    with_nan = np.array([[1, np.inf, 2, 2, -np.inf, 0, -0.0]], np.float32)
    cases = [
        Case(
            "TopK",
            f"axis{axis}_{k}_{largest}",
            (x, ints(k)),
            outputs=2,
            attributes={"axis": axis, "largest": largest},
        )
        for axis, k in ((1, 3), (-1, 3), (0, 1))
        for largest in (0, 1)
    ]
    cases += [
        Case("TopK", "infinite", (with_nan, ints(5)), outputs=2),
        Case("TopK", "i64", (i("tki", 9, dtype="int64", low=-2, high=3), ints(9)), outputs=2),
        Case("TopK", "i32", (i("tkj", 3, 9), ints(4)), outputs=2),
        Case("TopK", "f64", (x.astype(np.float64), ints(2)), outputs=2),
        Case("TopK", "u8", (i("tkk", 9, dtype="uint8", low=0, high=255), ints(4)), outputs=2),
        Case(
            "OneHot",
            "last",
            (np.array([0, -1, 3, -4, 4, -5], np.int64), Const(np.int64(4)), f("oh", 2)),
        ),
        Case(
            "OneHot",
            "axis",
            (i("ohi", 2, 3, dtype="int64", low=-9, high=9), ints(5), i("ohv", 2, dtype="int64")),
            attributes={"axis": 1},
        ),
        Case("Compress", "axis", (x, Const(np.array([True, False, True]))), attributes={"axis": 1}),
        Case("Compress", "flat", (x, Const(np.array([False, True, True, False, True])))),
    ]
    return cases


def _regions() -> list[Case]:
    image = f("roi", 2, 3, 9, 8)
    boxes = np.array([[0.3, 0.7, 5.2, 6.1], [1.5, 0, 1.7, 3], [-3, -2, 20, 30]], np.float32)
    batches = Const(np.array([0, 1, 1], np.int64))
    rois = np.concatenate([np.array([[0], [1], [1]], np.float32), boxes], axis=1)
    cases = [
        Case(
            "RoiAlign",
            f"{mode}_{pixel}_{ratio}",
            (image, boxes, batches),
            attributes={
                "mode": mode,
                "coordinate_transformation_mode": pixel,
                "sampling_ratio": ratio,
                "output_height": 3,
                "output_width": 2,
                "spatial_scale": 0.9,
            },
        )
        for mode, pixel, ratio in (
            ("avg", "half_pixel", 0),
            ("avg", "output_half_pixel", 2),
            ("max", "half_pixel", 2),
        )
    ]
    cases += [
        Case(
            "MaxRoiPool",
            "f32",
            (image, rois),
            attributes={"pooled_shape": [3, 2], "spatial_scale": 0.8},
        ),
        Case(
            "DeformConv",
            "plain",
            (image, Const(f("dw", 4, 3, 3, 3)), f("do", 2, 18, 9, 8)),
            attributes={"pads": [1, 1, 1, 1]},
        ),
        Case(
            "DeformConv",
            "grouped",
            (
                f("dx", 1, 4, 7, 6), Const(f("dy", 4, 2, 2, 3)), f("dp", 1, 24, 3, 2),
                Const(f("db", 4)), f("dm", 1, 12, 3, 2),
            ),
            attributes={"group": 2, "offset_group": 2, "strides": [2, 2]},
        ),
    ]  # fmt: skip
    return cases


def _pooling() -> list[Case]:
    x = _order("mpi", 2, 3, 6, 7)
    cases = [
        Case("MaxPool", f"indices_{order}", (x,), outputs=2,
             attributes={"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1],
                         "storage_order": order})
        for order in (0, 1)
    ]  # fmt: skip
    places = np.array([[[[5, 7], [13, 15]]]], np.int64)
    # The reference counts indices in the declared shape, ONNX in the shape without it.
    first = np.array([[[[0, 1], [3, 2]]]], np.int64)
    options = {"kernel_shape": [2, 2], "strides": [2, 2]}
    pooled = f("mu", 1, 1, 2, 2)
    cases += [
        Case("MaxPool", "indices_1d", (_order("mpj", 1, 2, 9),), outputs=2,
             attributes={"kernel_shape": [3], "dilations": [2]}),
        *_least_windows(),
        Case("MaxUnpool", "plain", (pooled, places), attributes=options),
        Case("MaxUnpool", "shape", (pooled, first, ints(1, 1, 5, 5)), attributes=options),
    ]  # fmt: skip
    return cases


def _least_windows() -> list[Case]:
    """Windows whose largest element is the least of its type, or that hold NaN."""
    made = []
    for dtype, least in (("uint8", 0), ("int8", -128), ("float32", -np.inf), ("float64", -np.inf)):
        x = np.full((1, 2, 5, 4), least, dtype)
        x[0, 0, 0, 0] = 7
        for pads in ([0, 0, 0, 0], [1, 1, 1, 1]):
            options = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": pads}
            label = f"least_{dtype}_{pads[0]}"
            made.append(Case("MaxPool", f"{label}_indices", (x,), outputs=2, attributes=options))
            if (dtype, any(pads)) != ("float32", True):  # there the reference's padding is finite
                made.append(Case("MaxPool", label, (x,), attributes=options))
    line = np.array([[[np.nan, 1, 2, np.nan, np.nan, np.nan, np.nan, -np.inf]]], np.float32)
    options = {"kernel_shape": [2], "strides": [2]}
    return [*made, Case("MaxPool", "nan_indices", (line,), outputs=2, attributes=options)]


def integers() -> list[Case]:
    """Arithmetic on every integer type, at the ends of their ranges too."""
    cases = []
    for dtype in INTEGERS:
        low = 0 if dtype.startswith("u") else -7
        info = np.iinfo(dtype)
        a = np.array([info.min, info.max, 0, 1, 5, 17, 100, info.max // 2], dtype)
        b = i("ar" + dtype, 8, dtype=dtype, low=1, high=6)
        pair: tuple[Any, ...] = (a, b)
        for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mod", "BitwiseAnd", "BitwiseXor"):
            cases.append(Case(op, f"all_{dtype}", pair))
        for op in ("Equal", "Greater", "LessOrEqual"):
            cases.append(Case(op, f"all_{dtype}", pair))
        cases.append(Case("Where", f"all_{dtype}", (a > b, a, b)))
        if dtype.startswith("u"):
            for way in ("LEFT", "RIGHT"):
                cases.append(
                    Case("BitShift", f"{way}_{dtype}", pair, attributes={"direction": way})
                )
        else:
            cases.append(Case("Neg", f"all_{dtype}", (a,)))
            cases.append(Case("Mod", f"fmod_{dtype}", (a[2:], b[2:] * -1), attributes={"fmod": 1}))
        cases.append(Case("Abs", f"all_{dtype}", (i("ab" + dtype, 4, dtype=dtype, low=low),)))
    powers = [("int32", "int32"), ("int64", "int64"), ("int32", "float32"), ("float32", "int32"),
              ("float32", "int64"), ("int64", "float32")]  # fmt: skip
    for base, exponent in powers:
        x = i("pw", 6, dtype=base, low=1, high=6)
        y = i("py", 6, dtype=exponent, low=0, high=4)
        cases.append(Case("Pow", f"{base}_{exponent}", (x, y)))
    mixed = np.array([5.5, -5.5, 5.5, -5.5, 0.0, 7.0], np.float32)
    by = np.array([2.0, 2.0, -2.0, -2.0, 3.0, -7.0], np.float32)
    cases.append(Case("Mod", "fmod_f32_signs", (mixed, by), attributes={"fmod": 1}))
    return cases


def cases() -> list[Case]:
    return [
        *_trigonometry(), *_scatter(), *_no_numbers(), *_cumulative(), *_selection(), *_regions(),
        *_pooling(),
    ]  # fmt: skip


def without_kernel() -> list[Case]:
    """Cases for which ONNX Runtime has no kernel, so that ONNX's evaluator answers."""
    x = f("bn", 2, 3, 4)
    rows = [np.array(row) for row in ([1.1, -0.3, 2.0], [0.2, 5, -1], [0.5, 0, 9], [1, 2e-5, 3])]
    cases = [
        Case(
            "BatchNormalization",
            f"{of_x}_{of_scale}_{of_mean}",
            (
                x.astype(of_x),
                *(Const(row.astype(of_scale)) for row in rows[:2]),
                *(row.astype(of_mean) for row in rows[2:]),
            ),
        )
        for of_x, of_scale, of_mean in (
            ("float32", "float64", "float64"), ("float32", "float32", "float64"),
            ("float64", "float32", "float32"), ("float64", "float64", "float64"),
            ("float16", "float64", "float16"),
        )
    ]  # fmt: skip
    numbers = np.array([-3.5, -1e-9, -0.0, 0, 1.25, np.inf, -np.inf, np.nan])
    cases += [Case(op, "f64", (numbers,)) for op in ("LeakyRelu", "HardSigmoid")]
    return cases


def _no_numbers() -> list[Case]:
    """Scatters that write nothing, or whose places take the whole tensor."""
    x, nothing = f("sce", 3, 2), np.empty((0, 2), np.float32)
    none = np.empty((0, 1), np.int64)
    whole = np.empty((2, 0), np.int64)
    return [
        Case("ScatterElements", "nothing", (x, np.empty((0, 2), np.int64), nothing)),
        Case("ScatterND", "nothing", (x, none, nothing)),
        Case("ScatterND", "nothing_constant", (x, Const(none), Const(nothing))),
        Case("ScatterND", "whole", (x, Const(whole), f("scw", 2, 3, 2))),
    ]


def newest() -> list[Case]:
    """Cases of operators that are younger than the others' operator set."""
    x, bits = f("bc", 5), np.array([0, 1 << 31, 0x7FC00000], np.uint32)
    made = [
        Case("BitCast", "i32", (x,), attributes={"to": 6}),
        Case("BitCast", "f32", (bits,), attributes={"to": 1}),
        Case("BitCast", "bool", (np.array([True, False]),), attributes={"to": 2}),
    ]
    for exclusive in (0, 1):
        for reverse in (0, 1):
            options = {"exclusive": exclusive, "reverse": reverse}
            label = f"{exclusive}{reverse}"
            x3 = f("cp", 3, 5, 2)
            made.append(Case("CumProd", label, (x3, Const(np.int64(1))), attributes=options))
    return made
