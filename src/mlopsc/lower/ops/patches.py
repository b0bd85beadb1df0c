"""Operators of patch-wise execution (``lower.patches``): a patch of a tensor, and its border.

Both take the number of the iteration, which says which patch is meant: patches lie in rows of
``columns`` patches; number 0 begins at ``origin`` of the tensor, the next ones ``step`` further.
"""

from __future__ import annotations

from typing import Any, Final

from tvm import tirx

from mlopsc.lower.ops.node import Lowering, Node, compute, literal

DOMAIN: Final = "mlopsc.patch"


def _place(node: Node, *inner: Any) -> list[Any]:
    """Return the row and column, in the whole tensor, of an element of a patch."""
    number = node.operand(1).tensor().astype("int32")
    count = tirx.const(int(node.attribute("columns")), "int32")
    which = tirx.truncdiv(number, count), tirx.truncmod(number, count)
    steps, origins = node.attribute("step"), node.attribute("origin")
    return [
        (at * tirx.const(int(step), "int32") + tirx.const(int(origin), "int32"))
        + index.astype("int32")
        for at, step, origin, index in zip(which, steps, origins, inner, strict=True)
    ]


def _inside(node: Node, place: list[Any]) -> Any:
    sizes = node.attribute("sizes")
    return tirx.all(*(tirx.all(p >= 0, p < int(n)) for p, n in zip(place, sizes, strict=True)))


def _extract(node: Node) -> Any:
    """Copy a patch out of a tensor; what lies outside of that is ``fill``."""
    x = node.operand(0)
    last = bool(node.attribute("channels_last"))
    fill = literal(node.attribute("fill"), x.dtype)

    def element(n: Any, c: Any, row: Any, column: Any) -> Any:
        place = _place(node, row, column)
        index = (n, *place, c) if last else (n, c, *place)
        return tirx.if_then_else(_inside(node, place), x.tensor(*index), fill)

    return compute(node, element)


def _border(node: Node) -> Any:
    """Set what lies outside of the whole tensor to ``fill``."""
    x = node.operand(0)
    fill = literal(node.attribute("fill"), x.dtype)

    def element(n: Any, c: Any, row: Any, column: Any) -> Any:
        inside = _inside(node, _place(node, row, column))
        return tirx.if_then_else(inside, x.tensor(n, c, row, column), fill)

    return compute(node, element)


LOWERINGS: Final[dict[str, Lowering]] = {
    f"{DOMAIN}::Border": _border,
    f"{DOMAIN}::Extract": _extract,
}
