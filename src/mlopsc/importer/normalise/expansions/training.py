"""One step of an optimiser, which is plain arithmetic. Source: ai.onnx.preview.training 1.

Inputs are the learning rate, the count of steps, then all tensors, all gradients, and all tensors
of each kind of state; outputs are the new tensors and states in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mlopsc.importer.normalise.expansions.builder import Builder, Expansion, Refusal, Tensor

DOMAIN: Final = "ai.onnx.preview.training"
Step = Callable[..., tuple[Tensor, ...]]


def _optimiser(states: int, step: Step) -> Expansion:
    def expand(b: Builder) -> list[Tensor]:
        rate, count = b.required(0), b.required(1)
        values = [b.required(k) for k in range(2, len(b.node.inputs))]
        number = len(values) // (2 + states)
        if number * (2 + states) != len(values):
            raise Refusal(f"it has {len(values)} tensors; expected a multiple of {2 + states}")
        results = [
            step(b, rate.reshape(), count.reshape(), *values[k::number]) for k in range(number)
        ]
        return [result[part] for part in range(1 + states) for result in results]

    return expand


def _regularised(b: Builder, x: Tensor, gradient: Tensor, default: float) -> Tensor:
    norm = b.attribute("norm_coefficient", default)
    return x * norm + gradient if norm else gradient


def _adagrad(
    b: Builder, rate: Tensor, count: Tensor, x: Tensor, gradient: Tensor, squares: Tensor
) -> tuple[Tensor, ...]:
    decay, epsilon = b.attribute("decay_factor", 0.0), b.attribute("epsilon", 1e-6)
    slope = _regularised(b, x, gradient, 0.0)
    factor = (rate / (count.cast(rate.dtype) * decay + 1)).cast(x.dtype)
    squares = squares + slope * slope
    return x - factor * slope / (b.op("Sqrt", squares) + epsilon), squares


def _adam(
    b: Builder,
    rate: Tensor,
    count: Tensor,
    x: Tensor,
    gradient: Tensor,
    mean: Tensor,
    squares: Tensor,
) -> tuple[Tensor, ...]:
    alpha, beta = b.attribute("alpha", 0.9), b.attribute("beta", 0.999)
    epsilon, after = b.attribute("epsilon", 1e-6), b.attribute("norm_coefficient_post", 0.0)
    slope = _regularised(b, x, gradient, 0.0)
    mean = mean * alpha + slope * (1 - alpha)
    squares = squares * beta + slope * slope * (1 - beta)
    steps = count.cast(rate.dtype)
    one, base_a, base_b = (b.constant(v, rate.dtype) for v in (1, alpha, beta))
    corrected = (
        rate * b.op("Sqrt", one - b.op("Pow", base_b, steps)) / (one - b.op("Pow", base_a, steps))
    )
    factor = b.where(count > 0, corrected, rate).cast(x.dtype)
    x = x - factor * mean / (b.op("Sqrt", squares) + epsilon)
    return (x * (1 - after) if after else x), mean, squares


def _momentum(
    b: Builder, rate: Tensor, count: Tensor, x: Tensor, gradient: Tensor, velocity: Tensor
) -> tuple[Tensor, ...]:
    alpha, beta = b.attribute("alpha"), b.attribute("beta")
    slope = _regularised(b, x, gradient, 0.0)
    weight = b.where(count > 0, b.constant(beta, x.dtype), 1)
    velocity = velocity * alpha + weight * slope
    direction = velocity
    if b.attribute("mode") == "nesterov":
        direction = slope + velocity * alpha
    return x - rate.cast(x.dtype) * direction, velocity


EXPANSIONS: Final[dict[str, Expansion]] = {
    "Adagrad": _optimiser(1, _adagrad),
    "Adam": _optimiser(2, _adam),
    "Momentum": _optimiser(1, _momentum),
}
