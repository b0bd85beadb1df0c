"""The reference runtime: ONNX Runtime's CPU provider on the bundle's own graphs.

Used to make the expected outputs of test vectors and to judge packages. One thread and default
optimisations, so that one version on one kind of processor always computes the same bits.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from mlopsc.errors import SourceError
from mlopsc.exact_products import make_products_exact
from mlopsc.external_data import external_tensors, place_of, set_external
from mlopsc.reference_types import run_widened, widen_signature
from mlopsc.schema.graph import ALIGN, StageGraph

# Before it is imported: its telemetry keeps an identifier of the user on disk.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state

Arrays = dict[str, np.ndarray[Any, Any]]
# Beyond this, weights are used as they lie in their files: optimisations would make copies.
LARGE_BYTES = 1 << 28
# The normal form has done these, unless weights would overflow; the runtime does not look at that.
_DONE = ["ConvAddFusion", "ConvBNFusion", "ConvMulFusion"]
_FOLDER = "session.model_external_initializers_file_folder_path"


def reference_version() -> str:
    """Return name and version of the reference runtime."""
    return f"onnxruntime {ort.__version__}"


def evaluator_version() -> str:
    """Return name and version of what answers where the reference runtime has no kernel."""
    return f"onnx.reference {onnx.__version__}"


def run_graph(model: bytes, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
    """Run one serialised ONNX model.

    Raises:
        SourceError: The reference cannot load or run it.
    """
    return Reference([StageGraph("model", model)]).run(inputs)


@functools.cache
def kernel_types(domain: str, op_type: str, version: int) -> dict[str, frozenset[str]] | None:
    """Return the element types that the reference has kernels for, by type parameter.

    Args:
        domain: Of the operator; empty for ONNX's.
        op_type: Operator.
        version: Since which version of the operator set it is defined as it is.

    Returns:
        ONNX's names in lower case (``float16``), or None where there is no kernel at all.
    """
    found: dict[str, set[str]] | None = None
    for kernel in _kernels():
        first, last = kernel.version_range
        if (kernel.domain, kernel.op_name) != (domain, op_type) or not first <= version <= last:
            continue
        found = {} if found is None else found
        for parameter, types in kernel.type_constraints.items():
            names = {t.removeprefix("tensor(").removesuffix(")") for t in types}
            found.setdefault(parameter, set()).update(names)
    return None if found is None else {k: frozenset(v) for k, v in found.items()}


@functools.cache
def _kernels() -> list[Any]:
    kernels = onnxruntime_pybind11_state.get_all_opkernel_def()
    return [k for k in kernels if k.provider == "CPUExecutionProvider"]


class Reference:
    """All stages of a bundle, run one after the other.

    ONNX Runtime has no kernel for some operators and element types. A stage that holds one is
    answered by ONNX's own reference evaluator, which implements the specification in NumPy.

    Attributes:
        version: Names and versions of the runtimes that answer.
    """

    def __init__(
        self,
        stages: Sequence[StageGraph],
        *,
        literal: bool = False,
        specification: bool = False,
    ) -> None:
        """Load the graphs.

        Args:
            stages: In the order they run.
            literal: Run every operator as it stands, without the runtime's graph optimisations.
            specification: Ask ONNX's evaluator, whatever the runtime has.

        Raises:
            SourceError: The reference runtime refuses one of them.
        """
        self._stages = [
            _evaluate(stage) if specification else _open(stage, literal=literal) for stage in stages
        ]
        self.version = " + ".join(dict.fromkeys(stage.version for stage in self._stages))

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
        """Run all stages on raw inputs and return the outputs of the last by name.

        Raises:
            SourceError: The runtime fails on these inputs.
        """
        values: Arrays = dict(inputs)
        for stage in self._stages:
            feed = {name: values[name] for name in stage.inputs}
            try:
                values = dict(_tensors(zip(stage.outputs, stage.run(feed), strict=True)))
            except Exception as error:  # the runtimes raise their own unexported classes
                text = " ".join(str(error).split())
                raise SourceError(f"the reference runtime failed: {text[:400]}") from error
        return values


def _tensors(results: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the elements of sequences as ``name_0``, ``name_1``, ...; nothing for nothing."""
    for name, result in results:
        if isinstance(result, list):
            yield from ((f"{name}_{k}", element) for k, element in enumerate(result))
        elif result is not None:
            yield name, result


@dataclass(frozen=True)
class _Stage:
    version: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[[Arrays], Sequence[Any]]
    files: Any = None  # what must exist as long as it runs


def _open(stage: StageGraph, *, literal: bool) -> _Stage:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    large = _is_large(stage)
    if literal or large:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if large:
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_cpu_mem_arena = False
    files = tempfile.TemporaryDirectory(prefix="mlopsc-reference-")
    kept: list[Any] = []  # weights that the session uses as they lie
    try:
        placed = _place_weights(stage, Path(files.name), options, kept)
        model, small = widen_signature(make_products_exact(placed))
        session = ort.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=_DONE
        )
    except Exception as error:  # the runtime raises its own unexported classes
        files.cleanup()
        text = " ".join(str(error).split())
        if "NOT_IMPLEMENTED" in text:
            with suppress(SourceError):  # the runtime's own error says more
                return _evaluate(stage)
        raise SourceError(
            f"the reference runtime cannot load the {stage.name} graph: {text[:400]}"
        ) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    return _Stage(
        reference_version(),
        tuple(small[v.name].name if v.name in small else v.name for v in inputs),
        tuple(small[v.name].name if v.name in small else v.name for v in outputs),
        lambda feed: run_widened(session, small, feed),
        (files, kept),
    )


