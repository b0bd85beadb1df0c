"""Which inputs of a kernel may give their place to an output, read off its scheduled TIR.

Takes scheduled TIR functions, before they are made bare; gives pairs of parameters. For each pair,
computing with both at one address gives the same result: every element of the input is read for the
last time before, or in the same instance of a block as, its place is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import tvm
from tvm import s_tir, tirx
from tvm.sym import Analyzer
from tvm_ffi.structural import structural_walk

from mlopsc.lower.accesses import buffer_bytes, flat_index
from mlopsc.lower.flatten import FlatIf, FlatLoop, FlatProgram, FlatStep, KernelCall

Pairs = tuple[tuple[int, int], ...]
# What makes a pointer of a buffer: nobody sees what happens to it.
_POINTERS: Final = ("tirx.address_of", "tirx.tvm_access_ptr", "tirx.buffer_data")


def with_in_place(flat: FlatProgram, module: Any) -> FlatProgram:
    """Return ``flat`` with the pairs of every call of a function of ``module``.

    Calls of other kernels keep what whoever added them said.
    """
    pairs = {
        var.name_hint: in_place_pairs(function)
        for var, function in module.functions.items()
        if isinstance(function, tirx.PrimFunc)
    }
    return replace(flat, steps=_with_pairs(flat.steps, pairs))


def _with_pairs(steps: Sequence[FlatStep], pairs: Mapping[str, Pairs]) -> list[FlatStep]:
    made: list[FlatStep] = []
    for step in steps:
        match step:
            case KernelCall() if step.kernel in pairs:
                made.append(replace(step, in_place=pairs[step.kernel]))
            case FlatLoop():
                made.append(replace(step, body=_with_pairs(step.body, pairs)))
            case FlatIf():
                then, otherwise = (_with_pairs(b, pairs) for b in (step.then, step.otherwise))
                made.append(replace(step, then=then, otherwise=otherwise))
            case _:
                made.append(step)
    return made


def in_place_pairs(function: Any) -> Pairs:
    """Return pairs (number of an input, number of an output) that may share storage exactly.

    Args:
        function: A scheduled function whose parameters are buffers.
    """
    buffers = list(function.params)
    if not all(tirx.is_buffer_var(b) for b in buffers):
        return ()
    stages = [_Uses.of(stage) for stage in _stages(function.body)]
    written = [any(s.stores_of(b) for s in stages) for b in buffers]
    return tuple(
        (i, o)
        for o, output in enumerate(buffers)
        for i, source in enumerate(buffers)
        if written[o] and not written[i] and _may_share(source, output, stages)
    )


@dataclass
class _Uses:
    """What one statement of a function, run as a whole before the next, does to buffers."""

    statement: Any
    loads: list[Any] = field(default_factory=list)
    stores: list[Any] = field(default_factory=list)
    opaque: list[Any] = field(default_factory=list)

    @staticmethod
    def of(statement: Any) -> _Uses:
        uses = _Uses(statement)

        def call(node: Any) -> None:
            if getattr(node.op, "name", "") in _POINTERS:
                structural_walk(node, (tirx.Var, uses.opaque.append))

        structural_walk(statement, (tvm.ir.TensorLoad, uses.loads.append))
        structural_walk(statement, (tirx.BufferStore, uses.stores.append))
        structural_walk(statement, (tvm.ir.Call, call))
        return uses

    def loads_of(self, buffer: Any) -> list[Any]:
        return [load for load in self.loads if load.source.same_as(buffer)]

    def stores_of(self, buffer: Any) -> list[Any]:
        return [store for store in self.stores if store.buffer.same_as(buffer)]

    def hides(self, buffer: Any) -> bool:
        return any(buffer.same_as(var) for var in self.opaque)


def _stages(body: Any) -> list[Any]:
    """Return the statements of a function that run one after the other."""
    while isinstance(body, s_tir.SBlockRealize) and not body.iter_values:
        body = body.block.body
    return list(body) if isinstance(body, tirx.stmt.SeqStmt) else [body]


def _may_share(source: Any, output: Any, stages: Sequence[_Uses]) -> bool:
    """Whether ``output`` may be written where ``source`` lies."""
    if str(source.ty.dtype) != str(output.ty.dtype):
        return False
    if any(s.hides(source) or s.hides(output) for s in stages):
        return False
    first = next(n for n, s in enumerate(stages) if s.stores_of(output))
    reading = [n for n, s in enumerate(stages) if s.loads_of(source)]
    if not reading or reading[-1] < first:
        return True  # all of it is read before anything is written
    alone = reading[-1] == first and not any(s.stores_of(output) for s in stages[first + 1 :])
    return (
        alone
        and not any(s.loads_of(output) for s in stages)
        and _same_elements(source, output, stages[first])
    )


def _same_elements(source: Any, output: Any, stage: _Uses) -> bool:
    """Whether one block stores ``output``, each element once, and reads the same of ``source``."""
    if buffer_bytes(source) != buffer_bytes(output) or len(stage.stores_of(output)) != 1:
        return False
    found = list(_realized(stage.statement, output, 1))
    if len(found) != 1:
        return False
    realize, instances = found[0]
    block = realize.block
    loads = _Uses.of(block).loads_of(source)
    if block.init is not None or len(loads) != len(stage.loads_of(source)):
        return False
    certain = isinstance(realize.predicate, tirx.IntImm)
    domain = 1
    analyzer = Analyzer()
    for axis in block.iter_vars:
        if not isinstance(axis.dom.extent, tirx.IntImm):
            return False
        analyzer.bind(axis.var, axis.dom)
        domain *= int(axis.dom.extent)
    # Tiles that overlap compute elements twice; a condition leaves out what would be twice.
    if (certain and instances != domain) or domain != _elements(output):
        return False
    stored = flat_index(output, block.body.indices)
    return all(analyzer.can_prove_equal(flat_index(source, load.indices), stored) for load in loads)


def _realized(statement: Any, output: Any, instances: int) -> Iterator[tuple[Any, int]]:
    """Yield what realises a block that is one store to ``output``, and how often it runs.

    Nothing where the statements around it are of a kind not known here.
    """
    match statement:
        case tirx.For() if isinstance(statement.extent, tirx.IntImm):
            times = instances * int(statement.extent)
            yield from _realized(statement.body, output, times)
        case tirx.stmt.SeqStmt():
            for part in statement:
                yield from _realized(part, output, instances)
        case tirx.stmt.AttrStmt():
            yield from _realized(statement.body, output, instances)
        case s_tir.SBlockRealize():
            body = statement.block.body
            if isinstance(body, tirx.BufferStore):
                if body.buffer.same_as(output):
                    yield statement, instances
            elif not statement.iter_values:
                yield from _realized(body, output, instances)


def _elements(buffer: Any) -> int:
    count = 1
    for size in buffer.ty.shape:
        count *= int(size)
    return count
