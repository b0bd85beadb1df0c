"""Stage *lower*: the graphs of a bundle and a target → a flat program and its kernels.

Takes the normalised graphs of all stages (preprocessing is compiled in) and a ``Target``; gives a
``LoweredModule``: a straight list of kernel calls, one storage plan for everything that lives
between them, the weights, and the kernels as bare TIR functions that take only pointers. This is
the only stage that schedules and plans. It must run in a worker process: TVM can crash.

In the order data flows: ``relax_graph`` (ONNX → Relax → TIR), ``intrinsics`` (what ONNX means),
``schedule`` (loops), ``flatten`` (Relax ``main`` → list of calls), ``bare`` (no runtime left),
``plan`` (where everything lives).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlopsc.errors import CompilerError
from mlopsc.lower.bare import bare_functions
from mlopsc.lower.flatten import FlatProgram, Tensor, flatten
from mlopsc.lower.intrinsics import let_nan_through, use_own_math
from mlopsc.lower.plan import Block, plan_storage
from mlopsc.lower.relax_graph import compile_graph
from mlopsc.lower.schedule import schedule_kernels
from mlopsc.lower.tvm_target import tvm_target
from mlopsc.schema.common import c_identifier, digest_bytes
from mlopsc.schema.graph import StageGraph
from mlopsc.schema.program import Call, Copy, Kernel, Location, Program
from mlopsc.schema.target import Generator, Schedule, Target


@dataclass(frozen=True)
class LoweredModule:
    """What codegen turns into objects or C.

    Attributes:
        program: The calls and where everything lives.
        weights: The weights block.
        kernels: ``tvm.IRModule`` of bare functions, one per kernel symbol.
        target: ``tvm.target.Target`` they were lowered for.
    """

    program: Program
    weights: bytes
    kernels: Any
    target: Any


def lower(
    name: str,
    stages: Sequence[StageGraph],
    target: Target,
    *,
    generator: Generator,
    schedule: Schedule,
) -> LoweredModule:
    """Lower a model for one target.

    Args:
        name: Prefix of all symbols; a C identifier.
        stages: The bundle's graphs in the order they run.
        target: What to compile for.
        generator: Who will print the kernels; C gets no vector types.
        schedule: ``none`` leaves the loops as TVM makes them, to measure what scheduling gives.

    Raises:
        CompilerError: The compiler cannot lower the model.
    """
    tvm_t = tvm_target(target, generator)
    module, inputs, outputs = compile_graph(stages, tvm_t)
    module = use_own_math(module)
    notes: dict[str, str] = {}
    if schedule == "tiled":
        module, notes = schedule_kernels(module, target.hardware, vectorize=generator == "llvm")
    flat = flatten(module)
    symbols = _symbols(name, flat)
    functions = bare_functions(module, symbols, tvm_t, target.hardware)
    align = max(16, target.hardware.vector_bits // 8)
    weights, offsets = _pack_weights(flat, align)
    blocks = _lifetimes(flat, {k: functions.scratch[s] for k, s in symbols.items()})
    plan = plan_storage(blocks, align)
    program = Program(
        name=name,
        generator=generator,
        schedule=schedule,
        inputs=inputs,
        outputs=outputs,
        kernels={
            s: Kernel(
                symbol=s,
                parameters=functions.parameters[s],
                scratch=functions.scratch[s],
                schedule=notes.get(k, "as generated"),
            )
            for k, s in symbols.items()
        },
        steps=_steps(flat, symbols, plan.offsets, offsets),
        copies=_copies(flat, plan.offsets, offsets),
        arena_bytes=plan.size,
        arena_align=align,
        arena_lower_bound=plan.lower_bound,
        weights_bytes=len(weights),
        weights_digest=digest_bytes(weights),
        runtime_symbols=functions.runtime_symbols,
    )
    return LoweredModule(program, weights, let_nan_through(functions.module), tvm_t)


def _symbols(name: str, flat: FlatProgram) -> dict[str, str]:
    """Name the kernels that are called after their operators, in order of first call."""
    symbols: dict[str, str] = {}
    for call in flat.calls:
        symbols.setdefault(call.kernel, f"{name}_k{len(symbols)}_{c_identifier(call.kernel)}")
    return symbols


def _pack_weights(flat: FlatProgram, align: int) -> tuple[bytes, dict[int, int]]:
    """Lay the constants that are used one after the other, each aligned; equal ones once."""
    data = bytearray()
    offsets: dict[int, int] = {}
    seen: dict[bytes, int] = {}
    used = [a for call in flat.calls for a in call.arguments] + list(flat.outputs)
    for tensor in used:
        if tensor.constant is None or tensor.id in offsets:
            continue
        raw = tensor.constant
        if raw not in seen:
            data.extend(b"\0" * (-len(data) % align))
            seen[raw] = len(data)
            data.extend(raw)
        offsets[tensor.id] = seen[raw]
    return bytes(data), offsets


def _lifetimes(flat: FlatProgram, scratch: dict[str, tuple[int, ...]]) -> list[Block]:
    """Return every block of the arena with its size and first and last step."""
    spans: dict[int, tuple[int, int, int]] = {}
    blocks: list[Block] = []
    direct = {id_ for id_, _ in flat.direct_outputs}
    for step, call in enumerate(flat.calls):
        for tensor in call.arguments:
            if tensor.kind != "temporary" or tensor.id in direct:
                continue
            first, _, size = spans.get(tensor.id, (step, step, tensor.nbytes))
            spans[tensor.id] = (first, step, size)
        for index, size in enumerate(scratch[call.kernel]):
            blocks.append(Block(("scratch", step, index), size, step, step))
    end = len(flat.calls)
    alive_at_end = {t.id for t in flat.outputs if t.kind == "temporary"}
    for id_, (first, last, size) in spans.items():
        blocks.append(Block(("tensor", id_, 0), size, first, end if id_ in alive_at_end else last))
    return blocks


def _locate(
    flat: FlatProgram,
    tensor: Tensor,
    arena: dict[tuple[str, int, int], int],
    weights: dict[int, int],
) -> Location:
    if tensor.constant is not None:
        return Location(place="weights", offset=weights[tensor.id])
    if tensor.kind == "input":
        return Location(place="input", index=tensor.input_index)
    direct = dict(flat.direct_outputs)
    if tensor.id in direct:
        return Location(place="output", index=direct[tensor.id])
    key = ("tensor", tensor.id, 0)
    if key not in arena:
        raise CompilerError("an output of the model is never computed")
    return Location(place="arena", offset=arena[key])


def _steps(
    flat: FlatProgram,
    symbols: dict[str, str],
    arena: dict[tuple[str, int, int], int],
    weights: dict[int, int],
) -> tuple[Call, ...]:
    steps = []
    for step, call in enumerate(flat.calls):
        arguments = [_locate(flat, t, arena, weights) for t in call.arguments]
        index = 0
        while ("scratch", step, index) in arena:
            arguments.append(Location(place="arena", offset=arena["scratch", step, index]))
            index += 1
        steps.append(Call(kernel=symbols[call.kernel], arguments=tuple(arguments)))
    return tuple(steps)


def _copies(
    flat: FlatProgram, arena: dict[tuple[str, int, int], int], weights: dict[int, int]
) -> tuple[Copy, ...]:
    """Copy the outputs that no kernel writes: inputs, constants and second uses of one tensor."""
    direct = dict(flat.direct_outputs)
    copies = []
    for index, tensor in enumerate(flat.outputs):
        if direct.get(tensor.id) == index:
            continue
        copies.append(
            Copy(
                source=_locate(flat, tensor, arena, weights),
                destination=Location(place="output", index=index),
                nbytes=tensor.nbytes,
            )
        )
    return tuple(copies)
