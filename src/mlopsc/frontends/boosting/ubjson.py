"""Reads UBJSON, the binary form of JSON in which XGBoost saves models. Source: ubjson.org."""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

from mlopsc.errors import SourceError

_NUMBERS: Final = {
    b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8",
}  # fmt: skip
_VALUES: Final[dict[bytes, Any]] = {b"Z": None, b"T": True, b"F": False}
_DEPTH: Final = 64


def decode(data: bytes) -> Any:
    """Return what ``data`` holds: dicts, lists, strings and numbers.

    Raises:
        SourceError: It is cut off, or no UBJSON.
    """
    try:
        return _Reader(data).value(0)
    except (struct.error, UnicodeDecodeError) as error:
        raise SourceError(f"it is no UBJSON: {error}") from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def value(self, depth: int, kind: bytes | None = None) -> Any:
        """Return the next value, of type ``kind`` if that was said before."""
        kind = kind or self._take(1)
        if kind in _VALUES:
            return _VALUES[kind]
        if kind in _NUMBERS:
            return self._numbers(kind, 1)[0]
        if kind in (b"S", b"H"):
            return self._text()
        if kind == b"C":
            return self._take(1).decode("latin-1")
        if kind not in (b"{", b"["):
            raise SourceError(f"byte {self._place}: {kind!r} is no type of UBJSON")
        if depth >= _DEPTH:
            raise SourceError(f"it is nested deeper than {_DEPTH}")
        return self._array(depth + 1) if kind == b"[" else self._object(depth + 1)

    def _array(self, depth: int) -> list[Any]:
        kind, count = self._header()
        if kind in _NUMBERS and count is not None:
            return self._numbers(kind, count)
        if count is not None:
            return [self.value(depth, kind) for _ in range(self._checked(count))]
        found = []
        while not self._ends(b"]"):
            found.append(self.value(depth))
        return found

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count = self._header()
        found: dict[str, Any] = {}
        left = None if count is None else self._checked(count)
        while left != 0 and not (left is None and self._ends(b"}")):
            key = self._text()
            found[key] = self.value(depth, kind)
            left = None if left is None else left - 1
        return found

    def _header(self) -> tuple[bytes | None, int | None]:
        """Return the type and the number of elements, where they are said."""
        kind = None
        if self._peek() == b"$":
            self._take(1)
            kind = self._take(1)
            if self._peek() != b"#":
                raise SourceError(f"byte {self._place}: a type without a number of elements")
            if kind in _VALUES:  # any number of these would take no bytes
                raise SourceError(f"byte {self._place}: a list of constants")
        if self._peek() != b"#":
            return None, None
        self._take(1)
        return kind, self._length()

    def _length(self) -> int:
        kind = self._take(1)
        if kind not in _NUMBERS or kind in (b"d", b"D"):
            raise SourceError(f"byte {self._place}: {kind!r} is no type of a length")
        return int(self._numbers(kind, 1)[0])

    def _checked(self, count: int) -> int:
        """Return ``count``; every element takes a byte at least."""
        if not 0 <= count <= len(self._data):
            raise SourceError(f"byte {self._place}: {count} elements in {len(self._data)} bytes")
        return count

    def _text(self) -> str:
        return self._take(self._length()).decode()

    def _numbers(self, kind: bytes, count: int) -> list[Any]:
        dtype = np.dtype(_NUMBERS[kind])
        values: list[Any] = np.frombuffer(self._take(count * dtype.itemsize), dtype).tolist()
        return values

    def _peek(self) -> bytes:
        return self._data[self._place : self._place + 1]

    def _ends(self, mark: bytes) -> bool:
        ends = self._peek() == mark
        self._place += ends
        return ends

    def _take(self, count: int) -> bytes:
        if not 0 <= count <= len(self._data) - self._place:
            raise SourceError(f"byte {self._place}: {count} bytes are expected, it ends before")
        self._place += count
        return self._data[self._place - count : self._place]
