"""Writes the steps of a ``Program`` as C statements: calls, copies, loops and conditionals.

A loop declares one counter and two pointers per carried value, ``s`` (what an iteration reads) and
``n`` (what it writes), which change places after every iteration; only what the last iteration left
in the second buffer is copied.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from mlopsc.dtypes import DTYPES
from mlopsc.schema.program import Call, Copy, If, Location, Loop, Program, Step

COPY_FUNCTION = (
    "static void copy(void *to, const void *from, size_t bytes) {",
    "  unsigned char *d = (unsigned char *)to;",
    "  const unsigned char *s = (const unsigned char *)from;",
    "  while (bytes--) *d++ = *s++;",
    "}",
)


def kernel_type(dtype: str) -> str:
    """Return the C type of the elements that kernels see; truth values are ``uint8_t`` outside."""
    return "bool" if dtype == "bool" else DTYPES[dtype].c


def needs_copy(steps: Iterable[Step]) -> bool:
    """Whether the statements call ``copy``."""
    for step in steps:
        if isinstance(step, Copy) or (isinstance(step, Loop) and step.states):
            return True
        if isinstance(step, Loop) and needs_copy(step.body):
            return True
        if isinstance(step, If) and needs_copy((*step.then, *step.otherwise)):
            return True
    return False


class StepWriter:
    """Writes statements for one program.

    ``AT(type, address)`` must be defined, and ``copy`` where ``needs_copy`` says so.
    """

    def __init__(self, program: Program, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Take the program and the C names of its inputs and outputs."""
        self._program = program
        self._names = {"input": inputs, "output": outputs}

    def write(self, steps: Iterable[Step], depth: int = 1) -> Iterator[str]:
        """Yield the lines of ``steps``, indented."""
        indent = "  " * depth
        for step in steps:
            match step:
                case Call():
                    yield from self._call(step, indent)
                case Copy():
                    to, source = self.place(step.destination), self.place(step.source)
                    yield f"{indent}copy({to}, {source}, {step.nbytes});"
                case If():
                    yield f"{indent}if (*AT(uint8_t, {self.place(step.condition)})) {{"
                    yield from self.write(step.then, depth + 1)
                    yield f"{indent}}} else {{"
                    yield from self.write(step.otherwise, depth + 1)
                    yield f"{indent}}}"
                case Loop():
                    yield f"{indent}{{"
                    yield from self._loop(step, depth + 1)
                    yield f"{indent}}}"

    def _loop(self, loop: Loop, depth: int) -> Iterator[str]:
        indent, inner = "  " * depth, "  " * (depth + 1)
        for state in loop.states:
            for name, location in (("s", state.home), ("n", state.other)):
                start = self.place(location)
                yield f"{indent}unsigned char *{name}{state.index} = AT(unsigned char, {start});"
        counter = f"i{loop.index}"
        limits = []
        if isinstance(loop.trip_count, Location):
            limits.append(f"{counter} < *AT(int64_t, {self.place(loop.trip_count)})")
        elif loop.trip_count is not None:
            limits.append(f"{counter} < {loop.trip_count}")
        if loop.condition is not None:
            limits.append(f"*s{loop.condition}")
        yield f"{indent}for (int64_t {counter} = 0; {' && '.join(limits)}; {counter}++) {{"
        yield from self.write(loop.body, depth + 1)
        if loop.states:
            yield f"{inner}unsigned char *t;"
        for state in loop.states:
            read, write = f"s{state.index}", f"n{state.index}"
            yield f"{inner}t = {read}, {read} = {write}, {write} = t;"
        yield f"{indent}}}"
        for state in loop.states:
            home, read = f"AT(unsigned char, {self.place(state.home)})", f"s{state.index}"
            yield f"{indent}if ({read} != {home}) copy({home}, {read}, {state.nbytes});"

    def _call(self, call: Call, indent: str) -> Iterator[str]:
        types = self._program.kernels[call.kernel].parameters
        values = [
            f"AT({kernel_type(dtype)}, {self.place(location)})"
            for location, dtype in zip(call.arguments, types, strict=True)
        ]
        yield from textwrap.wrap(
            f"{call.kernel}({', '.join(values)});",
            100,
            initial_indent=indent,
            subsequent_indent=f"{indent}    ",
            break_long_words=False,
            break_on_hyphens=False,
        )

    def place(self, location: Location) -> str:
        """Return a C expression for the address of ``location``."""
        match location.place:
            case "input" | "output":
                base = self._names[location.place][location.index]
            case "weights":
                base = f"{self._program.name}_weights"
            case "arena":
                base = "scratch"
            case "state" | "next":
                base = f"{location.place[0]}{location.index}"
            case "counter":
                base = f"&i{location.index}"
        if location.strides and location.place in ("input", "output"):
            base = f"AT(unsigned char, {base})"
        if location.place in ("weights", "arena"):
            base += f" + {location.offset}"
        return base + "".join(f" + {s.nbytes} * (size_t)i{s.loop}" for s in location.strides)
