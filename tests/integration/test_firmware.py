"""What firmware compiles: warning-free C, models that link together, a test that runs on boards."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import firmware
import models
import pytest
from firmware import STRICTER, compile_strictly, compilers, globals_of, link_image, on_board
from support import SHARED_MODELS

import mlopsc
from mlopsc.errors import InputError
from mlopsc.rebuild import rebuild
from mlopsc.resources import kernels_dir
from mlopsc.schema.build_options import LAYOUT_NAMES

BOARD = "cortex-m4f"
PORTABLE = "cortex-m0plus"  # the same integers without intrinsics, for every compiler
NM = pytest.mark.tool("nm")


@pytest.fixture(scope="module")
def digits(digits_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of the float model for a board and the host, in C, in every layout."""
    folder = tmp_path_factory.mktemp("firmware")
    mlopsc.build(digits_bundle, [BOARD, "host"], folder, generator="c", source_code=True,
                 layouts=LAYOUT_NAMES)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def integers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a model of 8-bit integers."""
    source = SHARED_MODELS / "mlperf-tiny" / "kws_int8.onnx"
    if not source.is_file():
        pytest.skip(f"no model {source.name}")
    folder = tmp_path_factory.mktemp("integers")
    mlopsc.build(source, [BOARD, PORTABLE], folder, source_code=True, layouts=["source"])
    return folder


def check_without_warnings(package: Path, compiler: str, folder: Path) -> None:
    """Compile all C of a package with the promised flags, the single file with more."""
    include = f"-I{package / 'include'}"
    plain = [p for p in sorted((package / "src").glob("*.c")) if p.name != "mlopsc_pool.c"]
    compile_strictly(compiler, plain, folder, include)
    examples = [
        p
        for p in sorted((package / "examples").glob("*.c"))
        if "-m" in compiler or not p.name.endswith("_start.c")
    ]
    bare = ["-DEXAMPLE_BARE"] if "-m" in compiler else []
    compile_strictly(compiler, examples, folder, include, *bare)
    source = package / "layouts" / "source"
    single = [*sorted(source.glob("*.c")), source / "selftest" / "selftest.c"]
    objects = compile_strictly(compiler, single[:-1], folder, *STRICTER)
    assert len(objects) == 2
    compile_strictly(compiler, single[-1:], folder, *STRICTER, f"-I{source}")


@compilers("gcc", "clang", "zig-m4")
def test_generated_c_of_a_float_model_has_no_warnings(
    compiler: str, digits: Path, tmp_path: Path
) -> None:
    check_without_warnings(digits / BOARD, compiler, tmp_path)


@compilers("gcc", "clang", "gcc-m4")
@pytest.mark.shared_models
def test_generated_c_of_an_integer_model_has_no_warnings(
    compiler: str, integers: Path, tmp_path: Path
) -> None:
    target = BOARD if "-m" in compiler else PORTABLE
    check_without_warnings(integers / target, compiler, tmp_path)


@compilers("gcc")
def test_runtime_has_no_warnings(compiler: str, tmp_path: Path) -> None:
    """All files of ``kernels/`` that go into packages, each for a machine that has it."""
    root = kernels_dir()
    machine = compiler.partition("-")[2]
    files = [*sorted((root / "runtime").glob("*.c")), *sorted((root / "micro").glob("*.c"))]
    where = {"mlopsc_pool": ("",), "_dsp": ("m4",), "_mve": ("m55",)}
    chosen = [
        file
        for file in files
        if all(machine in machines for end, machines in where.items() if file.stem.endswith(end))
    ]
    assert len(chosen) > 20
    include = [f"-I{root / name}" for name in ("include", "runtime", "micro")]
    compile_strictly(compiler, chosen, tmp_path, *include)


def test_warnings_are_noticed(tmp_path: Path) -> None:
    """The check itself fails where it must."""
    source = tmp_path / "bad.c"
    source.write_text("int f(long x);\nint f(long x) { return x; }\n")
    for compiler in ("zig-m4", *(c for c in ("gcc", "clang") if shutil.which(c))):
        if compiler == "zig-m4":  # long has 32 bits there
            source.write_text("short f(int x);\nshort f(int x) { return x; }\n")
        with pytest.raises(AssertionError, match="conversion"):
            compile_strictly(compiler, [source], tmp_path)


@pytest.mark.tool("gcc")
@NM
def test_only_the_interface_is_global(digits: Path, tmp_path: Path) -> None:
    source = digits / "host" / "layouts" / "source"
    symbols = globals_of(compile_strictly("gcc", sorted(source.glob("*.c")), tmp_path))
    interface = {"digits_run", "digits_model", "mlopsc_model_get", "digits_weights"}
    assert symbols["defined"] == interface
    assert symbols["undefined"] - interface <= {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}


@pytest.mark.tool("gcc")
def test_two_models_of_different_versions_live_in_one_program(digits: Path, tmp_path: Path) -> None:
    """The runtime of one is changed; both compute what they computed alone."""
    models.save(models.one_op("Softmax", (1, 4)), tmp_path / "other.onnx")
    mlopsc.build(tmp_path / "other.onnx", "host", tmp_path, generator="c", layouts=["source"])
    first = digits / "host" / "layouts" / "source"
    second = tmp_path / "host" / "layouts" / "source"
    code = (second / "other.c").read_text()
    changed = code.replace("1.44269504f", "1.44269503f").replace(
        "MLOPSC_LOCAL float mlopsc_expf(float x) {",
        "MLOPSC_LOCAL float mlopsc_expf(float x) {\n  x = x * 0.0f;",
    )
    assert changed != code
    (second / "other.c").write_text(changed)
    main = tmp_path / "main.c"
    main.write_text(
        '#include "digits.h"\n#include "other.h"\n#include <stdio.h>\n'
        "int mlopsc_selftest(void);\n"
        "int main(void) {\n"
        "  float x[4] = {1, 2, 3, 4}, y[4];\n"
        "  static _Alignas(OTHER_ARENA_ALIGN) unsigned char arena[OTHER_ARENA_BYTES + 1];\n"
        "  if (other_run(x, y, arena) != MLOPSC_OK) return 1;\n"
        '  printf("%g %g\\n", (double)y[0], (double)y[3]);\n'
        "  return mlopsc_selftest();\n}\n"
    )
    program = tmp_path / "both"
    firmware.run(["gcc", "-std=c11", "-O2", "-DSELFTEST_NO_MAIN", f"-I{first}", f"-I{second}",
                  main, *sorted(first.glob("*.c")), *sorted(second.glob("*.c")),
                  first / "selftest" / "selftest.c", "-lm", "-o", program])  # fmt: skip
    assert firmware.run([program]) == "0.25 0.25\nPASS 10/10\n"


@pytest.mark.tool("qemu-system-arm")
@pytest.mark.parametrize("way", ["library", "single", "uart"])
def test_selftest_passes_on_a_board(way: str, digits: Path, tmp_path: Path) -> None:
    package = digits / BOARD
    source = package / "layouts" / "source"
    flags = [f"-DMLOPSC_UART_{k}={v}" for k, v in firmware.UART.items()] if way == "uart" else []
    model: list[str | Path] = (
        [f"-I{source}", *sorted(source.glob("*.c"))]
        if way == "single"
        else [f"-I{package / 'include'}", package / "lib" / "libdigits.a"]
    )
    test = package / "examples" / "selftest.c"
    image = link_image(BOARD, [*flags, test, *model], package / "examples", tmp_path)
    serial = "stdio" if way == "uart" else "none"
    assert on_board(BOARD, image, serial=serial) == (0, "PASS 10/10\n")


@pytest.mark.shared_models
@pytest.mark.tool("qemu-system-arm", "qemu-system-riscv32")
@pytest.mark.parametrize(
    ("board", "in_arena"),
    [
        ("riscv32-imac", False),
        pytest.param("riscv32-imac", True, marks=pytest.mark.slow),
        pytest.param("cortex-m55", False, marks=pytest.mark.slow),
        (BOARD, True),
    ],
)
def test_selftest_of_an_integer_model_passes_on_boards(
    board: str, in_arena: bool, tmp_path: Path
) -> None:
    """From the single file; also where inputs and outputs lie in the arena."""
    source = SHARED_MODELS / "mlperf-tiny" / "kws_int8.onnx"
    mlopsc.build(source, board, tmp_path / "out", layouts=["source"], io_in_arena=in_arena)
    package = tmp_path / "out" / board
    single = package / "layouts" / "source"
    inputs = [f"-I{single}", *sorted(single.glob("*.c")), single / "selftest" / "selftest.c"]
    image = link_image(board, inputs, package / "examples", tmp_path)
    status, text = on_board(board, image)
    assert re.fullmatch(r"PASS (\d+)/\1\n", text), text
    assert status == 0


@pytest.mark.tool("qemu-system-arm")
def test_selftest_says_what_is_wrong(digits: Path, tmp_path: Path) -> None:
    package = digits / BOARD
    folder = tmp_path / "examples"
    shutil.copytree(package / "examples", folder)
    vectors = (folder / "selftest_vectors.h").read_text()
    wrong = re.sub(r"(right_out_probabilities_3\[10\] = \{\s*)[^,]+", r"\g<1>0x1.0p-1", vectors)
    assert wrong != vectors
    (folder / "selftest_vectors.h").write_text(wrong)
    inputs = [folder / "selftest.c", f"-I{package / 'include'}", package / "lib" / "libdigits.a"]
    status, text = on_board(BOARD, link_image(BOARD, inputs, folder, tmp_path))
    assert status == 1
    first, last = text.splitlines()
    assert re.fullmatch(
        r"FAIL vector 3 output probabilities element 0 got 0x[0-9a-f]{8} expected 0x3f000000", first
    )
    assert last == "FAIL 9/10"


@pytest.mark.shared_models
@pytest.mark.tool("gcc")
def test_selftest_of_an_integer_model_passes(integers: Path, tmp_path: Path) -> None:
    """From source, with another compiler than the library's: the same bits."""
    source = integers / PORTABLE / "layouts" / "source"
    program = tmp_path / "selftest"
    firmware.run(["gcc", "-std=c11", "-O2", f"-I{source}", *sorted(source.glob("*.c")),
                  source / "selftest" / "selftest.c", "-lm", "-o", program])  # fmt: skip
    assert re.fullmatch(r"PASS (\d+)/\1\n", firmware.run([program]))


def test_a_package_with_layouts_is_whole_and_reproducible(
    digits: Path, digits_bundle: Path
) -> None:
    rebuilt = rebuild(digits / BOARD, digits_bundle)
    listed = [name for name in rebuilt.package.files if name.startswith("layouts/")]
    assert {name.split("/")[1] for name in listed} == set(LAYOUT_NAMES)


def test_layouts_need_kernels_in_c(digits_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="LLVM IR") as caught:
        mlopsc.build(digits_bundle, "aarch64-generic", tmp_path / "out", layouts=["zephyr"])
    assert "--generator c" in caught.value.hint
    assert not (tmp_path / "out").exists()
