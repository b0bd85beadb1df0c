"""What ``cpu.py`` compares: how each engine makes a call of a model on a number of threads.

Everyone computes in float32, or in integers where a model is quantised, is called from Python with
NumPy arrays, and keeps its own defaults but for the number of threads and what is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from store import Built
from suite_engines import ENGINES as SUITE

import mlopsc
from mlopsc.errors import MlopscError

Array = np.ndarray[Any, Any]
Inputs = Mapping[str, Array]
Call = Callable[[], list[Array]]


FLOAT32: Final = "mlopsc_float32"  # the model before it was quantised


class NotAvailableError(Exception):
    """An engine cannot run a model, or not on so many threads; the message says why."""


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        model: Its file.
        built: Its package.
        inputs: What it is called with.
        float32: The package and the inputs of the model that it was before it was quantised.
    """

    model: Path
    built: Built
    inputs: Inputs
    float32: tuple[Built, Inputs] | None = None


@dataclass(frozen=True)
class Engine:
    """One contestant.

    Attributes:
        title: Its name.
        package: Its Python package.
        prepare: Makes a call on a number of threads; raises NotAvailableError.
    """

    title: str
    package: str
    prepare: Callable[[Subject, int], Call]

    @property
    def version(self) -> str:
        """Its version, or "" where it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return ""


def _mlopsc(subject: Subject, threads: int) -> Call:
    return _call_package(subject.built, subject.inputs, threads)


def _mlopsc_float32(subject: Subject, threads: int) -> Call:
    if subject.float32 is None:
        raise NotAvailableError("the model has no form in float32")
    return _call_package(*subject.float32, threads)


def _call_package(built: Built, given: Inputs, threads: int) -> Call:
    if built.package is None:
        raise NotAvailableError(built.failure)
    try:
        package = mlopsc.load(built.package, threads=threads)
    except (ValueError, MlopscError) as error:
        if threads == 1:
            raise
        raise NotAvailableError(f"load: {error}") from error
    names, inputs = [s.name for s in package.outputs], dict(given)

    def call() -> list[Array]:
        outputs = package(inputs)
        return [outputs[name] for name in names]

    return call


def _onnxruntime(subject: Subject, threads: int) -> Call:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(subject.model), options, providers=["CPUExecutionProvider"]
    )
    inputs = dict(subject.inputs)
    return lambda: list(session.run(None, inputs))


def _openvino(subject: Subject, threads: int) -> Call:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(subject.model),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        },
    )
    request, inputs = compiled.create_infer_request(), dict(subject.inputs)

    def call() -> list[Array]:
        # Nothing is copied that need not be.
        return list(request.infer(inputs, share_inputs=True, share_outputs=True).to_tuple())

    return call


def _tvm(subject: Subject, threads: int) -> Call:
    import tvm

    one_per_core = 1  # of TVM's affinity modes
    tvm.get_global_func("runtime.config_threadpool")(one_per_core, threads)
    prepared = SUITE["tvm"][0]().prepare(onnx.load(subject.model))
    inputs = list(subject.inputs.values())
    return lambda: list(prepared.run(inputs))


ENGINES: Final[dict[str, Engine]] = {
    "mlopsc": Engine("mlopsc", "mlopsc", _mlopsc),
    "onnxruntime": Engine("ONNX Runtime", "onnxruntime", _onnxruntime),
    FLOAT32: Engine("mlopsc in float32", "mlopsc", _mlopsc_float32),
    "openvino": Engine("OpenVINO", "openvino", _openvino),
    "tvm": Engine("TVM", "apache-tvm", _tvm),
}


def prepare(subject: Subject, engine: Engine, threads: int) -> Call:
    """Return a call of one engine.

    Raises:
        NotAvailableError: It cannot run the model on so many threads; the message says why.
    """
    if not engine.version:
        raise NotAvailableError(f"not installed: pip install {engine.package}")
    try:
        return engine.prepare(subject, threads)
    except NotAvailableError:
        raise
    except Exception as error:  # an engine that fails must not end the other measurements
        raise NotAvailableError(f"{type(error).__name__}: {error}") from error
