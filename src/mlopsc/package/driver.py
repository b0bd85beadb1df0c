"""Writes the C that joins the kernels: the model's header, its driver and its weights.

Reads a ``Program``; gives C99 text. The driver runs the steps; it holds no state between calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mlopsc.dtypes import DTYPES
from mlopsc.package.micro import micro_function
from mlopsc.package.phases import is_threaded, phase_functions
from mlopsc.package.steps import COPY_FUNCTION, StepWriter, kernel_type, needs_copy
from mlopsc.schema.common import TensorSpec, c_identifier
from mlopsc.schema.program import Kernel, Program

# Compilers take a file whose first bytes look like a byte order mark for text in another encoding,
# so the embedded file starts with this many zeros.
EMBED_OFFSET = 64
_PLACES = {  # by whether inputs and outputs lie in the arena
    True: "Inputs and outputs lie in the arena, at their offsets; inputs are garbage afterwards.",
    False: "Outputs and the arena must not overlap anything else; inputs may overlap inputs.",
}


def header(program: Program, *, version: str, target: str, threads: bool = True) -> str:
    """Return ``<name>.h``; without ``threads`` a call computes on the thread that makes it."""
    guard = f"{program.name.upper()}_H"
    prefix = program.name.upper()
    lines = [
        f"/* {program.name} {comment(version)} for {target}: generated; see mlopsc.h. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        '#include "mlopsc.h"',
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        "/* Scratch memory that a call needs; its contents need not survive between calls. */",
        f"#define {prefix}_ARENA_BYTES {program.arena_bytes}",
        f"#define {prefix}_ARENA_ALIGN {program.arena_align}",
        "",
        "/* Whether calls compute on several threads: mlopsc_set_threads is there then. */",
        f"#define {prefix}_THREADS {int(threads and is_threaded(program))}",
        "",
        "/* Number of elements of each buffer. */",
    ]
    for kind, specs in (("INPUT", program.inputs), ("OUTPUT", program.outputs)):
        for spec, name in zip(specs, _unique(specs), strict=True):
            lines.append(f"#define {prefix}_{kind}_{name.upper()}_ELEMENTS {spec.elements}")
    lines += _offsets(program)
    for kind, specs in (("INPUT", program.inputs), ("OUTPUT", program.outputs)):
        for spec, name in zip(specs, _unique(specs), strict=True):
            if spec.labels is not None:
                lines += _labels(f"{prefix}_{kind}_{name.upper()}", spec.name, spec.labels)
    lines += [
        "",
        "/* Runs the model once. Returns MLOPSC_OK or an error of mlopsc.h.",
        *(f" *   input   {comment(str(spec))}" for spec in program.inputs),
        *(f" *   output  {comment(str(spec))}" for spec in program.outputs),
        f" *   arena   {prefix}_ARENA_BYTES bytes aligned to {prefix}_ARENA_ALIGN",
        f" * {_PLACES[program.arena_io is not None]} */",
        f"int32_t {program.name}_run({_signature(program)});",
        "",
        "/* The descriptor of this model, for programs that hold several. */",
        f"const mlopsc_model *{program.name}_model(void);",
        "",
        "#ifdef __cplusplus",
        "}",
        "#endif",
        "",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def parameter_names(program: Program) -> tuple[list[str], list[str]]:
    """Return C names for the inputs and outputs: prefixed, so that none is a keyword or macro."""
    ins = [f"in_{name}" for name in _unique(program.inputs)]
    return ins, [f"out_{name}" for name in _unique(program.outputs)]


def _offsets(program: Program) -> list[str]:
    """Return the macros that say where inputs and outputs lie in the arena, if they do."""
    if program.arena_io is None:
        return []
    lines = ["", "/* Where the caller puts the inputs in the arena, and finds the outputs. */"]
    places: dict[Literal["INPUT", "OUTPUT"], tuple[int, ...]] = {
        "INPUT": program.arena_io.inputs,
        "OUTPUT": program.arena_io.outputs,
    }
    for kind, offsets in places.items():
        for index, offset in enumerate(offsets):
            lines.append(f"#define {offset_macro(program, kind, index)} {offset}")
    return lines


def offset_macro(program: Program, kind: Literal["INPUT", "OUTPUT"], index: int) -> str:
    """Return the name of the macro that says where an input or output lies in the arena."""
    name = _unique(program.inputs if kind == "INPUT" else program.outputs)[index]
    return f"{program.name.upper()}_{kind}_{name.upper()}_OFFSET"


def _labels(prefix: str, name: str, labels: Sequence[str]) -> list[str]:
    """Return the macros of a label table: an initialiser, so that who needs no table has none."""
    rows = [f"  {_quote(label)}" for label in labels] or ["  0"]
    return [
        "",
        f"/* The strings that elements of {comment(name)} stand for, as an initialiser:",
        f" * static const char *const labels[] = {prefix}_LABELS; */",
        f"#define {prefix}_LABEL_COUNT {len(labels)}",
        " \\\n".join([f"#define {prefix}_LABELS {{", *(f"{r}," for r in rows[:-1]), rows[-1], "}"]),
    ]


def _unique(specs: Sequence[TensorSpec]) -> list[str]:
    """Return lower-case identifiers that stay apart in any case."""
    names: list[str] = []
    for spec in specs:
        base = name = c_identifier(spec.name).lower()
        number = 1
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names.append(name)
    return names


def comment(text: str) -> str:
    """Return ``text`` such that it cannot end, open or continue a C comment."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/").replace("?", "_")


