"""The test of a model on its board: vectors as C arrays, and the program that runs them.

Takes a ``Program`` and the bundle's vectors; gives ``selftest.c``, which is the same for all
models, and ``selftest_vectors.h``. As many vectors as flash allows, at least one.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlopsc.bundle import Bundle, Vector
from mlopsc.dtypes import DTYPES
from mlopsc.package.c_arrays import array
from mlopsc.package.driver import parameter_names
from mlopsc.resources import kernels_dir
from mlopsc.schema.program import Program
from mlopsc.schema.target import Target

MAX_VECTOR_BYTES = 64 * 1024  # of all vectors: what small boards have to spare
SELFTEST, VECTORS = "selftest.c", "selftest_vectors.h"


def selftest_files(program: Program, bundle: Bundle, target: Target, taken: int) -> dict[str, str]:
    """Return the program and its vectors, by file name.

    Args:
        program: The lowered model.
        bundle: Whose vectors.
        target: Gives tolerances and the size of flash.
        taken: Bytes of flash that the library takes.
    """
    source = kernels_dir() / "example" / SELFTEST
    room = MAX_VECTOR_BYTES
    if target.limits.flash_bytes is not None:
        room = min(room, target.limits.flash_bytes - taken)
    size = sum(s.nbytes for s in (*program.inputs, *program.outputs))
    count = max(1, min(len(bundle.vectors), room // max(size, 1)))
    return {
        SELFTEST: source.read_text(encoding="utf-8"),
        VECTORS: _vectors(program, bundle.vectors[:count], target),
    }


def _vectors(program: Program, vectors: Sequence[Vector], target: Target) -> str:
    name, prefix = program.name, program.name.upper()
    ins, outs = parameter_names(program)
    lines = [
        f"/* Test vectors of {name}, exact to the bit: generated. */",
        "#ifndef SELFTEST_VECTORS_H",
        "#define SELFTEST_VECTORS_H",
        "",
        f'#include "{name}.h"',
        "",
        f"#define SELFTEST_MODEL {name}_model",
        f"#define SELFTEST_ARENA_BYTES {prefix}_ARENA_BYTES",
        f"#define SELFTEST_ARENA_ALIGN {prefix}_ARENA_ALIGN",
        f"#define SELFTEST_VECTORS {len(vectors)}u",
        f"#define SELFTEST_INPUTS {max(len(ins), 1)}u",
        f"#define SELFTEST_OUTPUTS {max(len(outs), 1)}u",
        "",
    ]
    for number, vector in enumerate(vectors):
        for spec, c_name in zip(program.inputs, ins, strict=True):
            lines.append(array(f"{c_name}_{number}", spec.dtype, vector.inputs[spec.name]))
        for spec, c_name in zip(program.outputs, outs, strict=True):
            lines.append(array(f"right_{c_name}_{number}", spec.dtype, vector.outputs[spec.name]))
    own = [] if program.arena_io else list(zip(program.outputs, outs, strict=True))
    for spec, c_name in own:
        lines.append(f"static {DTYPES[spec.dtype].c} {c_name}[{max(spec.elements, 1)}];")
    buffers = ", ".join(c_name for _, c_name in own) or ", ".join("0" for _ in outs) or "0"
    tolerances = ", ".join(
        repr(target.tolerance(s.dtype, program.accuracy)) for s in program.outputs
    )
    lines += [
        *_table("selftest_inputs", ins, len(vectors)),
        *_table("selftest_expected", [f"right_{n}" for n in outs], len(vectors)),
        f"static void *const selftest_outputs[] = {{{buffers}}};",
        f"static const double selftest_tolerances[] = {{{tolerances or '0.0'}}};",
        "",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def _table(name: str, arrays: Sequence[str], count: int) -> list[str]:
    """Return a table of pointers: one row per vector."""
    width = max(len(arrays), 1)
    rows = [", ".join(f"{a}_{number}" for a in arrays) or "0" for number in range(count)]
    return [
        f"static const void *const {name}[{count}][{width}] = {{",
        *(f"  {{{row}}}," for row in rows),
        "};",
    ]
