"""The C ABI's descriptor (``kernels/include/mlopsc.h``) read from any memory.

One decoder serves every way of running a package: a loaded library, an emulated processor, a
WebAssembly instance. It needs only a function that reads bytes at an address.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mlopsc.dtypes import BY_ONNX_CODE
from mlopsc.errors import BrokenPackageError
from mlopsc.schema.common import ArenaOffsets, TensorSpec
from mlopsc.schema.package import ABI_VERSION

Read = Callable[[int, int], bytes]

RUN_ERRORS = {
    1: "a buffer is NULL",
    2: "a buffer or the arena is not aligned",
    3: "an input or output is not at its offset in the arena",
}


@dataclass(frozen=True)
class Descriptor:
    """``mlopsc_model`` of a library.

    Attributes:
        name: Name of the model.
        version: The user's version of the model.
        target: Target it was compiled for.
        bundle: Digest of the bundle.
        inputs: Signature.
        outputs: Signature.
        arena_bytes: Scratch memory per call.
        arena_align: Its alignment.
        run: Address of the generic entry.
        arena_io: Where inputs and outputs lie in the arena, if they do.
    """

    name: str
    version: str
    target: str
    bundle: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    arena_bytes: int
    arena_align: int
    run: int
    arena_io: ArenaOffsets | None = None


def read_descriptor(read: Read, address: int, *, pointer_bits: Literal[32, 64]) -> Descriptor:
    """Decode the descriptor at ``address``.

    Raises:
        BrokenPackageError: What lies there is not a descriptor of this ABI version.
    """
    pointer = "Q" if pointer_bits == 64 else "I"
    form = f"<II6{pointer}IIQQ{pointer}"
    fields = struct.unpack(form, read(address, struct.calcsize(form)))
    if fields[0] != ABI_VERSION or fields[1] < struct.calcsize(form):
        raise BrokenPackageError(
            f"the library's descriptor has ABI version {fields[0]} and {fields[1]} bytes; "
            f"expected version {ABI_VERSION}"
        )
    name, version, target, bundle = (_text(read, a) for a in fields[2:6])
    arena_io = None
    end = struct.calcsize(form)
    tail = f"<2{pointer}"
    if fields[1] >= end + struct.calcsize(tail):  # libraries of before end here
        starts = struct.unpack(tail, read(address + end, struct.calcsize(tail)))
        arena_io = _offsets(read, starts, (fields[8], fields[9]))
    return Descriptor(
        name=name,
        version=version,
        target=target,
        bundle=bundle,
        inputs=_tensors(read, fields[6], fields[8], pointer),
        outputs=_tensors(read, fields[7], fields[9], pointer),
        arena_bytes=fields[10],
        arena_align=fields[11],
        run=fields[12],
        arena_io=arena_io,
    )


def _offsets(
    read: Read, addresses: tuple[int, int], counts: tuple[int, int]
) -> ArenaOffsets | None:
    if not all(addresses):
        return None
    ins, outs = (
        struct.unpack(f"<{count}Q", read(address, 8 * count)) if count else ()
        for address, count in zip(addresses, counts, strict=True)
    )
    return ArenaOffsets(inputs=ins, outputs=outs)


def _tensors(read: Read, address: int, count: int, pointer: str) -> tuple[TensorSpec, ...]:
    form = f"<2{pointer}QiifI"
    size = struct.calcsize(form)
    specs = []
    for index in range(count):
        name, shape, _, dtype, rank, _, _ = struct.unpack(form, read(address + index * size, size))
        if dtype not in BY_ONNX_CODE or not 0 <= rank <= 64:
            raise BrokenPackageError("the library's descriptor names an unknown element type")
        sizes = struct.unpack(f"<{rank}q", read(shape, 8 * rank)) if rank else ()
        specs.append(
            TensorSpec(name=_text(read, name), dtype=BY_ONNX_CODE[dtype].name, shape=sizes)
        )
    return tuple(specs)


def _text(read: Read, address: int) -> str:
    data = bytearray()
    while len(data) < 1 << 16:
        byte = read(address + len(data), 1)
        if byte == b"\0":
            return data.decode(errors="replace")
        data += byte
    raise BrokenPackageError("the library's descriptor holds a string without an end")