def _signature(program: Program) -> str:
    ins, outs = parameter_names(program)
    parameters = [
        f"const {DTYPES[s.dtype].c} *{n}" for s, n in zip(program.inputs, ins, strict=True)
    ]
    parameters += [f"{DTYPES[s.dtype].c} *{n}" for s, n in zip(program.outputs, outs, strict=True)]
    return ", ".join([*parameters, "void *arena"])


def driver(
    program: Program, *, version: str, target: str, bundle: str, threads: bool = True
) -> str:
    """Return ``model.c``: the typed entry, the generic entry and the descriptor."""
    ins, outs = parameter_names(program)
    name = program.name
    lines = [
        f"/* {name}: calls the kernels in order. Generated; C99, no state, no allocation. */",
        "#include <stdbool.h>",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        f'#include "{name}.h"',
        *(['#include "mlopsc_micro.h"'] if any(k.micro for k in program.kernels.values()) else []),
        "",
        "#if defined(__GNUC__)",
        '#define MLOPSC_EXPORT __attribute__((visibility("default")))',
        "#define MLOPSC_WEAK __attribute__((weak))",
        "#elif defined(__ICCARM__) || defined(__ICCRISCV__)",
        "#define MLOPSC_EXPORT",
        "#define MLOPSC_WEAK __weak",
        "#else",
        "#define MLOPSC_EXPORT",
        "#define MLOPSC_WEAK",
        "#endif",
        "",
        "/* An address as the pointer a kernel takes. Kernels write only to their outputs. */",
        "#define AT(type, address) ((type *)(uintptr_t)(address))",
        "",
    ]
    if program.weights_bytes:
        lines.append(f"extern const unsigned char {name}_weights[];")
    for kernel in program.kernels.values():
        if kernel.micro is not None:
            lines += micro_function(kernel, kernel.micro)
        else:
            lines += (
                phase_functions(kernel, threads=threads) if kernel.phases else [_prototype(kernel)]
            )
    if needs_copy(program.steps):
        lines += ["", *COPY_FUNCTION]
    lines += [
        "",
        f"MLOPSC_EXPORT int32_t {name}_run({_signature(program)}) {{",
        *_checks(program, ins, outs),
        *StepWriter(program, ins, outs).write(program.steps),
    ]
    lines += ["  return MLOPSC_OK;", "}", "", *_generic(program), ""]
    lines += _descriptor(program, version=version, target=target, bundle=bundle)
    return "\n".join(lines) + "\n"


def weights_source(program: Program, *, embed: str | None, data: bytes = b"") -> str:
    """Return ``weights.c``.

    Args:
        program: Whose weights.
        embed: Name of a file to include with ``#embed`` (compilers since 2023), or None to write
            the bytes as portable hexadecimal.
        data: The bytes, for the portable form.
    """
    opening = (
        f"/* Weights of {program.name}: generated. */\n"
        "#if defined(__GNUC__)\n"
        f'__attribute__((aligned({max(program.arena_align, 16)}), visibility("hidden")))\n'
        "#endif\n"
        f"const unsigned char {program.name}_weights[{program.weights_bytes}] = {{\n"
    )
    if embed is not None:
        return f'{opening}#embed "{embed}" clang::offset({EMBED_OFFSET})\n}};\n'
    text = data.hex()
    rows = (
        ",".join(f"0x{text[i : i + 2]}" for i in range(start, min(start + 32, len(text)), 2))
        for start in range(0, len(text), 32)
    )
    return opening + ",\n".join(rows) + "\n};\n"


def _prototype(kernel: Kernel) -> str:
    parameters = ", ".join(f"{kernel_type(d)} *" for d in kernel.parameters)
    return f"extern void {kernel.symbol}({parameters});"


