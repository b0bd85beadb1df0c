"""The digest of a data set: a Merkle tree over chunks, files and folders, all SHA-256.

The definition is in docs/data.md and never changes. What is hashed begins with a byte that says
what it is, so that no chunk passes for a node and no file for a folder. Inside a file the tree is
that of RFC 9162 (Certificate Transparency), with chunks of 1 MiB as its entries; so its digest can
be computed in parallel, from any number of aligned groups of chunks.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise

CHUNK = 1 << 20  # bytes of a leaf; the last one of a file may have fewer
LEAF, NODE, FILE, FOLDER = b"\0", b"\1", b"\2", b"\3"
_ENTRY = struct.Struct(">cI")  # kind of an entry of a folder, length of its name
_SIZE = struct.Struct(">Q")


def leaf_digest(prefixed: bytes | memoryview) -> bytes:
    """Return the digest of a chunk that is given with ``LEAF`` in front of it."""
    return hashlib.sha256(prefixed).digest()


def tree_root(level: Sequence[bytes]) -> bytes:
    """Return the root over digests of leaves, or over roots of equally many leaves each.

    Only the last root may be of fewer leaves; the number of the others' must be a power of two.
    """
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        joined = [hashlib.sha256(NODE + left + right).digest() for left, right in pairs]
        level = [*joined, *level[len(joined) * 2 :]]
    return level[0] if level else hashlib.sha256().digest()


def file_digest(size: int, root: bytes) -> bytes:
    """Return the digest of a file of ``size`` bytes whose chunks have the root ``root``."""
    return hashlib.sha256(FILE + _SIZE.pack(size) + root).digest()


def folder_digest(files: Iterable[tuple[str, int, bytes]]) -> bytes:
    """Return the digest of a folder, bottom-up.

    Args:
        files: Path, size and digest of each file below it. Folders without files do not count.

    Raises:
        ValueError: A path is there twice, or is that of a file and of a folder.
    """
    folders: dict[str, list[tuple[bytes, bytes]]] = {"": []}  # name and record of each entry
    for path, size, digest in files:
        folder, _, text = path.rpartition("/")
        if folder not in folders:
            _add_with_parents(folders, folder)
        name = text.encode()
        record = (_ENTRY.pack(FILE, len(name)), name, _SIZE.pack(size), digest)
        folders[folder].append((name, b"".join(record)))
    for path in sorted(folders, key=lambda path: path.count("/"), reverse=True):
        if path:
            folder, _, text = path.rpartition("/")
            name = text.encode()
            head = _ENTRY.pack(FOLDER, len(name))
            folders[folder].append((name, head + name + _digest(folders.pop(path))))
    return _digest(folders[""])


def _add_with_parents(folders: dict[str, list[tuple[bytes, bytes]]], path: str) -> None:
    while path not in folders:
        folders[path] = []
        path = path.rpartition("/")[0]


def _digest(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Return the digest of a folder with these entries."""
    entries.sort()
    if any(one[0] == other[0] for one, other in pairwise(entries)):
        raise ValueError("a name is there twice in a folder")
    return hashlib.sha256(FOLDER + b"".join(record for _, record in entries)).digest()
