"""Counts instructions in the emulator: by symbol, and by the calls of the model's driver.

A small native callback, compiled for this machine, is called per basic block. The driver (the
functions that run the steps of a model) calls one function for each step; each place of such a
call is counted with all that happens until it returns.
"""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from mlopsc.resources import kernels_dir
from mlopsc.runners.base import CallSite
from mlopsc.targets import load_target
from mlopsc.toolchain import compile_object, link_shared

Encoding = Literal["fixed", "thumb", "riscv"]
_ENCODINGS: Final[dict[Encoding, int]] = {"fixed": 0, "thumb": 1, "riscv": 2}
_MAX_SITES = 1 << 16


@dataclass(frozen=True)
class Code:
    """The code whose instructions are counted.

    Attributes:
        base: Address of its first byte.
        data: Its bytes.
        encoding: Lengths of its instructions.
        functions: First address and name of every function, in order.
        driver: Names of the functions that make up the driver.
        link: Unicorn's number of the register with the return address.
    """

    base: int
    data: bytes
    encoding: Encoding
    functions: list[tuple[int, str]]
    driver: Collection[str]
    link: int


class _CallSite(ctypes.Structure):
    """``call_site`` of ``kernels/harness/block_counter.c``."""

    _fields_ = (
        ("from_", ctypes.c_uint64),
        ("function", ctypes.c_uint64),
        ("calls", ctypes.c_uint64),
        ("instructions", ctypes.c_uint64),
    )


class _BlockCounter(ctypes.Structure):
    """``block_counter`` of ``kernels/harness/block_counter.c``."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("counts", ctypes.c_void_p),
        ("lengths", ctypes.c_void_p),
        ("code", ctypes.c_char_p),
        ("driver", ctypes.c_void_p),
        ("sites", ctypes.POINTER(_CallSite)),
        ("capacity", ctypes.c_uint32),
        ("used", ctypes.c_uint32),
        ("current", ctypes.c_uint32),
        ("encoding", ctypes.c_uint32),
        ("link", ctypes.c_int32),
        ("read_register", ctypes.c_void_p),
    )


class Counter:
    """Counts instructions from its creation until ``finish``."""

    def __init__(self, engine: Any, code: Code, name_of: Callable[[int], str]) -> None:
        """Start to count.

        Args:
            engine: A ``unicorn.Uc``.
            code: What is counted.
            name_of: Gives the name of the function at an address.
        """
        import unicorn
        from unicorn.unicorn_py3.unicorn import uclib

        self._engine, self._code, self._name_of = engine, code, name_of
        size = len(code.data)
        self._counts = np.zeros(size // 2 + 1, np.uint64)
        self._lengths = np.zeros(size // 2 + 1, np.uint32)
        self._driver = _marks(code)
        self._sites = (_CallSite * _MAX_SITES)()
        self._state = _BlockCounter(
            base=code.base,
            end=code.base + size,
            counts=self._counts.ctypes.data,
            lengths=self._lengths.ctypes.data,
            code=code.data,
            driver=self._driver.ctypes.data,
            sites=self._sites,
            capacity=_MAX_SITES,
            used=0,
            current=_MAX_SITES,
            encoding=_ENCODINGS[code.encoding],
            link=code.link,
            read_register=ctypes.cast(uclib.uc_reg_read, ctypes.c_void_p),
        )
        self._hook = ctypes.c_size_t()
        uclib.uc_hook_add(
            engine._uch,
            ctypes.byref(self._hook),
            unicorn.UC_HOOK_BLOCK,
            ctypes.cast(_library().mlopsc_count_block, ctypes.c_void_p),
            ctypes.byref(self._state),
            ctypes.c_uint64(code.base),
            ctypes.c_uint64(code.base + size - 1),
        )

    def finish(self) -> tuple[dict[str, int], list[CallSite]]:
        """Stop counting.

        Returns:
            Executed instructions by symbol, largest first; the calls of the driver, in the order of
            each place's first.
        """
        from unicorn.unicorn_py3.unicorn import uclib

        uclib.uc_hook_del(self._engine._uch, self._hook)
        totals: dict[str, int] = {}
        for slot in np.flatnonzero(self._counts):
            name = self._name_of(self._code.base + 2 * int(slot))
            executed = int(self._lengths[slot]) * int(self._counts[slot])
            totals[name] = totals.get(name, 0) + executed
        sites = [
            CallSite(self._name_of(site.function), site.calls, site.instructions)
            for site in self._sites[: self._state.used]
        ]
        return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0]))), sites


def _marks(code: Code) -> Any:
    """Return, per two bytes of the code, whether they belong to the driver."""
    marks = np.zeros(len(code.data) // 2 + 1, np.uint8)
    ends = [start for start, _ in code.functions[1:]] + [code.base + len(code.data)]
    for (start, name), end in zip(code.functions, ends, strict=True):
        if name in code.driver:
            marks[(start - code.base) // 2 : (end - code.base) // 2] = 1
    return marks


@cache
def _library() -> Any:
    """Compile the counter for this machine, once per process."""
    host = load_target("host")
    folder = Path(tempfile.mkdtemp(prefix="mlopsc-counter-"))
    try:
        shutil.copyfile(kernels_dir() / "harness" / "block_counter.c", folder / "block_counter.c")
        made = compile_object(host, "block_counter.c", folder=folder)
        link_shared(host, [made], "counter.so", exports=[], folder=folder)
        return ctypes.CDLL(str(folder / "counter.so"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
