"""Hashes files in parallel: the chunks of one large file as well as many small files.

Threads suffice: Python's lock is released while a chunk is read or hashed. Each takes the next
*batch*: groups of chunks of about 16 MiB together. A group is 16 chunks of one file, or a whole
file that is smaller; its root is a node of the file's tree. So memory is one chunk per thread, and
one digest per group of the file.

Files are read, not mapped: a mapped file that is truncated kills the process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from threading import Lock
from typing import Protocol

from mlopsc.data.merkle import CHUNK, LEAF, file_digest, leaf_digest, tree_root
from mlopsc.data.scan import Found, cannot_read, changed, state_of

_GROUP_CHUNKS = 16  # a power of two
_GROUP = _GROUP_CHUNKS * CHUNK
_BATCH_GROUPS = 64
_PROGRESS_S = 0.1
# A link or a pipe that took the file's place is not followed or waited for.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
# What opening says when it is a link, is not there any more, or is a socket.
_GONE = (errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.ENXIO)


class HashProgress(Protocol):
    """Called now and then with how many bytes are hashed, and of how many."""

    def __call__(self, hashed: int, total: int) -> None:
        """Show it."""


class Hashing:
    """The hashing of some files.

    Attributes:
        files: What is hashed.
        digests: Of each file; None where it is not done yet, also after an error or an interrupt.
    """

    def __init__(self, files: Sequence[Found]) -> None:
        """Prepare; nothing is read yet."""
        self.digests: list[bytes | None] = [None] * len(files)
        self.files = files
        self._batches = _batches(files)
        self._roots: dict[int, dict[int, bytes]] = {}  # of files in work, by place of the group
        self._hashed = 0
        self._lock = Lock()
        self._stop = False

    def run(self, progress: HashProgress) -> None:
        """Hash all files, on as many threads as there are cores.

        Raises:
            DataError: A file cannot be read, or changed since it was found.
        """
        if not self.files:
            return
        total = sum(file.size for file in self.files)
        with ThreadPoolExecutor(cores()) as pool:
            try:
                pending = {pool.submit(self._work) for _ in range(cores())}
                while pending:
                    done, pending = wait(pending, _PROGRESS_S, FIRST_COMPLETED)
                    progress(self._hashed, total)
                    for future in done:
                        future.result()
            finally:
                self._stop = True  # before the pool waits for its threads

    def _work(self) -> None:
        buffer = memoryview(bytearray(LEAF + bytes(CHUNK)))
        while True:
            with self._lock:
                batch = next(self._batches, ())
            if not batch:
                return
            for index, offset in batch:
                file = self.files[index]
                leaves = self._read_group(file, offset, buffer)
                if self._stop:
                    return
                self._finish_group(index, file.size, offset, tree_root(leaves))

    def _read_group(self, file: Found, offset: int, buffer: memoryview) -> list[bytes]:
        """Return the digests of a group's chunks.

        Raises:
            DataError: The file cannot be read, or changed.
        """
        end = min(offset + _GROUP, file.size)
        leaves = []
        try:
            descriptor = os.open(file.path, _FLAGS)
            try:
                if state_of(os.fstat(descriptor)) != file.state:
                    raise changed(file.path)
                for start in range(offset, end, CHUNK):
                    if self._stop:
                        break
                    filled = buffer[: 1 + min(CHUNK, end - start)]
                    if not _read_into(descriptor, filled[1:], start):
                        raise changed(file.path)
                    leaves.append(leaf_digest(filled))
                # A file may be longer than it says, in /proc or on another machine.
                longer = end == file.size and os.pread(descriptor, 1, end)
                if longer or state_of(os.fstat(descriptor)) != file.state:
                    raise changed(file.path)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in _GONE:
                raise changed(file.path) from error
            raise cannot_read(file.path, error) from error
        return leaves

    def _finish_group(self, index: int, size: int, offset: int, root: bytes) -> None:
        with self._lock:
            self._hashed += min(_GROUP, size - offset)
            if size > _GROUP:
                roots = self._roots.setdefault(index, {})
                roots[offset] = root
                if len(roots) * _GROUP < size:
                    return
                del self._roots[index]
                root = tree_root([roots[place] for place in sorted(roots)])
        self.digests[index] = file_digest(size, root)


def _batches(files: Sequence[Found]) -> Iterator[list[tuple[int, int]]]:
    """Yield batches: groups by the place of their file in ``files`` and their offset in it."""
    batch: list[tuple[int, int]] = []
    nbytes = 0
    for index, file in enumerate(files):
        for offset in range(0, max(file.size, 1), _GROUP):
            batch.append((index, offset))
            nbytes += min(_GROUP, file.size - offset)
            if nbytes >= _GROUP or len(batch) == _BATCH_GROUPS:
                yield batch
                batch, nbytes = [], 0
    if batch:
        yield batch


def _read_into(descriptor: int, buffer: memoryview, offset: int) -> bool:
    """Fill ``buffer`` from a file; return whether the file is that long."""
    while buffer:
        count = os.preadv(descriptor, [buffer], offset)
        if count == 0:
            return False
        buffer = buffer[count:]
        offset += count
    return True


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
