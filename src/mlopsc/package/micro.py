"""Writes the C that calls a hand-written kernel: what describes the call is read-only data."""

from __future__ import annotations

import textwrap

from mlopsc.dtypes import DTYPES
from mlopsc.schema.program import Kernel, MicroUse


def micro_function(kernel: Kernel, use: MicroUse) -> list[str]:
    """Return a static function with the kernel's name and parameters."""
    types = [f"{DTYPES[d].c} *" for d in kernel.parameters]
    names = [f"p{index}" for index in range(len(types))]
    arguments = list(names)
    if use.takes_scratch and not kernel.scratch:
        arguments.append("0")
    values = ", ".join(map(str, use.values))
    lines = []
    if use.structure:
        text = f"  static const {use.structure} shape = {{{values}}};"
        lines += textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="      ")
        arguments.append("&shape")
    else:
        arguments.append(values)
    parameters = ", ".join(f"{t}{name}" for t, name in zip(types, names, strict=True))
    return [
        f"static void {kernel.symbol}({parameters}) {{",
        *lines,
        f"  {use.function}({', '.join(arguments)});",
        "}",
    ]
