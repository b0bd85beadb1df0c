"""One step of ``RNN``, ``GRU`` and ``LSTM`` in terms of core operators. Source: their schemas.

Where the schemas leave it open ONNX Runtime decides: which activations take their factors from the
lists, that h of LSTM is not clipped, and that ``input_forget`` makes the forget gate one minus the
input gate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from mlopsc.importer.normalise.write import Writer

GATES: Final = {"RNN": 1, "GRU": 3, "LSTM": 4}
STATES: Final = {"RNN": 1, "GRU": 1, "LSTM": 2}
DEFAULT_ACTIVATIONS: Final = {
    "RNN": ("Tanh",),
    "GRU": ("Sigmoid", "Tanh"),
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
}

# Default alpha and beta of the activations that have them.
_FACTORS: Final[dict[str, tuple[float, ...]]] = {
    "affine": (1.0, 0.0),
    "elu": (1.0,),
    "hardsigmoid": (0.2, 0.5),
    "leakyrelu": (0.01,),
    "scaledtanh": (1.0, 1.0),
    "thresholdedrelu": (1.0,),
}
_PLAIN: Final = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "tanh": "Tanh",
}
ACTIVATIONS: Final = frozenset(_FACTORS) | frozenset(_PLAIN) | {"softsign"}


@dataclass(frozen=True)
class Activation:
    """A function with its factors."""

    name: str
    factors: tuple[float, ...]

    def __call__(self, write: Writer, x: ir.Value, dtype: Any) -> ir.Value:
        """Apply it to ``x``."""
        if self.name in _PLAIN:
            return write(_PLAIN[self.name], x)
        alpha, beta = (*self.factors, 0.0, 0.0)[:2]
        match self.name:
            case "affine":
                scaled = write("Mul", x, write.constant(alpha, dtype))
                return write("Add", scaled, write.constant(beta, dtype))
            case "scaledtanh":
                inner = write("Tanh", write("Mul", x, write.constant(beta, dtype)))
                return write("Mul", inner, write.constant(alpha, dtype))
            case "hardsigmoid":
                return write("HardSigmoid", x, alpha=alpha, beta=beta)
            case "elu":
                return write("Elu", x, alpha=alpha)
            case "leakyrelu":
                return write("LeakyRelu", x, alpha=alpha)
            case "thresholdedrelu":
                above = write("Greater", x, write.constant(alpha, dtype))
                return write("Where", above, x, write.constant(0, dtype))
        return write("Div", x, write("Add", write.constant(1, dtype), write("Abs", x)))


def activations(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> Iterator[Activation]:
    """Yield the activations; each takes the factors it has from the lists, while these last.

    Raises:
        KeyError: There is no such activation.
    """
    given = iter(alphas), iter(betas)
    for name in (n.lower() for n in names):
        if name not in ACTIVATIONS:
            raise KeyError(name)
        defaults = _FACTORS.get(name, ())
        yield Activation(name, tuple(next(g, d) for g, d in zip(given, defaults, strict=False)))


@dataclass(frozen=True)
class Cell:
    """What one direction of a recurrent operator computes in a step.

    Attributes:
        kind: The operator.
        activations: f, g and h of the schemas.
        recurrence: R, transposed: [hidden, gates * hidden].
        bias: Recurrence bias of the hidden gate [hidden], for ``linear_before_reset``.
        peepholes: P, split: input, output and forget gate.
        clip: Bound of what goes into activations, or None.
        hidden: Size of the state.
        couple: Whether the forget gate is one minus the input gate.
        linear_before_reset: See GRU.
        dtype: NumPy's.
    """

    kind: str
    activations: tuple[Activation, ...]
    recurrence: ir.Value
    bias: ir.Value | None
    peepholes: tuple[ir.Value, ...]
    clip: float | None
    hidden: int
    couple: bool
    linear_before_reset: bool
    dtype: Any

    def step(self, write: Writer, x: ir.Value, states: Sequence[ir.Value]) -> list[ir.Value]:
        """Return the new states; the first is what the operator gives.

        Args:
            write: For the nodes of the step.
            x: The step's input times W, with biases: [batch, gates * hidden].
            states: H, and C of LSTM: [batch, hidden] each.
        """
        steps: dict[str, Callable[..., list[ir.Value]]] = {
            "RNN": self._rnn,
            "GRU": self._gru,
            "LSTM": self._lstm,
        }
        return steps[self.kind](write, x, *states)

    def _rnn(self, write: Writer, x: ir.Value, h: ir.Value) -> list[ir.Value]:
        return [self._activate(write, 0, write("Add", x, write("MatMul", h, self.recurrence)))]

    def _gru(self, write: Writer, x: ir.Value, h: ir.Value) -> list[ir.Value]:
        xz, xr, xh = self._split(write, x, 3)
        if self.linear_before_reset:
            hz, hr, hh = self._split(write, write("MatMul", h, self.recurrence), 3)
        else:
            sizes = write.constant([2 * self.hidden, self.hidden])
            gates, last = write.several("Split", [self.recurrence, sizes], 2, axis=1)
            hz, hr = self._split(write, write("MatMul", h, gates), 2)
        z = self._activate(write, 0, write("Add", xz, hz))
        r = self._activate(write, 0, write("Add", xr, hr))
        if self.linear_before_reset:
            linear = hh if self.bias is None else write("Add", hh, self.bias)
            part = write("Mul", r, linear)
        else:
            part = write("MatMul", write("Mul", r, h), last)
        new = self._activate(write, 1, write("Add", xh, part))
        kept = write("Mul", z, h)
        one = write.constant(1, self.dtype)
        return [write("Add", write("Mul", write("Sub", one, z), new), kept)]

    def _lstm(self, write: Writer, x: ir.Value, h: ir.Value, c: ir.Value) -> list[ir.Value]:
        total = write("Add", x, write("MatMul", h, self.recurrence))
        i, o, f, g = self._split(write, total, 4)
        i = self._activate(write, 0, self._peep(write, i, 0, c))
        if self.couple:
            f = write("Sub", write.constant(1, self.dtype), i)
        else:
            f = self._activate(write, 0, self._peep(write, f, 2, c))
        g = self._activate(write, 1, g)
        c = write("Add", write("Mul", f, c), write("Mul", i, g))
        o = self._activate(write, 0, self._peep(write, o, 1, c))
        return [write("Mul", o, self.activations[2](write, c, self.dtype)), c]

    def _peep(self, write: Writer, gate: ir.Value, index: int, c: ir.Value) -> ir.Value:
        if not self.peepholes:
            return gate
        return write("Add", gate, write("Mul", self.peepholes[index], c))

    def _activate(self, write: Writer, index: int, x: ir.Value) -> ir.Value:
        if self.clip is not None:
            low, high = (write.constant(n, self.dtype) for n in (-self.clip, self.clip))
            x = write("Clip", x, low, high)
        return self.activations[index](write, x, self.dtype)

    def _split(self, write: Writer, x: ir.Value, parts: int) -> list[ir.Value]:
        sizes = write.constant([self.hidden] * parts)
        return write.several("Split", [x, sizes], parts, axis=-1)


def numpy_dtype(value: ir.Value) -> np.dtype[Any]:
    """Return the NumPy dtype of a tensor."""
    found: np.dtype[Any] = (value.dtype or ir.DataType.FLOAT).numpy()
    return found
