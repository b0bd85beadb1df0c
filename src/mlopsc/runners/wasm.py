"""Runner *wasmtime*: the WebAssembly module, instantiated without any import."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np

from mlopsc.abi import RUN_ERRORS, read_descriptor
from mlopsc.errors import BrokenPackageError, MissingToolError
from mlopsc.loader import check_descriptor
from mlopsc.package_reader import LoadedPackage
from mlopsc.runners.base import GARBAGE, Array, Execution
from mlopsc.schema.target import Target

_PAGE = 65536


def describe(target: Target) -> str:
    """See ``base.Runner``."""
    del target
    try:
        return f"wasmtime {importlib.metadata.version('wasmtime')}"
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingToolError(
            "the Python package 'wasmtime' is not installed",
            hint="install it: pip install wasmtime",
        ) from error


def execute(
    package: LoadedPackage,
    inputs: list[dict[str, Array]],
    *,
    count: bool,
    threads: int | None,
) -> Execution:
    """See ``base.Runner``; nothing is counted."""
    del count, threads
    import wasmtime

    store = wasmtime.Store(wasmtime.Engine())
    try:
        module = wasmtime.Module.from_file(
            store.engine, str(package.path / str(package.info.shared_library))
        )
        instance = _Instance(store, wasmtime.Instance(store, module, []))
        return Execution([instance.run(package, arrays) for arrays in inputs])
    except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
        text = " ".join(str(error).split())
        raise BrokenPackageError(f"the WebAssembly module failed: {text[:300]}") from error


class _Instance:
    """One instance with its linear memory."""

    def __init__(self, store: Any, instance: Any) -> None:
        self._store = store
        self._exports = instance.exports(store)
        self._memory = self._exports["memory"]

    def _read(self, address: int, size: int) -> bytes:
        return bytes(self._memory.read(self._store, address, address + size))

    def _write(self, address: int, data: bytes) -> None:
        self._memory.write(self._store, data, address)

    def run(self, package: LoadedPackage, arrays: dict[str, Array]) -> dict[str, Array]:
        address = self._exports["mlopsc_model_get"](self._store)
        model = read_descriptor(self._read, address, pointer_bits=32)
        check_descriptor(model, package)
        top = int(self._exports["__heap_base"].value(self._store))

        def place(size: int, align: int = 16) -> int:
            nonlocal top
            start = -(-top // align) * align
            top = start + size
            missing = top - self._memory.data_len(self._store)
            if missing > 0:
                self._memory.grow(self._store, -(-missing // _PAGE))
            return start

        arena = place(model.arena_bytes, model.arena_align)
        self._write(arena, bytes([GARBAGE]) * model.arena_bytes)
        if model.arena_io is not None:
            ins = [arena + offset for offset in model.arena_io.inputs]
            outs = [arena + offset for offset in model.arena_io.outputs]
        else:
            ins = [place(s.nbytes) for s in model.inputs]
            outs = [place(s.nbytes) for s in model.outputs]
            for spec, start in zip(model.outputs, outs, strict=True):
                self._write(start, bytes([GARBAGE]) * spec.nbytes)
        in_table, out_table = place(4 * len(ins)), place(4 * len(outs))
        for spec, start in zip(model.inputs, ins, strict=True):
            self._write(start, arrays[spec.name].tobytes())
        self._write(in_table, np.array(ins, "<u4").tobytes())
        self._write(out_table, np.array(outs, "<u4").tobytes())
        # The descriptor's function pointer is an index into the module's table.
        entry = self._exports["__indirect_function_table"].get(self._store, model.run)
        status = int(entry(self._store, in_table, out_table, arena))
        if status != 0:
            raise BrokenPackageError(f"the model refused to run: {RUN_ERRORS.get(status, status)}")
        return {
            s.name: np.frombuffer(self._read(start, s.nbytes), s.dtype).reshape(s.shape)
            for s, start in zip(model.outputs, outs, strict=True)
        }
