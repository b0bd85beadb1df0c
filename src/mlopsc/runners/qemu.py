"""Runner *qemu*: the static library in a program on an emulated board or Linux processor.

``qemu-<cpu>`` runs a static Linux program; ``qemu-system-<cpu>`` boots a bare image on a board and
talks through semihosting. Both are the same program, ``kernels/harness/run_vectors.c``, which
measures the stack; a plugin inside QEMU counts instructions.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np

from mlopsc.boards import SCRIPT, START, board_arguments, board_files
from mlopsc.errors import BrokenPackageError, CompilerError, MissingToolError
from mlopsc.package_reader import LoadedPackage
from mlopsc.resources import kernels_dir
from mlopsc.runners.base import Array, CallSite, Execution
from mlopsc.runners.counting import Symbols, native_library
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.target import Target
from mlopsc.toolchain import link_image
from mlopsc.tools import find_program, run_program

_COUNTS = "counts.bin"
_SITES = "sites.bin"
_HARNESS = ("harness_begin", "harness_end", "harness_run")  # of kernels/harness/run_vectors.c
_PACKAGES = {"qemu-system-arm": "qemu-system-arm", "qemu-system-riscv32": "qemu-system-misc"}
_TIMEOUT_S = 600.0
_ALIGN = 64


def describe(target: Target) -> str:
    """See ``base.Runner``."""
    program = _program(target)
    printed = run_program(program, ["--version"]).stdout.decode(errors="replace")
    first = (printed.splitlines() or ["unknown"])[0]
    machine = target.run.qemu.machine
    return f"{program.name} {first.split()[-1].strip('()')}" + (f" {machine}" if machine else "")


def execute(
    package: LoadedPackage,
    inputs: list[dict[str, Array]],
    *,
    count: bool,
    threads: int | None,
) -> Execution:
    """See ``base.Runner``; counts where this QEMU takes plugins."""
    del threads
    target, info = package.info.target, package.info
    program = _program(target)
    with tempfile.TemporaryDirectory(prefix="mlopsc-qemu-") as name:
        folder = Path(name)
        _link(package, inputs, folder)
        symbols = Symbols((folder / "image.elf").read_bytes())
        plugin = _plugin(program, symbols, info.name, folder) if count else []
        cpu = target.run.qemu.cpu
        arguments = (
            [*board_arguments(target), "-nographic", "-monitor", "none", "-serial", "none",
             "-semihosting-config", "enable=on,target=native", "-kernel", "image.elf"]
            if target.run.qemu.machine
            else [*(["-cpu", cpu] if cpu else []), str(folder / "image.elf")]
        )  # fmt: skip
        result = run_program(
            program,
            [*plugin, *arguments],
            cwd=folder,
            environment={**os.environ, "MLOPSC_NUM_THREADS": "1"},
            timeout=_TIMEOUT_S,
        )
        outputs = folder / "outputs.bin"
        if result.returncode != 0 or not outputs.is_file():
            text = " ".join((result.stderr + result.stdout).decode(errors="replace").split())
            raise BrokenPackageError(
                f"the library failed in {program.name}, status {result.returncode}: {text[:300]}"
            )
        data = outputs.read_bytes()
        stack_bytes = int.from_bytes((folder / "stack.bin").read_bytes(), "little")
        profile = _profile(folder / _COUNTS, symbols) if plugin else {}
        sites = _call_sites(folder / _SITES, symbols) if plugin else []
    size = _padded_sum(info.outputs)
    if len(data) != size * len(inputs):
        raise BrokenPackageError(f"{program.name} wrote {len(data)} bytes of outputs")
    return Execution(
        [_unpack(data[i * size : (i + 1) * size], info.outputs) for i in range(len(inputs))],
        sum(profile.values()) if profile else None,
        profile,
        stack_bytes if count else None,
        sites,
    )


def _program(target: Target) -> Path:
    name = target.run.qemu.program
    if not name:
        raise MissingToolError(f"target '{target.name}' names no QEMU program")
    return find_program(name, install=f"apt-get install {_PACKAGES.get(name, 'qemu-user')}")


def _plugin(program: Path, symbols: Symbols, name: str, folder: Path) -> list[str]:
    """Compile the counter and return QEMU's arguments for it; none if it takes no plugins.

    ``name`` is the model's, whose functions are the driver of its steps.
    """
    if b"-plugin" not in run_program(program, ["-help"]).stdout:
        return []
    version = run_program(program, ["--version"]).stdout.decode(errors="replace")
    major = int((re.search(r"version (\d+)", version) or ["", "0"])[1])
    interface = 1 if major < 9 else 2  # of plugins: QEMU 9 refuses 1
    flags = [f"-DPLUGIN_VERSION={interface}"]
    library = native_library("qemu_counter.c", folder, flags=flags)
    begin, end = (hex(symbols.addresses[f"harness_{name}"] & ~1) for name in ("begin", "end"))
    ranges = symbols.ranges({f"{name}_run", "run"})
    driver = "".join(f",driver={first:#x}-{after:#x}" for first, after in ranges)
    # Relative names: a comma in one would end it.
    files = f"counts={_COUNTS},sites={_SITES}"
    return ["-plugin", f"./{library.name},{files},begin={begin},end={end}{driver}"]


def _profile(counts: Path, symbols: Symbols) -> dict[str, int]:
    """Return instructions by function, without those of the harness."""
    table = np.fromfile(counts, "=u8").reshape(-1, 2).tolist()
    found = symbols.profile((int(address), int(number)) for address, number in table)
    return {name: number for name, number in found.items() if name not in _HARNESS}


def _call_sites(path: Path, symbols: Symbols) -> list[CallSite]:
    """Return the calls that the driver made, without the harness's own."""
    table = np.fromfile(path, "=u8").reshape(-1, 4).tolist()
    named = [CallSite(symbols.function_at(function), *rest) for _, function, *rest in table]
    return [site for site in named if site.function not in _HARNESS]


