"""Chains of layers of which each element needs only a window of the layer before.

Takes a graph in normal form, with or without operators on integers; gives chains that may be
computed patch by patch, and what their patches look like: for a patch of the last layer, which part
of every layer before has to be there. Source: Lin et al., "MCUNetV2: Memory-Efficient Patch-based
Inference for Tiny Deep Learning" (2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.integer import DOMAIN as INTEGER
from mlopsc.lower.forms import BINARY, UNARY, shape_of

_UNARY: Final = {("", name) for name in UNARY} | {
    ("", "QuantizeLinear"), ("", "DequantizeLinear"), ("", "Cast"),
    (INTEGER, "Requantize"), (INTEGER, "Table"), (INTEGER, "Flip"),
}  # fmt: skip
_BINARY: Final = {("", name) for name in BINARY}
_CHANNELS_FIRST: Final = [0, 3, 1, 2]


@dataclass(frozen=True)
class Window:
    """What an element needs of the layer before, by axis (rows, columns).

    Attributes:
        kernel: Sizes.
        strides: Steps between windows.
        dilations: Steps inside a window.
        before: Border in front.
        fill: What the border holds.
    """

    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)
    fill: float = 0.0


@dataclass(frozen=True)
class Link:
    """One node of a chain; ``window`` is None where it works element by element."""

    node: ir.Node
    window: Window | None


@dataclass(frozen=True)
class Chain:
    """Nodes that only read each other, constants left out.

    Attributes:
        source: What the first one reads.
        channels_last: Whether its channels come last: the chain begins with their transposition.
        links: The nodes, in order, without that transposition.
        transposition: That node.
    """

    source: ir.Value
    links: tuple[Link, ...]
    transposition: ir.Node | None = None

    @property
    def nodes(self) -> list[ir.Node]:
        """All nodes."""
        moved = [] if self.transposition is None else [self.transposition]
        return [*moved, *(link.node for link in self.links)]

    @property
    def result(self) -> ir.Value:
        """What the last one computes."""
        return self.links[-1].node.outputs[0]

    def until(self, count: int) -> Chain:
        """Return the chain of the first ``count`` links."""
        return Chain(self.source, self.links[:count], self.transposition)


@dataclass(frozen=True)
class Part:
    """A patch of one layer, by axis.

    Attributes:
        size: Elements.
        step: From one patch to the next.
        origin: Where the first one begins; less than 0 where it reaches into the border.
        whole: Size of the layer.
    """

    size: tuple[int, int]
    step: tuple[int, int]
    origin: tuple[int, int]
    whole: tuple[int, int]

    def along(self, axes: Sequence[int]) -> Part:
        """Return the part with the whole of the layer along some axes."""
        sizes, origins = list(self.size), list(self.origin)
        for axis in axes:
            sizes[axis], origins[axis] = self.whole[axis], 0
        return replace(self, size=_pair(iter(sizes)), origin=_pair(iter(origins)))

    def leaves(self, grid: tuple[int, int]) -> bool:
        """Whether some patch of a grid of patches reaches beyond the layer."""
        return any(
            origin < 0 or origin + (count - 1) * step + size > whole
            for origin, count, step, size, whole in zip(
                self.origin, grid, self.step, self.size, self.whole, strict=True
            )
        )


def chains(graph: ir.Graph) -> Iterator[Chain]:
    """Yield every chain that cannot begin earlier, as long as it goes, in order of the graph."""
    values = [*graph.inputs, *(o for node in graph for o in node.outputs)]
    inside: set[ir.Node] = set()
    for value in values:
        producer = value.producer()
        if producer in inside or len(shape_of(value)) != 4 or shape_of(value)[0] != 1:
            continue
        chain = _chain_from(value)
        if chain is not None and any(link.window is not None for link in chain.links):
            inside.update(chain.nodes)
            yield chain


def parts_of(chain: Chain, size: tuple[int, int]) -> list[Part]:
    """Return the part of each layer, the source first, for patches of ``size`` of the result.

    Along an axis with one patch, that is the whole of every layer, and windows keep their border.
    """
    result = _spatial(chain.result)
    part = Part(size, size, (0, 0), result)
    parts = [part]
    for link in reversed(chain.links):
        window = link.window
        if window is not None:
            part = Part(
                _pair((n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(
                    part.size, window.strides, window.kernel, window.dilations, strict=True)),
                _pair(n * s for n, s in zip(part.step, window.strides, strict=True)),
                _pair(o * s - b for o, s, b in zip(
                    part.origin, window.strides, window.before, strict=True)),
                _spatial(link.node.inputs[0]),
            ).along([a for a in (0, 1) if size[a] == result[a]])  # fmt: skip
        parts.insert(0, part)
    return parts


def _pair(values: Iterator[int]) -> tuple[int, int]:
    first, second = values
    return first, second


def _spatial(value: ir.Value | None) -> tuple[int, int]:
    shape = shape_of(value)
    return shape[2], shape[3]


def _chain_from(source: ir.Value) -> Chain | None:
    links: list[Link] = []
    transposition: ir.Node | None = None
    value = source
    while (user := _only_user(value)) is not None:
        if transposition is None and user.op_type == "Transpose" and not user.domain:
            flat = all(link.window is None for link in links)
            if not flat or list(user.attributes["perm"].as_ints()) != _CHANNELS_FIRST:
                break
            if any(not _is_single(c) for link in links for c in link.node.inputs[1:]):
                break
            transposition = user
        else:
            link = _link(user, value)
            if link is None:
                break
            links.append(link)
        value = user.outputs[0]
    if transposition is not None and (not links or links[-1].node.outputs[0] is source):
        return None
    return Chain(source, tuple(links), transposition) if links else None


def _only_user(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0][1] != 0:
        return None
    user = uses[0][0]
    return user if len(user.outputs) == 1 else None


def _link(node: ir.Node, value: ir.Value) -> Link | None:
    """Return ``node`` as a link behind ``value``, which is its first input."""
    kind = node.domain, node.op_type
    others = list(node.inputs[1:])
    if any(other is not None and other.const_value is None for other in others):
        return None
    if len(shape_of(node.outputs[0])) != 4:
        return None
    if kind in _UNARY or (kind in _BINARY and all(map(_is_per_channel, others))):
        same = shape_of(node.outputs[0]) == shape_of(value)
        per_tensor = kind[1] not in ("QuantizeLinear", "DequantizeLinear") or all(
            map(_is_single, others)
        )
        return Link(node, None) if same and per_tensor else None
    if node.op_type == "Conv" and node.domain in ("", INTEGER) and others[0] is not None:
        fill = _attribute(node, "zero_in", 0) if node.domain else 0
        return _windowed(node, shape_of(others[0])[2:], float(fill))
    if node.op_type == "MaxPool" and node.domain in ("", INTEGER):
        dtype = np.dtype("float32") if value.dtype is None else value.dtype.numpy()
        lowest = -math.inf if dtype.kind == "f" else float(np.iinfo(dtype).min)
        return _windowed(node, _attribute(node, "kernel_shape", []), lowest)
    return None


def _windowed(node: ir.Node, kernel: Sequence[int], fill: float) -> Link | None:
    """Return a link with a window; None where the border is more than one value around it."""
    if len(kernel) != 2 or _attribute(node, "ceil_mode", 0) or _attribute(node, "storage_order", 0):
        return None
    if _attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    pads = _attribute(node, "pads", [0, 0, 0, 0])
    window = Window(
        (int(kernel[0]), int(kernel[1])),
        tuple(_attribute(node, "strides", [1, 1])),
        tuple(_attribute(node, "dilations", [1, 1])),
        (int(pads[0]), int(pads[1])),
        fill,
    )
    return Link(node, window)


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    return node.attributes[name].value if name in node.attributes else default


def _is_single(value: ir.Value | None) -> bool:
    return value is None or math.prod(shape_of(value)) == 1


def _is_per_channel(value: ir.Value | None) -> bool:
    """Whether a constant is the same along rows and columns."""
    if value is None or _is_single(value):
        return True
    shape = shape_of(value)
    return len(shape) in (3, 4) and shape[-2:] == [1, 1]
