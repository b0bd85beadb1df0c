"""Remembers the digests of files that have not changed, in the cache of results.

One entry per data set, by its resolved path: of each file its state (device, inode, size, times)
and its digest, in records of 72 bytes. The cache verifies the entry, replaces it as a whole and
removes it when it is not used; trouble with it means that files are read again.

As in git, a file is not remembered if it was changed shortly before it was read: a change within
the same tick of the file system's clock would leave its state as it is.
"""

from __future__ import annotations

import struct
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlopsc.cache import Cache
from mlopsc.data.scan import State, last_change
from mlopsc.schema.common import digest_bytes

_RECORD = struct.Struct("40s32s")
_TICK_NS = 2_000_000_000  # of FAT, the coarsest clock of a file system
_FORMAT = b"mlopsc data fingerprint, files of docs/data.md version 1\0"


def is_settled(state: State, now: int) -> bool:
    """Return whether any change after the time ``now`` (in ns) must show in the state."""
    return last_change(state) < now - _TICK_NS


@dataclass(frozen=True)
class Memory:
    """What is remembered of one data set.

    Attributes:
        cache: Where.
        root: Resolved path of the data set.
    """

    cache: Cache
    root: str

    @property
    def _key(self) -> str:
        return digest_bytes(_FORMAT, self.root.encode(errors="surrogateescape"))

    def load(self) -> dict[State, bytes]:
        """Return digests by states; nothing if there is none that can be used."""
        data = b""
        if self.cache.limit == 0:
            return {}
        with suppress(OSError), tempfile.TemporaryDirectory(prefix="mlopsc-") as folder:
            copy = Path(folder) / "states"
            if self.cache.fetch(self._key, copy):
                data = copy.read_bytes()
        if len(data) % _RECORD.size:
            return {}
        return dict(_RECORD.iter_unpack(data))

    def store(self, digests: dict[State, bytes]) -> None:
        """Remember ``digests`` instead of what was there, if the cache has room."""
        if self.cache.limit == 0:
            return
        with suppress(OSError), tempfile.TemporaryDirectory(prefix="mlopsc-") as folder:
            states = Path(folder) / "states"
            with states.open("wb") as file:
                file.writelines(state + digest for state, digest in digests.items())
            self.cache.store(self._key, states)
