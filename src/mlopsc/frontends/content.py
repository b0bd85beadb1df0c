"""What can be known of a file or folder without loading it: a look for frontends to recognise by.

Reads little: the beginning, names of members, of files in a folder. Nothing here is
trusted; a hostile source costs no more than these reads.
"""

from __future__ import annotations

import functools
import itertools
import stat
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mlopsc.errors import SourceError

HEAD_BYTES = 1 << 16
_MAX_MEMBERS = 1 << 16
_MAX_FILES = 1 << 12


@dataclass(frozen=True)
class Content:
    """A regular file, or a folder.

    Attributes:
        path: Where it is.
        is_folder: Whether it is a folder.
    """

    path: Path
    is_folder: bool

    @property
    def suffix(self) -> str:
        """The suffix of the name, in lower case; a hint, never a proof."""
        return self.path.suffix.lower()

    @functools.cached_property
    def size(self) -> int:
        """Bytes of the file; 0 for a folder."""
        return 0 if self.is_folder else self.path.stat().st_size

    @functools.cached_property
    def head(self) -> bytes:
        """The first bytes of the file; empty for a folder."""
        if self.is_folder:
            return b""
        with self.path.open("rb") as file:
            return file.read(HEAD_BYTES)

    @functools.cached_property
    def text(self) -> str:
        """The beginning as text without a byte order mark; empty if it is not UTF-8."""
        head = self.head.removeprefix(b"\xef\xbb\xbf")
        try:
            return head.decode()
        except UnicodeDecodeError as error:
            cut = len(head) == HEAD_BYTES and error.start > len(head) - 4
            return head[: error.start].decode() if cut else ""

    @functools.cached_property
    def members(self) -> tuple[str, ...]:
        """Names of the members, if it is a whole zip archive."""
        if not self.head.startswith(b"PK\x03\x04"):
            return ()
        try:
            with zipfile.ZipFile(self.path) as archive:
                return tuple(archive.namelist()[:_MAX_MEMBERS])
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
            return ()

    @functools.cached_property
    def files(self) -> tuple[str, ...]:
        """Names of what lies in the folder, sorted; empty for a file."""
        if not self.is_folder:
            return ()
        return tuple(sorted(p.name for p in itertools.islice(self.path.iterdir(), _MAX_FILES)))

    def describe(self) -> str:
        """Return a phrase about what it looks like, for messages."""
        if self.is_folder:
            names = ", ".join(self.files[:5]) or "nothing"
            return f"a folder with {names}" + (", ..." if len(self.files) > 5 else "")
        if not self.size:
            return "an empty file"
        if self.members:
            return f"a zip archive with {', '.join(self.members[:5])}"
        kind = "text" if self.text.strip() else "binary data"
        return f"{self.size} bytes of {kind}, beginning with {self.head[:16]!r}"


def look_at(path: Path) -> Content:
    """Return the content of ``path``.

    Raises:
        SourceError: It is not there, cannot be read, or is no regular file or folder.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise SourceError(
                f"'{path}' is no regular file; expected a model: a file or a folder",
                hint="copy it to a file first",
            )
        content = Content(path, stat.S_ISDIR(found.st_mode))
        _ = content.head if not content.is_folder else content.files
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"cannot read '{path}': {reason}; expected a model: a file or a folder",
            hint="check the path",
        ) from error
    return content


def varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number of a protobuf at ``place``, and where it ends; 0 at the end of ``data``."""
    value = shift = 0
    while place < len(data) and shift < 63:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    return value, place
