"""What convolutions and poolings share: windows, padding rules and padded inputs.

Source: the ONNX operator schemas ("auto_pad", "ceil_mode").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx

from mlopsc.lower.ops.node import Node


@dataclass(frozen=True)
class Window:
    """A sliding window over the spatial axes.

    Attributes:
        kernel: Sizes.
        strides: Steps between windows.
        dilations: Steps inside a window.
        before: Padding in front of each axis.
        after: Padding behind each axis, as declared; a window may reach beyond it.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(
        cls, node: Node, kernel: Sequence[int], sizes: Sequence[int], out: Sequence[int]
    ) -> Window:
        """Read the attributes; ``sizes`` and ``out`` are the spatial sizes."""
        rank = len(kernel)
        strides = tuple(node.attribute("strides") or [1] * rank)
        dilations = tuple(node.attribute("dilations") or [1] * rank)
        mode = node.attribute("auto_pad", "NOTSET")
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            totals = [
                max((o - 1) * s + (k - 1) * d + 1 - n, 0)
                for o, s, k, d, n in zip(out, strides, kernel, dilations, sizes, strict=True)
            ]
            small = [t // 2 for t in totals]
            large = [t - h for t, h in zip(totals, small, strict=True)]
            before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
        else:
            pads = (
                list(node.attribute("pads") or [0] * (2 * rank))
                if mode == "NOTSET"
                else [0] * (2 * rank)
            )
            before, after = pads[:rank], pads[rank:]
        return cls(tuple(kernel), strides, dilations, tuple(before), tuple(after))

    def padded(
        self, x: Any, value: Any, sizes: Sequence[int], out: Sequence[int], trailing: int = 0
    ) -> Any:
        """Return ``x`` padded as far as windows reach; ``x`` itself if nothing is needed.

        Args:
            x: A tensor of two leading axes, the spatial ones, and ``trailing`` ones.
            value: What to pad with.
            sizes: Spatial sizes of ``x``.
            out: Spatial sizes of the result of the windows.
            trailing: Axes after the spatial ones.
        """
        lead, rank = 2, len(self.kernel)
        reach = [
            (o - 1) * s + (k - 1) * d + 1
            for o, s, k, d in zip(out, self.strides, self.kernel, self.dilations, strict=True)
        ]
        totals = [
            max(r, b + n) if b or r > n + b else n
            for r, b, n in zip(reach, self.before, sizes, strict=True)
        ]
        if not any(self.before) and list(totals) == list(sizes):
            return x

        def element(*index: Any) -> Any:
            own, inside = list(index[:lead]), []
            for i, b, n, t in zip(
                index[lead : lead + rank], self.before, sizes, totals, strict=True
            ):
                own.append(i - b if b else i)
                if b:
                    inside.append(i >= b)
                if t > b + n:
                    inside.append(i < b + n)
            own += index[lead + rank :]
            return tirx.if_then_else(tirx.all(*inside), x(*own), value) if inside else x(*own)

        shape = [*x.shape[:lead], *totals, *x.shape[lead + rank :]]
        return te.compute(shape, element, name="padded")

    def place(self, index: Sequence[Any], inner: Sequence[Any]) -> list[Any]:
        """Return where element ``inner`` of window ``index`` lies in the padded input."""
        return [
            (i * s if s != 1 else i) + (r * d if d != 1 else r)
            for i, s, r, d in zip(index, self.strides, inner, self.dilations, strict=True)
        ]