def _place_weights(
    stage: StageGraph, work: Path, options: ort.SessionOptions, kept: list[Any]
) -> bytes:
    """Return the model such that the runtime uses its weights where they lie.

    Those of a large stage are given as they are mapped here. Others the runtime maps from files
    itself; weights that lie in memory are written to a file in ``work`` first.
    """
    if not stage.weights:
        return stage.model
    if _is_large(stage):
        given = _give_weights(stage, work, options, kept)
        if given is not None:
            return given
    places: dict[int, tuple[Path, int]] = {}
    with (work / "weights").open("wb") as spilled:
        for offset, weight in stage.weights.items():
            if weight.file is None:
                spilled.seek(-spilled.tell() % ALIGN, os.SEEK_CUR)
                places[offset] = (work.resolve() / "weights", spilled.tell())
                spilled.write(weight.data)
            else:
                places[offset] = (weight.file.resolve(), weight.offset)
    folder = Path(os.path.commonpath([path.parent for path, _ in places.values()]))
    options.add_session_config_entry(_FOLDER, str(folder))
    _allow_maps(sum(len(weight.data) for weight in stage.weights.values()))
    model = onnx.load_model_from_string(stage.model)
    for tensor in external_tensors(model):
        key = place_of(tensor).offset
        path, offset = places[key]
        location = path.relative_to(folder).as_posix()
        set_external(tensor, location, offset, len(stage.weights[key].data))
    return bytes(model.SerializeToString())


def _give_weights(
    stage: StageGraph, work: Path, options: ort.SessionOptions, kept: list[Any]
) -> bytes | None:
    """Return the model whose weights ``options`` give, without a copy.

    Returns:
        None if some are no initializers of the graph, or have elements of half bytes.
    """
    model = onnx.load_model_from_string(stage.model)
    given = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    sizes = [len(stage.weights[place_of(t).offset].data) for t in given]
    elements = [math.prod(tensor.dims) for tensor in given]
    if len(given) < len(list(external_tensors(model))) or any(
        size % count for size, count in zip(sizes, elements, strict=True)
    ):
        return None
    (work / "none").write_bytes(b"")  # the runtime looks whether a file is there, not into it
    options.add_session_config_entry(_FOLDER, str(work.resolve()))
    for tensor, size, count in zip(given, sizes, elements, strict=True):
        weight = stage.weights[place_of(tensor).offset].data
        plain = np.frombuffer(weight, np.dtype(f"u{size // count}")).reshape(tuple(tensor.dims))
        value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(plain, tensor.data_type)
        options.add_initializer(tensor.name, value)
        kept.append(value)
        set_external(tensor, "none", 0, size)
    return bytes(model.SerializeToString())


def _is_large(stage: StageGraph) -> bool:
    return sum(len(weight.data) for weight in stage.weights.values()) > LARGE_BYTES


def _allow_maps(size: int) -> None:
    """Raise this process's limit of private memory, if it has one, by ``size`` bytes.

    The runtime maps files in a way that counts as private memory, although it writes to none.
    """
    if sys.platform == "linux":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if soft != resource.RLIM_INFINITY:
            soft += size if hard == resource.RLIM_INFINITY else min(size, hard - soft)
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _evaluate(stage: StageGraph) -> _Stage:
    """Open the stage in ONNX's evaluator.

    Raises:
        SourceError: It does not know an operator, or would hold large weights in memory.
    """
    if _is_large(stage):
        raise SourceError(
            f"the {stage.name} graph has weights of more than {LARGE_BYTES} bytes; ONNX's "
            "evaluator would hold them in memory"
        )
    try:
        model = onnx.load_model_from_string(stage.model)
        for tensor in external_tensors(model):
            tensor.raw_data = bytes(stage.weights[place_of(tensor).offset].data)
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
        evaluator = ReferenceEvaluator(model)
    except Exception as error:  # it raises many kinds
        text = " ".join(str(error).split())
        raise SourceError(
            f"ONNX's evaluator cannot load the {stage.name} graph: {text[:400]}"
        ) from error
    constants = {tensor.name for tensor in model.graph.initializer}  # old models list them twice
    kinds = [value.type.tensor_type.elem_type for value in model.graph.output]

    def run(feed: Arrays) -> list[np.ndarray[Any, Any]]:
        results = [np.asarray(value) for value in evaluator.run(None, feed)]
        return [_as_declared(value, kind) for value, kind in zip(results, kinds, strict=True)]

    return _Stage(
        evaluator_version(),
        tuple(name for name in evaluator.input_names if name not in constants),
        tuple(evaluator.output_names),
        run,
    )


def _as_declared(value: np.ndarray[Any, Any], kind: int) -> np.ndarray[Any, Any]:
    """Return ``value`` in the precision that the model states: NumPy promotes some to float64."""
    if value.dtype == np.float64 and kind == onnx.TensorProto.FLOAT:
        return value.astype(np.float32)
    return value
