"""Maps files, and keeps little of them in memory while they are worked on.

Every page of a mapped file that was looked at stays in the memory of the process until the system
needs it for something else, so that a model of 4 GB looks as if it took 4 GB, and in a container
counts so. Here pages go as soon as there are many; the system gives them again, from its cache,
where somebody looks at them again.
"""

from __future__ import annotations

import mmap
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_LIMIT: Final = 16 << 20  # bytes of mapped files beyond those at the start
_LARGE: Final = 4 << 20  # bytes of a map that is worth it
_PERIOD_S: Final = 0.001
_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def map_file(path: Path, offset: int, length: int) -> memoryview:
    """Return ``length`` bytes of a file, mapped.

    Raises:
        OSError: It cannot be read.
        ValueError: It is shorter.
    """
    start = offset - offset % mmap.ALLOCATIONGRANULARITY
    with path.open("rb") as file:
        content = mmap.mmap(
            file.fileno(), offset - start + length, access=mmap.ACCESS_READ, offset=start
        )
    if length >= _LARGE:
        _maps.add(content)
    return memoryview(content)[offset - start :]


@contextmanager
def little_resident() -> Iterator[None]:
    """Let go of pages of files that ``map_file`` maps, when there are many (Linux)."""
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
    most = _resident_files() + _LIMIT
    while not done.wait(_PERIOD_S):
        if _resident_files() > most:
            for content in list(_maps):  # which keeps them mapped meanwhile
                with suppress(ValueError):  # it was closed
                    content.madvise(mmap.MADV_DONTNEED)


def _resident_files() -> int:
    """Return how many bytes of files are in the memory of this process."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - many times a second
        return int(file.read().split()[2]) * mmap.PAGESIZE
