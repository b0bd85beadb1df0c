"""``conformance.json``: how far what ships is from the reference runtime."""

from __future__ import annotations

from typing import Literal

from mlopsc.schema.common import Digest, Frozen

Verdict = Literal["pass", "mismatch"]


class OutputError(Frozen):
    """The worst differences of one output over all vectors.

    Attributes:
        max_absolute: Largest absolute difference.
        max_relative: Largest difference over the element's own reference value (0 where both
            are 0).
        relative_to_max: Largest difference over the largest reference value of its vector; this
            is what the tolerance judges.
        max_ulp: Largest distance in units in the last place; for integers, in steps.
        tolerance: From the target file.
        first_differing: Vector and flat index of the first element outside the tolerance.
        first_inexact: Vector and flat index of the first element whose bits differ.
    """

    name: str
    dtype: str
    max_absolute: float
    max_relative: float
    relative_to_max: float
    max_ulp: int
    tolerance: float
    first_differing: tuple[int, int] | None
    first_inexact: tuple[int, int] | None


class LabelScore(Frozen):
    """Agreement with the labels of the vectors, where they have any."""

    vectors: int
    correct: int
    reference_correct: int


class ConformanceReport(Frozen):
    """``conformance.json``, schema version 1.

    Attributes:
        verdict: ``pass`` only if every output of every vector is inside its tolerance.
        runner: Who executed the package, with version.
        reference: Runtime the outputs were compared to, with version.
        reference_source: ``recorded`` in the vectors, or ``live`` from the bundle's graph.
        instructions: Executed per inference (first vector), where the runner counts them.
    """

    schema_version: Literal[1] = 1
    package: str
    target: str
    model_json: Digest
    verdict: Verdict
    runner: str
    reference: str
    reference_source: Literal["recorded", "live"]
    vectors: int
    outputs: tuple[OutputError, ...]
    labels: LabelScore | None
    instructions: int | None
