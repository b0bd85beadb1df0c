"""Compares the bundle's graphs with what a framework's original gave, before anything is packed.

The frontend has run the original (``schema/export.py``); here the graphs in normal form run on the
same inputs. This is the first rung of the proof: what ships computes what was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlopsc.compare import compare
from mlopsc.errors import DivergenceError
from mlopsc.importer.origin import TOLERANCE
from mlopsc.labels import to_places
from mlopsc.schema.bundle import FrameworkCheck
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.export import EXPORT_FILE, RUNS_FILE, Export

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Runs:
    """An export, and what the original gave.

    Attributes:
        export: What was exported.
        inputs: Of each run, by name.
        outputs: Of each run, by name.
    """

    export: Export
    inputs: tuple[dict[str, Array], ...]
    outputs: tuple[dict[str, Array], ...]

    def drawn(self, count: int, specs: Sequence[TensorSpec]) -> list[dict[str, Array]]:
        """Return the first inputs that were drawn, in the types of ``specs``."""
        start = self.export.given
        return [_as_given(run, specs) for run in self.inputs[start : start + count]]


def read_runs(folder: Path) -> Runs:
    """Read what a frontend has left in ``folder``."""
    export = Export.from_file(folder / EXPORT_FILE)
    inputs: list[dict[str, Array]] = [{} for _ in range(export.runs)]
    outputs: list[dict[str, Array]] = [{} for _ in range(export.runs)]
    if export.compared:
        with np.load(folder / RUNS_FILE, allow_pickle=False) as archive:
            for key in archive.files:
                kind, number, name = key.split(".", 2)
                (inputs if kind == "in" else outputs)[int(number)][name] = archive[key]
    return Runs(export, tuple(inputs), tuple(outputs))


def compare_with_framework(
    runs: Runs,
    answer: Callable[[Arrays], Arrays],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    accepted: str | None,
) -> FrameworkCheck:
    """Judge the graphs against the original.

    Args:
        runs: What the original gave.
        answer: Runs the graphs in normal form.
        inputs: Their signature.
        outputs: Their signature.
        accepted: Why a difference above the tolerance is accepted, or None.

    Raises:
        DivergenceError: The graphs compute something else.
    """
    export = runs.export
    check = FrameworkCheck(
        what=export.what,
        compared=export.compared,
        reason=export.reason,
        framework=export.version,
        written_by=export.written_by,
        converter=export.converter,
        preprocessing=export.preprocessing,
        postprocessing=export.postprocessing,
        notes=export.notes,
    )
    if not export.compared:
        return check
    got = [answer(_as_given(run, inputs)) for run in runs.inputs]
    worst, allowed, failed = 0.0, 0.0, ""
    for spec in outputs:
        tolerance = export.tolerance
        if tolerance is None:
            tolerance = TOLERANCE.get(spec.dtype, 0.0)
        mine = [np.asarray(run[spec.name]) for run in got]
        theirs = [_as_declared(run, spec, export) for run in runs.outputs]
        lone = spec.elements == 1
        if lone:  # near zero, such a number has no largest value beside it: the runs have
            mine, theirs = [np.concatenate(mine, axis=None)], [np.concatenate(theirs, axis=None)]
        found = compare(spec, mine, theirs, tolerance)
        if found.first_differing is not None and not failed:
            number, element = found.first_differing
            failed = (
                f"output '{spec.name}', run {element if lone else number}, "
                f"element {0 if lone else element}: "
                f"{mine[number].ravel()[element]} instead of {theirs[number].ravel()[element]} "
                f"(tolerance {tolerance:g} of the largest value, worst difference "
                f"{found.relative_to_max:.3g})"
            )
        worst, allowed = max(worst, found.relative_to_max), max(allowed, tolerance)
    if failed and accepted is None:
        raise DivergenceError(
            f"the bundle computes something else than {export.version} does: {failed}; converter: "
            f"{export.converter or 'none'}"
        )
    return check.model_copy(
        update={
            "vectors": export.given,
            "drawn": export.runs - export.given,
            "relative_to_max": worst,
            "tolerance": allowed,
            "accepted": (accepted or "") if failed else "",
        }
    )


def _as_given(run: Arrays, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Return inputs of the original as the bundle takes them: strings as places in the table."""
    found = {}
    for spec in specs:
        array = run[spec.name]
        if spec.labels is not None:
            array = to_places(array, spec.labels)
        found[spec.name] = np.asarray(array, np.dtype(spec.dtype)).reshape(spec.shape)
    return found


def _as_declared(run: Arrays, spec: TensorSpec, export: Export) -> Array:
    """Return an output of the original in type and shape of the bundle's.

    Raises:
        DivergenceError: It is not there, or has another number of elements.
    """
    if spec.name not in run:
        raise DivergenceError(
            f"{export.version} gives no output '{spec.name}'; it gives {', '.join(sorted(run))}"
        )
    array = run[spec.name]
    if spec.labels is not None and array.dtype.kind in "OSU":
        array = to_places(array, spec.labels)
    if array.size != spec.elements:
        raise DivergenceError(
            f"output '{spec.name}' is {list(array.shape)} in {export.version} and "
            f"{list(spec.shape)} in the bundle"
        )
    with np.errstate(over="ignore"):
        return array.reshape(spec.shape).astype(np.dtype(spec.dtype))
