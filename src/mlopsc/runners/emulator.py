"""Runner *unicorn*: the static library, linked into an image and run on an emulated processor.

Every buffer has its own memory with nothing mapped behind it, so that an access past the end of an
input, output or the arena stops the run. ``counter`` counts instructions.
"""

from __future__ import annotations

import importlib.metadata
import io
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from elftools.elf.elffile import ELFFile

from mlopsc.abi import RUN_ERRORS, Descriptor, read_descriptor
from mlopsc.errors import BrokenPackageError, CompilerError, MissingToolError
from mlopsc.kernels import public_header
from mlopsc.loader import check_descriptor
from mlopsc.package_reader import LoadedPackage
from mlopsc.resources import kernels_dir
from mlopsc.runners.base import GARBAGE, Array, Execution
from mlopsc.runners.counter import Code, Counter, Encoding
from mlopsc.runners.counting import Symbols, painted, stack_depth
from mlopsc.schema.target import Target
from mlopsc.toolchain import compile_object, link_image

_SERIAL = "serial_tasks.c"
_PAGE = 0x1000
_RETURN = 0x1FF0_0000  # a call returns here, and the emulation stops
_STACK_TOP = 0x2080_0000
_STACK_BYTES = 0x40_0000
_STACK_SPARE = 64  # above the first frame
_BUFFERS = 0x6000_0000


@dataclass(frozen=True)
class _Machine:
    """How to set up one architecture and call a function on it."""

    arch: int
    mode: int
    cpu: int | None
    triple: str
    pointer_bits: Literal[32, 64]
    arguments: tuple[int, ...]
    stack: int
    link: int
    result: int
    program_counter: int
    encoding: Encoding

    @property
    def thumb(self) -> bool:
        """Whether the lowest bit of an address chooses Thumb."""
        return self.encoding == "thumb"


def describe(target: Target) -> str:
    """See ``base.Runner``."""
    try:
        version = importlib.metadata.version("unicorn")
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingToolError(
            "the Python package 'unicorn' (processor emulator) is not installed",
            hint="install it: pip install unicorn",
        ) from error
    _machine(target)
    return f"unicorn {version} {target.run.unicorn.cpu or target.toolchain.target.split('-')[0]}"


def execute(
    package: LoadedPackage,
    inputs: list[dict[str, Array]],
    *,
    count: bool,
    threads: int | None,
) -> Execution:
    """See ``base.Runner``."""
    del threads
    machine = _machine(package.info.target)
    with tempfile.TemporaryDirectory(prefix="mlopsc-unicorn-") as name:
        image = _link(package, machine, Path(name))
    emulator = _Emulator(machine, image)
    symbol = f"{package.info.name}_model"
    if symbol not in emulator.symbols.addresses:
        raise BrokenPackageError(f"the library does not define {symbol}")
    address = emulator.call(emulator.symbols.addresses[symbol], ())
    model = read_descriptor(emulator.read, address, pointer_bits=machine.pointer_bits)
    check_descriptor(model, package)
    counter = None
    if count:
        emulator.paint_stack()
        driver = {f"{package.info.name}_run", emulator.symbols.function_at(model.run)}
        counter = Counter(emulator.unicorn, emulator.code(driver), emulator.symbols)
    done = Execution([])
    for arrays in inputs:
        done.outputs.append(_run(emulator, model, arrays))
        if counter is not None:  # of the first set alone
            profile, sites = counter.finish()
            counter = None
            done = Execution(
                done.outputs, sum(profile.values()), profile, emulator.stack_depth(), sites
            )
    return done


def _link(package: LoadedPackage, machine: _Machine, folder: Path) -> bytes:
    """Link the shipped static library into an image whose entry is the model's descriptor.

    The emulated processor has one thread: the tasks of kernels go to a function that runs them in
    order, in place of the library's pool.
    """
    library = Path(package.info.static_library).name
    shutil.copyfile(package.path / package.info.static_library, folder / library)
    name, target = package.info.name, package.info.target
    inputs = [library]
    if target.toolchain.threads:
        for path in (kernels_dir() / "harness" / _SERIAL, public_header()):
            shutil.copyfile(path, folder / path.name)
        inputs.insert(0, compile_object(target, _SERIAL, folder=folder, include=["."]))
    flags = ["-static", f"-Wl,-e,{name}_model", f"-Wl,-u,{name}_model"]
    try:
        link_image(
            target,
            inputs,
            "image.elf",
            folder=folder,
            flags=flags,
            triple=machine.triple,
        )
    except CompilerError as error:
        raise BrokenPackageError(f"'{library}' cannot be linked: {error.message}") from error
    return (folder / "image.elf").read_bytes()


