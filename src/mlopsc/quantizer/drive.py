"""Drives a quantisation: calibrate, choose, quantise, measure, report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from mlopsc.bundle import Bundle
from mlopsc.errors import QuantizationError
from mlopsc.external_data import external_tensors, place_of
from mlopsc.quantizer import choose
from mlopsc.quantizer.biases import join_biases
from mlopsc.quantizer.choose import Bench
from mlopsc.quantizer.edges import cut_inputs, cut_outputs, to_integers
from mlopsc.quantizer.layers import (
    QUANTISED_OPS,
    Layer,
    layers_of,
    neighbours,
    quantized_layers,
    tensor_pairs,
)
from mlopsc.quantizer.measure import Arrays, Decisions, compare_tensors, tapped
from mlopsc.quantizer.qdq import collect_ranges
from mlopsc.quantizer.samples import Samples, of_path, of_vectors
from mlopsc.quantizer.warn import warnings_of
from mlopsc.reference import Reference
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.graph import StageGraph
from mlopsc.schema.quantize import (
    IntegerTensor,
    LabelledReport,
    LayerReport,
    OutputReport,
    QuantizeOptions,
    QuantizeReport,
)

_MAX_BYTES = (1 << 31) - (1 << 26)  # of a model with its weights, as one message
_FLOAT = onnx.TensorProto.FLOAT
_INTEGERS = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT4,
             onnx.TensorProto.UINT4)  # fmt: skip


@dataclass(frozen=True)
class Quantized:
    """A quantised model.

    Attributes:
        model: With ``QuantizeLinear`` and ``DequantizeLinear`` nodes.
        inputs: The raw inputs of the bundle's vectors, as the quantised model takes them.
        report: What it cost.
    """

    model: onnx.ModelProto
    inputs: tuple[Arrays, ...]
    report: QuantizeReport


class _Chain:
    """The stages of a bundle around its model."""

    def __init__(self, bundle: Bundle) -> None:
        names = [stage.name for stage in bundle.stages]
        place = names.index("model")
        before, after = bundle.stages[:place], bundle.stages[place + 1 :]
        self.model = bundle.stages[place]
        self.first, self.last = not before, not after
        self._before = Reference(before) if before else None
        self._after = Reference(after) if after else None

    def prepare(self, samples: Iterable[Arrays]) -> Iterator[Arrays]:
        """Yield the model's inputs for raw ones."""
        return (s if self._before is None else self._before.run(s) for s in samples)

    def finish(self, outputs: Arrays) -> Arrays:
        """Return the bundle's outputs for the model's."""
        return outputs if self._after is None else self._after.run(outputs)


def quantize_bundle(
    bundle: Bundle,
    options: QuantizeOptions,
    work: Path,
    *,
    calibration: Path | None = None,
    evaluation: Path | None = None,
) -> Quantized:
    """Quantise the model of ``bundle``.

    Args:
        bundle: Of a float model.
        options: How.
        work: An empty folder.
        calibration: Samples that give the ranges; the bundle's vectors by default.
        evaluation: Samples that errors and accuracy are measured on; by default the bundle's
            vectors if they were given, else the calibration samples.

    Raises:
        QuantizationError: It cannot be quantised as asked, or the data is of no use.
        InputError: The data does not fit the signature.
    """
    steps = _Chain(bundle)
    float_model = _whole(steps.model)
    layers = layers_of(float_model.graph)
    _check_float(float_model, layers, options)
    path = work / "float.onnx"
    onnx.save(float_model, path)
    specs = bundle.manifest.inputs
    used = _calibration(bundle, calibration, specs, options)
    measured = _measured(bundle, evaluation, specs, used)
    ranges = collect_ranges(path, steps.prepare(used), options, work)
    outputs = [v.name for v in float_model.graph.output if _kind(v) == _FLOAT]
    bench = Bench(path, float_model.graph, ranges, options, layers, outputs, work / "trial.onnx")
    found, kept = _choose(bench, steps, used, measured)
    model = bench.without(kept)
    quantized = quantized_layers(layers, model.graph)
    if not quantized:
        raise QuantizationError(
            "nothing of the model is quantised: every layer stays in float",
            hint="keep fewer layers in float",
        )
    rows, worst, labelled = _measure(bench, steps, float_model, model, measured)
    edges_in, edges_out = _cut(model, bundle, steps, options)
    report = QuantizeReport(
        model=bundle.manifest.name,
        parent=bundle.digest,
        options=options,
        tool=f"onnxruntime {ort.__version__}",
        calibration=used.used,
        measured=measured.used,
        float_bytes=_weight_bytes(float_model),
        quantized_bytes=_weight_bytes(model),
        kept_float=tuple(layer.name for layer in layers if layer.name in kept),
        layers=tuple(_complete(row, found, quantized) for row in rows),
        outputs=worst,
        labelled=labelled,
        inputs_integer=tuple(edges_in),
        outputs_integer=tuple(edges_out),
    )
    report = report.model_copy(update={"warnings": tuple(warnings_of(report, bundle.manifest))})
    return Quantized(model, _vector_inputs(bundle, edges_in), report)


