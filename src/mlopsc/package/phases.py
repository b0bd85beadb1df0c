"""Writes the C of kernels that threads share: one function that runs the phases in order.

A phase with tasks goes to ``mlopsc_parallel``, which calls it for ranges of them.
"""

from __future__ import annotations

from mlopsc.package.steps import kernel_type
from mlopsc.schema.program import Kernel, Program


def is_threaded(program: Program) -> bool:
    """Whether a call of the program hands out tasks."""
    return any(phase.tasks for kernel in program.kernels.values() for phase in kernel.phases)


def phase_functions(kernel: Kernel, *, threads: bool = True) -> list[str]:
    """Return a static function with the kernel's name and parameters, and what it needs.

    Without ``threads`` it runs all tasks itself.
    """
    types = [f"{kernel_type(d)} *" for d in kernel.parameters]
    names = [f"p{index}" for index in range(len(types))]
    unpacked = ", ".join(f"({t})p[{index}]" for index, t in enumerate(types))
    lines = []
    calls = []
    for phase in kernel.phases:
        pointers = ", ".join(types)
        if not phase.tasks:
            lines.append(f"extern void {phase.symbol}({pointers});")
            calls.append(f"  {phase.symbol}({', '.join(names)});")
            continue
        if not threads:
            lines.append(f"extern void {phase.symbol}({pointers}, int32_t, int32_t);")
            calls.append(f"  {phase.symbol}({', '.join(names)}, 0, {phase.tasks});")
            continue
        run = f"{phase.symbol}_tasks"
        lines += [
            f"extern void {phase.symbol}({pointers}, int32_t, int32_t);",
            f"static void {run}(void *const *p, int32_t begin, int32_t end) {{",
            f"  {phase.symbol}({unpacked}, begin, end);",
            "}",
        ]
        calls.append(f"  mlopsc_parallel({run}, p, {phase.tasks}, {phase.grain});")
    handed = threads and any(phase.tasks for phase in kernel.phases)
    parameters = ", ".join(f"{t}{name}" for t, name in zip(types, names, strict=True))
    return [
        *lines,
        f"static void {kernel.symbol}({parameters}) {{",
        *([f"  void *const p[] = {{{', '.join(names)}}};"] if handed else []),
        *calls,
        "}",
    ]