def _machine(target: Target) -> _Machine:
    import unicorn
    from unicorn import arm64_const, arm_const, riscv_const

    kind = target.toolchain.target.split("-")[0]
    if kind == "thumb":
        models = {
            "cortex-m0": arm_const.UC_CPU_ARM_CORTEX_M0,
            "cortex-m3": arm_const.UC_CPU_ARM_CORTEX_M3,
            "cortex-m4": arm_const.UC_CPU_ARM_CORTEX_M4,
            "cortex-m7": arm_const.UC_CPU_ARM_CORTEX_M7,
            "cortex-m33": arm_const.UC_CPU_ARM_CORTEX_M33,
        }
        if target.run.unicorn.cpu not in models:
            raise MissingToolError(
                f"the unicorn runner cannot emulate processor '{target.run.unicorn.cpu}'; it can: "
                f"{', '.join(models)}",
                hint="choose one in [run.unicorn] of the target file, or another runner",
            )
        return _Machine(
            arch=unicorn.UC_ARCH_ARM,
            mode=unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS,
            cpu=models[target.run.unicorn.cpu],
            triple=target.toolchain.target,
            pointer_bits=32,
            arguments=(
                arm_const.UC_ARM_REG_R0, arm_const.UC_ARM_REG_R1, arm_const.UC_ARM_REG_R2,
            ),
            stack=arm_const.UC_ARM_REG_SP,
            link=arm_const.UC_ARM_REG_LR,
            result=arm_const.UC_ARM_REG_R0,
            program_counter=arm_const.UC_ARM_REG_PC,
            encoding="thumb",
        )  # fmt: skip
    if kind == "aarch64":
        return _Machine(
            arch=unicorn.UC_ARCH_ARM64,
            mode=unicorn.UC_MODE_ARM,
            cpu=None,
            triple="aarch64-freestanding-none",
            pointer_bits=64,
            arguments=(
                arm64_const.UC_ARM64_REG_X0, arm64_const.UC_ARM64_REG_X1,
                arm64_const.UC_ARM64_REG_X2,
            ),
            stack=arm64_const.UC_ARM64_REG_SP,
            link=arm64_const.UC_ARM64_REG_LR,
            result=arm64_const.UC_ARM64_REG_X0,
            program_counter=arm64_const.UC_ARM64_REG_PC,
            encoding="fixed",
        )  # fmt: skip
    if kind in ("riscv32", "riscv64"):
        wide = kind == "riscv64"
        return _Machine(
            arch=unicorn.UC_ARCH_RISCV,
            mode=unicorn.UC_MODE_RISCV64 if wide else unicorn.UC_MODE_RISCV32,
            cpu=None if wide else riscv_const.UC_CPU_RISCV32_SIFIVE_E31,  # RV32IMAC
            triple=f"{kind}-freestanding-none",
            pointer_bits=64 if wide else 32,
            arguments=(
                riscv_const.UC_RISCV_REG_A0, riscv_const.UC_RISCV_REG_A1,
                riscv_const.UC_RISCV_REG_A2,
            ),
            stack=riscv_const.UC_RISCV_REG_SP,
            link=riscv_const.UC_RISCV_REG_RA,
            result=riscv_const.UC_RISCV_REG_A0,
            program_counter=riscv_const.UC_RISCV_REG_PC,
            encoding="riscv",
        )  # fmt: skip
    raise MissingToolError(f"the unicorn runner cannot emulate '{kind}'")