def _complete(row: LayerReport, found: Mapping[str, float], quantized: Set[str]) -> LayerReport:
    """Return ``row`` with what is known of its layer beside the error."""
    known = {"if_float": found.get(row.name), "quantized": row.name in quantized}
    return row.model_copy(update=known)


def _vector_inputs(bundle: Bundle, edges: Iterable[IntegerTensor]) -> tuple[Arrays, ...]:
    """Return the inputs of the bundle's vectors as the quantised model takes them."""
    by_name = {edge.name: edge for edge in edges}
    return tuple(
        {n: to_integers(a, by_name[n]) if n in by_name else a for n, a in vector.inputs.items()}
        for vector in bundle.vectors
    )


def _whole(stage: StageGraph) -> onnx.ModelProto:
    """Return the graph of ``stage`` with its weights inside, all types, and biases joined.

    Raises:
        QuantizationError: It is too large for one message.
    """
    size = len(stage.model) + sum(len(w.data) for w in stage.weights.values())
    if size > _MAX_BYTES:
        raise QuantizationError(
            f"the model has {size} bytes; the quantiser takes at most {_MAX_BYTES}"
        )
    model = onnx.load_model_from_string(stage.model)
    for tensor in external_tensors(model):
        tensor.raw_data = bytes(stage.weights[place_of(tensor).offset].data)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    typed = onnx.shape_inference.infer_shapes(model)
    join_biases(typed)
    return onnx.shape_inference.infer_shapes(typed)


def _check_float(model: onnx.ModelProto, layers: Sequence[Layer], options: QuantizeOptions) -> None:
    """Refuse a model that is quantised already, or of which nothing can be."""
    there = sorted({node.op_type for node in model.graph.node} & QUANTISED_OPS)
    integers = [t.name for t in model.graph.initializer if t.data_type in _INTEGERS and t.dims]
    if there or integers:
        what = f"operators {', '.join(there)}" if there else f"integer weights '{integers[0]}'"
        raise QuantizationError(
            f"the model is quantised already: it has {what}",
            hint="quantise the float model that it was made from",
        )
    if not layers:
        raise QuantizationError(
            "the model has no layer that can be quantised: none computes in float32"
        )
    if options.method == "entropy" and options.activations == "int16":
        raise QuantizationError(
            "the entropy method chooses ranges for 256 steps; int16 activations have 65536",
            hint="use --method minmax or percentile",
        )
    names = [layer.name for layer in layers]
    for name in options.float_layers:
        if name not in names:
            raise QuantizationError(
                f"the model has no layer '{name}' to keep in float; it has: {', '.join(names)}"
            )


def _calibration(
    bundle: Bundle, path: Path | None, specs: Sequence[TensorSpec], options: QuantizeOptions
) -> Samples:
    if path is None:
        return of_vectors(bundle, options.samples)
    return of_path(path, specs, options.samples)


def _measured(
    bundle: Bundle, path: Path | None, specs: Sequence[TensorSpec], used: Samples
) -> Samples:
    if path is not None:
        return of_path(path, specs)
    return of_vectors(bundle) if bundle.manifest.vectors.origin == "given" else used


