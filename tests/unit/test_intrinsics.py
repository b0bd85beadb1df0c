"""Functions that vectors have are also those of single elements."""

from __future__ import annotations

from mlopsc.kernels import RUNTIME
from mlopsc.lower.intrinsics import OWN_MATH
from mlopsc.lower.vector_math import VECTOR_MATH


def test_every_vector_function_has_one_of_the_runtime_for_the_rest() -> None:
    composed = {"tirx.sigmoid"}  # of an exponential
    assert VECTOR_MATH.keys() - composed <= OWN_MATH.keys()
    assert set(OWN_MATH.values()) <= RUNTIME.keys()
