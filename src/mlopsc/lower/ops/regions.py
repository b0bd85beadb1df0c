"""Reading images at places that inputs give: regions of interest and deformed convolutions.

Between pixels values are bilinear. Source: the ONNX operator schemas; where they are silent, ONNX
Runtime.
"""

from __future__ import annotations

from typing import Any, Final

from tvm import te, tirx

from mlopsc.errors import CompilerError
from mlopsc.lower.ops.loops import call, program
from mlopsc.lower.ops.node import Lowering, Node
from mlopsc.lower.ops.window import Window

_MAX_RATIO = 4096  # points per axis and bin, as in the kernel


def _roi_align(node: Node) -> Any:
    x, rois, batch = (node.operand(i) for i in range(3))
    if x.dtype != "float32":
        raise CompilerError(f"RoiAlign of {x.dtype}")
    ratio = int(node.attribute("sampling_ratio", 0))
    if not 0 <= ratio <= _MAX_RATIO:
        raise CompilerError(f"RoiAlign: sampling_ratio is {ratio}; expected 0 to {_MAX_RATIO}")
    images, channels, height, width = x.shape
    out_h, out_w = node.result.shape[2:]
    # Opset 10 knew no half pixels.
    mode = node.attribute("coordinate_transformation_mode", "half_pixel")
    numbers = (
        images, channels, height, width, rois.shape[0], out_h, out_w,
        ratio, int(mode == "half_pixel"),
        int(node.attribute("mode", "avg") == "max"), int(batch.dtype == "int64"),
    )  # fmt: skip
    scale = tirx.const(node.number("spatial_scale", 1.0), "float32")

    def write(ins: list[Any], outs: list[Any]) -> Any:
        made = call("mlopsc_roi_align", ins, outs, *numbers).value
        return tirx.Evaluate(tirx.call_extern("void", *made.args, scale))

    return program(node, [x, rois, batch], write)


def _max_roi_pool(node: Node) -> Any:
    x, rois = node.operand(0), node.operand(1)
    if x.dtype != "float32":
        raise CompilerError(f"MaxRoiPool of {x.dtype}")
    _, channels, height, width = x.shape
    out_h, out_w = node.result.shape[2:]
    scale = tirx.const(node.number("spatial_scale", 1.0), "float32")
    numbers = (x.shape[0], channels, height, width, rois.shape[0], out_h, out_w)

    def write(ins: list[Any], outs: list[Any]) -> Any:
        made = call("mlopsc_max_roi_pool", ins, outs, *numbers).value
        return tirx.Evaluate(tirx.call_extern("void", *made.args, scale))

    return program(node, [x, rois], write)


def _deform_conv(node: Node) -> Any:
    """Samples of every window, then the sum of their products with the weights."""
    x, weights, offset = (node.operand(i) for i in range(3))
    bias, mask = node.optional(3), node.optional(4)
    if x.rank != 4:
        raise CompilerError("DeformConv: expected two spatial axes")
    batch, channels, height, width = x.shape
    out_channels, per_group, kernel_h, kernel_w = weights.shape
    _, _, out_h, out_w = node.result.shape
    window = Window.of(node, (kernel_h, kernel_w), (height, width), (out_h, out_w))
    groups = int(node.attribute("group", 1))
    offset_groups = int(node.attribute("offset_group", 1))
    taps, dtype = kernel_h * kernel_w, x.dtype

    def pixel(n: Any, c: Any, h: Any, w: Any) -> Any:
        inside = tirx.all(h >= 0, h < height, w >= 0, w < width)
        safe_h = tirx.max(tirx.min(h, height - 1), 0)
        safe_w = tirx.max(tirx.min(w, width - 1), 0)
        return tirx.Select(inside, x.tensor(n, c, safe_h, safe_w), tirx.const(0.0, dtype))

    def place(axis: int, size: int) -> Any:
        """Return the coordinate of every tap, kept near the image so that it fits an integer."""
        stride, dilation = window.strides[axis], window.dilations[axis]

        def element(n: Any, g: Any, k: Any, i: Any, j: Any) -> Any:
            at = (i, j)[axis]
            tap = tirx.indexdiv(k, kernel_w) if axis == 0 else tirx.indexmod(k, kernel_w)
            start = (at * stride + tap * dilation - window.before[axis]).astype(dtype)
            moved = start + offset.tensor(n, (g * taps + k) * 2 + axis, i, j)
            low, high = tirx.const(-2.0, dtype), tirx.const(float(size + 1), dtype)
            near = tirx.Select(moved > low, moved, low)  # also for NaN
            return tirx.Select(near < high, near, high)

        shape = (batch, offset_groups, taps, out_h, out_w)
        return te.compute(shape, element, name=("rows", "columns")[axis])

    rows, columns = place(0, height), place(1, width)

    def sample(n: Any, c: Any, k: Any, i: Any, j: Any) -> Any:
        g = tirx.indexdiv(c, channels // offset_groups)
        h, w = rows(n, g, k, i, j), columns(n, g, k, i, j)
        h0, w0 = tirx.floor(h), tirx.floor(w)
        dh, dw = h - h0, w - w0
        ih, iw = h0.astype("int32"), w0.astype("int32")
        one = tirx.const(1.0, dtype)
        value = (
            pixel(n, c, ih, iw) * (one - dh) * (one - dw)
            + pixel(n, c, ih, iw + 1) * (one - dh) * dw
            + pixel(n, c, ih + 1, iw) * dh * (one - dw)
            + pixel(n, c, ih + 1, iw + 1) * dh * dw
        )
        return value if mask is None else value * mask.tensor(n, g * taps + k, i, j)

    samples = te.compute((batch, channels, taps, out_h, out_w), sample, name="samples")
    c = te.reduce_axis((0, per_group), name="c")
    k = te.reduce_axis((0, taps), name="k")

    def product(n: Any, o: Any, i: Any, j: Any) -> Any:
        first = tirx.indexdiv(o, out_channels // groups) * per_group
        weight = weights.tensor(o, c, tirx.indexdiv(k, kernel_w), tirx.indexmod(k, kernel_w))
        return te.sum(samples(n, first + c, k, i, j) * weight, axis=[c, k])

    result = te.compute(node.result.shape, product, name="deform_conv")
    if bias is None:
        return result
    return te.compute(
        node.result.shape, lambda n, o, i, j: result(n, o, i, j) + bias.tensor(o), name="biased"
    )


LOWERINGS: Final[dict[str, Lowering]] = {
    "DeformConv": _deform_conv,
    "MaxRoiPool": _max_roi_pool,
    "RoiAlign": _roi_align,
}
