"""The most multiply-adds a second that this machine does: what fractions of peak refer to."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mlopsc.targets import load_target
from mlopsc.toolchain import compile_object, link_shared

SOURCE = Path(__file__).resolve().with_suffix(".c")
CHAINS, ADDITIONS = 12, 32  # per round; as in the C file
FMA_ROUNDS, ADDITION_ROUNDS = 2_000_000, 200_000  # milliseconds: less than a time slice
TRIES = 200  # others compute, too


@dataclass(frozen=True)
class Peak:
    """What the processor can do.

    Attributes:
        lanes: float32 values in a vector register.
        gigahertz: Frequency of a core while it computes, taking one dependent addition a cycle.
        per_second: float32 multiply-adds per second by number of threads.
    """

    lanes: int
    gigahertz: float
    per_second: dict[int, float]

    @property
    def ports(self) -> float:
        """Vector multiply-adds a cycle on one core; about 2 or 1 if the figures are sound."""
        return self.per_second[1] / (self.gigahertz * 1e9 * self.lanes)


def measure_peak(threads: tuple[int, ...]) -> Peak:
    """Measure with a library that the project's compiler makes for this machine.

    Raises:
        MlopscError: There is no target for this machine, or the compiler fails.
    """
    target = load_target("host")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(SOURCE, folder)
        made = compile_object(target, SOURCE.name, folder=folder, flags=["-fvisibility=default"])
        link_shared(target, [made], "machine.so", exports=[], folder=folder)
        loaded = ctypes.CDLL(str(folder / "machine.so"))
    loaded.fma_chains.argtypes = [ctypes.c_int64, ctypes.c_float]
    loaded.fma_chains.restype = ctypes.c_float
    loaded.cycles.argtypes = [ctypes.c_int64, ctypes.c_int64]
    loaded.cycles.restype = ctypes.c_int64
    lanes = loaded.fma_lanes()
    work = FMA_ROUNDS * CHAINS * lanes
    additions = ADDITION_ROUNDS * ADDITIONS
    return Peak(
        lanes=lanes,
        gigahertz=additions / _fastest(lambda: loaded.cycles(ADDITION_ROUNDS, 1), 1) / 1e9,
        per_second={
            n: n * work / _fastest(lambda: loaded.fma_chains(FMA_ROUNDS, 0.5), n)
            for n in sorted({1, *threads})
        },
    )


def _fastest(run: Callable[[], object], threads: int) -> float:
    """Return the least seconds that ``threads`` runs at the same time took; ctypes lets them."""
    times = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(TRIES):
            start = time.perf_counter()
            list(pool.map(lambda _: run(), range(threads)))
            times.append(time.perf_counter() - start)
    return min(times)
