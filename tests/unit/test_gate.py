"""The gate refuses libraries that need or hold what a package must not, and says what."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from mlopsc.errors import GateError
from mlopsc.kernels import POOL
from mlopsc.package.gate import check_objects, is_allowed, read_object, wasm_imports
from mlopsc.resources import kernels_dir
from mlopsc.schema.target import Target
from mlopsc.targets import load_target
from mlopsc.toolchain import compile_object

TARGETS = pytest.mark.parametrize("target", ["host", "cortex-m7", "wasm32-simd"])

PLAIN = "float twice(float x); float twice(float x) { return x + x; }\n"


def compile_c(target: str | Target, source: str, folder: Path, *flags: str) -> bytes:
    """Return the object of ``source``; flags come last and so win."""
    chosen = load_target(target) if isinstance(target, str) else target
    (folder / "code.c").write_text(source)
    compile_object(chosen, "code.c", folder=folder, flags=["-Wno-missing-prototypes", *flags])
    return (folder / "code.o").read_bytes()


@TARGETS
def test_plain_code_passes_and_is_measured(target: str, tmp_path: Path) -> None:
    source = PLAIN + "const unsigned char table[512] = {1, 2, 3};\n"
    facts = check_objects(load_target(target), {"code.o": compile_c(target, source, tmp_path)})
    assert {"twice", "table"} <= facts.defined
    assert facts.undefined <= {"__stack_pointer", "__linear_memory", "__indirect_function_table"}
    assert 0 < facts.code < 200
    assert 512 <= facts.read_only < 700
    assert facts.writable == 0


@TARGETS
@pytest.mark.parametrize("name", ["malloc", "printf", "pthread_create", "__stack_chk_fail", "open"])
def test_foreign_symbol_is_refused_by_name(target: str, name: str, tmp_path: Path) -> None:
    source = f"void {name}(int); void f(void); void f(void) {{ {name}(5); }}\n"
    code = compile_c(target, source, tmp_path, "-fno-builtin")
    with pytest.raises(GateError) as caught:
        check_objects(load_target(target), {"code.o": code})
    assert name in caught.value.message


@TARGETS
def test_symbol_that_another_object_defines_is_no_need(target: str, tmp_path: Path) -> None:
    uses = compile_c(target, "int g(void); int f(void); int f(void) { return g(); }\n", tmp_path)
    gives = compile_c(target, "int g(void); int g(void) { return 5; }\n", tmp_path)
    facts = check_objects(load_target(target), {"uses.o": uses, "gives.o": gives})
    assert {"f", "g"} <= facts.defined
    assert "g" not in facts.undefined
    with pytest.raises(GateError, match="g"):
        check_objects(load_target(target), {"uses.o": uses})


@TARGETS
@pytest.mark.parametrize(
    "source",
    [
        "static int count; int f(void) { return ++count; }\n",
        "static int count = 3; int f(void) { return ++count; }\n",
        "int count = 3; int f(void) { return ++count; }\n",
        "int count; int f(void) { return ++count; }\n",
        "int f(void) { static char buffer[4096]; return buffer[0]++; }\n",
    ],
    ids=["static zero", "static", "global", "global zero", "local static"],
)
def test_writable_data_is_refused_by_name(target: str, source: str, tmp_path: Path) -> None:
    code = compile_c(target, "int f(void);\n" + source, tmp_path)
    with pytest.raises(GateError, match="writable") as caught:
        check_objects(load_target(target), {"plain.o": code_of_plain(target), "stateful.o": code})
    assert "stateful.o" in caught.value.message


def code_of_plain(target: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return compile_c(target, PLAIN, Path(folder))


@pytest.mark.parametrize("target", ["host", "cortex-m7"])
def test_common_symbols_are_writable_data(target: str, tmp_path: Path) -> None:
    source = "int count; int f(void); int f(void) { return ++count; }\n"
    code = compile_c(target, source, tmp_path, "-fcommon", "-fno-data-sections")
    with pytest.raises(GateError, match="writable"):
        check_objects(load_target(target), {"code.o": code})


def compiled_pool(target: Target, folder: Path) -> bytes:
    source = kernels_dir() / "runtime" / POOL
    include = f"-I{kernels_dir() / 'include'}"
    return compile_c(target, source.read_text(encoding="utf-8"), folder, include)


def test_only_the_pool_has_threads_and_state(tmp_path: Path) -> None:
    target = load_target("x86-64-v3")
    pool = compiled_pool(target, tmp_path)
    facts = check_objects(target, {"mlopsc_pool.o": pool})
    assert "pthread_create" in facts.undefined
    assert 0 < facts.writable < 10_000
    with pytest.raises(GateError, match="pthread_"):
        check_objects(target, {"kernels.o": pool})


def test_the_pool_is_refused_where_there_are_no_threads(tmp_path: Path) -> None:
    target = load_target("x86-64-v3")
    pool = compiled_pool(target, tmp_path)
    toolchain = target.toolchain.model_copy(update={"threads": False})
    with pytest.raises(GateError, match="pthread_"):
        check_objects(target.model_copy(update={"toolchain": toolchain}), {"mlopsc_pool.o": pool})


def test_thread_local_data_is_refused(tmp_path: Path) -> None:
    source = "static _Thread_local int count = 1; int f(void); int f(void) { return ++count; }\n"
    with pytest.raises(GateError):
        check_objects(load_target("host"), {"code.o": compile_c("host", source, tmp_path)})


@TARGETS
def test_constant_pointers_are_no_writable_data(target: str, tmp_path: Path) -> None:
    source = (
        'static const char *const names[] = {"a", "b"};\n'
        "const char *f(int i); const char *f(int i) { return names[i]; }\n"
    )
    facts = check_objects(load_target(target), {"code.o": compile_c(target, source, tmp_path)})
    assert facts.writable == 0


@TARGETS
@pytest.mark.parametrize("name", ["TVMBackendAllocWorkspace", "my_tvm_helper"])
def test_trace_of_the_compilers_runtime_is_refused(target: str, name: str, tmp_path: Path) -> None:
    code = compile_c(target, f"int {name}(void); int {name}(void) {{ return 0; }}\n", tmp_path)
    with pytest.raises(GateError, match=name):
        check_objects(load_target(target), {"code.o": code})


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        ("host", "float expf(float); float f(float x) { return expf(x); }", "expf"),
        ("host", "void f(char *p, long n) { __builtin_memset(p, 0, n); }", "memset"),
        ("cortex-m7", "long long f(long long a, long long b) { return a / b; }", "__aeabi_ldivmod"),
        ("cortex-m7", "struct s { char c[999]; }; void f(struct s *a, struct s *b) { *a = *b; }",
         "memcpy"),
        ("cortex-m4f", "double f(double a, double b) { return a * b; }", "__aeabi_dmul"),
        ("wasm32-simd", "double fmod(double, double); double f(double a) { return fmod(a, 3); }",
         "fmod"),
        ("riscv64-gc", "__int128 f(__int128 a, __int128 b) { return a / b; }", "__divti3"),
    ],
)  # fmt: skip
def test_memory_functions_libm_and_compiler_support_are_allowed(
    target: str, source: str, expected: str, tmp_path: Path
) -> None:
    code = compile_c(target, source, tmp_path, "-fno-builtin-fmod")
    facts = check_objects(load_target(target), {"code.o": code})
    assert any(
        name.startswith(expected) or name == f"__aeabi_{expected}" for name in facts.undefined
    )


@pytest.mark.parametrize(
    "name",
    ["memcpy", "memset", "memmove", "memcmp", "_memcpy", "sqrtf", "tanh", "sincos", "__aeabi_fadd",
     "__aeabi_memcpy8", "__udivti3", "__floatsidf", "__truncdfhf2", "__stack_pointer",
     "__popcountdi2"],
)  # fmt: skip
def test_allowed(name: str) -> None:
    assert is_allowed(name)


@pytest.mark.parametrize(
    "name",
    ["malloc", "free", "strlen", "memccpy", "memcpy_s", "expl", "lgamma", "rand", "__cxa_atexit",
     "__tls_get_addr", "__stack_chk_fail", "__errno_location", "__memcpy_chk",
     "__gxx_personality_v0", "_exp", "exit", "abort", "", "__", "sqrtf2", "xmemcpy",
     "__assert_fail", "environ", "__divert_me", "__additional_state", "__equalise"],
)  # fmt: skip
def test_not_allowed(name: str) -> None:
    assert not is_allowed(name)


def soft(target: Target) -> Target:
    """Return ``target`` with a toolchain that passes floats in integer registers."""
    chain = target.toolchain.model_copy(update={"target": "thumb-freestanding-eabi"})
    return target.model_copy(update={"toolchain": chain})


def test_soft_float_object_is_refused_where_floats_are_hard(tmp_path: Path) -> None:
    target = load_target("cortex-m7")
    code = compile_c(soft(target), PLAIN, tmp_path)
    with pytest.raises(GateError) as caught:
        check_objects(target, {"good.o": compile_c(target, PLAIN, tmp_path), "code.o": code})
    assert "'code.o'" in caught.value.message
    assert "soft" in caught.value.message
    assert "cortex-m7" in caught.value.message
    assert "triple" in caught.value.hint


def test_hard_float_object_is_refused_where_floats_are_soft(tmp_path: Path) -> None:
    hard = load_target("cortex-m7")
    compile_table = hard.compile.model_copy(update={"float_abi": "soft"})
    target = hard.model_copy(update={"compile": compile_table})
    with pytest.raises(GateError, match="hard-float"):
        check_objects(target, {"code.o": compile_c(hard, PLAIN, tmp_path)})
    check_objects(target, {"code.o": compile_c(soft(hard), PLAIN, tmp_path)})


def test_data_alone_has_no_float_abi(tmp_path: Path) -> None:
    target = load_target("cortex-m7")
    code = compile_c(soft(target), "const unsigned char weights[64] = {1};\n", tmp_path)
    assert check_objects(target, {"weights.o": code}).code == 0


MODULE = """(module
  (import "env" "table" (table 1 20 funcref))
  (import "env" "memory" (memory 1))
  (import "env" "bounded" (memory 2 70000))
  (import "env" "counter" (global (mut i32)))
  (import "env" "first" (func))
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (import "" "nameless" (func))
  (func (export "run") (result i32) i32.const 5))
