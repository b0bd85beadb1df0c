"""What ``onnx_suite.py`` compares: each engine as an ``onnx.backend.base.Backend``.

ONNX's own runner drives all of them, so that loading, inputs, tolerances and comparison are its
own for everyone. Each engine names its version and imports what it needs only when it is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import onnx
from onnx.backend.base import Backend

from mlopsc.schema.target import Generator


def _mlopsc(generator: Generator) -> type[Backend]:
    """Return the backend that ships, with one of its kernel generators."""
    from mlopsc.backend import MlopscBackend

    class Mlopsc(MlopscBackend):
        @classmethod
        def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> Any:
            return super().prepare(model, device, generator=generator, **kwargs)

    return Mlopsc


def _onnxruntime() -> type[Backend]:
    """Return ONNX Runtime's own backend, quiet and on one thread."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from onnxruntime.backend.backend import OnnxRuntimeBackend

    class OnnxRuntime(OnnxRuntimeBackend):  # type: ignore[misc]
        @classmethod
        def prepare(cls, model: Any, device: str | None = None, **kwargs: Any) -> Any:
            options = {"log_severity_level": 4, "intra_op_num_threads": 1, **kwargs}
            return super().prepare(model, device, **options)

    return OnnxRuntime


def _tvm() -> type[Backend]:
    """Return TVM as it comes: its ONNX frontend, its default pipeline, its virtual machine."""
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    class Prepared:
        def __init__(self, model: onnx.ModelProto) -> None:
            module = from_onnx(model, keep_params_in_input=False)
            executable = tvm.compile(module, target=tvm.target.Target("llvm"))
            self._machine = relax.VirtualMachine(executable, tvm.cpu())

        def run(self, inputs: list[Any]) -> list[Any]:
            arguments = [tvm.runtime.tensor(np.ascontiguousarray(array)) for array in inputs]
            return _arrays(self._machine["main"](*arguments))

    def _arrays(result: Any) -> list[Any]:
        if isinstance(result, tvm.runtime.Tensor):
            return [result.numpy()]
        return [_arrays(part)[0] for part in result]

    class Tvm(Backend):
        @classmethod
        def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> Any:
            return Prepared(model)

        @classmethod
        def supports_device(cls, device: str) -> bool:
            return device == "CPU"

    return Tvm


ENGINES: Final[dict[str, tuple[Callable[[], type[Backend]], Callable[[], str]]]] = {
    "mlopsc": (lambda: _mlopsc("llvm"), lambda: f"mlopsc {version('mlopsc')}, host, llvm"),
    "mlopsc-c": (lambda: _mlopsc("c"), lambda: f"mlopsc {version('mlopsc')}, host, c"),
    "onnxruntime": (_onnxruntime, lambda: f"ONNX Runtime {version('onnxruntime')}"),
    "tvm": (_tvm, lambda: f"Apache TVM {version('apache-tvm')}"),
}
