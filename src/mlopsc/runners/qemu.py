"""Runner *qemu*: the static library in a program on an emulated board or Linux processor.

``qemu-<cpu>`` runs a static Linux program; ``qemu-system-arm`` boots a bare image on a board and
talks through semihosting. Both are the same program, ``kernels/harness/run_vectors.c``.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from mlopsc.errors import BrokenPackageError, CompilerError, MissingToolError
from mlopsc.package_reader import LoadedPackage
from mlopsc.resources import kernels_dir
from mlopsc.runners.base import Array, Execution
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.target import Target
from mlopsc.toolchain import link_image
from mlopsc.tools import find_program, run_program

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
    """See ``base.Runner``; nothing is counted."""
    del count, threads
    target, info = package.info.target, package.info
    program = _program(target)
    with tempfile.TemporaryDirectory(prefix="mlopsc-qemu-") as name:
        folder = Path(name)
        _link(package, inputs, folder)
        machine, cpu = target.run.qemu.machine, target.run.qemu.cpu
        arguments = (
            ["-M", machine, "-nographic", "-monitor", "none", "-serial", "none",
             "-semihosting-config", "enable=on,target=native", "-kernel", "image.elf"]
            if machine
            else [*(["-cpu", cpu] if cpu else []), str(folder / "image.elf")]
        )  # fmt: skip
        result = run_program(program, arguments, cwd=folder, timeout=_TIMEOUT_S)
        outputs = folder / "outputs.bin"
        if result.returncode != 0 or not outputs.is_file():
            text = " ".join((result.stderr + result.stdout).decode(errors="replace").split())
            raise BrokenPackageError(
                f"the library failed in {program.name}, status {result.returncode}: {text[:300]}"
            )
        data = outputs.read_bytes()
    size = _padded_sum(info.outputs)
    if len(data) != size * len(inputs):
        raise BrokenPackageError(f"{program.name} wrote {len(data)} bytes of outputs")
    return Execution(
        [_unpack(data[i * size : (i + 1) * size], info.outputs) for i in range(len(inputs))]
    )


def _program(target: Target) -> Path:
    name = target.run.qemu.program
    if not name:
        raise MissingToolError(f"target '{target.name}' names no QEMU program")
    package = "qemu-system-arm" if target.run.qemu.machine else "qemu-user"
    return find_program(name, install=f"apt-get install {package}")


def _link(package: LoadedPackage, inputs: list[dict[str, Array]], folder: Path) -> None:
    target, info = package.info.target, package.info
    library = Path(info.static_library).name
    shutil.copyfile(package.path / info.static_library, folder / library)
    harness = kernels_dir() / "harness"
    bare = target.toolchain.system == "bare"
    names = ["run_vectors.c", *(["cortex_m_start.c", "cortex_m.ld"] if bare else [])]
    for name in names:
        shutil.copyfile(harness / name, folder / name)
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
    sources = [name for name in names if name.endswith(".c")]
    if bare:
        flags = ["-DEXAMPLE_BARE", "-I.", "-Wl,-e,Reset_Handler", "-Wl,-T,cortex_m.ld"]
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
