"""Holds the integers of a quantised model against the reference runtime, before anything is packed.

Layer by layer the runtime gets the same integers, and may be one step away: it computes in floating
point and rounds halves to even. End to end roundings add up, and no two runtimes agree; how far
they are apart is recorded, not judged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlopsc.bundle import Vector
from mlopsc.compare import compare
from mlopsc.errors import MismatchError
from mlopsc.integer import ExactReference
from mlopsc.reference import Reference
from mlopsc.schema.bundle import IntegerCheck
from mlopsc.schema.common import TensorSpec


def compare_integers(
    exact: ExactReference,
    reference: Reference,
    vectors: Sequence[Vector],
    outputs: Sequence[TensorSpec],
) -> tuple[list[Vector], IntegerCheck]:
    """Return the vectors with the outputs that integers give, and how these compare.

    Args:
        exact: The model in integers.
        reference: The same graphs in the reference runtime.
        vectors: Inputs, and the reference's outputs.
        outputs: The signature.

    Raises:
        MismatchError: A layer is more than one step away from the reference.
    """
    inputs = [vector.inputs for vector in vectors]
    layers = exact.check_layers(inputs)
    worst = max(layers, key=lambda layer: layer.largest)
    if worst.largest > 1:
        raise MismatchError(
            f"layer '{worst.layer}' ({worst.op_type}) in integers is {worst.largest} steps away "
            "from the reference runtime on the same integers; expected at most 1",
            hint="report the model; nothing was written",
        )
    answered = [Vector(given, exact.run(given)) for given in inputs]
    largest, differing, count = 0.0, 0, 0
    for spec in outputs:
        mine = [vector.outputs[spec.name] for vector in answered]
        theirs = [vector.outputs[spec.name] for vector in vectors]
        largest = max(largest, compare(spec, mine, theirs, 0.0).relative_to_max)
        differing += sum(int(np.count_nonzero(a != b)) for a, b in zip(mine, theirs, strict=True))
        count += sum(a.size for a in mine)
    first = outputs[0].name
    same = [
        int(np.argmax(a.outputs[first])) == int(np.argmax(b.outputs[first]))
        for a, b in zip(answered, vectors, strict=True)
    ]
    return answered, IntegerCheck(
        layers=len(layers),
        largest_step=worst.largest,
        differing=max(layer.differing for layer in layers),
        output_largest=largest,
        output_differing=differing / max(count, 1),
        decisions=sum(same) / len(same),
        reference=reference.version,
    )
