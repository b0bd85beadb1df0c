"""Compiles and links C for any target with ``zig cc``: deterministic, offline, from PyPI.

Takes sources in a folder and the target's ``[toolchain]`` table; gives objects, archives, shared
libraries and images for emulators. Commands run inside the folder with relative names, so that no
path of the machine gets into a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlopsc.schema.target import Target
from mlopsc.tools import run_zig

C_FLAGS = (
    "-std=c11",
    "-O2",
    "-g0",
    "-fno-strict-aliasing",
    "-fno-math-errno",
    "-ffp-contract=fast",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-stack-protector",
    "-fno-sanitize=all",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-fvisibility=hidden",
    "-fno-ident",
    # LLVM 22 groups strided reads whose index wraps, as in x[(i & 3) * 5 + j], without a check.
    "-mllvm",
    "-max-interleave-group-factor=1",
    # LLVM 22 moves what it adds to a gather's index into the loop's counter, but not into the test
    # that ends the loop (Helium only).
    "-mllvm",
    "-enable-arm-maskedgatscat=false",
    "-Wno-c23-extensions",
    "-Wno-override-module",
)
# For what checks and calls and computes nothing: these two passes find nothing there, in time that
# grows with the square of the number of inputs and outputs.
DRIVER_FLAGS = ("-fno-slp-vectorize", "-mllvm", "-enable-constraint-elimination=false")


def machine_flags(target: Target) -> list[str]:
    """Return the flags that choose the machine."""
    chain = target.toolchain
    position = ["-fPIC"] if chain.shared in ("so", "dylib") else []
    return ["-target", chain.target, f"-mcpu={chain.cpu}", *position, *chain.flags]


def compile_object(
    target: Target,
    source: str,
    *,
    folder: Path,
    include: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> str:
    """Compile ``folder/source`` and return the name of the object beside it.

    Raises:
        CompilerError: The compiler refuses it.
    """
    output = Path(source).stem + ".o"
    run_zig(
        [
            "cc",
            *machine_flags(target),
            *C_FLAGS,
            *(f"-I{path}" for path in include),
            *flags,
            "-c",
            source,
            "-o",
            output,
        ],
        cwd=folder,
    )
    return output


def make_archive(target: Target, objects: Sequence[str], output: str, *, folder: Path) -> None:
    """Pack ``objects`` into a static library without times or owners."""
    form = ["--format=darwin"] if target.toolchain.system == "macos" else ["--format=gnu"]
    run_zig(["ar", *form, "rcsD", output, *objects], cwd=folder)


def link_shared(
    target: Target, objects: Sequence[str], output: str, *, exports: Sequence[str], folder: Path
) -> None:
    """Link a loadable library: an ELF or Mach-O shared object, or a WebAssembly module."""
    form = target.toolchain.shared
    if form == "wasm":
        flags = [
            "-Wl,--no-entry",
            "-Wl,-z,stack-size=65536",
            "-Wl,--export-table",
            *(f"-Wl,--export={name}" for name in (*exports, "__heap_base")),
        ]
    elif form == "dylib":
        flags = ["-shared", f"-Wl,-install_name,@rpath/{output}", "-lm"]
    else:
        flags = ["-shared", f"-Wl,-soname,{output}", "-Wl,--build-id=none", "-lm"]
    if target.toolchain.threads:
        flags += ["-Wl,--as-needed", "-lpthread"]
    run_zig(
        ["cc", *machine_flags(target), "-O2", "-g0", "-s", *flags, *objects, "-o", output],
        cwd=folder,
    )


def link_image(
    target: Target,
    inputs: Sequence[str],
    output: str,
    *,
    folder: Path,
    flags: Sequence[str] = (),
    triple: str | None = None,
) -> None:
    """Link a complete program, for an emulator.

    Args:
        target: Whose processor to link for.
        inputs: Objects, sources and archives.
        output: Name of the image.
        folder: Where all of them lie.
        flags: Further flags.
        triple: Zig target, where it is not the library's own (a bare image of a Linux target).
    """
    chain = target.toolchain
    run_zig(
        [
            "cc",
            "-target",
            triple or chain.target,
            f"-mcpu={chain.cpu}",
            *C_FLAGS,
            *flags,
            *inputs,
            "-o",
            output,
        ],
        cwd=folder,
    )
