"""Measures how far exported graphs are from the model: float32 where that is enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import onnx

from mlopsc.errors import ConversionError
from mlopsc.frontends.base import RawInput, versions_of

Array = np.ndarray[Any, Any]
RUNS: Final = 64
ENOUGH: Final = 2e-5  # relative to the largest value; a fifth of what the import tolerates
EXACT: Final = 1e-10  # what float64 reaches unless a part of it is in float32
TOLERATED: Final = 1e-4
_TYPES: Final = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64",
    "tensor(string)": "string", "tensor(bool)": "bool",
}  # fmt: skip


class Chain:
    """Graphs that run one after the other in ONNX Runtime, joined by name."""

    def __init__(self, graphs: Sequence[onnx.ModelProto]) -> None:
        """Load them.

        Raises:
            ConversionError: ONNX Runtime refuses one.
        """
        import onnxruntime

        onnxruntime.set_default_logger_severity(4)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        with _reported():
            self._sessions = [
                onnxruntime.InferenceSession(
                    graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
                )
                for graph in graphs
            ]
        self.inputs = [
            RawInput(value.name, _TYPES[value.type], tuple(_size(d) for d in value.shape))
            for value in self._sessions[0].get_inputs()
        ]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs of the last graph, by name."""
        values = dict(inputs)
        for session in self._sessions:
            names = [value.name for value in session.get_outputs()]
            wanted = {value.name for value in session.get_inputs()}
            given = {
                name: array.astype(object) if array.dtype.kind in "US" else array
                for name, array in values.items()
                if name in wanted
            }
            with _reported():
                values = dict(zip(names, session.run(None, given), strict=True))
        return values


@contextmanager
def _reported() -> Iterator[None]:
    """Turn what ONNX Runtime raises into an error that says whose graph it is."""
    try:
        yield
    except Exception as error:  # ONNX Runtime's own classes share no base
        text = " ".join(str(error).split())
        raise ConversionError(
            f"{versions_of('onnxruntime')} cannot run what {versions_of('skl2onnx')} has made of "
            f"the model: {text[:300]}"
        ) from error


def _size(dim: Any) -> int:
    return dim if isinstance(dim, int) else 1


def worst(got: Sequence[Mapping[str, Array]], expected: Sequence[Mapping[str, Array]]) -> float:
    """Return the largest difference of several runs.

    An output that is one number is judged by the largest of all runs, as at import: near zero it
    has nothing beside it to be compared with.
    """
    lone = [name for name, value in expected[0].items() if value.size == 1]
    together = [
        {name: np.concatenate([np.asarray(run[name]).ravel() for run in runs]) for name in lone}
        for runs in (got, expected)
    ]
    rest = [
        difference(mine, {n: v for n, v in theirs.items() if n not in lone})
        for mine, theirs in zip(got, expected, strict=True)
    ]
    return max(difference(*together), *rest)


def difference(got: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """Return the largest difference, relative to the largest value of its output.

    Infinite if labels, numbers of elements or NaN differ.
    """
    largest = 0.0
    for name, theirs in expected.items():
        mine = np.asarray(got[name]).ravel()
        wanted = np.asarray(theirs).ravel()
        if mine.size != wanted.size:
            return float("inf")
        if wanted.dtype.kind != "f":
            if not bool((mine == wanted.astype(mine.dtype)).all()):
                return float("inf")
            continue
        if not np.array_equal(np.isnan(mine), np.isnan(wanted)):
            return float("inf")
        known = ~np.isnan(wanted)
        if known.any():
            apart = np.abs(mine[known].astype(np.float64) - wanted[known]).max()
            largest = max(largest, float(apart / max(np.abs(wanted[known]).max(), 1e-30)))
    return largest
