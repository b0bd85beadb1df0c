"""Relax functions → a list of steps over tensors: kernel calls, copies, loops and conditionals.

Takes the module after ``CallTIRRewrite``; gives tensors (inputs, constants, temporaries) and steps.
Reshapes alias. What a body returns is computed where it is needed, without a copy, if a kernel of
that body computes it: in the second buffer of a carried value, in its place in a stack, in the
result of a conditional. Outputs of the model are written in the caller's buffer directly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import tvm
from tvm import relax

from mlopsc.dtypes import DTYPES, DTypeName
from mlopsc.errors import CompilerError
from mlopsc.lower.flow import Flows, IfFlow, LoopFlow, MicroFlow
from mlopsc.lower.micro_calls import MicroCall
from mlopsc.lower.origins import Fused, Origin

_ALIASING = {
    "relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten", "relax.memory.view",
}  # fmt: skip
Kind = Literal["input", "output", "temporary", "constant", "state", "next", "counter", "element"]


@dataclass(frozen=True, eq=False)
class Tensor:
    """One value of the program.

    Attributes:
        id: Unique number.
        kind: What it is: an input, output, temporary or constant of the program; what an iteration
            reads (``state``) or writes (``next``) of a carried value; the number of the iteration;
            or one element of a stack.
        nbytes: Dense size.
        index: Which input, output, carried value or loop.
        constant: Its bytes, for constants.
        dtype: Its element type, for constants.
        stack: The tensor it is an element of, for elements of a stack.
    """

    id: int
    kind: Kind
    nbytes: int
    index: int = 0
    constant: bytes | None = None
    dtype: DTypeName | None = None
    stack: Tensor | None = None


@dataclass(frozen=True)
class KernelCall:
    """``kernel(arguments...)``; outputs come last.

    Attributes:
        kernel: Name of the function.
        arguments: What it takes, scratch left out.
        in_place: Pairs of numbers of arguments, an input and an output, that may lie at one
            address: the kernel reads each element of the input before it writes there. The plan
            decides which do, where the input is not needed any more.
        origins: The nodes that it computes.
        micro: The hand-written kernel that it is a call of.
    """

    kernel: str
    arguments: tuple[Tensor, ...]
    in_place: tuple[tuple[int, int], ...] = ()
    origins: tuple[Origin, ...] = ()
    micro: MicroCall | None = None


@dataclass(frozen=True)
class TensorCopy:
    """A copy of a whole tensor; ``initial`` if it gives a carried value its first content."""

    source: Tensor
    destination: Tensor
    initial: bool = False


@dataclass(frozen=True)
class Carried:
    """A carried value: its number, where it lies before and after the loop, and a second buffer."""

    index: int
    home: Tensor
    other: Tensor


@dataclass(frozen=True)
class FlatLoop:
    """A loop; see ``schema.program.Loop``."""

    index: int
    trip_count: int | Tensor | None
    condition: int | None
    carried: tuple[Carried, ...]
    stacks: tuple[Tensor, ...]
    body: list[FlatStep]


@dataclass(frozen=True)
class FlatIf:
    """A conditional; see ``schema.program.If``."""

    condition: Tensor
    then: list[FlatStep]
    otherwise: list[FlatStep]


FlatStep = KernelCall | TensorCopy | FlatLoop | FlatIf


@dataclass(frozen=True)
class FlatProgram:
    """The steps, in order.

    Attributes:
        steps: What runs; the last ones leave the outputs in the caller's buffers.
        places: Tensors that are computed in the place of another, by id.
    """

    steps: list[FlatStep]
    places: dict[int, Tensor]

    def resolve(self, tensor: Tensor) -> Tensor:
        """Return the tensor in whose place ``tensor`` lies."""
        return _resolve(self.places, tensor)


def tensors_of(step: FlatStep) -> Iterator[Tensor]:
    """Yield every tensor that ``step`` touches, those of its body included."""
    match step:
        case KernelCall():
            yield from step.arguments
        case TensorCopy():
            yield from (step.source, step.destination)
        case FlatLoop():
            yield from edges_of(step)
            for inner in step.body:
                yield from tensors_of(inner)
        case FlatIf():
            yield step.condition
            for inner in (*step.then, *step.otherwise):
                yield from tensors_of(inner)


def edges_of(loop: FlatLoop) -> Iterator[Tensor]:
    """Yield what ``loop`` itself needs from its first iteration to its last."""
    if isinstance(loop.trip_count, Tensor):
        yield loop.trip_count
    for value in loop.carried:
        yield from (value.home, value.other)
    yield from loop.stacks


def calls_of(steps: Sequence[FlatStep]) -> Iterator[KernelCall]:
    """Yield every kernel call in the order they are written."""
    for step in steps:
        match step:
            case KernelCall():
                yield step
            case FlatLoop():
                yield from calls_of(step.body)
            case FlatIf():
                yield from calls_of([*step.then, *step.otherwise])


def _resolve(places: dict[int, Tensor], tensor: Tensor) -> Tensor:
    while tensor.id in places:
        tensor = places[tensor.id]
    return tensor


@dataclass
class _Shared:
    """What the functions of one module share."""

    module: Any
    flows: Flows
    fused: Fused
    constants: dict[bytes, Tensor] = field(default_factory=dict)
    places: dict[int, Tensor] = field(default_factory=dict)
    tensors: int = 0
    states: int = 0
    loops: int = 0

    def tensor(self, kind: Kind, nbytes: int, **rest: Any) -> Tensor:
        self.tensors += 1
        return Tensor(self.tensors, kind, nbytes, **rest)

    def constant(self, array: np.ndarray[Any, Any]) -> Tensor:
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        if data not in self.constants:
            self.constants[data] = self.tensor(
                "constant", len(data), constant=data, dtype=array.dtype.name
            )
        return self.constants[data]


@dataclass
class _Walker:
    """Makes the steps of one function."""

    shared: _Shared
    values: dict[Any, Any] = field(default_factory=dict)
    steps: list[FlatStep] = field(default_factory=list)
    own: set[int] = field(default_factory=set)  # ids of temporaries that this function computes
    calls: Iterator[tuple[str, tuple[Origin, ...]]] = field(default_factory=lambda: iter(()))

    def walk(self, name: str, arguments: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Make the steps of a function and return its results."""
        function = self.shared.module[name]
        self.calls = iter(self.shared.fused.get(name, ()))
        if arguments is None:
            arguments = [
                self.shared.tensor("input", _nbytes(param.ty), index=index)
                for index, param in enumerate(function.params)
            ]
        self.values.update(zip(function.params, arguments, strict=True))
        for block in function.body.blocks:
            for binding in block.bindings:
                self.bind(binding.var, binding.value)
        result = self.value(function.body.body)
        return result if isinstance(result, list) else [result]

    def value(self, expr: Any) -> Any:
        if isinstance(expr, relax.Var):
            return self.values[expr]
        if isinstance(expr, relax.Tuple):
            return [self.value(f) for f in expr.fields]
        if isinstance(expr, relax.TupleGetItem):
            return self.value(expr.tuple_value)[expr.index]
        if type(expr).__name__ in ("Constant", "GenericConst"):
            array = (expr.value if hasattr(expr, "value") else expr.data).numpy()
            return self.shared.constant(array)
        raise CompilerError(f"lowering left an expression that no kernel computes: {_brief(expr)}")

    def bind(self, var: Any, expr: Any) -> None:
        if not isinstance(expr, tvm.ir.Call):
            self.values[var] = self.value(expr)
            return
        if isinstance(expr.op, tvm.ir.GlobalVar):
            arguments = tuple(self.value(a) for a in expr.args)
            kernel = expr.op.name_hint
            # What is missing of the calls before lowering had become a view.
            origins = next((nodes for name, nodes in self.calls if name == kernel), ())
            self.steps.append(KernelCall(kernel, arguments, origins=origins))
            return
        if isinstance(expr.op, relax.ExternFunc):
            self.flow(str(expr.op.global_symbol), [self.value(a) for a in expr.args])
            return
        name = getattr(expr.op, "name", "")
        if name == "relax.builtin.alloc_tensor":
            self.values[var] = self.temporary(_nbytes(var.ty))
        elif name in _ALIASING:
            self.values[var] = self.value(expr.args[0])
        else:
            raise CompilerError(
                f"lowering left an operator that has no kernel: {name or _brief(expr)}",
                hint="'docs/core-ops.md' lists what can be compiled",
            )

    def temporary(self, nbytes: int) -> Tensor:
        tensor = self.shared.tensor("temporary", nbytes)
        self.own.add(tensor.id)
        return tensor

    def flow(self, symbol: str, arguments: list[Tensor]) -> None:
        flow = self.shared.flows.get(symbol)
        if isinstance(flow, LoopFlow):
            self.loop(flow, arguments)
        elif isinstance(flow, IfFlow):
            self.conditional(flow, arguments)
        elif isinstance(flow, MicroFlow):
            origin = Origin(flow.node, flow.op, flow.call.macs)
            self.steps.append(
                KernelCall(
                    symbol.removeprefix("mlopsc."), tuple(arguments), flow.call.in_place,
                    (origin,), flow.call,
                )
            )  # fmt: skip
        else:
            raise CompilerError(f"lowering left a call of '{symbol}', which is no kernel")

    def loop(self, flow: LoopFlow, arguments: list[Tensor]) -> None:
        shared = self.shared
        results = len(shared.module[flow.body].body.body.ty.fields) - flow.conditional
        given, results_of = arguments[:-results], arguments[-results:]
        count: int | Tensor | None = given.pop(0) if flow.counted else flow.trip_count
        number, shared.loops = shared.loops, shared.loops + 1
        homes = results_of[: flow.carried]
        if flow.conditional:
            homes = [self.temporary(given[0].nbytes), *homes]
        initial, outer = given[: len(homes)], given[len(homes) :]
        carried, reads, writes = [], [], []
        for first, home in zip(initial, homes, strict=True):
            carried.append(Carried(shared.states, home, self.temporary(home.nbytes)))
            reads.append(shared.tensor("state", home.nbytes, index=shared.states))
            writes.append(shared.tensor("next", home.nbytes, index=shared.states))
            shared.states += 1
            self.steps.append(TensorCopy(first, home, initial=True))
        stacks = results_of[flow.carried :]
        elements = [
            shared.tensor("element", stack.nbytes // max(1, flow.trip_count or 1), index=number,
                          stack=stack)
            for stack in stacks
        ]  # fmt: skip
        counter = shared.tensor("counter", 8, index=number)
        never = [] if flow.conditional else [shared.constant(np.array(True))]
        body = _Walker(shared)
        made = body.walk(flow.body, [counter, *never, *reads, *outer])
        body.deliver(made, [*writes, *elements])
        condition = carried[0].index if flow.conditional else None
        self.steps.append(
            FlatLoop(number, count, condition, tuple(carried), tuple(stacks), body.steps)
        )

    def conditional(self, flow: IfFlow, arguments: list[Tensor]) -> None:
        number = len(self.shared.module[flow.then].body.body.ty.fields)
        condition, *given = arguments[:-number]
        branches = []
        for name, outer in (
            (flow.then, given[: flow.captured]),
            (flow.otherwise, given[flow.captured :]),
        ):
            branch = _Walker(self.shared)
            branch.deliver(branch.walk(name, outer), arguments[-number:])
            branches.append(branch.steps)
        self.steps.append(FlatIf(condition, *branches))

    def deliver(self, made: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
        """Let the results of this function lie where its caller wants them."""
        for tensor, place in zip(made, wanted, strict=True):
            if tensor.id in self.own and tensor.id not in self.shared.places:
                self.shared.places[tensor.id] = place
            else:
                self.steps.append(TensorCopy(tensor, place))
        self.compute_in_place(made)

    def compute_in_place(self, results: Sequence[Tensor]) -> None:
        """Let what only starts a carried value be computed where that lies, not copied there."""
        kept: list[FlatStep] = []
        later = {tensor.id for tensor in results}
        for step in reversed(self.steps):
            if (
                isinstance(step, TensorCopy)
                and step.initial
                and step.source.id in self.own
                and step.source.id not in later
                and step.source.id not in self.shared.places
            ):
                self.shared.places[step.source.id] = step.destination
                later.add(step.source.id)
                continue
            later.update(tensor.id for tensor in tensors_of(step))
            kept.append(step)
        self.steps[:] = reversed(kept)


def flatten(module: Any, flows: Flows, fused: Fused) -> FlatProgram:
    """Return ``main`` of ``module`` as a flat program.

    Args:
        module: Functions of the lowered graph.
        flows: Its external calls.
        fused: The kernels that each function calls, with the nodes that they compute.

    Raises:
        CompilerError: It holds something that is not a kernel call.
    """
    shared = _Shared(module, flows, fused)
    walker = _Walker(shared)
    outputs = walker.walk("main")
    walker.compute_in_place(outputs)
    for index, tensor in enumerate(outputs):
        place = _resolve(shared.places, tensor)
        output = shared.tensor("output", tensor.nbytes, index=index)
        if place.kind == "temporary":
            shared.places[place.id] = output
        else:
            walker.steps.append(TensorCopy(tensor, output))
    return FlatProgram(walker.steps, shared.places)


def _nbytes(ty: Any) -> int:
    shape = ty.shape.values if hasattr(ty.shape, "values") else ty.shape
    try:
        count = math.prod(int(d) for d in shape)
    except TypeError as error:
        raise CompilerError(f"lowering left a tensor without a static shape: {ty}") from error
    name = str(ty.dtype)
    if name not in DTYPES:
        raise CompilerError(f"element type '{name}' cannot be lowered yet")
    return count * DTYPES[name].itemsize


def _brief(expr: Any) -> str:
    return " ".join(str(expr).split())[:200]
