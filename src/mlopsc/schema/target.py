"""A target: facts about a machine, and how to compile for it and run on it. Data, never code."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, PositiveInt

from mlopsc.dtypes import DTYPES, SMALL, DTypeName
from mlopsc.schema.common import Frozen

Generator = Literal["llvm", "c"]
Schedule = Literal["tiled", "none"]
Accuracy = Literal["fast", "strict"]  # what algorithms may give away; see docs/conformance.md
FAST_TOLERANCE: Final = 10.0  # errors of layers below 1e-5 each add up and pass through softmax
RunnerName = Literal["native", "unicorn", "wasmtime", "qemu"]


class Compile(Frozen):
    """How code is generated.

    Attributes:
        generator: The kernel generator that serves this target best.
        triple: LLVM triple with four components (with three, LLVM silently builds soft-float ARM).
        cpu: LLVM processor name.
        features: LLVM features, each with its ``+`` or ``-``.
        abi: LLVM ABI name where the architecture has several (``lp64d``), else empty.
        float_abi: On 32-bit ARM, how floats are passed; checked in every object.
    """

    generator: Generator
    triple: Annotated[str, Field(pattern=r"^[^-]+-[^-]+-[^-]+-[^-]+$")]
    cpu: str
    features: tuple[str, ...] = ()
    abi: str = ""
    float_abi: Literal["", "hard", "soft"] = ""


class Hardware(Frozen):
    """What schedules and planning read. No rule names a chip.

    Attributes:
        pointer_bits: Width of an address.
        vector_bits: Width of a vector register; 0 where there are none.
        registers: Floating-point or vector registers a kernel can use.
        fma: Whether multiply-add is one instruction.
        cores: Processor cores.
        l1_bytes: Data cache per core; 0 where there is none.
        l2_bytes: Second-level cache per core; 0 where there is none.
        cpu_flags: Names that must stand in the flags of the running processor to execute here.
        dot: Instruction that sums products of four 8-bit integers into each lane: ``vnni`` takes
            unsigned times signed (AVX-512 VNNI, AVX-VNNI), ``sdot`` signed times signed (Arm);
            ``madd`` sums products of two 16-bit integers (x86 before VNNI).
        cycles_per_instruction: On average, for estimates of latency; unknown if None.
        micro: Hand-written kernels for 8-bit integers: ``portable`` C, ``dsp`` (Arm's SIMD in
            32-bit registers: SMLAD), ``mve`` (Helium), or none.
        clock_hz: Cycles per second at the highest clock of the data-sheet, or unknown.
    """

    pointer_bits: Literal[32, 64]
    vector_bits: Literal[0, 64, 128, 256, 512, 1024, 2048]
    registers: PositiveInt
    fma: bool
    cores: PositiveInt = 1
    l1_bytes: Annotated[int, Field(ge=0)] = 0
    l2_bytes: Annotated[int, Field(ge=0)] = 0
    cpu_flags: tuple[str, ...] = ()
    dot: Literal["none", "madd", "vnni", "sdot"] = "none"
    micro: Literal["none", "portable", "dsp", "mve"] = "none"
    clock_hz: PositiveInt | None = None
    cycles_per_instruction: Annotated[float, Field(gt=0, le=1000)] | None = None


class Limits(Frozen):
    """What a board has. A build that needs more fails.

    Attributes:
        flash_bytes: For code and weights.
        ram_bytes: For the arena, inputs and outputs.
    """

    flash_bytes: PositiveInt | None = None
    ram_bytes: PositiveInt | None = None


class Toolchain(Frozen):
    """How C is compiled and linked (``zig cc``).

    Attributes:
        target: Zig target triple.
        cpu: Zig processor and features.
        flags: Further compiler flags: ``-f...`` (no plugins), ``-m...``, ``-D...``.
        system: What the library may count on; chooses the example's build files.
        shared: Form of the loadable library, or none.
        threads: Whether the library may use POSIX threads; without, a call computes on the thread
            that makes it.
    """

    target: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    cpu: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_+.-]*$")]
    flags: tuple[Annotated[str, Field(pattern=r"^-(m|f[a-oq-z]|D)[\w=.+-]*$")], ...] = ()
    system: Literal["linux", "macos", "bare", "wasm"]
    shared: Literal["so", "dylib", "wasm", "none"]
    threads: bool = False


class Region(Frozen):
    """Memory of an emulated board: its first address, and its size in bytes."""

    origin: Annotated[int, Field(ge=0, lt=1 << 32)]
    length: PositiveInt


class Emulator(Frozen):
    """Options of one runner.

    Attributes:
        cpu: The emulated processor, where the runner can choose.
        machine: The emulated board (QEMU), or empty for Linux programs.
        program: The emulator's command (QEMU).
        flash: Where code and constants of a bare image lie on that board (by default: MPS2).
        ram: Where its data and stack lie.
        start: Where the processor starts (Cortex-M: its vectors), if not at the start of ``flash``.
    """

    cpu: str = ""
    machine: str = ""
    program: Annotated[str, Field(pattern=r"^(qemu-[a-z0-9_-]+)?$")] = ""
    flash: Region = Region(origin=0x0000_0000, length=0x40_0000)
    ram: Region = Region(origin=0x2000_0000, length=0x40_0000)
    start: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None


class Run(Frozen):
    """Who can execute packages of this target, the preferred one first."""

    runners: Annotated[tuple[RunnerName, ...], Field(min_length=1)]
    unicorn: Emulator = Emulator()
    qemu: Emulator = Emulator()


class Tolerance(Frozen):
    """How far an output may be from the reference.

    Attributes:
        relative_to_max: Largest difference over the largest reference value of that output.
            Zero asks for equality bit for bit.
    """

    relative_to_max: Annotated[float, Field(ge=0, le=0.1, allow_inf_nan=False)] = 0.0


class Target(Frozen):
    """One target file, with ``extends`` resolved. Schema version 1."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    family: Literal["cpu", "edge", "wasm", "gpu", "fpga"]
    description: str
    compile: Compile
    hardware: Hardware
    limits: Limits = Limits()
    toolchain: Toolchain
    run: Run
    conformance: dict[DTypeName, Tolerance]

    def tolerance(self, dtype: str, accuracy: Accuracy = "strict") -> float:
        """Return the tolerance of ``dtype``.

        A small float is rounded from float32, so float32's tolerance may move it by one step. Any
        other type not listed must be equal bit for bit. Where kernels trade accuracy (``fast``),
        what rounding may move is ``FAST_TOLERANCE`` times as much.
        """
        wider = FAST_TOLERANCE if accuracy == "fast" else 1.0
        listed = {str(k): v.relative_to_max * wider for k, v in self.conformance.items()}
        if dtype in listed:
            return listed[dtype]
        rounded = dtype in SMALL and DTYPES[dtype].is_float and listed.get("float32", 0.0) > 0
        return DTYPES[dtype].epsilon if rounded else 0.0
