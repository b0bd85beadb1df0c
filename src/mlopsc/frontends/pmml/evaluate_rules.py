"""Frontend *pmml*: functions of one number that models apply, in double precision.

Source: PMML 4.4, *RegressionModel*, *GeneralRegressionModel* (links) and *NeuralNetwork*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np


def _phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


INVERSE_LINKS: Final[dict[str, Callable[[float], float]]] = {
    "none": lambda x: x,
    "identity": lambda x: x,
    "logit": _logistic,
    "probit": _phi,
    "cloglog": lambda x: 1 - math.exp(-math.exp(x)),
    "loglog": lambda x: math.exp(-math.exp(-x)),
    "cauchit": lambda x: 0.5 + math.atan(x) / math.pi,
    "exp": math.exp,
    "log": math.exp,
    "inverse": lambda x: 1 / x,
}
ACTIVATIONS: Final[dict[str, Callable[[float], float]]] = {
    "identity": lambda x: x,
    "logistic": _logistic,
    "tanh": math.tanh,
    "exponential": math.exp,
    "reciprocal": lambda x: 1 / x,
    "square": lambda x: x * x,
    "Gauss": lambda x: math.exp(-x * x),
    "sine": math.sin,
    "cosine": math.cos,
    "Elliott": lambda x: x / (1 + abs(x)),
    "arctan": lambda x: 2 * math.atan(x) / math.pi,
    "rectifier": lambda x: max(0.0, x),
}


def computed(rule: Callable[[float], float], x: float) -> float:
    """Return what a function gives: NaN where it is not defined, infinity beyond all numbers."""
    try:
        return rule(x)
    except OverflowError:
        return math.inf
    except (ValueError, ZeroDivisionError):
        return math.nan


def power(x: float, exponent: float) -> float:
    """Return a power: NaN where it is not real."""
    with np.errstate(all="ignore"):
        return float(np.float_power(x, exponent))


def softmax(values: Mapping[str, float]) -> dict[str, float]:
    """Return the softmax of numbers."""
    top = max(values.values())
    return normal({name: math.exp(value - top) for name, value in values.items()})


def normal(values: Mapping[str, float]) -> dict[str, float]:
    """Return numbers divided by their sum."""
    total = math.fsum(values.values())
    return {name: value / total if total else math.nan for name, value in values.items()}