def _link(package: LoadedPackage, inputs: list[dict[str, Array]], folder: Path) -> None:
    target, info = package.info.target, package.info
    library = Path(info.static_library).name
    shutil.copyfile(package.path / info.static_library, folder / library)
    harness = kernels_dir() / "harness"
    bare = target.toolchain.system == "bare"
    shutil.copyfile(harness / "run_vectors.c", folder / "run_vectors.c")
    for name, text in board_files(target).items() if bare else ():
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copyfile(kernels_dir() / "include" / "mlopsc.h", folder / "mlopsc.h")
    (folder / "inputs.bin").write_bytes(
        b"".join(_pack(arrays[s.name]) for arrays in inputs for s in info.inputs)
    )
    constants = {
        "VECTORS": len(inputs),
        "INPUT_BYTES": _padded_sum(info.inputs),
        "OUTPUT_BYTES": _padded_sum(info.outputs),
        "ARENA_BYTES": info.memory.arena,
        "ARENA_ALIGN": max(info.memory.arena_align, 1),
        "MAX_IO": max(len(info.inputs), len(info.outputs), 1),
    }
    (folder / "run_vectors.h").write_text(
        "".join(f"#define {name} {value}u\n" for name, value in constants.items())
    )
    sources = ["run_vectors.c", *([START] if bare else [])]
    if bare:
        flags = ["-DEXAMPLE_BARE", "-I.", "-Wl,-e,Reset_Handler", f"-Wl,-T,{SCRIPT}"]
        triple = target.toolchain.target
    else:
        flags = ["-I.", "-static"]
        triple = f"{target.toolchain.target.split('-')[0]}-linux-musl"
    inputs_of_link = [*sources, library]
    try:
        link_image(target, inputs_of_link, "image.elf", folder=folder, flags=flags, triple=triple)
    except CompilerError as error:
        raise BrokenPackageError(f"'{library}' cannot be linked: {error.message}") from error


def _pack(array: Array) -> bytes:
    data = array.tobytes()
    return data + b"\0" * (-len(data) % _ALIGN)


def _padded_sum(specs: tuple[TensorSpec, ...]) -> int:
    return sum(-(-s.nbytes // _ALIGN) * _ALIGN for s in specs)


def _unpack(data: bytes, specs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    arrays, at = {}, 0
    for spec in specs:
        arrays[spec.name] = np.frombuffer(data, spec.dtype, spec.elements, at).reshape(spec.shape)
        at += -(-spec.nbytes // _ALIGN) * _ALIGN
    return arrays
