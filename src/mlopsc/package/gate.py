"""The gate: reads the objects of a library and refuses what must not ship.

A library may expect ``mem*``, compiler support routines and a short list of libm, nothing else;
must hold no writable data, nothing that runs before ``main``, and no trace of the compiler's
runtime; and on 32-bit ARM must pass floats as its target says (linkers mix the two ABIs without a
word). On targets with threads the pool, and nothing else, may hold state and expect POSIX threads.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from mlopsc.errors import GateError
from mlopsc.kernels import POOL
from mlopsc.schema.target import Target

_MEMORY = {"memcpy", "memset", "memmove", "memcmp"}
_LIBM_ROOTS = (
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "copysign", "cos",
    "cosh", "erf", "exp", "exp2", "expm1", "fabs", "floor", "fma", "fmax", "fmin", "fmod", "log",
    "log10", "log1p", "log2", "nearbyint", "pow", "rint", "round", "roundeven", "sin", "sincos",
    "sinh", "sqrt", "tan", "tanh", "trunc",
)  # fmt: skip
_LIBM = {name + suffix for name in _LIBM_ROOTS for suffix in ("", "f")}
# Support routines of the compiler: those of the Arm run-time ABI, and GCC's low-level runtime, an
# operation followed by machine modes (GCC internals, "The GCC low-level runtime library").
_COMPILER_RT = re.compile(
    r"__(?:aeabi_\w+|(?:add|sub|mul|u?div|u?mod|u?divmod|neg|ash[lr]|lshr|clz|ctz|popcount|"
    r"fix|fixuns|float|floatun|extend|trunc|eq|ne|lt|le|gt|ge|unord|u?cmp|powi)"
    r"(?:[hsdxt][fi]|bf)+v?[2-5]?)"
)
_LINKER = {"_GLOBAL_OFFSET_TABLE_", "__stack_pointer", "__linear_memory", "__memory_base",
           "__table_base", "__indirect_function_table"}  # fmt: skip
# What the thread pool needs: POSIX threads, and how many processors there are.
_THREADS = {
    "pthread_atfork", "pthread_attr_destroy", "pthread_attr_init", "pthread_attr_setstacksize",
    "pthread_cond_broadcast", "pthread_cond_init", "pthread_cond_signal", "pthread_cond_wait",
    "pthread_create", "pthread_join", "pthread_mutex_init", "pthread_mutex_lock",
    "pthread_mutex_unlock", "pthread_once", "pthread_sigmask", "clock_gettime", "getenv",
    "sched_getaffinity", "sigfillset", "strtol", "sysconf",
}  # fmt: skip
_POOL = Path(POOL).with_suffix(".o").name
# What start-up code or a loader calls by itself.
_START = (".init_array", ".preinit_array", ".fini_array", ".ctors", ".dtors", ".init", ".fini")
_ELF_MAGIC = b"\x7fELF"
_WASM_MAGIC = b"\0asm"


@dataclass(frozen=True)
class ObjectFacts:
    """What the gate reads from one object file.

    Attributes:
        undefined: Symbols it expects from elsewhere.
        defined: Symbols it gives.
        code: Bytes of instructions.
        read_only: Bytes of constants.
        writable: Bytes of writable data.
        vfp_args: Whether floats are passed in registers (32-bit ARM), or None.
        automatic: Functions that start-up code or a loader would call: constructors, destructors.
    """

    undefined: frozenset[str]
    defined: frozenset[str]
    code: int
    read_only: int
    writable: int
    vfp_args: bool | None
    automatic: int = 0


def check_objects(target: Target, objects: dict[str, bytes]) -> ObjectFacts:
    """Check the members of a static library and return their sums.

    Raises:
        GateError: One of them needs or holds what a package must not.
    """
    facts = {name: read_object(data) for name, data in objects.items()}
    defined = frozenset().union(*(f.defined for f in facts.values()))
    undefined = frozenset().union(*(f.undefined for f in facts.values())) - defined
    pool = {_POOL} if target.toolchain.threads else set()
    foreign = sorted(
        symbol
        for name, fact in facts.items()
        for symbol in fact.undefined - defined
        if not is_allowed(symbol) and not (name in pool and symbol in _THREADS)
    )
    if foreign:
        raise GateError(
            f"the library needs symbols that a package must not need: {', '.join(foreign[:8])}; "
            "expected only mem* functions, compiler support routines and libm"
        )
    traces = sorted(name for name in undefined | defined if "tvm" in name.lower())
    if traces:
        raise GateError(f"symbols of the compiler's runtime are left in the library: {traces[:8]}")
    started = sorted(n for n, f in facts.items() if f.automatic and n not in pool)
    if started:
        raise GateError(
            f"object '{started[0]}' holds functions that run before main or after it; expected none"
        )
    stateful = {name: f.writable for name, f in facts.items() if f.writable and name not in pool}
    if stateful:
        found = ", ".join(f"{size} bytes in '{name}'" for name, size in stateful.items())
        raise GateError(f"the library holds writable data: {found}; expected none")
    if target.compile.float_abi:
        for name, fact in facts.items():
            _check_float_abi(target, name, fact)
    return ObjectFacts(
        undefined=undefined,
        defined=defined,
        code=sum(f.code for f in facts.values()),
        read_only=sum(f.read_only for f in facts.values()),
        writable=sum(f.writable for f in facts.values()),
        vfp_args=None,
    )


def is_allowed(symbol: str) -> bool:
    """Whether any object of a library may expect ``symbol``."""
    name = symbol.removeprefix("_") if symbol.startswith("_mem") else symbol
    return (
        name in _MEMORY
        or name in _LIBM
        or name in _LINKER
        or _COMPILER_RT.fullmatch(name) is not None
    )


def _check_float_abi(target: Target, name: str, facts: ObjectFacts) -> None:
    wanted = target.compile.float_abi == "hard"
    if facts.vfp_args is None or facts.vfp_args == wanted or not facts.code:
        return
    found = "hard" if facts.vfp_args else "soft"
    raise GateError(
        f"object '{name}' uses the {found}-float ABI; target '{target.name}' says "
        f"'{target.compile.float_abi}'",
        hint="check [compile] triple and [toolchain] target and cpu of the target file",
    )


def read_object(data: bytes) -> ObjectFacts:
    """Read an ELF or WebAssembly object.

    Raises:
        GateError: It is neither.
    """
    try:
        if data.startswith(_ELF_MAGIC):
            return _read_elf(ELFFile(io.BytesIO(data)))
        if data.startswith(_WASM_MAGIC):
            return _read_wasm(data)
    except (
        ELFError,
        ConstructError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        OverflowError,
    ) as error:
        # What the readers raise on damaged files.
        raise GateError(f"an object file cannot be read: {error}") from error
    if data[:4] == b"\xcf\xfa\xed\xfe":  # Mach-O: the linker has the last word there
        return ObjectFacts(frozenset(), frozenset(), 0, 0, 0, None)
    raise GateError("an object file is neither ELF, Mach-O nor WebAssembly")


def _read_elf(elf: ELFFile) -> ObjectFacts:
    undefined: set[str] = set()
    defined: set[str] = set()
    table = elf.get_section_by_name(".symtab") or elf.get_section_by_name(".dynsym")
    for symbol in table.iter_symbols() if table is not None else ():
        if not symbol.name or symbol["st_info"]["bind"] == "STB_LOCAL":
            continue
        (undefined if symbol["st_shndx"] == "SHN_UNDEF" else defined).add(symbol.name)
    code = read_only = writable = automatic = 0
    for section in elf.iter_sections():
        automatic += section["sh_size"] > 0 and _is_start(section.name)
        flags, size = section["sh_flags"], section["sh_size"]
        if not flags & 2 or section.name in (".eh_frame", ".eh_frame_hdr"):  # not loaded
            continue
        if flags & 4:
            code += size
        elif flags & 1 and not section.name.startswith(
            (".data.rel.ro", ".dynamic", ".got", ".relro")
        ):
            writable += size
        else:
            read_only += size
    return ObjectFacts(
        frozenset(undefined),
        frozenset(defined),
        code,
        read_only,
        writable,
        _vfp_args(elf),
        automatic,
    )


def _is_start(name: str) -> bool:
    return any(name == start or name.startswith(f"{start}.") for start in _START)


def _vfp_args(elf: ELFFile) -> bool | None:
    """Return Tag_ABI_VFP_args of the build attributes (ABI for the Arm architecture, addenda)."""
    if elf["e_machine"] != "EM_ARM":
        return None
    section = elf.get_section_by_name(".ARM.attributes")
    if section is None:
        return False
    for attributes in section.iter_subsections():
        for scope in attributes.iter_subsubsections():
            for attribute in scope.iter_attributes():
                if attribute.tag == "TAG_ABI_VFP_ARGS":
                    return bool(attribute.value == 1)
    return False


def _read_wasm(data: bytes) -> ObjectFacts:
    """Read a WebAssembly object (core specification 5.5; tool conventions, Linking.md)."""
    imports: list[tuple[str, str]] = []
    names: set[str] = set()
    code = read_only = writable = automatic = 0
    for kind, start, end in _wasm_sections(data):
        if kind == 2:
            imports = list(_wasm_imports(data, start))
        elif kind == 0:
            name, at = _wasm_name(data, start)
            if name == "linking":
                names |= set(_wasm_defined(data, at, end))
                writable += sum(map(_is_writable_segment, _wasm_segments(data, at, end)))
                automatic += sum(1 for found, _ in _wasm_parts(data, at, end) if found == 6)
        elif kind == 10:
            code = end - start
        elif kind == 11:
            read_only = end - start
    return ObjectFacts(
        frozenset(name for _, name in imports),
        frozenset(names),
        code,
        read_only,
        writable,
        None,
        automatic,
    )


def wasm_imports(data: bytes) -> list[str]:
    """Return ``module.name`` of everything a WebAssembly module imports."""
    return [
        f"{module}.{name}"
        for kind, start, _ in _wasm_sections(data)
        if kind == 2
        for module, name in _wasm_imports(data, start)
    ]


def _leb(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def _wasm_sections(data: bytes) -> Iterator[tuple[int, int, int]]:
    at = 8
    while at < len(data):
        kind = data[at]
        size, start = _leb(data, at + 1)
        yield kind, start, start + size
        at = start + size


def _wasm_name(data: bytes, at: int) -> tuple[str, int]:
    size, at = _leb(data, at)
    return data[at : at + size].decode(), at + size


def _wasm_imports(data: bytes, at: int) -> Iterator[tuple[str, str]]:
    count, at = _leb(data, at)
    for _ in range(count):
        module, at = _wasm_name(data, at)
        name, at = _wasm_name(data, at)
        kind = data[at]
        at += 1
        if kind == 0:
            _, at = _leb(data, at)
        elif kind == 3:
            at += 2
        else:  # table (with element type) or memory: limits
            at += kind == 1
            flags, at = _leb(data, at)
            _, at = _leb(data, at)
            if flags & 1:
                _, at = _leb(data, at)
        yield module, name


def _wasm_parts(data: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield kind and start of the parts of the linking section (tool conventions, Linking.md)."""
    _, at = _leb(data, at)  # version
    while at < end:
        kind = data[at]
        size, at = _leb(data, at + 1)
        yield kind, at
        at += size


