"""Which nodes a kernel computes: found again after TVM has fused and renamed everything.

Takes a Relax module before and after fusion; gives, per function, the calls that are left with the
nodes behind each. TVM keeps no names through fusion and makes equal groups one function, so values
are numbered: two calls compute the same if they call the same function with the same values. What
has a number before fusion is looked up by it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax


@dataclass(frozen=True)
class Origin:
    """A node and what it costs.

    Attributes:
        name: Of the node, or of its first output if it has none.
        op: Operator.
        macs: Multiply-accumulate operations.
    """

    name: str
    op: str
    macs: int


Origins = dict[tuple[str, str], Origin]  # by function and variable
Fused = dict[str, list[tuple[str, tuple[Origin, ...]]]]  # by function: kernel and its nodes


class OriginFinder:
    """Numbers the values of a module before fusion, and finds them after it."""

    def __init__(self, module: Any, origins: Origins) -> None:
        """Number what ``module`` computes; ``origins`` says of which nodes."""
        self._numbers: dict[Any, int] = {}
        self._origins: dict[int, list[Origin]] = {}
        for name, function in _functions(module):
            for variable, number in _Numbering(self, module).walk(name, function):
                origin = origins.get((name, variable))
                if origin is not None:
                    self._origins.setdefault(number, []).append(origin)

    def find(self, module: Any) -> Fused:
        """Return the kernels that each function of the fused ``module`` calls, with their nodes."""
        found: Fused = {}
        for name, function in _functions(module):
            numbering = _Numbering(self, module)
            for _ in numbering.walk(name, function):
                pass
            found[name] = [
                (kernel, tuple(o for o in map(self._take, numbers) if o is not None))
                for kernel, numbers in numbering.calls
            ]
        return found

    def number(self, key: Any) -> int:
        """Return the number of what ``key`` describes."""
        return self._numbers.setdefault(key, len(self._numbers))

    def _take(self, number: int) -> Origin | None:
        """Return the node of a value; of several with the same value, each once."""
        nodes = self._origins.get(number, [])
        return nodes.pop(0) if len(nodes) > 1 else next(iter(nodes), None)


def _functions(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield the functions that are no groups, by name."""
    for variable, function in module.functions.items():
        if isinstance(function, relax.Function) and not _is_group(function):
            yield variable.name_hint, function


def _is_group(function: Any) -> bool:
    return bool(function.attrs) and "Primitive" in function.attrs


class _Numbering:
    """Numbers the values of one function; looks into the groups that it calls."""

    def __init__(self, finder: OriginFinder, module: Any) -> None:
        self.finder = finder
        self.module = module
        self.values: dict[Any, Any] = {}
        self.calls: list[tuple[str, list[int]]] = []

    def walk(self, name: str, function: Any) -> Iterator[tuple[str, int]]:
        """Yield the variables that kernels compute with their numbers."""
        for index, parameter in enumerate(function.params):
            self.values[parameter] = self.finder.number(("parameter", name, index))
        for variable, expr in _bindings(function):
            called = _called(expr)
            if called is None:
                self.values[variable] = self.value(expr)
                continue
            group = self.module[called]
            arguments = [self.value(argument) for argument in _arguments(expr)]
            if isinstance(group, relax.Function):
                inner = _Numbering(self.finder, self.module)
                inner.values.update(zip(group.params, arguments, strict=True))
                self.calls.append((called, inner.numbers(group)))
                self.values[variable] = inner.value(group.body.body)
            else:
                number = self.finder.number((called, tuple(arguments)))
                self.calls.append((called, [number]))
                self.values[variable] = number
                yield variable.name, number

    def numbers(self, group: Any) -> list[int]:
        """Return the numbers of what the kernels of a group compute, in order."""
        found = []
        for variable, expr in _bindings(group):
            called = _called(expr)
            self.values[variable] = self.value(expr)
            if called is not None:
                found.append(self.values[variable])
        return found

    def value(self, expr: Any) -> Any:
        """Return the number of a value, or those of a tuple."""
        if isinstance(expr, relax.Var):
            return self.values[expr]
        if isinstance(expr, relax.Tuple):
            return tuple(self.value(field) for field in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            whole = self.value(expr.tuple_value)
            if isinstance(whole, tuple):
                return whole[expr.index]
            return self.finder.number(("item", whole, int(expr.index)))
        if isinstance(expr, tvm.ir.Call):
            arguments = tuple(self.value(argument) for argument in _arguments(expr))
            return self.finder.number((_called(expr) or str(expr.op), arguments))
        if isinstance(expr, relax.ShapeExpr):
            return self.finder.number(("shape", tuple(int(size) for size in expr.values)))
        return self.finder.number(expr)  # a constant is itself


def _bindings(function: Any) -> Iterator[tuple[Any, Any]]:
    for block in function.body.blocks:
        for binding in block.bindings:
            yield binding.var, binding.value


def _called(expr: Any) -> str | None:
    """Return the name of the function of the module that ``expr`` calls."""
    if not isinstance(expr, tvm.ir.Call):
        return None
    if isinstance(expr.op, tvm.ir.GlobalVar):
        return str(expr.op.name_hint)
    if getattr(expr.op, "name", "") == "relax.call_tir":
        return str(expr.args[0].name_hint)
    return None


def _arguments(expr: Any) -> list[Any]:
    if getattr(expr.op, "name", "") == "relax.call_tir":
        return list(expr.args[1].fields)
    return list(expr.args)
