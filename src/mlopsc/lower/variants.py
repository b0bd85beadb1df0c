"""Kernels that work in place: bare functions of which one pointer stands for input and output.

Takes bare functions and what the storage plan decided; gives the functions that are called. All
pointers of a kernel promise not to overlap, and generators make use of that. So a kernel that
writes an output where an input lies gets one pointer for both: the promise holds, and whoever
compiles it sees every access.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import tvm
from tvm import tirx

from mlopsc.lower.bare import BareFunctions
from mlopsc.lower.emit import Variant
from mlopsc.lower.flatten import FlatProgram, KernelCall, calls_of
from mlopsc.lower.functions import with_values
from mlopsc.lower.lifetimes import Lifetimes, root_of
from mlopsc.lower.plan import Sharing

Merged = tuple[tuple[int, int], ...]  # number of a parameter, and of the one that stands for it


def use_in_place(
    functions: BareFunctions,
    symbols: Mapping[str, str],
    flat: FlatProgram,
    alive: Lifetimes,
    shared: frozenset[Sharing],
) -> tuple[BareFunctions, dict[int, Variant], dict[str, str]]:
    """Make the functions that calls in place need.

    Args:
        functions: All kernels.
        symbols: Names by kernel; kernels that are no bare functions take any pointers.
        flat: The program.
        alive: Which arguments of its calls could share.
        shared: Which of them do.

    Returns:
        The functions; what is called instead, by number of the call; by symbol of a function, the
        symbol of the kernel that it is a variant of. A kernel of which no other form is called
        keeps its symbol.
    """
    wanted: dict[str, dict[Merged, list[int]]] = {}
    for number, call in enumerate(calls_of(flat.steps)):
        symbol = symbols[call.kernel]
        if symbol in functions.parameters:
            merged = _merged(flat, call, alive.in_place.get(number, {}), shared)
            wanted.setdefault(symbol, {}).setdefault(merged, []).append(number)
    made = dict(functions.module.functions.items())
    parameters, scratch = dict(functions.parameters), dict(functions.scratch)
    phases = dict(functions.phases)
    variants: dict[int, Variant] = {}
    origins = {symbol: symbol for symbol in functions.parameters}
    for symbol, forms in wanted.items():
        parts = [phase.symbol for phase in phases[symbol]] or [symbol]
        bodies = {var.name_hint: (var, f) for var, f in made.items() if var.name_hint in parts}
        own = phases[symbol]
        free = () not in forms  # nothing calls the kernel as it is
        for merged, calls in sorted(forms.items()):
            if not merged:
                continue
            name = symbol if free else f"{symbol}_{'_'.join(f'{d}in{k}' for d, k in merged)}"
            free = False
            for part in parts:
                var, function = bodies[part]
                renamed = name + part.removeprefix(symbol)
                if renamed != part:
                    var = tvm.ir.GlobalVar(renamed)
                made[var] = _with_one_pointer(function, merged, renamed)
            dropped = frozenset(number for number, _ in merged)
            parameters[name] = tuple(
                p for n, p in enumerate(functions.parameters[symbol]) if n not in dropped
            )
            scratch[name], origins[name] = functions.scratch[symbol], symbol
            phases[name] = tuple(
                phase.model_copy(update={"symbol": name + phase.symbol.removeprefix(symbol)})
                for phase in own
            )
            variants.update(dict.fromkeys(calls, Variant(name, dropped)))
    module = tvm.IRModule(made)
    changed = replace(
        functions, module=module, parameters=parameters, scratch=scratch, phases=phases
    )
    return changed, variants, origins


def _merged(
    flat: FlatProgram,
    call: KernelCall,
    pairs: Mapping[tuple[int, int], Sharing],
    shared: frozenset[Sharing],
) -> Merged:
    """Return the parameters of ``call`` for which another stands: all that lie at one address."""
    roots = [root_of(flat, tensor).id for tensor in call.arguments]
    found: dict[int, int] = {}
    for (source, result), sharing in sorted(pairs.items()):
        if sharing in shared and result not in found:
            first = roots.index(roots[source])
            found[result] = first
            found.update(
                {n: first for n, r in enumerate(roots) if r == roots[first] and n != first}
            )
    return tuple(sorted(found.items()))


def _with_one_pointer(function: Any, merged: Sequence[tuple[int, int]], symbol: str) -> Any:
    """Return a bare function without the parameters for which others stand."""
    params = list(function.params)
    body = with_values(function.body, [(params[old], params[new]) for old, new in merged])
    dropped = {old for old, _ in merged}
    kept = [p for n, p in enumerate(params) if n not in dropped]
    made = tirx.PrimFunc(kept, body, function.ret_type)
    for key, value in (function.attrs or {}).items():
        made = made.with_attr(key, value)
    return made.with_attr("global_symbol", symbol)
