"""Compares the normal form with the models as they came, before anything is packed.

Both run in the reference runtime on the bundle's vectors: the models as they came literally,
operator by operator, the normal form as the bundle holds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx

from mlopsc.bundle import Vector
from mlopsc.compare import compare
from mlopsc.dtypes import BY_ONNX_CODE
from mlopsc.errors import MismatchError, SourceError
from mlopsc.labels import strings_of, to_places
from mlopsc.reference import Reference
from mlopsc.schema.bundle import OriginCheck
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.graph import StageGraph

# Relative to the largest value of an output. Rewriting changes the order of roundings, and models
# in 16-bit floats are computed in float32; anything else must be equal.
TOLERANCE: Final = {"float32": 1e-4, "float64": 1e-9, "float16": 1e-2, "bfloat16": 4e-2}
RANDOM: Final = (
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
)  # fmt: skip


def compare_with_origin(
    stages: Sequence[StageGraph],
    vectors: Sequence[Vector],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> OriginCheck:
    """Run ``stages`` as they came and judge what the normal form gave.

    Where the reference runtime cannot run a model, or disagrees, ONNX's own evaluator is asked:
    the specification decides, not a runtime's deviation from it.

    Args:
        stages: The models as they came, in the order they run.
        vectors: Inputs, and the outputs of the normal form.
        inputs: The signature of the normal form.
        outputs: The same of what it gives.

    Raises:
        MismatchError: The normal form computes something else.
    """
    reasons: list[str] = []
    mismatch: MismatchError | None = None
    # Encoders may refuse strings that they do not know.
    known = [
        v for v in vectors if all(v.inputs[s.name].min(initial=0) >= 0 for s in _named(inputs))
    ]
    for specification, tried in ((False, vectors), (True, vectors), (False, known)):
        try:
            if not tried:
                continue
            reference = Reference(stages, literal=True, specification=specification)
            answers = [reference.run(_as_given(vector.inputs, inputs)) for vector in tried]
            worst = _worst(answers, tried, outputs, _widest_tolerance(stages))
        except SourceError as error:
            reasons.append(error.message)
        except MismatchError as error:
            mismatch = mismatch or error
        else:
            return OriginCheck(compared=True, reference=reference.version, relative_to_max=worst)
    if mismatch is not None:
        raise mismatch
    return OriginCheck(compared=False, reason=reasons[0])


def _named(specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Return those that are strings."""
    return [spec for spec in specs if spec.labels is not None]


def _as_given(
    arrays: Mapping[str, np.ndarray[Any, Any]], specs: Sequence[TensorSpec]
) -> dict[str, np.ndarray[Any, Any]]:
    """Return inputs of the normal form as the model takes them: strings instead of places."""
    named = dict(arrays)
    for spec in _named(specs):
        named[spec.name] = strings_of(arrays[spec.name], spec.labels or ())
    return named


def _worst(
    answers: Sequence[dict[str, np.ndarray[Any, Any]]],
    vectors: Sequence[Vector],
    outputs: Sequence[TensorSpec],
    widest: float,
) -> float:
    """Return the largest difference, relative to the largest value of its output.

    Raises:
        MismatchError: It is more than the tolerance.
        SourceError: The reference gives other outputs.
    """
    worst = 0.0
    missing = [spec.name for spec in outputs if spec.name not in answers[0]]
    if missing:
        raise SourceError(f"the reference runtime gives no output '{missing[0]}'")
    for spec in outputs:
        expected = [np.asarray(answer[spec.name]) for answer in answers]
        if spec.labels is not None:
            expected = [to_places(strings, spec.labels) for strings in expected]
        got = [vector.outputs[spec.name] for vector in vectors]
        for mine, origin in zip(got, expected, strict=True):
            if (mine.dtype, mine.shape) != (origin.dtype, origin.shape):
                raise MismatchError(
                    f"output '{spec.name}' of the model is {origin.dtype.name}"
                    f"{list(origin.shape)}, in the normal form {mine.dtype.name}{list(mine.shape)}",
                    hint="report the model; nothing was written",
                )
        tolerance = max(TOLERANCE[spec.dtype], widest) if spec.dtype in TOLERANCE else 0.0
        found = compare(spec, got, expected, tolerance)
        if found.first_differing is not None:
            vector, element = found.first_differing
            raise MismatchError(
                f"the normal form computes something else than the model: output '{spec.name}', "
                f"vector {vector}, element {element}: {got[vector].ravel()[element]} instead of "
                f"{expected[vector].ravel()[element]} (tolerance {found.tolerance:g} of the "
                "largest value)",
                hint="report the model; nothing was written",
            )
        worst = max(worst, found.relative_to_max)
    return worst


def _widest_tolerance(stages: Sequence[StageGraph]) -> float:
    """Return the tolerance of the narrowest float that ``stages`` compute in.

    A result is as precise as what it comes from, whatever type it is cast to.
    """
    codes: set[int] = set()
    for stage in stages:
        graph = onnx.load_model_from_string(stage.model).graph
        codes |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
        codes |= {tensor.data_type for tensor in graph.initializer}
        codes |= {a.i for n in graph.node for a in n.attribute if a.name in ("to", "dtype")}
    names = {BY_ONNX_CODE[code].name for code in codes if code in BY_ONNX_CODE}
    return max((TOLERANCE[name] for name in names & TOLERANCE.keys()), default=0.0)