class _Emulator:
    """An emulated processor with an image in its memory."""

    def __init__(self, machine: _Machine, image: bytes) -> None:
        import unicorn

        self.machine = machine
        self.unicorn = unicorn.Uc(machine.arch, machine.mode)
        if machine.cpu is not None:
            self.unicorn.ctl_set_cpu_model(machine.cpu)
        elf = ELFFile(io.BytesIO(image))
        self.symbols = Symbols(image)
        self._mapped: set[int] = set()
        self._code = (1 << 62, 0)
        for segment in elf.iter_segments():
            if segment["p_type"] == "PT_LOAD" and segment["p_memsz"]:
                self._load(segment)
        self._map(_RETURN, _PAGE)
        self._map(_STACK_TOP - _STACK_BYTES, _STACK_BYTES)
        self._enable_floats()
        self._next = _BUFFERS

    def _load(self, segment: Any) -> None:
        start, size = segment["p_vaddr"], segment["p_memsz"]
        self._map(start, size)
        self.unicorn.mem_write(start, segment.data())
        if segment["p_flags"] & 1:
            self._code = (min(self._code[0], start), max(self._code[1], start + size))

    def _map(self, start: int, size: int) -> None:
        for page in range(start // _PAGE, -(-(start + size) // _PAGE)):
            if page not in self._mapped:
                self._mapped.add(page)
                self.unicorn.mem_map(page * _PAGE, _PAGE)

    def _enable_floats(self) -> None:
        from unicorn import arm64_const, riscv_const

        kind = self.machine.triple.split("-")[0]
        if kind == "thumb":
            self._map(0xE000_E000, _PAGE)
            self.unicorn.mem_write(0xE000_ED88, (0xF << 20).to_bytes(4, "little"))  # CPACR
        elif kind == "aarch64":
            self.unicorn.reg_write(arm64_const.UC_ARM64_REG_CPACR_EL1, 3 << 20)  # FPEN
        else:
            status = self.unicorn.reg_read(riscv_const.UC_RISCV_REG_MSTATUS)
            self.unicorn.reg_write(riscv_const.UC_RISCV_REG_MSTATUS, status | 0x6000)  # FS

    def buffer(self, data: bytes, align: int) -> int:
        """Place ``data`` in memory of its own, as near to the end of a page as ``align`` allows."""
        size = -(-max(len(data), 1) // align) * align
        pages = -(-size // _PAGE) * _PAGE
        self.unicorn.mem_map(self._next, pages)
        start = self._next + pages - size
        self.unicorn.mem_write(start, data)
        self._next += pages + _PAGE  # the page behind it stays unmapped
        return start

    def code(self, driver: set[str]) -> Code:
        """Return the image's code, to count; ``driver`` are the functions that run the steps."""
        base, end = self._code
        return Code(
            base=base,
            data=self.read(base, end - base),
            encoding=self.machine.encoding,
            driver=driver,
        )

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.unicorn.mem_read(address, size))

    def call(self, function: int, arguments: tuple[int, ...]) -> int:
        """Call a function of the image and return its result."""
        import unicorn

        machine, uc = self.machine, self.unicorn
        for register, value in zip(machine.arguments, arguments, strict=False):
            uc.reg_write(register, value)
        uc.reg_write(machine.stack, _STACK_TOP - _STACK_SPARE)
        uc.reg_write(machine.link, _RETURN | machine.thumb)
        try:
            uc.emu_start(function | machine.thumb, _RETURN)
        except unicorn.UcError as error:
            at = uc.reg_read(machine.program_counter)
            raise BrokenPackageError(
                f"the library failed on the emulated processor at {at:#x} "
                f"(in {self.symbols.function_at(at)}): {error}"
            ) from error
        return int(uc.reg_read(machine.result))

    def paint_stack(self) -> None:
        """Fill the unused stack with a pattern."""
        self.unicorn.mem_write(_STACK_TOP - _STACK_BYTES, painted(_STACK_BYTES))

    def stack_depth(self) -> int:
        """Return how many bytes of stack calls have used since it was painted."""
        return stack_depth(self.read(_STACK_TOP - _STACK_BYTES, _STACK_BYTES - _STACK_SPARE))


def _run(emulator: _Emulator, model: Descriptor, arrays: dict[str, Array]) -> dict[str, Array]:
    pointer = "<u8" if emulator.machine.pointer_bits == 64 else "<u4"
    arena = emulator.buffer(bytes([GARBAGE]) * model.arena_bytes, max(model.arena_align, 1))
    if model.arena_io is not None:
        ins = [arena + offset for offset in model.arena_io.inputs]
        outs = [arena + offset for offset in model.arena_io.outputs]
        for spec, start in zip(model.inputs, ins, strict=True):
            emulator.unicorn.mem_write(start, arrays[spec.name].tobytes())
    else:
        ins = [
            emulator.buffer(arrays[s.name].tobytes(), np.dtype(s.dtype).itemsize)
            for s in model.inputs
        ]
        outs = [
            emulator.buffer(bytes([GARBAGE]) * s.nbytes, np.dtype(s.dtype).itemsize)
            for s in model.outputs
        ]
    in_table = emulator.buffer(np.array(ins, pointer).tobytes(), 8)
    out_table = emulator.buffer(np.array(outs, pointer).tobytes(), 8)
    status = emulator.call(model.run & ~1, (in_table, out_table, arena)) & 0xFFFFFFFF
    if status != 0:
        raise BrokenPackageError(f"the model refused to run: {RUN_ERRORS.get(status, status)}")
    return {
        s.name: np.frombuffer(emulator.read(start, s.nbytes), s.dtype).reshape(s.shape)
        for s, start in zip(model.outputs, outs, strict=True)
    }
