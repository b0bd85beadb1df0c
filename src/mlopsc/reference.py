"""The reference runtime: ONNX Runtime's CPU provider on the bundle's own graphs.

Used to make the expected outputs of test vectors and to judge packages. One thread and default
optimisations, so that one version on one kind of processor always computes the same bits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlopsc.errors import SourceError
from mlopsc.schema.graph import StageGraph

# Before it is imported: its telemetry keeps an identifier of the user on disk.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

Arrays = dict[str, np.ndarray[Any, Any]]


def reference_version() -> str:
    """Return name and version of the reference runtime."""
    return f"onnxruntime {ort.__version__}"


def run_graph(model: bytes, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
    """Run one serialised ONNX model.

    Raises:
        SourceError: The reference cannot load or run it.
    """
    return Reference([StageGraph("model", model)]).run(inputs)


class Reference:
    """All stages of a bundle, run one after the other."""

    def __init__(self, stages: Sequence[StageGraph]) -> None:
        """Load the graphs.

        Raises:
            SourceError: The reference runtime refuses one of them.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._sessions = []
        for stage in stages:
            try:
                session = ort.InferenceSession(
                    stage.model, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # the runtime raises its own unexported classes
                text = " ".join(str(error).split())
                raise SourceError(
                    f"the reference runtime cannot load the {stage.name} graph: {text[:400]}"
                ) from error
            self._sessions.append(session)

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
        """Run all stages on raw inputs and return the outputs of the last by name.

        Raises:
            SourceError: The runtime fails on these inputs.
        """
        values: Arrays = dict(inputs)
        for session in self._sessions:
            names = [value.name for value in session.get_outputs()]
            feed = {value.name: values[value.name] for value in session.get_inputs()}
            try:
                values = dict(zip(names, session.run(names, feed), strict=True))
            except Exception as error:  # as above
                text = " ".join(str(error).split())
                raise SourceError(f"the reference runtime failed: {text[:400]}") from error
        return values
