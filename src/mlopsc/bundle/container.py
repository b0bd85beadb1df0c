"""The zip that a bundle is, in the one form that it may have (``docs/bundle-format.md``).

Any zip tool reads it. This reader accepts nothing else: every byte of the file is either the
content of a member or follows from the names, sizes and contents of all. So a file has one meaning,
and whatever is hidden, repeated, compressed or moved makes it invalid.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from mlopsc.schema.common import MAX_NAME, Digest, is_plain_path
from mlopsc.schema.graph import ALIGN

Chunk = bytes | memoryview

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_LOCAL_MAGIC = b"PK\x03\x04"
_CENTRAL_MAGIC = b"PK\x01\x02"
_UNIX = 3 << 8  # "made by": the attributes are those of Unix
_MODE = (0o644) << 16
_DATE = 1 << 5 | 1  # 1980-01-01; the time is 0
_PADDING_ID = 0xD935  # extra field used for alignment (APK Signature Scheme, zipalign)
_ZIP64_ID = 1
_PLAIN, _WITH_64 = 20, 45  # versions of the format that a reader must know
_LARGE = 1 << 30  # bytes beyond which a local header gives sizes with 64 bits
_MAX_32 = (1 << 31) - 1  # beyond which the directory does
_FILL = 0xFFFFFFFF
_READ = 1 << 22


@dataclass(frozen=True)
class Member:
    """One member of a container.

    Attributes:
        offset: Of its content in the file.
        size: Of its content, in bytes.
        digest: Of its content.
    """

    offset: int
    size: int
    digest: Digest


@dataclass(frozen=True)
class _Entry:
    """What the headers of a member say."""

    name: str
    size: int
    crc: int
    start: int

    @property
    def data(self) -> int:
        """Offset of the content."""
        return self.start + len(self.local())

    def _padding(self) -> bytes:
        before = self.start + _LOCAL.size + len(self.name) + len(self._sizes_64())
        length = -(before + 4) % ALIGN
        return struct.pack("<HH", _PADDING_ID, length) + bytes(length)

    def _sizes_64(self) -> bytes:
        if self.size <= _LARGE:
            return b""
        return struct.pack("<HHQQ", _ZIP64_ID, 16, self.size, self.size)

    def local(self) -> bytes:
        """Return the header in front of the content."""
        extra = self._sizes_64() + self._padding()
        large = self.size > _LARGE
        size, version = (_FILL, _WITH_64) if large else (self.size, _PLAIN)
        return (
            _LOCAL.pack(
                _LOCAL_MAGIC, version, 0, 0, 0, _DATE, self.crc, size, size,
                len(self.name), len(extra),
            )
            + self.name.encode()
            + extra
        )  # fmt: skip

    def central(self) -> bytes:
        """Return the entry in the directory."""
        wide = [] if self.size <= _MAX_32 else [self.size, self.size]
        size = _FILL if wide else self.size
        start = self.start
        if start > _MAX_32:
            wide.append(start)
            start = _FILL
        extra = self._padding()
        if wide:
            extra = struct.pack(f"<HH{len(wide)}Q", _ZIP64_ID, 8 * len(wide), *wide) + extra
        version = _WITH_64 if wide or self.size > _LARGE else _PLAIN
        return (
            _CENTRAL.pack(
                _CENTRAL_MAGIC, _UNIX | version, version, 0, 0, 0, _DATE, self.crc, size, size,
                len(self.name), len(extra), 0, 0, 0, _MODE, start,
            )
            + self.name.encode()
            + extra
        )  # fmt: skip


def write_container(path: Path, members: Mapping[str, Sequence[Chunk]]) -> None:
    """Write a container that holds ``members`` in their order.

    Raises:
        OSError: It cannot be written.
        ValueError: A name is none that a member may have.
    """
    entries = []
    with path.open("wb") as file:
        for name, chunks in members.items():
            if not is_plain_path(name):
                raise ValueError(f"'{name}' is no name of a member")
            entry = _Entry(name, sum(map(len, chunks)), 0, file.tell())
            file.write(entry.local())
            crc = 0
            for chunk in chunks:
                for part in _parts(chunk):
                    file.write(part)
                    crc = zlib.crc32(part, crc)
            entry = _Entry(name, entry.size, crc, entry.start)
            entries.append(entry)
            end = file.tell()
            file.seek(entry.start)
            file.write(entry.local())
            file.seek(end)
        file.write(_directory(entries, file.tell()))


def read_container(path: Path) -> dict[str, Member]:
    """Return where the members of a container lie, by name, after reading all of it.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no container, or has another form than ``write_container`` gives it.
    """
    if not path.is_file() and path.exists():  # reading a pipe never ends
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        entries: list[_Entry] = []
        members: dict[str, Member] = {}
        while (magic := file.read(4)) == _LOCAL_MAGIC:
            entry, member = _read_member(file, size)
            if entry.name in members:
                raise ValueError(f"member '{entry.name}' is there twice")
            entries.append(entry)
            members[entry.name] = member
        if magic != _CENTRAL_MAGIC:
            raise ValueError("it is not a zip file, or damaged" if not members else _damaged(file))
        file.seek(-4, io.SEEK_CUR)
        directory = _directory(entries, file.tell())
        if file.read(len(directory) + 1) != directory:
            raise ValueError("its directory does not match its members, or something follows it")
    return members


def _read_member(file: IO[bytes], file_size: int) -> tuple[_Entry, Member]:
    """Read a member whose first four bytes have been read.

    Raises:
        ValueError: It has another form than it must have.
    """
    start = file.tell() - 4
    fixed = file.read(_LOCAL.size - 4)
    if len(fixed) < _LOCAL.size - 4:
        raise ValueError(_damaged(file))
    _, _, _, method, _, _, crc, _, size, name_size, extra_size = _LOCAL.unpack(_LOCAL_MAGIC + fixed)
    if method != 0:
        raise ValueError("a member is compressed; expected all stored")
    if name_size > MAX_NAME or extra_size > MAX_NAME:
        raise ValueError("the header of a member is too long")
    try:
        name = file.read(name_size).decode("ascii")
    except UnicodeDecodeError as error:
        raise ValueError("the name of a member is not ASCII") from error
    if not is_plain_path(name):
        raise ValueError(f"{name!r} is no name of a member")
    extra = file.read(extra_size)
    if size == _FILL and len(extra) >= 12:
        (size,) = struct.unpack("<Q", extra[4:12])
    entry = _Entry(name, size, crc, start)
    header = entry.local()
    if header != _LOCAL_MAGIC + fixed + name.encode() + extra or file.tell() + size > file_size:
        raise ValueError(f"the header of member '{name}' is damaged")
    offset = file.tell()
    found, state, left = 0, sha256(), size
    while left:
        part = file.read(min(left, _READ))
        if not part:
            raise ValueError(f"member '{name}' is not whole")
        found = zlib.crc32(part, found)
        state.update(part)
        left -= len(part)
    if found != crc:
        raise ValueError(f"member '{name}' does not match its checksum: it was altered or damaged")
    return entry, Member(offset, size, f"sha256:{state.hexdigest()}")


def _directory(entries: Sequence[_Entry], start: int) -> bytes:
    """Return everything that follows the members."""
    listed = b"".join(entry.central() for entry in entries)
    count, size = len(entries), len(listed)
    end = b""
    if start > _MAX_32 or count > 0xFFFF:
        place = start + size
        end = _END64.pack(
            b"PK\x06\x06", 44, _WITH_64, _WITH_64, 0, 0, count, count, size, start
        ) + _LOCATOR64.pack(b"PK\x06\x07", 0, place, 1)
        start, count = min(start, _FILL), min(count, 0xFFFF)
    return listed + end + _END.pack(b"PK\x05\x06", 0, 0, count, count, size, start, 0)


def _parts(chunk: Chunk) -> Iterator[memoryview]:
    view = memoryview(chunk).cast("B")
    for start in range(0, len(view), _READ):
        yield view[start : start + _READ]


def _damaged(file: IO[bytes]) -> str:
    return f"it is damaged at byte {file.tell()}"