def _wasm_defined(data: bytes, at: int, end: int) -> Iterator[str]:
    """Yield the defined symbols (WASM_SYMBOL_TABLE)."""
    for kind, start in _wasm_parts(data, at, end):
        if kind == 8:
            yield from _wasm_symbols(data, start)


def _wasm_segments(data: bytes, at: int, end: int) -> Iterator[str]:
    """Yield the names of the data segments (WASM_SEGMENT_INFO)."""
    for kind, start in _wasm_parts(data, at, end):
        if kind == 5:
            count, place = _leb(data, start)
            for _ in range(count):
                name, place = _wasm_name(data, place)
                _, place = _leb(data, place)
                _, place = _leb(data, place)
                yield name


def _is_writable_segment(name: str) -> bool:
    return name.startswith((".data", ".bss", ".tdata")) and not name.startswith(".data.rel.ro")


def _wasm_symbols(data: bytes, at: int) -> Iterator[str]:
    count, at = _leb(data, at)
    for _ in range(count):
        kind = data[at]
        flags, at = _leb(data, at + 1)
        undefined, explicit, local = flags & 0x10, flags & 0x40, flags & 0x02
        name = ""
        if kind == 1:  # data
            name, at = _wasm_name(data, at)
            for _ in range(0 if undefined else 3):
                _, at = _leb(data, at)
        elif kind == 3:  # section
            _, at = _leb(data, at)
        else:  # function, global, event, table
            _, at = _leb(data, at)
            if not undefined or explicit:
                name, at = _wasm_name(data, at)
        if name and not undefined and not local:
            yield name