"""


def test_every_kind_of_import_is_found() -> None:
    expected = [
        "env.table", "env.memory", "env.bounded", "env.counter", "env.first",
        "wasi_snapshot_preview1.fd_write", ".nameless",
    ]  # fmt: skip
    assert wasm_imports(bytes(wasmtime.wat2wasm(MODULE))) == expected


def test_module_without_imports_has_none() -> None:
    module = wasmtime.wat2wasm('(module (memory 1) (func (export "f") (result i32) i32.const 5))')
    assert wasm_imports(bytes(module)) == []


def test_long_names_and_many_imports_are_found() -> None:
    names = [f"{'x' * 200}{i}" for i in range(300)]
    lines = "".join(f'(import "env" "{name}" (func))' for name in names)
    found = wasm_imports(bytes(wasmtime.wat2wasm(f"(module {lines})")))
    assert found == [f"env.{name}" for name in names]


@pytest.mark.parametrize("data", [b"", b"\0", b"hello world", b"!<arch>\n", b"\x7fEL", b"\0as"])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(GateError):
        read_object(data)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"\x7fELF", b"\x7fELF\2\1\1", b"\0asm\1\0\0\0", b""]), st.binary())
def test_garbage_is_refused_or_read_and_never_crashes(magic: bytes, rest: bytes) -> None:
    with contextlib.suppress(GateError):
        read_object(magic + rest)


@TARGETS
def test_truncated_object_is_refused(target: str, tmp_path: Path) -> None:
    code = compile_c(target, PLAIN + "const unsigned char table[99] = {1};\n", tmp_path)
    whole = read_object(code)
    for length in range(len(code) - 1):
        try:
            part = read_object(code[:length])
        except GateError:
            continue
        # A WebAssembly object that ends between sections is a smaller valid one.
        assert part.code <= whole.code, length
        assert target == "wasm32-simd" or part == whole, length


@TARGETS
def test_damaged_object_is_refused_or_read_and_never_crashes(target: str, tmp_path: Path) -> None:
    code = compile_c(target, PLAIN + "const unsigned char table[99] = {1};\n", tmp_path)
    for position in range(len(code)):
        for byte in (0x00, 0xFF):
            damaged = code[:position] + bytes([byte]) + code[position + 1 :]
            with contextlib.suppress(GateError):
                read_object(damaged)


@TARGETS
@pytest.mark.parametrize("kind", ["constructor", "destructor"])
def test_code_outside_of_calls_is_refused(target: str, kind: str, tmp_path: Path) -> None:
    if (target, kind) == ("wasm32-simd", "destructor"):
        pytest.skip("becomes a call of the C library, which is refused for that")
    source = f"void f(void); __attribute__(({kind})) void f(void) {{ *(volatile int *)64 = 1; }}\n"
    code = compile_c(target, source, tmp_path)
    with pytest.raises(GateError, match="before main") as caught:
        check_objects(load_target(target), {"early.o": code})
    assert "early.o" in caught.value.message
