"""The generated C: valid for any names, without warnings, in C and in C++."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlopsc.package.driver import driver, header, parameter_names, weights_source
from mlopsc.resources import kernels_dir
from mlopsc.schema.common import TensorSpec, c_identifier, digest_bytes
from mlopsc.schema.program import Call, Copy, Kernel, Location, Phase, Program
from mlopsc.tools import run_zig

BUNDLE = digest_bytes(b"")
STRICT = ["-Wall", "-Wextra", "-Wshadow", "-Werror", "-pedantic"]

C_KEYWORDS = ["int", "float", "default", "register", "restrict", "_Bool", "inline", "bool", "true"]
CPP_KEYWORDS = [
    "class",
    "new",
    "this",
    "template",
    "operator",
    "and",
    "private",
    "throw",
    "alignas",
]
MACROS = ["linux", "unix", "NULL", "INT8_MAX", "MLOPSC_OK", "assert", "errno", "stdin"]
TYPES = ["int8_t", "uintptr_t", "int64_t", "size_t", "mlopsc_model", "mlopsc_tensor"]
OURS = [
    "arena", "scratch", "copy", "run", "inputs", "outputs", "descriptor", "inputs_table", "m_run",
    "m_model", "m_weights", "m_k0", "mlopsc_model_get", "main", "memcpy", "inputs_0_shape",
]  # fmt: skip
ODD = [
    "1:weird name/ä", "", " ", "🙂", "日本", "a*/b", "a/*b", "a//b", "*/ int x; /*", 'say "hi"',
    "back\\slash", "ends\\", "two\nlines", "tab\there", "percent%s", "??/", "$dollar", "a.b", "a-b",
    "-1", "__reserved", "_Upper", "\x01", "x" * 500,
]  # fmt: skip


def spec(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def make(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], *, name: str = "m"
) -> Program:
    """Return a program with an arena, weights, a kernel and a copy, so that all the C is there."""
    arguments = (
        Location(place="input", index=0),
        Location(place="weights", offset=64),
        Location(place="arena", offset=128),
        Location(place="output", index=0),
    )
    kernel = Kernel(
        symbol=f"{name}_k0", parameters=("float32",) * 4, scratch=(), schedule="as generated"
    )
    return Program(
        name=name,
        generator="c",
        schedule="tiled",
        accuracy="fast",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        kernels={kernel.symbol: kernel},
        steps=(
            Call(kernel=kernel.symbol, arguments=arguments),
            Copy(
                source=Location(place="weights"),
                destination=Location(place="output", index=len(outputs) - 1),
                nbytes=16,
            ),
        ),
        arena_bytes=256,
        arena_align=64,
        arena_lower_bound=256,
        weights_bytes=128,
        weights_digest=BUNDLE,
        runtime_symbols=(),
    )


def write(program: Program, folder: Path, *, version: str = "1.0", target: str = "host") -> None:
    shutil.copyfile(kernels_dir() / "include" / "mlopsc.h", folder / "mlopsc.h")
    text = header(program, version=version, target=target)
    (folder / f"{program.name}.h").write_text(text, encoding="utf-8")
    text = driver(program, version=version, target=target, bundle=BUNDLE)
    (folder / "model.c").write_text(text, encoding="utf-8")


def compile_all(program: Program, folder: Path, *, version: str = "1.0") -> None:
    """Compile the driver as C99, and programs that use the header as C with extensions and C++."""
    write(program, folder, version=version)
    use = (
        f'#include "{program.name}.h"\n'
        f"const mlopsc_model *get(void);\n"
        f"const mlopsc_model *get(void) {{ return {program.name}_model(); }}\n"
    )
    (folder / "use.c").write_text(use)
    (folder / "use.cpp").write_text(use)
    run_zig(["cc", "-std=c99", *STRICT, "-c", "model.c", "-o", "model.o"], cwd=folder)
    run_zig(["cc", "-std=gnu17", *STRICT, "-c", "use.c", "-o", "use.o"], cwd=folder)
    run_zig(["c++", "-std=c++17", *STRICT, "-c", "use.cpp", "-o", "use.o"], cwd=folder)


def test_names_say_their_direction(tmp_path: Path) -> None:
    program = make([spec("image", 1, 3, 8, 8)], [spec("scores", 10)])
    assert parameter_names(program) == (["in_image"], ["out_scores"])
    compile_all(program, tmp_path)
    text = (tmp_path / "m.h").read_text()
    assert "int32_t m_run(const float *in_image, float *out_scores, void *arena);" in text
    assert "#define M_ARENA_BYTES 256" in text
    assert "#define M_INPUT_IMAGE_ELEMENTS 192" in text
    assert "#define M_OUTPUT_SCORES_ELEMENTS 10" in text


@pytest.mark.parametrize("name", C_KEYWORDS + CPP_KEYWORDS + MACROS + TYPES + OURS + ODD)
def test_any_name_of_an_input_compiles(name: str, tmp_path: Path) -> None:
    compile_all(make([spec(name, 4), spec("other", 4)], [spec("result", 4)]), tmp_path)


@pytest.mark.parametrize("name", ["int", "class", "scratch", "copy", "m_weights", "a*/b", "linux"])
def test_any_name_of_an_output_compiles(name: str, tmp_path: Path) -> None:
    compile_all(make([spec("x", 4)], [spec("result", 4), spec(name, 4)]), tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("x", "X"),
        ("x:0", "x/0", "x 0"),
        ("x", "x_2", "X"),
        ("a b", "a_b", "a-b", "a_b_2"),
        ("", "model", "\x01"),
        ("1", "m1"),
        ("y",),
    ],
)
def test_names_that_clash_stay_apart(names: tuple[str, ...], tmp_path: Path) -> None:
    program = make(
        [spec(n, 4 + i) for i, n in enumerate(names)], [spec("y", 4), spec("Y", 9), spec("x_3", 5)]
    )
    ins, outs = parameter_names(program)
    assert len({*ins, *outs}) == len(names) + 3
    compile_all(program, tmp_path)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=6))
def test_parameter_names_are_unique_identifiers(names: list[str]) -> None:
    ins, outs = parameter_names(make([spec(n, 1) for n in names], [spec(n, 1) for n in names]))
    everything = [*ins, *outs]
    assert len(set(everything)) == 2 * len(names)
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", n) for n in everything)


@settings(max_examples=300)
@given(st.text(max_size=12))
def test_c_identifier_is_one(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", c_identifier(name))


def test_labels_are_an_initialiser_of_any_text(tmp_path: Path) -> None:
    texts = (*ODD, "")
    labels = tuple(dict.fromkeys(texts))
    made = TensorSpec(name="a */ label", dtype="int64", shape=(2,), labels=labels)
    none = TensorSpec(name="none", dtype="int64", shape=(0,), labels=())
    program = make([spec("x", 4)], [made, none, spec("y", 4)])
    compile_all(program, tmp_path)  # unused tables give no warning
    assert "M_OUTPUT_Y_LABEL" not in (tmp_path / "m.h").read_text()
    (tmp_path / "labels.c").write_text(
        '#include "m.h"\n'
        "extern const char *const labels[];\n"
        "extern const char *const none[];\n"
        "extern const int counts[];\n"
        "const char *const labels[] = M_OUTPUT_A____LABEL_LABELS;\n"
        "const char *const none[] = M_OUTPUT_NONE_LABELS;\n"
        "const int counts[] = {M_OUTPUT_A____LABEL_LABEL_COUNT, M_OUTPUT_NONE_LABEL_COUNT};\n"
    )
    for standard in (["cc", "-std=c99"], ["c++", "-x", "c++", "-std=c++17"]):
        run_zig([*standard, *STRICT, "-c", "labels.c", "-o", "labels.o"], cwd=tmp_path)
    run_zig(["cc", "-shared", "-fPIC", "labels.c", "-o", "labels.so"], cwd=tmp_path)
    library = ctypes.CDLL(str(tmp_path / "labels.so"))
    assert list((ctypes.c_int * 2).in_dll(library, "counts")) == [len(labels), 0]
    found = (ctypes.c_char_p * len(labels)).in_dll(library, "labels")
    assert tuple((text or b"").decode() for text in found) == labels


@pytest.mark.parametrize("version", ["1 */ 2", "/*", '1.0"', "\\", "ä", "two\nlines", "??/", "%s"])
def test_any_version_compiles(version: str, tmp_path: Path) -> None:
    compile_all(make([spec("x", 4)], [spec("y", 4)]), tmp_path, version=version)


@pytest.mark.parametrize("name", ["m", "run", "copy", "M", "int_", "_x", "a1"])
def test_any_name_of_the_model_compiles(name: str, tmp_path: Path) -> None:
    compile_all(make([spec("x", 4)], [spec("y", 4)], name=name), tmp_path)


def test_names_reach_the_descriptor_exactly(tmp_path: Path) -> None:
    from mlopsc.abi import read_descriptor
    from mlopsc.targets import load_target
    from mlopsc.toolchain import compile_object, link_shared

    odd = 'say "hi"\\ ?? \x01 ä 🙂 123'
    program = make(
        [spec(odd, 4), spec("flags", 2, 3, dtype="bool")], [spec("y", 4), spec("n", dtype="int64")]
    )
    write(program, tmp_path, version=odd, target="host")
    pointers = "float *, float *, float *, float *"
    (tmp_path / "kernel.c").write_text(f"void m_k0({pointers}) {{}}\n")
    (tmp_path / "weights.c").write_text(weights_source(program, embed=None, data=bytes(128)))
    host = load_target("host")
    sources = ("model.c", "kernel.c", "weights.c")
    objects = [compile_object(host, s, folder=tmp_path, include=["."]) for s in sources]
    link_shared(host, objects, "libm.so", exports=[], folder=tmp_path)
    library = ctypes.CDLL(str(tmp_path / "libm.so"))
    library.mlopsc_model_get.restype = ctypes.c_void_p
    found = read_descriptor(ctypes.string_at, library.mlopsc_model_get(), pointer_bits=64)
    assert (found.name, found.version, found.target, found.bundle) == ("m", odd, "host", BUNDLE)
    assert found.inputs == program.inputs
    assert found.outputs == program.outputs
    assert (found.arena_bytes, found.arena_align) == (256, 64)


def test_sizes_beyond_32_bits_compile(tmp_path: Path) -> None:
    program = make([spec("x", 1 << 20, 1 << 14)], [spec("y", 4)])
    compile_all(program.model_copy(update={"arena_bytes": 5 << 32}), tmp_path)


def test_model_without_inputs_compiles(tmp_path: Path) -> None:
    program = make([spec("x", 4)], [spec("y", 4)])
    call = program.steps[0]
    assert isinstance(call, Call)
    arguments = (Location(place="weights"), *call.arguments[1:])
    steps = (Call(kernel=call.kernel, arguments=arguments),)
    compile_all(program.model_copy(update={"inputs": (), "steps": steps}), tmp_path)


def test_model_without_arena_weights_and_copies_compiles(tmp_path: Path) -> None:
    arguments = (Location(place="input"), Location(place="input"), *[Location(place="output")] * 2)
    program = make([spec("x", 4)], [spec("y", 4)]).model_copy(
        update={
            "arena_bytes": 0,
            "weights_bytes": 0,
            "steps": (Call(kernel="m_k0", arguments=arguments),),
        }
    )
    compile_all(program, tmp_path)


@pytest.mark.parametrize("data", [bytes(range(256)) * 2, b"\xef\xbb\xbf", b"\xff\xfe", b"\0"])
def test_weights_in_portable_form_are_the_bytes(data: bytes, tmp_path: Path) -> None:
    program = make([spec("x", 4)], [spec("y", 4)]).model_copy(update={"weights_bytes": len(data)})
    text = weights_source(program, embed=None, data=data)
    assert bytes(int(b, 16) for b in re.findall(r"0x([0-9a-f]{2})", text)) == data
    (tmp_path / "weights.c").write_text(text)
    run_zig(["cc", "-std=c99", *STRICT, "-c", "weights.c", "-o", "weights.o"], cwd=tmp_path)


def shared(program: Program) -> Program:
    """Return ``program`` with its kernel in three phases, the second shared by threads."""
    (kernel,) = program.kernels.values()
    phases = (
        Phase(symbol=f"{kernel.symbol}_p0"),
        Phase(symbol=f"{kernel.symbol}_p1", tasks=100, grain=7),
        Phase(symbol=f"{kernel.symbol}_p2"),
    )
    kernels = {kernel.symbol: kernel.model_copy(update={"phases": phases})}
    return program.model_copy(update={"kernels": kernels})


def test_phases_run_in_order_and_tasks_are_handed_out(tmp_path: Path) -> None:
    program = shared(make([spec("x", 4)], [spec("y", 4)]))
    compile_all(program, tmp_path)
    assert "#define M_THREADS 1" in (tmp_path / "m.h").read_text()
    parameters = "float *a, float *b, float *c, float *d"
    (tmp_path / "main.c").write_text(
        '#include "m.h"\n#include <stdio.h>\n'
        "const unsigned char m_weights[128];\n"
        f'void m_k0_p0({parameters}) {{ printf("first %d ", a != b && c != d); }}\n'
        f"void m_k0_p1({parameters}, int32_t begin, int32_t end) {{\n"
        '  printf("%d-%d %d ", begin, end, a != b && c != d);\n}\n'
        f'void m_k0_p2({parameters}) {{ printf("last %d", a != b && c != d); }}\n'
        "void mlopsc_parallel(mlopsc_task run, void *const *args, int32_t tasks, int32_t grain) {\n"
        "  run(args, 0, grain), run(args, grain, tasks);\n}\n"
        "static _Alignas(64) unsigned char arena[256];\n"
        "int main(void) { float x[4], y[4]; return m_run(x, y, arena); }\n"
    )
    run_zig(["cc", "-w", "main.c", "model.c", "-o", "main"], cwd=tmp_path)
    done = subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, check=True)
    assert done.stdout == "first 1 0-7 1 7-100 1 last 1"


def test_a_program_without_tasks_has_no_threads(tmp_path: Path) -> None:
    compile_all(make([spec("x", 4)], [spec("y", 4)]), tmp_path)
    assert "#define M_THREADS 0" in (tmp_path / "m.h").read_text()
    assert "mlopsc_parallel" not in (tmp_path / "model.c").read_text()
