"""Operators on quantised integers. Source: docs/integer-semantics.md, ``mlopsc.integer.model``.

No sum leaves its type here (``mlopsc.integer`` has seen to it), so plain arithmetic of the compiler
is exact. Accumulators are int32, or int64 where a node is ``wide``.
"""

from __future__ import annotations

from typing import Any, Final

from tvm import te, tirx

from mlopsc.integer.arithmetic import INT32_MAX, WIDE_BITS
from mlopsc.integer.recipe import DOMAIN
from mlopsc.integer.tables import EXP_BITS
from mlopsc.lower.ops.node import Lowering, Node, Operand, elementwise
from mlopsc.lower.ops.pooling import pooling_lowerings
from mlopsc.lower.ops.window import Window


def _int(value: int, dtype: str) -> Any:
    return tirx.const(value, dtype)


def _accumulator(node: Node) -> str:
    return "int64" if node.attribute("wide", 0) else "int32"


def requantize(total: Any, multiplier: Any, left_shift: int) -> Any:
    """Return an int32 expression: ``(sat(total * 2^left_shift) * multiplier + 2^31) >> 32``.

    Args:
        total: int32, or int64 with at most 47 bits that count.
        multiplier: int32.
        left_shift: 0 to 31.
    """
    wide = str(total.ty) == "int64"
    limit = (1 << WIDE_BITS) - 1 if wide else INT32_MAX
    if left_shift or wide:
        low, high = (-limit - 1) >> left_shift, limit >> left_shift
        dtype = str(total.ty)
        inside = tirx.max(tirx.min(total, _int(high, dtype)), _int(low, dtype))
        shifted = inside << _int(left_shift, dtype) if left_shift else inside
        if not wide:
            shifted = tirx.Select(total > _int(high, dtype), _int(INT32_MAX, dtype), shifted)
            shifted = tirx.Select(total < _int(low, dtype), _int(-INT32_MAX - 1, dtype), shifted)
    else:
        shifted = total
    half = _int(1 << 31, "int64")
    factor = multiplier.astype("int64")
    if not wide:
        return ((shifted.astype("int64") * factor + half) >> _int(32, "int64")).astype("int32")
    top, bottom = shifted >> _int(32, "int64"), shifted & _int(0xFFFFFFFF, "int64")
    carried = (bottom * factor + half) >> _int(32, "int64")
    result = top * factor + carried
    ends = _int(-(1 << 30), "int64"), _int(1 << 30, "int64")
    return tirx.max(tirx.min(result, ends[1]), ends[0]).astype("int32")


def finish(node: Node, total: Any, multiplier: Any) -> Any:
    """Return an accumulator as an element of the result."""
    steps = requantize(total, multiplier, int(node.attribute("left_shift")))
    return _clamp(node, steps + _int(int(node.attribute("zero_out")), "int32"))


def _clamp(node: Node, steps: Any) -> Any:
    dtype = str(steps.ty)
    low, high = (_int(int(node.attribute(name)), dtype) for name in ("low", "high"))
    return tirx.max(tirx.min(steps, high), low).astype(node.result.dtype)


