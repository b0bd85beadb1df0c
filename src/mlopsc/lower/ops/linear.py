"""Matrix products. Source: the ONNX operator schemas; Einsum follows NumPy.

Products and sums are in the type of the result.
"""

from __future__ import annotations

from typing import Any, Final

from tvm import te, tirx, topi

from mlopsc.errors import CompilerError
from mlopsc.lower.ops.arithmetic import add
from mlopsc.lower.ops.node import Lowering, Node, Operand, compute, literal


def _element(operand: Operand, index: tuple[Any, ...]) -> Any:
    """Return an element of a stack of matrices, broadcasting the stack."""
    stack = index[:-2][len(index) - operand.rank :] if operand.rank > 2 else ()
    own = [0 if size == 1 else i for size, i in zip(operand.shape[:-2], stack, strict=True)]
    return operand.tensor(*own, *index[-2:])


def _matmul(node: Node) -> Any:
    a, b = node.operand(0), node.operand(1)
    k = te.reduce_axis((0, a.shape[-1]), name="k")

    def element(*index: Any) -> Any:
        rest = list(index)
        column = rest.pop() if b.rank > 1 else None
        row = rest.pop() if a.rank > 1 else None
        left = a.tensor(k) if row is None else _element(a, (*rest, row, k))
        right = b.tensor(k) if column is None else _element(b, (*rest, k, column))
        return te.sum(left.astype(node.result.dtype) * right.astype(node.result.dtype), axis=k)

    return te.compute(node.result.shape, element, name="matmul")


def _gemm(node: Node) -> Any:
    a, b, c = node.operand(0), node.operand(1), node.optional(2)
    trans_a, trans_b = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    dtype = node.result.dtype
    k = te.reduce_axis((0, a.shape[0 if trans_a else 1]), name="k")

    def product(i: Any, j: Any) -> Any:
        left = a.tensor(k, i) if trans_a else a.tensor(i, k)
        right = b.tensor(j, k) if trans_b else b.tensor(k, j)
        return te.sum(left * right, axis=k)

    result = te.compute(node.result.shape, product, name="gemm")
    if alpha == 1.0 and (c is None or beta == 0.0):
        return result

    def finish(*index: Any) -> Any:
        value = result(*index)
        if alpha != 1.0:
            value = _scale(value, alpha, dtype)
        if c is not None and beta != 0.0:
            added = c.at(index)
            value = add(value, added if beta == 1.0 else _scale(added, beta, dtype))
        return value

    return te.compute(node.result.shape, finish, name="gemm_end")


def _scale(value: Any, factor: float, dtype: str) -> Any:
    if dtype.startswith("float"):
        return value * literal(factor, dtype)
    return (value.astype("float64") * tirx.const(factor, "float64")).astype(dtype)


def _einsum(node: Node) -> Any:
    equation = str(node.attribute("equation"))
    operands = [o for o in node.inputs if o is not None]
    if "..." in equation or any(_repeats(term) for term in equation.split("->")[0].split(",")):
        return _general_einsum(node, equation, operands)
    return topi.einsum(equation.replace(" ", ""), *(o.tensor for o in operands))


def _repeats(term: str) -> bool:
    letters = [c for c in term if c.isalpha()]
    return len(letters) != len(set(letters))


def _general_einsum(node: Node, equation: str, operands: list[Operand]) -> Any:
    """Einsum with repeated labels (diagonals) and an ellipsis that broadcasts."""
    left, _, right = equation.replace(" ", "").partition("->")
    terms = [list(_labels(term, o.rank)) for term, o in zip(left.split(","), operands, strict=True)]
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        for label, size in zip(term, operand.shape, strict=True):
            sizes[label] = max(sizes.get(label, 1), size)
    dots = sorted((c for c in sizes if c.startswith(".")), key=lambda c: -int(c[1:]))
    if "->" in equation:
        head, _, tail = right.partition("...")
        wanted = [*head, *(dots if "..." in right else []), *tail]
    else:
        single = sorted(c for c in sizes if len(c) == 1 and left.count(c) == 1)
        wanted = [*dots, *single]
    reduced = {c: te.reduce_axis((0, n), name=f"r_{i}") for i, (c, n) in enumerate(sizes.items())
               if c not in wanted}  # fmt: skip

    def element(*index: Any) -> Any:
        place = {**dict(zip(wanted, index, strict=True)), **reduced}
        value = None
        for term, operand in zip(terms, operands, strict=True):
            own = (0 if n == 1 else place[c] for c, n in zip(term, operand.shape, strict=True))
            factor = operand.tensor(*own) if operand.rank else operand.at(())
            value = factor if value is None else value * factor
        return te.sum(value, axis=list(reduced.values())) if reduced else value

    return compute(node, element)


def _labels(term: str, rank: int) -> list[str]:
    """Return one label per axis; those of an ellipsis are ``.N``, counted from the right."""
    head, dots, tail = term.partition("...")
    if not dots:
        return list(head)
    inner = rank - len(head) - len(tail)
    if inner < 0:
        raise CompilerError(f"Einsum: term '{term}' has more labels than its operand has axes")
    return [*head, *(f".{inner - i}" for i in range(inner)), *tail]


LOWERINGS: Final[dict[str, Lowering]] = {
    "Einsum": _einsum,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