def _choose(
    bench: Bench, steps: _Chain, used: Samples, measured: Samples
) -> tuple[dict[str, float], list[str]]:
    """Return the error without each layer, if it is wanted, and the layers that stay in float."""
    options = bench.options
    choosing = options.keep_float or options.max_error is not None
    fixed = list(options.float_layers)
    if not choosing and not options.sensitivity:
        return {}, fixed
    stride = max(1, -(-len(used.loads) // choose.SAMPLES))
    inputs = list(steps.prepare(Samples(used.used, used.loads[::stride])))
    groups: list[tuple[str, ...]] = [(), *((layer.name,) for layer in bench.layers)]
    if choosing:
        groups += neighbours(bench.graph, bench.layers)
    found = choose.sensitivities(bench, groups, inputs)
    ranked = choose.ranked(bench, found)
    kept = [*fixed, *choose.take(ranked, options.keep_float, fixed)]
    if options.max_error is not None:
        kept = choose.layers_below(bench, kept, ranked, list(steps.prepare(measured)))
    return {g.layers[0]: g.error for g in found if len(g.layers) == 1}, kept


def _measure(
    bench: Bench,
    steps: _Chain,
    float_model: onnx.ModelProto,
    model: onnx.ModelProto,
    measured: Samples,
) -> tuple[list[LayerReport], tuple[OutputReport, ...], LabelledReport | None]:
    """Return the error of each layer and output, and the decisions on labelled samples."""
    pairs = tensor_pairs(bench.layers, model.graph)
    shown = {f"layer {name}": pair for name, pair in pairs.items()}
    shown |= {f"output {name}": (name, name) for name in bench.outputs}
    expected = tapped(float_model, (first for first, _ in pairs.values()))
    got = tapped(model, (second for _, second in pairs.values()))
    decisions = Decisions(measured.labels)

    def answers(runtime: Reference, into: list[int]) -> Iterator[Arrays]:
        for sample in steps.prepare(measured):
            values = runtime.run(sample)
            if measured.labels:
                outputs = {v.name: values[v.name] for v in float_model.graph.output}
                into.append(_decision(steps.finish(outputs)))
            yield values

    found = compare_tensors(
        answers(expected, decisions.expected), answers(got, decisions.got), shown
    )
    rows = [
        LayerReport(
            name=layer.name,
            op=layer.op,
            tensor=pairs[layer.name][0],
            quantized=False,
            error=found[f"layer {layer.name}"].figures(),
            if_float=None,
        )
        for layer in bench.layers
        if layer.name in pairs
    ]
    worst = tuple(
        OutputReport(name=name, error=found[f"output {name}"].figures()) for name in bench.outputs
    )
    return rows, worst, decisions.report() if measured.labels else None


def _decision(outputs: Arrays) -> int:
    """Return what the first output decides.

    That is the place of its largest element; of one element an integer itself, or whether a float
    is at least one half.
    """
    first = np.asarray(next(iter(outputs.values())))
    if first.size != 1:
        return int(np.argmax(first))
    return int(first.item()) if first.dtype.kind in "iub" else int(first.item() >= 0.5)


def _cut(
    model: onnx.ModelProto, bundle: Bundle, steps: _Chain, options: QuantizeOptions
) -> tuple[list[IntegerTensor], list[IntegerTensor]]:
    """Make inputs and outputs integer where they are the bundle's own, if that is wanted."""
    if options.io == "float":
        return [], []
    inputs = [s.name for s in bundle.manifest.inputs] if steps.first else []
    outputs = [s.name for s in bundle.manifest.outputs] if steps.last else []
    cut = cut_inputs(model, inputs), cut_outputs(model, outputs)
    if not any(cut):
        raise QuantizationError(
            "no input or output can be made integer: preprocessing and postprocessing keep theirs",
            hint="leave --io away",
        )
    return cut


def _kind(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def _weight_bytes(model: onnx.ModelProto) -> int:
    return sum(len(t.raw_data) or t.ByteSize() for t in model.graph.initializer)
