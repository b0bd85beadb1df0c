"""What runners on emulators measure alike: instructions by symbol, and the depth of the stack.

Takes what an emulator saw (executed instructions by address, the memory of the stack) and the
image's symbols; gives totals. Callbacks inside an emulator are C of ``kernels/harness``, compiled
for this machine on their first use.
"""

from __future__ import annotations

import bisect
import io
import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from elftools.elf.elffile import ELFFile

from mlopsc.errors import BrokenPackageError
from mlopsc.resources import kernels_dir
from mlopsc.targets import load_target
from mlopsc.toolchain import compile_object, link_shared

PAINT: Final = 0x5AC3A53C  # a word of unused stack; as in kernels/harness/run_vectors.c


class Symbols:
    """The symbols of an image.

    Attributes:
        addresses: Of every symbol, by name.
        functions: First address and name of every function, in order.
    """

    def __init__(self, image: bytes) -> None:
        """Read the symbol table of an ELF file."""
        self.addresses: dict[str, int] = {}
        self.functions: list[tuple[int, str]] = []
        for symbol in ELFFile(io.BytesIO(image)).get_section_by_name(".symtab").iter_symbols():
            if symbol.name and symbol["st_shndx"] != "SHN_UNDEF":
                self.addresses[symbol.name] = symbol["st_value"]
                if symbol["st_info"]["type"] == "STT_FUNC":
                    self.functions.append((symbol["st_value"] & ~1, symbol.name))
        self.functions.sort()

    def function_at(self, address: int) -> str:
        """Return the function that ``address`` lies in."""
        index = bisect.bisect_right(self.functions, (address, "\uffff")) - 1
        return self.functions[index][1] if index >= 0 else "unknown code"

    def ranges(self, names: Collection[str]) -> list[tuple[int, int]]:
        """Return the first address of each function of that name, and that of the next one."""
        ends = [*(start for start, _ in self.functions[1:]), 1 << 62]
        return [
            (start, end)
            for (start, name), end in zip(self.functions, ends, strict=True)
            if name in names
        ]

    def profile(self, executed: Iterable[tuple[int, int]]) -> dict[str, int]:
        """Return instructions by function, largest first; takes pairs of address and number."""
        totals: dict[str, int] = {}
        for address, number in executed:
            name = self.function_at(address)
            totals[name] = totals.get(name, 0) + number
        return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


def painted(size: int) -> bytes:
    """Return ``size`` bytes of unused stack; a multiple of four."""
    return np.full(size // 4, PAINT, "<u4").tobytes()


def stack_depth(memory: bytes) -> int:
    """Return how many bytes at the end of ``memory``, painted before, were written.

    Raises:
        BrokenPackageError: All of them.
    """
    used = np.flatnonzero(np.frombuffer(memory, "<u4") != PAINT)
    if used.size and used[0] == 0:
        raise BrokenPackageError(f"the library needs more than {len(memory)} bytes of stack")
    return len(memory) - 4 * int(used[0]) if used.size else 0


def native_library(source: str, folder: Path, *, flags: Sequence[str] = ()) -> Path:
    """Compile a file of ``kernels/harness`` for this machine, as a library in ``folder``.

    Args:
        source: The file; what it does not define, the program that loads it does.
        folder: Where the library is put.
        flags: Further compiler flags.
    """
    host = load_target("host")
    for name in (source, "call_sites.h"):
        shutil.copyfile(kernels_dir() / "harness" / name, folder / name)
    made = compile_object(host, source, folder=folder, include=["."], flags=flags)
    library = f"{Path(source).stem}.so"
    link_shared(host, [made], library, exports=[], folder=folder)
    return folder / library
