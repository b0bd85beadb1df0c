"""Stage *lower*: the graphs of a bundle and a target → a flat program and its kernels.

Takes the normalised graphs of all stages (preprocessing is compiled in) and a ``Target``; gives a
``LoweredModule``: a list of steps (kernel calls, loops, ...), one storage plan for all that lives
between them, the weights, and the kernels as bare TIR functions that take only pointers. This is
the only stage that schedules and plans. It must run in a worker process: TVM can crash.

In the order data flows: ``relax_graph`` (ONNX → Relax → TIR), ``intrinsics`` (what ONNX means),
``schedule`` (loops), ``parallel`` (which of them threads share), ``flatten`` (Relax functions →
list of steps), ``bare`` (no runtime left), ``lifetimes`` and ``plan`` (where everything lives),
``emit`` (steps → ``Program``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlopsc.bundle import graph_signature
from mlopsc.lower.bare import bare_functions
from mlopsc.lower.emit import emit_steps, pack_weights
from mlopsc.lower.flatten import FlatProgram, calls_of, flatten
from mlopsc.lower.in_place import with_in_place
from mlopsc.lower.intrinsics import let_nan_through, use_own_starts
from mlopsc.lower.layers import blocks_of, layers_of
from mlopsc.lower.lifetimes import ArenaIO, lifetimes
from mlopsc.lower.micro_scratch import scratch_of, use_free_scratch, with_least_scratch
from mlopsc.lower.ops.arithmetic import call_functions
from mlopsc.lower.ops.words import call_word_functions
from mlopsc.lower.order import reorder
from mlopsc.lower.parallel import mark_parallel
from mlopsc.lower.patch_choice import ArenaLimit, lower_to_fit
from mlopsc.lower.patches import Patches
from mlopsc.lower.plan import StoragePlan, plan_storage
from mlopsc.lower.relax_graph import compile_graph, patches_of
from mlopsc.lower.rows import split_rows
from mlopsc.lower.schedule import schedule_kernels
from mlopsc.lower.schedule_winograd import trades_accuracy
from mlopsc.lower.tvm_target import tvm_target
from mlopsc.lower.variants import use_in_place
from mlopsc.schema.common import ArenaOffsets, c_identifier, digest_bytes
from mlopsc.schema.graph import StageGraph
from mlopsc.schema.program import Kernel, Program, calls_in
from mlopsc.schema.target import Accuracy, Generator, Schedule, Target
from mlopsc.schema.timeline import Timeline


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
    accuracy: Accuracy,
    io_in_arena: bool = False,
    patches: int | None = None,
    arena_limit: int | None = None,
) -> LoweredModule:
    """Lower a model for one target.

    Args:
        name: Prefix of all symbols; a C identifier.
        stages: The bundle's graphs in the order they run.
        target: What to compile for.
        generator: Who will print the kernels; C gets no vector types.
        schedule: ``none`` leaves the loops as TVM makes them, to measure what scheduling gives.
        accuracy: ``strict`` forbids algorithms that trade accuracy for speed.
        io_in_arena: Whether inputs and outputs lie in the arena.
        patches: Compute first layers in that many patches; by default as few as ``arena_limit``,
            or else the target's RAM, asks for.
        arena_limit: Bytes that the arena may take.

    Raises:
        CompilerError: The compiler cannot lower the model.
        InputError: No layers can be computed in that many patches.
        LimitError: The arena takes more than ``arena_limit``.
    """
    limit = ArenaLimit(arena_limit, strict=True)
    if arena_limit is None and target.limits.ram_bytes is not None:
        io = 0 if io_in_arena else _io_bytes(stages)
        limit = ArenaLimit(max(0, target.limits.ram_bytes - io))
    return lower_to_fit(
        lambda chosen: _lower(
            name,
            stages,
            target,
            generator=generator,
            schedule=schedule,
            accuracy=accuracy,
            io_in_arena=io_in_arena,
            patches=chosen,
        ),
        lambda: patches_of(stages, _align(target), io_in_arena=io_in_arena),
        limit,
        patches,
    )


def _align(target: Target) -> int:
    """Return the alignment of the arena and everything in it."""
    return max(16, target.hardware.vector_bits // 8)


def _io_bytes(stages: Sequence[StageGraph]) -> int:
    first, last = graph_signature(stages[0].model)[0], graph_signature(stages[-1].model)[1]
    return sum(spec.nbytes for spec in (*first, *last))


def _lower(
    name: str,
    stages: Sequence[StageGraph],
    target: Target,
    *,
    generator: Generator,
    schedule: Schedule,
    accuracy: Accuracy,
    io_in_arena: bool,
    patches: Patches | None,
) -> LoweredModule:
    tvm_t = tvm_target(target, generator, lowering=True)
    packed = schedule == "tiled" and generator == "llvm"
    lanes = target.hardware.vector_bits // 32 if packed else 1
    micro = target.hardware.micro if schedule == "tiled" else "none"
    module, flows, fused, inputs, outputs = compile_graph(
        stages,
        tvm_t,
        lanes,
        target.hardware,
        accuracy=accuracy,
        micro=None if micro == "none" else micro,
        patches=patches,
    )
    if lanes > 1:
        module = split_rows(module, target.hardware)
    module = use_own_starts(module)
    notes: dict[str, str] = {}
    if schedule == "tiled":
        module, notes = schedule_kernels(
            module, target.hardware, vectorize=generator == "llvm", accuracy=accuracy
        )
        if target.toolchain.threads:
            module = mark_parallel(module)
    flat = with_least_scratch(with_in_place(flatten(module, flows, fused), module))
    symbols = _symbols(name, flat)
    functions = bare_functions(module, symbols, tvm_t, target.hardware)
    align = _align(target)
    scratch = scratch_of(flat) | {
        kernel: functions.scratch[symbol]
        for kernel, symbol in symbols.items()
        if symbol in functions.scratch
    }
    io = None
    if io_in_arena:
        io = ArenaIO(tuple(s.nbytes for s in inputs), tuple(s.nbytes for s in outputs))
    flat = reorder(flat, scratch, io, align)
    alive = lifetimes(flat, scratch, io)
    plan = plan_storage(alive.blocks, align, alive.sharings)
    flat, alive, plan = use_free_scratch(flat, alive, plan, align)
    functions, variants, origins = use_in_place(functions, symbols, flat, alive, plan.shared)
    kernel_of = {symbol: kernel for kernel, symbol in symbols.items()}
    weights, offsets = pack_weights(flat, align)
    steps = emit_steps(flat, symbols, plan.offsets, offsets, variants)
    called = {call.kernel for call in calls_in(steps)}
    uses = {
        s: Kernel(
            symbol=s,
            parameters=functions.parameters[s],
            scratch=functions.scratch[s],
            schedule=notes.get(kernel_of[origins[s]], "as generated"),
            phases=functions.phases[s],
        )
        for s in functions.parameters
        if s in called
    } | _micro_kernels(flat, symbols)
    layers = tuple(layers_of(flat, steps, uses))
    program = Program(
        name=name,
        generator=generator,
        schedule=schedule,
        accuracy="fast" if any(map(trades_accuracy, notes.values())) else "strict",
        inputs=inputs,
        outputs=outputs,
        kernels=uses,
        steps=steps,
        arena_bytes=plan.size,
        arena_align=align,
        arena_lower_bound=plan.lower_bound,
        arena_io=_places(plan, io),
        weights_bytes=len(weights),
        weights_digest=digest_bytes(weights),
        runtime_symbols=functions.runtime_symbols,
        timeline=Timeline(layers=layers, blocks=blocks_of(alive.blocks, plan.offsets, len(layers))),
    )
    kernels = call_word_functions(call_functions(let_nan_through(functions.module)))
    return LoweredModule(program, weights, kernels, tvm_target(target, generator))


def _micro_kernels(flat: FlatProgram, symbols: Mapping[str, str]) -> dict[str, Kernel]:
    """Return the uses of hand-written kernels by symbol."""
    return {
        symbols[call.kernel]: Kernel(
            symbol=symbols[call.kernel],
            parameters=(
                *call.micro.parameters,
                *(("int8",) if call.micro.scratch_bytes else ()),
            ),
            scratch=(call.micro.scratch_bytes,) if call.micro.scratch_bytes else (),
            schedule=call.micro.describe(),
            micro=call.micro.use(),
        )
        for call in calls_of(flat.steps)
        if call.micro is not None
    }


def _places(plan: StoragePlan, io: ArenaIO | None) -> ArenaOffsets | None:
    """Return where the plan has put inputs and outputs."""
    if io is None:
        return None
    return ArenaOffsets(
        inputs=tuple(plan.offsets["input", i, 0] for i in range(len(io.inputs))),
        outputs=tuple(plan.offsets["output", i, 0] for i in range(len(io.outputs))),
    )


def _symbols(name: str, flat: FlatProgram) -> dict[str, str]:
    """Name the kernels that are called after their operators, in order of first call."""
    symbols: dict[str, str] = {}
    for call in calls_of(flat.steps):
        symbols.setdefault(call.kernel, f"{name}_k{len(symbols)}_{c_identifier(call.kernel)}")
    return symbols
