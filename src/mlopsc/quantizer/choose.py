"""Mixed precision: what it gives to keep a layer in float, and which layers stay in float.

What counts is the model without this one layer's quantisation, all others being quantised: a layer
between quantised neighbours still gets and gives quantised values when it is kept in float.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from mlopsc.errors import QuantizationError
from mlopsc.quantizer.layers import Layer, nodes_in_float
from mlopsc.quantizer.measure import Arrays, compare_tensors
from mlopsc.quantizer.qdq import quantize
from mlopsc.reference import Reference
from mlopsc.schema.graph import StageGraph
from mlopsc.schema.quantize import QuantizeOptions

SAMPLES = 16  # that sensitivities are measured on


@dataclass(frozen=True)
class Bench:
    """Quantises one model again and again, and measures its outputs.

    Attributes:
        model: The float model.
        graph: The same, read.
        ranges: Of its values.
        options: How to quantise.
        layers: Of the float model.
        outputs: Its float outputs.
        trial: A path for quantised models.
    """

    model: Path
    graph: onnx.GraphProto
    ranges: Path
    options: QuantizeOptions
    layers: Sequence[Layer]
    outputs: Sequence[str]
    trial: Path

    def without(self, names: Collection[str]) -> onnx.ModelProto:
        """Return the model with everything quantised but the layers ``names``."""
        nodes = nodes_in_float(self.graph, names)
        return quantize(self.model, self.ranges, self.options, self.trial, without=nodes)

    def error(
        self, quantized: onnx.ModelProto, inputs: Iterable[Arrays], expected: Iterable[Arrays]
    ) -> float:
        """Return the relative error of the worst output; ``expected`` are the float outputs."""
        runtime = Reference([StageGraph("model", quantized.SerializeToString())], literal=True)
        pairs = {name: (name, name) for name in self.outputs}
        found = compare_tensors(expected, map(runtime.run, inputs), pairs)
        return max((one.relative for one in found.values()), default=0.0)


def sensitivities(
    bench: Bench, inputs: Sequence[Arrays], expected: Sequence[Arrays]
) -> dict[str, float]:
    """Return the error of the worst output if one layer alone stays in float, by layer."""
    fixed = bench.options.float_layers
    return {
        layer.name: bench.error(bench.without({layer.name, *fixed}), inputs, expected)
        for layer in bench.layers
    }


def ranked(bench: Bench, found: dict[str, float]) -> list[str]:
    """Return the layers that may stay in float besides those that must, the most sensitive first.

    Those alike are in the order they run.
    """
    order = {layer.name: place for place, layer in enumerate(bench.layers)}
    others = [name for name in order if name not in bench.options.float_layers]
    return sorted(others, key=lambda name: (found[name], order[name]))


def layers_below(
    bench: Bench,
    kept: Sequence[str],
    others: Sequence[str],
    inputs: Sequence[Arrays],
    expected: Sequence[Arrays],
) -> list[str]:
    """Return ``kept`` and as many of ``others`` as it takes to bring the error below the limit.

    Args:
        bench: With ``max_error`` among its options.
        kept: Layers that stay in float anyway.
        others: The most sensitive first.
        inputs: Of the model.
        expected: The float outputs for these.

    Raises:
        QuantizationError: Nothing would be left to quantise.
    """
    limit = bench.options.max_error or 0.0
    best = float("inf")
    for count in range(len(others)):
        chosen = [*kept, *others[:count]]
        error = bench.error(bench.without(chosen), inputs, expected)
        if error <= limit:
            return chosen
        best = min(best, error)
    raise QuantizationError(
        f"no choice of layers brings the relative error below {limit:g}; the best was {best:.3g}",
        hint="allow a larger error, give more calibration data, or use --activations int16",
    )
