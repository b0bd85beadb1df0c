"""Counts instructions in the emulator: by symbol, and by the calls of the model's driver.

A small native callback, compiled for this machine, is called per basic block. The driver (the
functions that run the steps of a model) calls one function for each step; each place of such a
call is counted with all that happens until it returns.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from mlopsc.runners.base import CallSite
from mlopsc.runners.counting import Symbols, native_library

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
        driver: Names of the functions that make up the driver.
    """

    base: int
    data: bytes
    encoding: Encoding
    driver: Collection[str]


class _CallSite(ctypes.Structure):
    """``call_site`` of ``kernels/harness/call_sites.h``."""

    _fields_ = (
        ("from_", ctypes.c_uint64),
        ("function", ctypes.c_uint64),
        ("calls", ctypes.c_uint64),
        ("instructions", ctypes.c_uint64),
    )


class _CallSites(ctypes.Structure):
    """``call_sites`` of ``kernels/harness/call_sites.h``."""

    _fields_ = (
        ("sites", ctypes.POINTER(_CallSite)),
        ("capacity", ctypes.c_uint32),
        ("used", ctypes.c_uint32),
        ("current", ctypes.c_uint32),
        ("from_", ctypes.c_uint64),
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
        ("encoding", ctypes.c_uint32),
        ("sites", _CallSites),
    )


class Counter:
    """Counts instructions from its creation until ``finish``."""

    def __init__(self, engine: Any, code: Code, symbols: Symbols) -> None:
        """Start to count.

        Args:
            engine: A ``unicorn.Uc``.
            code: What is counted.
            symbols: Of the image.
        """
        import unicorn
        from unicorn.unicorn_py3.unicorn import uclib

        self._engine, self._code, self._symbols = engine, code, symbols
        size = len(code.data)
        self._counts = np.zeros(size // 2 + 1, np.uint64)
        self._lengths = np.zeros(size // 2 + 1, np.uint32)
        self._driver = _marks(code, symbols)
        self._sites = (_CallSite * _MAX_SITES)()
        self._state = _BlockCounter(
            base=code.base,
            end=code.base + size,
            counts=self._counts.ctypes.data,
            lengths=self._lengths.ctypes.data,
            code=code.data,
            driver=self._driver.ctypes.data,
            encoding=_ENCODINGS[code.encoding],
            sites=_CallSites(self._sites, _MAX_SITES, 0, _MAX_SITES, 0),
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
        sites = [
            CallSite(self._symbols.function_at(site.function), site.calls, site.instructions)
            for site in self._sites[: self._state.sites.used]
        ]
        return self._symbols.profile(self._executed()), sites

    def _executed(self) -> Iterator[tuple[int, int]]:
        """Yield the address of each block and the number of instructions executed in it."""
        for slot in np.flatnonzero(self._counts):
            executed = int(self._lengths[slot]) * int(self._counts[slot])
            yield self._code.base + 2 * int(slot), executed


def _marks(code: Code, symbols: Symbols) -> Any:
    """Return, per two bytes of the code, whether they belong to the driver."""
    marks = np.zeros(len(code.data) // 2 + 1, np.uint8)
    for start, end in symbols.ranges(code.driver):
        marks[max(start - code.base, 0) // 2 : (end - code.base) // 2] = 1
    return marks


@cache
def _library() -> Any:
    """Load the counter, compiled for this machine, once per process."""
    with tempfile.TemporaryDirectory(prefix="mlopsc-counter-") as name:
        return ctypes.CDLL(str(native_library("block_counter.c", Path(name))))
