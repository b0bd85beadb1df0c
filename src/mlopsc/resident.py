"""Keeps little of mapped files in memory while they are worked on (Linux).

Weights are mapped, by us and by the reference runtime. Every page that was looked at stays in the
memory of the process until the system needs it for something else, so a model of 4 GB looks as if
it took 4 GB, and in a container counts so. Here pages go as soon as there are many: the system
reads them again from its cache where somebody looks at them again.
"""

from __future__ import annotations

import ctypes
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_LIMIT: Final = 48 << 20  # bytes of mapped files beyond those at the start
_LARGE: Final = 8 << 20  # bytes of a mapping that is worth it
_PERIOD_S: Final = 0.005
_DONTNEED: Final = 4  # MADV_DONTNEED of every Linux
_MAP = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r.-. \S+ \S+ [1-9]\d* +/")  # of a file, not executable


@contextmanager
def little_resident() -> Iterator[None]:
    """Let go of pages of mapped files, while the block runs, when there are many."""
    if sys.platform != "linux":
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(done,), name="mlopsc-resident", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _watch(done: threading.Event) -> None:
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    most = _resident_files() + _LIMIT
    while not done.wait(_PERIOD_S):
        if _resident_files() > most:
            for start, end in _clean_maps():
                madvise(start, end - start, _DONTNEED)


def _resident_files() -> int:
    """Return how many bytes of files are in the memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[2]) << 12


def _clean_maps() -> Iterator[tuple[int, int]]:
    """Yield where large files are mapped such that every page is as it is in the file.

    The reference runtime asks for private pages that it could write to, and never writes.
    """
    place: tuple[int, int] | None = None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := _MAP.match(line):
            start, end = int(found[1], 16), int(found[2], 16)
            place = (start, end) if end - start >= _LARGE else None
        elif place is not None and line.startswith("Anonymous:") and line.split()[1] == "0":
            yield place