def _checks(program: Program, ins: Sequence[str], outs: Sequence[str]) -> list[str]:
    names = [*ins, *outs, *(["arena"] if program.arena_bytes else [])]
    aligned = [
        f"((uintptr_t){name} & {DTYPES[spec.dtype].itemsize - 1}u)"
        for name, spec in zip((*ins, *outs), (*program.inputs, *program.outputs), strict=True)
        if DTYPES[spec.dtype].itemsize > 1
    ]
    if program.arena_bytes:
        aligned.append(f"((uintptr_t)arena & {program.arena_align - 1}u)")
    lines = [f"  if ({' || '.join('!' + n for n in names)}) return MLOPSC_ERROR_NULL;"]
    if aligned:
        lines.append(f"  if ({' | '.join(aligned)}) return MLOPSC_ERROR_ALIGNMENT;")
    if program.arena_bytes:
        lines.append("  unsigned char *scratch = (unsigned char *)arena;")
        if program.arena_io:
            offsets = (*program.arena_io.inputs, *program.arena_io.outputs)
            apart = [
                f"(const unsigned char *){name} != scratch + {offset}"
                for name, offset in zip((*ins, *outs), offsets, strict=True)
            ]
            lines.append(f"  if ({' || '.join(apart)}) return MLOPSC_ERROR_PLACE;")
    else:
        lines.append("  (void)arena;")
    return lines


def _generic(program: Program) -> list[str]:
    """Return the entry behind the descriptor: arrays of pointers in, the typed entry called."""
    arguments = [
        *(f"(const {DTYPES[s.dtype].c} *)inputs[{i}]" for i, s in enumerate(program.inputs)),
        *(f"({DTYPES[s.dtype].c} *)outputs[{i}]" for i, s in enumerate(program.outputs)),
        "arena",
    ]
    return [
        "static int32_t run(const void *const *inputs, void *const *outputs, void *arena) {",
        *([] if program.inputs else ["  (void)inputs;"]),
        f"  if ({'!inputs || ' if program.inputs else ''}!outputs) return MLOPSC_ERROR_NULL;",
        f"  return {program.name}_run({', '.join(arguments)});",
        "}",
    ]


def _descriptor(program: Program, *, version: str, target: str, bundle: str) -> list[str]:
    lines = []
    for kind, specs in (("inputs", program.inputs), ("outputs", program.outputs)):
        lines += [_shape(f"{kind}_{i}_shape", spec) for i, spec in enumerate(specs)]
        rows = [
            f"    {{{_quote(s.name)}, {kind}_{i}_shape, {s.nbytes}u, {DTYPES[s.dtype].c_macro}, "
            f"{len(s.shape)}, 0.0f, 0}},"
            for i, s in enumerate(specs)
        ] or ["    {0, 0, 0, 0, 0, 0.0f, 0},"]
        lines += [f"static const mlopsc_tensor {kind}_table[] = {{", *rows, "};"]
        if program.arena_io:
            places = getattr(program.arena_io, kind) or (0,)
            values = ", ".join(f"{offset}u" for offset in places)
            lines.append(f"static const uint64_t {kind}_places[] = {{{values}}};")
    fields = [
        "MLOPSC_ABI_VERSION",
        "(uint32_t)sizeof(mlopsc_model)",
        _quote(program.name),
        _quote(version),
        _quote(target),
        _quote(bundle),
        "inputs_table",
        "outputs_table",
        f"{len(program.inputs)}u",
        f"{len(program.outputs)}u",
        f"{program.arena_bytes}u",
        f"{program.arena_align}u",
        "run",
        *(["inputs_places", "outputs_places"] if program.arena_io else ["0", "0"]),
    ]
    return [
        *lines,
        "static const mlopsc_model descriptor = {",
        *(f"    {field}," for field in fields),
        "};",
        "",
        f"MLOPSC_EXPORT const mlopsc_model *{program.name}_model(void) {{ return &descriptor; }}",
        "",
        "/* Weak, so that a program may link several models. */",
        "MLOPSC_EXPORT MLOPSC_WEAK const mlopsc_model *mlopsc_model_get(void) {",
        "  return &descriptor;",
        "}",
    ]


def _shape(name: str, spec: TensorSpec) -> str:
    sizes = ", ".join(map(str, spec.shape)) or "0"
    return f"static const int64_t {name}[] = {{{sizes}}};"


def _quote(text: str) -> str:
    """Return a C string literal; anything but plain ASCII becomes octal escapes."""
    out = []
    for byte in text.encode():
        char = chr(byte)
        out.append(char if 32 <= byte < 127 and char not in '"\\?' else f"\\{byte:03o}")
    return '"' + "".join(out) + '"'
