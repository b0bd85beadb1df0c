"""Mixed precision: what it gives to keep a layer in float, and which layers stay in float.

What counts is the model with this one layer in float, all others being quantised: between quantised
neighbours it still gets and gives quantised values. So layers are tried with the one before them,
too, which leaves the value between the two as it is.
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

    def expected(self, inputs: Iterable[Arrays]) -> list[Arrays]:
        """Return the float outputs on ``inputs``."""
        runtime = Reference([StageGraph("model", self.model.read_bytes())], literal=True)
        return [{n: a for n, a in runtime.run(s).items() if n in self.outputs} for s in inputs]

    def error(
        self, quantized: onnx.ModelProto, inputs: Iterable[Arrays], expected: Iterable[Arrays]
    ) -> float:
        """Return the relative error of the worst output; ``expected`` are the float outputs."""
        runtime = Reference([StageGraph("model", quantized.SerializeToString())], literal=True)
        pairs = {name: (name, name) for name in self.outputs}
        found = compare_tensors(expected, map(runtime.run, inputs), pairs)
        return max((one.relative for one in found.values()), default=0.0)


@dataclass(frozen=True)
class Group:
    """Layers that go to float together, and the error of the worst output if they do."""

    layers: tuple[str, ...]
    error: float


def sensitivities(
    bench: Bench, groups: Iterable[tuple[str, ...]], inputs: Sequence[Arrays]
) -> list[Group]:
    """Return the error of the worst output if one group of layers alone is in float.

    Args:
        bench: What to measure with.
        groups: Names of layers; none at all is a group, too.
        inputs: Of the model.
    """
    expected = bench.expected(inputs)
    fixed = bench.options.float_layers
    return [
        Group(names, bench.error(bench.without({*names, *fixed}), inputs, expected))
        for names in groups
    ]


def ranked(bench: Bench, found: Sequence[Group]) -> list[Group]:
    """Return the groups that help, those first that save most of the error's energy by layer.

    Args:
        bench: With the layers that stay in float anyway among its options.
        found: As measured; the first is that without any.
    """
    everything = found[0].error ** 2
    fixed = bench.options.float_layers

    def saved(group: Group) -> float:
        return (everything - group.error**2) / len(group.layers)

    others = [g for g in found[1:] if saved(g) > 0 and not set(g.layers) <= set(fixed)]
    return sorted(others, key=saved, reverse=True)  # those alike in the order they run


def take(groups: Iterable[Group], count: int, fixed: Collection[str]) -> list[str]:
    """Return at most ``count`` layers besides ``fixed``, whole groups."""
    taken: dict[str, None] = {}
    for group in groups:
        new = [n for n in group.layers if n not in fixed and n not in taken]
        if len(taken) + len(new) <= count:
            taken.update(dict.fromkeys(new))
    return list(taken)


def layers_below(
    bench: Bench, kept: Sequence[str], groups: Sequence[Group], inputs: Sequence[Arrays]
) -> list[str]:
    """Return ``kept`` and as many layers as it takes to bring the error below the limit.

    Args:
        bench: With ``max_error`` among its options.
        kept: Layers that stay in float anyway.
        groups: Those that help, the most helpful first; all other layers come after them.
        inputs: Of the model.

    Raises:
        QuantizationError: Nothing would be left to quantise.
    """
    limit = bench.options.max_error or 0.0
    expected = bench.expected(inputs)
    rest = [Group((layer.name,), 0.0) for layer in bench.layers]
    chosen = dict.fromkeys(kept)
    best = float("inf")
    for group in [Group((), 0.0), *groups, *rest]:
        if group.layers and set(group.layers) <= chosen.keys():
            continue
        chosen.update(dict.fromkeys(group.layers))
        if len(chosen) == len(bench.layers):
            break
        error = bench.error(bench.without(chosen), inputs, expected)
        if error <= limit:
            return list(chosen)
        best = min(best, error)
    raise QuantizationError(
        f"no choice of layers brings the relative error below {limit:g}; the best was {best:.3g}",
        hint="allow a larger error, give more calibration data, or use --activations int16",
    )
