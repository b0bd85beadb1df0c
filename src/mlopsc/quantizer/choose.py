"""Mixed precision: what each layer alone does to the outputs, and which layers stay in float."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from mlopsc.errors import QuantizationError
from mlopsc.quantizer.layers import Layer, with_followers
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
        ranges: Of its values.
        options: How to quantise.
        layers: Of the float model.
        outputs: Its float outputs.
        trial: A path for quantised models.
    """

    model: Path
    ranges: Path
    options: QuantizeOptions
    layers: Sequence[Layer]
    outputs: Sequence[str]
    trial: Path

    def only(self, name: str) -> onnx.ModelProto:
        """Return the model with one layer quantised."""
        nodes = with_followers(self.layers, {name})
        return quantize(self.model, self.ranges, self.options, self.trial, only=nodes)

    def without(self, names: Collection[str]) -> onnx.ModelProto:
        """Return the model with everything quantised but the layers ``names``."""
        nodes = with_followers(self.layers, names)
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
    """Return the error of the worst output if one layer alone is quantised, by layer."""
    return {
        layer.name: bench.error(bench.only(layer.name), inputs, expected) for layer in bench.layers
    }


def most_sensitive(bench: Bench, found: dict[str, float]) -> list[str]:
    """Return the layers by falling sensitivity; those alike in the order they run."""
    order = {layer.name: place for place, layer in enumerate(bench.layers)}
    return sorted(order, key=lambda name: (-found[name], order[name]))


def layers_below(
    bench: Bench,
    ranked: Sequence[str],
    fixed: Collection[str],
    inputs: Sequence[Arrays],
    expected: Sequence[Arrays],
) -> list[str]:
    """Return the fewest of the most sensitive layers that bring the error below the limit.

    Args:
        bench: With ``max_error`` among its options.
        ranked: Layers by falling sensitivity.
        fixed: Layers that stay in float anyway.
        inputs: Of the model.
        expected: The float outputs for these.

    Raises:
        QuantizationError: Nothing would be left to quantise.
    """
    limit = bench.options.max_error or 0.0
    kept = sorted(fixed)
    best = float("inf")
    for name in [None, *(name for name in ranked if name not in fixed)]:
        kept += [] if name is None else [name]
        if len(kept) == len(bench.layers):
            break
        error = bench.error(bench.without(kept), inputs, expected)
        if error <= limit:
            return kept
        best = min(best, error)
    raise QuantizationError(
        f"no choice of layers brings the relative error below {limit:g}; the best was {best:.3g}",
        hint="allow a larger error, give more calibration data, or use --activations int16",
    )
