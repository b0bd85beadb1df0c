"""Runs a package on its vectors and writes the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from mlopsc.bundle import Bundle, Vector
from mlopsc.compare import compare
from mlopsc.errors import BrokenPackageError
from mlopsc.integer import ExactReference
from mlopsc.package_reader import LoadedPackage
from mlopsc.runners import run_package
from mlopsc.schema.conformance import ConformanceReport, LabelScore
from mlopsc.schema.package import Package
from mlopsc.tools import RUN_TIMEOUT_S

# Where floats lie between integers, the last bit of a float decides about steps of what follows.
MIXED_TOLERANCE: Final = 0.05


def conform_package(
    package: LoadedPackage,
    *,
    bundle: Bundle | None = None,
    runner: str | None = None,
    timeout: float = RUN_TIMEOUT_S,
) -> ConformanceReport:
    """Return the report of ``package``; a mismatch is a verdict, not an error.

    Args:
        package: A verified package.
        bundle: If given, the reference runs its graph now instead of using recorded outputs.
        runner: Which runner, or None for the target's preferred one.
        timeout: Seconds until the run is stopped.

    Raises:
        MissingToolError: No runner is there.
        BrokenPackageError: The library fails, or the package was not built from ``bundle``.
    """
    info = package.info
    if bundle is not None and bundle.digest != info.bundle:
        raise BrokenPackageError(
            f"'{package.path}' was built from bundle {info.bundle}, not from {bundle.digest}"
        )
    vectors, answered_by = package.vectors(), info.vectors.reference
    if bundle is not None:
        live = ExactReference(bundle.stages)
        answered_by = live.version
        vectors = [Vector(v.inputs, live.run(v.inputs)) for v in bundle.vectors]
    result = run_package(
        package, [v.inputs for v in vectors], runner=runner, count=True, timeout=timeout
    )
    errors = tuple(
        compare(
            spec,
            [o[spec.name] for o in result.outputs],
            [v.outputs[spec.name] for v in vectors],
            _tolerance(info, spec.dtype),
        )
        for spec in info.outputs
    )
    return ConformanceReport(
        package=info.name,
        target=info.target.name,
        model_json=package.digest,
        verdict="pass" if all(e.first_differing is None for e in errors) else "mismatch",
        runner=result.runner,
        reference=answered_by,
        reference_source="live" if bundle is not None else "recorded",
        vectors=len(vectors),
        outputs=errors,
        labels=_score(info.vectors.labels, result.outputs, vectors, info.outputs[0].name),
        instructions=result.instructions,
    )


def _tolerance(info: Package, dtype: str) -> float:
    """Return how far an output may be from the reference, relative to its largest value."""
    tolerance = info.target.tolerance(dtype, info.accuracy)
    return max(tolerance, MIXED_TOLERANCE) if info.vectors.arithmetic == "mixed" else tolerance


def _score(
    labels: Sequence[int],
    outputs: Sequence[dict[str, np.ndarray[Any, Any]]],
    vectors: Sequence[Vector],
    name: str,
) -> LabelScore | None:
    """Count the vectors whose largest element of the first output is at the label."""
    if not labels:
        return None
    mine = [int(np.argmax(o[name])) for o in outputs]
    reference = [int(np.argmax(v.outputs[name])) for v in vectors]
    return LabelScore(
        vectors=len(labels),
        correct=sum(a == b for a, b in zip(mine, labels, strict=True)),
        reference_correct=sum(a == b for a, b in zip(reference, labels, strict=True)),
    )
