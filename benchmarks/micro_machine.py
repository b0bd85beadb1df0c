"""Runs the kernels for microcontrollers one by one: natively, or emulated and counted.

Both compile ``kernels/micro`` with the flags of packages and call through
``kernels/harness/micro_calls.c``. Emulated buffers have nothing mapped behind them.
"""

from __future__ import annotations

import ctypes
import dataclasses
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mlopsc.lower.micro import KERNELS, Variant
from mlopsc.resources import kernels_dir
from mlopsc.runners import emulator
from mlopsc.runners.counter import Counter
from mlopsc.schema.target import Target
from mlopsc.targets import load_target
from mlopsc.toolchain import compile_object, link_image, link_shared

Array = np.ndarray[Any, Any]
GARBAGE = 0xA5
_SLOT = 0x2_0000  # bytes of the memory of one buffer


@dataclass
class Arguments:
    """What a kernel gets; ``w`` is packed. Bytes of ``y`` are ``y_bytes``."""

    x: Array
    shape: Any
    y_bytes: int
    w: Array = dataclasses.field(default_factory=lambda: np.zeros(1, np.int8))
    bias: Array = dataclasses.field(default_factory=lambda: np.zeros(1, np.int32))
    multiplier: Array = dataclasses.field(default_factory=lambda: np.zeros(1, np.int32))
    exponentials: Array = dataclasses.field(default_factory=lambda: np.zeros(1, np.uint32))
    scratch_bytes: int = 0
    in_place: bool = False

    def shape_words(self) -> Array:
        """The C structure, whose members are all int32."""
        return np.array(dataclasses.astuple(self.shape), np.int32)


def _compile(variant: Variant, target: Target, folder: Path, flags: list[str]) -> list[str]:
    for path in (*(kernels_dir() / "micro").iterdir(), kernels_dir() / "harness" / "micro_calls.c"):
        shutil.copyfile(path, folder / path.name)
    sources = sorted({kernel.source for kernel in KERNELS[variant].values()})
    return [
        compile_object(target, name, folder=folder, flags=flags)
        for name in ("micro_calls.c", *sources)
    ]


class NativeKernels:
    """The kernels of a variant on this machine."""

    def __init__(self, variant: Variant) -> None:
        """Compile and load them."""
        host = load_target("host")
        with tempfile.TemporaryDirectory(prefix="mlopsc-micro-") as name:
            folder = Path(name)
            objects = _compile(variant, host, folder, ["-fvisibility=default"])
            link_shared(host, objects, "micro.so", exports=[], folder=folder)
            self._library = ctypes.CDLL(str(folder / "micro.so"))

    def call(self, operator: str, a: Arguments) -> Array:
        """Return the bytes of the output."""
        size = max(a.y_bytes, a.x.nbytes if a.in_place else 0)
        y = np.full(size, GARBAGE, np.uint8).view(np.int8)
        x = np.ascontiguousarray(a.x).reshape(-1)
        if a.in_place:
            y[: x.size] = x
            x = y
        scratch = np.full(a.scratch_bytes // 4 + 1, 0x5A5A5A5A, np.uint32)
        held = (x, a.w, a.bias, a.multiplier, y, scratch, a.shape_words(), a.exponentials)
        table = (ctypes.c_void_p * len(held))(*(v.ctypes.data for v in held))
        getattr(self._library, f"call_{operator}")(table)
        return y[: a.y_bytes]


class EmulatedKernels:
    """The kernels of a variant on an emulated processor."""

    def __init__(self, variant: Variant, target_name: str) -> None:
        """Compile them for a target that unicorn runs."""
        self._target = load_target(target_name)
        self._machine = emulator._machine(self._target)
        with tempfile.TemporaryDirectory(prefix="mlopsc-micro-") as name:
            folder = Path(name)
            objects = _compile(variant, self._target, folder, [])
            calls = [f"call_{operator}" for operator in KERNELS[variant]]
            flags = ["-static", "-Wl,--gc-sections", f"-Wl,-e,{calls[0]}"]
            flags += [f"-Wl,-u,{call}" for call in calls]
            link_image(
                self._target,
                objects,
                "image.elf",
                folder=folder,
                flags=flags,
                triple=self._machine.triple,
            )
            self._image = (folder / "image.elf").read_bytes()
        self._emulator = emulator._Emulator(self._machine, self._image)
        self._slots: list[int] = []
        self.instructions = 0

    def call(self, operator: str, a: Arguments, counter: Literal[True, False] = False) -> Array:
        """Return the bytes of the output; with ``counter`` set ``instructions``."""
        machine = self._emulator
        size = max(a.y_bytes, a.x.nbytes if a.in_place else 0)
        x = np.ascontiguousarray(a.x).tobytes()
        y = self._place(0, x.ljust(size, b"\xa5") if a.in_place else b"\xa5" * size, 1)
        at_x = y if a.in_place else self._place(1, x, 1)
        scratch = self._place(2, b"\x5a" * a.scratch_bytes, 4)
        constants = (a.w, a.bias, a.multiplier, a.shape_words(), a.exponentials)
        w, bias, multiplier, shape, exponentials = (
            self._place(3 + i, v.tobytes(), 4) for i, v in enumerate(constants)
        )
        table = np.array([at_x, w, bias, multiplier, y, scratch, shape, exponentials], np.uint32)
        arguments = (self._place(8, table.tobytes(), 4),)
        function = machine.symbols.addresses[f"call_{operator}"] & ~1
        if counter:
            counting = Counter(machine.unicorn, machine.code(set()), machine.symbols)
            machine.call(function, arguments)
            self.instructions = sum(counting.finish()[0].values())
        else:
            machine.call(function, arguments)
        return np.frombuffer(machine.read(y, a.y_bytes), np.int8)

    def _place(self, slot: int, data: bytes, align: int) -> int:
        """Write ``data`` so that it ends where the slot ends: mapping memory anew is slow."""
        while len(self._slots) <= slot:
            self._slots.append(self._emulator.buffer(bytes(_SLOT), 4096) + _SLOT)
        start = self._slots[slot] - -(-len(data) // align) * align
        self._emulator.unicorn.mem_write(start, data)
        return start

    def code_bytes(self) -> dict[str, int]:
        """Size of each function of the image."""
        import io

        from elftools.elf.elffile import ELFFile

        table = ELFFile(io.BytesIO(self._image)).get_section_by_name(".symtab")
        return {
            s.name: s["st_size"] for s in table.iter_symbols() if s["st_info"]["type"] == "STT_FUNC"
        }
