"""``export.json``: what a frontend says of the ONNX files that it made of a framework's model."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from mlopsc.schema.common import Digest, Frozen
from mlopsc.schema.lineage import Framework

EXPORT_FILE: Final = "export.json"
RUNS_FILE: Final = "runs.npz"  # inputs and outputs of the original
MODEL_FILE: Final = "model.onnx"
PREPROCESS_FILE: Final = "preprocess.onnx"
POSTPROCESS_FILE: Final = "postprocess.onnx"


class Export(Frozen):
    """What was exported, from what, by what, and whether the original ran.

    Attributes:
        framework: The frontend: a key of ``mlopsc.frontends.FRONTENDS``.
        what: What the source was taken for, in words.
        digest: Of the source; of the ONNX file for models that were in memory.
        version: Of the framework that loaded and ran the model, with its name.
        written_by: Name and version of what wrote the source, as far as it says.
        converter: Name and version of what made the ONNX file, empty if nothing had to.
        preprocessing: What was found at the head of the model and became the preprocessing stage,
            one phrase each.
        postprocessing: The same of the end of the model.
        notes: Things that a user should know: what was not carried over.
        frameworks: What took part in the training, as far as the source says.
        configuration: Training configuration and hyperparameters that the source holds; JSON.
        compared: Whether the original ran.
        reason: Why not.
        given: How many of the runs are the user's vectors; the others are drawn.
        runs: How many runs of the original there are, one sample each.
        whole: Whether the runs take the bundle's raw inputs and give its outputs. Otherwise the
            user has put graphs in front of the model or behind it, and the runs are of the model.
        tolerance: How far the bundle may be from the original, relative to the largest value of an
            output; the importer's own by element type if not given.
    """

    framework: str
    what: str
    digest: Digest
    version: str
    written_by: str = ""
    converter: str = ""
    preprocessing: tuple[str, ...] = ()
    postprocessing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    frameworks: tuple[Framework, ...] = ()
    configuration: dict[str, Any] = Field(default_factory=dict)
    compared: bool = False
    reason: str = ""
    given: Annotated[int, Field(ge=0)] = 0
    runs: Annotated[int, Field(ge=0)] = 0
    whole: bool = True
    tolerance: Annotated[float, Field(ge=0)] | None = None