def _conv(node: Node) -> Any:
    x, w, bias, multipliers = (node.operand(i) for i in range(4))
    groups, kind = int(node.attribute("group")), _accumulator(node)
    features, depth, *kernel = w.shape
    out = node.result.shape[2:]
    window = Window.of(node, kernel, x.shape[2:], out)
    fill = _int(int(node.attribute("zero_in")), x.dtype)
    padded = window.padded(x.tensor, fill, x.shape[2:], out)
    c = te.reduce_axis((0, depth), name="c")
    inner = [te.reduce_axis((0, k), name=f"k{i}") for i, k in enumerate(kernel)]

    def element(n: Any, f: Any, *index: Any) -> Any:
        channel = c if groups == 1 else tirx.indexdiv(f, features // groups) * depth + c
        value = padded(n, channel, *window.place(index, inner)).astype(kind)
        return te.sum(value * w.tensor(f, c, *inner).astype(kind), axis=[c, *inner])

    total = te.compute(node.result.shape, element, name="conv")
    return te.compute(
        node.result.shape,
        lambda n, f, *i: finish(node, total(n, f, *i) + bias.tensor(f), multipliers.tensor(f)),
        name="conv_steps",
    )


def _matmul(node: Node) -> Any:
    x, w, bias, multipliers = (node.operand(i) for i in range(4))
    kind = _accumulator(node)
    k = te.reduce_axis((0, x.shape[-1]), name="k")
    total = te.compute(
        node.result.shape,
        lambda *i: te.sum(
            x.tensor(*i[:-1], k).astype(kind) * w.tensor(k, i[-1]).astype(kind), axis=k
        ),
        name="matmul",
    )
    return te.compute(
        node.result.shape,
        lambda *i: finish(node, total(*i) + bias.tensor(i[-1]), multipliers.tensor(i[-1])),
        name="matmul_steps",
    )


def _without_zero(node: Node, value: Any, name: str, kind: str) -> Any:
    return value.astype(kind) - _int(int(node.attribute(name)), kind)


def _factor(node: Node) -> Any:
    return _int(int(node.attribute("multiplier")), "int32")


def _stack(operand: Operand, index: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the index of an operand's matrix in a broadcast stack of them."""
    own = index[len(index) - (operand.rank - 2) :] if operand.rank > 2 else ()
    return tuple(0 if s == 1 else i for s, i in zip(operand.shape[:-2], own, strict=True))


def _product(node: Node) -> Any:
    a, b = node.operand(0), node.operand(1)
    kind = _accumulator(node)
    k = te.reduce_axis((0, a.shape[-1]), name="k")

    def element(*index: Any) -> Any:
        *stack, row, column = index
        left = a.tensor(*_stack(a, tuple(stack)), row, k)
        right = b.tensor(*_stack(b, tuple(stack)), k, column)
        return te.sum(
            _without_zero(node, left, "zero_a", kind) * _without_zero(node, right, "zero_b", kind),
            axis=k,
        )

    total = te.compute(node.result.shape, element, name="product")
    return te.compute(
        node.result.shape,
        lambda *i: finish(node, total(*i), _factor(node)),
        name="product_steps",
    )


def _mul(node: Node) -> Any:
    kind = _accumulator(node)
    return elementwise(
        node,
        lambda a, b: finish(
            node,
            _without_zero(node, a, "zero_a", kind) * _without_zero(node, b, "zero_b", kind),
            _factor(node),
        ),
    )


def _add(node: Node) -> Any:
    kind = _accumulator(node)

    def element(a: Any, b: Any) -> Any:
        first, second, constant, shift = (
            _int(int(node.attribute(name)), kind)
            for name in ("multiplier_a", "multiplier_b", "constant", "shift")
        )
        total = a.astype(kind) * first + b.astype(kind) * second + constant
        steps = total >> shift
        if kind == "int64":
            ends = _int(-(1 << 30), kind), _int(1 << 30, kind)
            steps = tirx.max(tirx.min(steps, ends[1]), ends[0]).astype("int32")
        return _clamp(node, steps)

    return elementwise(node, element)


def _average_pool(node: Node) -> Any:
    x, multipliers = node.operand(0), node.operand(1)
    kernel = node.attribute("kernel_shape")
    sizes, out = x.shape[2:], node.result.shape[2:]
    window = Window.of(node, kernel, sizes, out)
    zero = int(node.attribute("zero_in"))
    padded = window.padded(x.tensor, _int(zero, x.dtype), sizes, out)
    inner = [te.reduce_axis((0, k), name=f"k{i}") for i, k in enumerate(kernel)]
    total = te.compute(
        node.result.shape,
        lambda n, c, *i: te.sum(
            padded(n, c, *window.place(i, inner)).astype("int32") - _int(zero, "int32"), axis=inner
        ),
        name="pool_sum",
    )
    return te.compute(
        node.result.shape,
        lambda n, c, *i: finish(node, total(n, c, *i), multipliers.load((n, c, *i))),
        name="average_pool_steps",
    )


def _mean(node: Node) -> Any:
    x = node.operand(0)
    axes = [int(a) for a in node.attribute("axes")]
    inner = {a: te.reduce_axis((0, x.shape[a]), name=f"k{a}") for a in axes}
    kept = [a for a in range(x.rank) if a not in inner]
    shape = [x.shape[a] for a in kept] or [1]
    zero = _int(int(node.attribute("zero_in")), "int32")

    def element(*index: Any) -> Any:
        place = {**dict(zip(kept, index, strict=False)), **inner}
        value = x.tensor(*(place[a] for a in range(x.rank))).astype("int32")
        return te.sum(value - zero, axis=list(inner.values()))

    total = te.compute(shape, element, name="mean_sum")
    out = node.result.shape
    squeezed = [i for i, size in enumerate(out) if size != 1]
    wanted = [i for i, size in enumerate(shape) if size != 1]

    def place(index: tuple[Any, ...]) -> list[Any]:
        at: list[Any] = [0] * len(shape)
        for source, destination in zip(squeezed, wanted, strict=True):
            at[destination] = index[source]
        return at

    return te.compute(
        out, lambda *i: finish(node, total(*place(i)), _factor(node)), name="mean_steps"
    )


def _requantize(node: Node) -> Any:
    kind = _accumulator(node)
    return elementwise(
        node, lambda x: finish(node, _without_zero(node, x, "zero_in", kind), _factor(node))
    )


def _table(node: Node) -> Any:
    x, table = node.operand(0), node.operand(1)
    return te.compute(
        node.result.shape,
        lambda *i: table.tensor(x.tensor(*i).astype("int32") + _int(128, "int32")),
        name="table_result",
    )


def _softmax(node: Node) -> Any:
    x, table = node.operand(0), node.operand(1)
    rows, columns = x.shape[:-1], x.shape[-1]
    k, j = (te.reduce_axis((0, columns), name=name) for name in ("k", "j"))
    greatest = te.compute(
        rows, lambda *i: te.max(x.tensor(*i, k).astype("int32"), axis=k), name="greatest"
    )

    def exponential(*index: Any) -> Any:
        distance = greatest(*index[:-1]) - x.tensor(*index).astype("int32")
        if x.dtype == "int8":
            return table.tensor(distance)
        high = table.tensor(distance >> _int(8, "int32")).astype("int64")
        low = table.tensor((distance & _int(255, "int32")) + _int(256, "int32")).astype("int64")
        half = _int(1 << (EXP_BITS - 1), "int64")
        return ((high * low + half) >> _int(EXP_BITS, "int64")).astype("int32")

    total = te.compute(
        rows, lambda *i: te.sum(exponential(*i, j).astype("int64"), axis=j), name="total"
    )
    scale = _int(2 * int(node.attribute("scale")), "int64")
    zero = _int(int(node.attribute("zero_out")), "int64")

    def element(*index: Any) -> Any:
        sum_ = total(*index[:-1])
        above = exponential(*index).astype("int64") * scale + (sum_ << _int(8, "int64"))
        return _clamp(node, tirx.truncdiv(above, sum_ << _int(9, "int64")) + zero)

    return te.compute(node.result.shape, element, name="softmax_steps")


def _interpolate(node: Node) -> Any:
    x, table = node.operand(0), node.operand(1)

    def element(*index: Any) -> Any:
        offset = x.tensor(*index).astype("int32") + _int(32768, "int32")
        place = offset >> _int(7, "int32")
        part = offset - place * _int(128, "int32")
        first = table.tensor(place).astype("int32")
        rise = table.tensor(place + _int(1, "int32")).astype("int32") - first
        steps = first + ((rise * part + _int(64, "int32")) >> _int(7, "int32"))
        return steps.astype(node.result.dtype)

    return te.compute(node.result.shape, element, name="interpolate_result")


def _resample(node: Node) -> Any:
    x, kind = node.operand(0), _accumulator(node)
    axes = [int(a) for a in node.attribute("axes")]
    operands = {a: (node.operand(1 + 2 * n), node.operand(2 + 2 * n)) for n, a in enumerate(axes)}
    taps = {a: te.reduce_axis((0, p.shape[1]), name=f"t{a}") for a, (p, _) in operands.items()}

    def element(*index: Any) -> Any:
        place = list(index)
        weight: Any = _int(1, kind)
        for axis, (places, weights) in operands.items():
            place[axis] = places.tensor(index[axis], taps[axis])
            weight = weight * weights.tensor(index[axis], taps[axis]).astype(kind)
        value = _without_zero(node, x.tensor(*place), "zero_in", kind)
        return te.sum(value * weight, axis=list(taps.values()))

    total = te.compute(node.result.shape, element, name="resample")
    drop = int(node.attribute("drop"))

    def steps(*index: Any) -> Any:
        value = total(*index)
        if drop:
            value = (value + _int(1 << (drop - 1), kind)) >> _int(drop, kind)
        return finish(node, value, _factor(node))

    return te.compute(node.result.shape, steps, name="resample_steps")


def _flip(node: Node) -> Any:
    step = _int(-128 if node.result.dtype == "int8" else 128, "int32")
    return elementwise(node, lambda x: (x.astype("int32") + step).astype(node.result.dtype))


LOWERINGS: Final[dict[str, Lowering]] = {
    f"{DOMAIN}::{name}": lowering
    for name, lowering in {
        "Add": _add,
        "AveragePool": _average_pool,
        "Conv": _conv,
        "Flip": _flip,
        "Interpolate": _interpolate,
        "MatMul": _matmul,
        "MaxPool": pooling_lowerings(0)["MaxPool"],
        "Mean": _mean,
        "Mul": _mul,
        "Product": _product,
        "Requantize": _requantize,
        "Resample": _resample,
        "Softmax": _softmax,
        "Table": _table,
    }.items()
}
