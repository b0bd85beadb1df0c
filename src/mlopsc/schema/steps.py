"""A steps file: preprocessing or postprocessing as a list of steps, schema version 1."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from mlopsc.dtypes import DTypeName
from mlopsc.schema.array_steps import (
    Cast,
    ChangeLayout,
    Clip,
    Dequantise,
    Normalise,
    OneHot,
    Quantise,
    Reshape,
    Scale,
    Slice,
    Standardise,
    Transpose,
)
from mlopsc.schema.audio_steps import Frame, LogMel, Mfcc
from mlopsc.schema.common import Frozen
from mlopsc.schema.image_steps import Colour, Crop, Pad, Resize
from mlopsc.schema.score_steps import ArgMax, Nms, Sigmoid, Softmax, Threshold, TopK
from mlopsc.schema.step_types import Layout, Name, Size, Text

SCHEMA_VERSION = 1


class StepInput(Frozen):
    """An input of the graph.

    Attributes:
        dtype: Element type.
        shape: Sizes of the axes; the first may be a name, such as ``batch``, and is then bound at
            import.
        layout: A letter for each axis, such as ``NHWC``; steps on images take H, W and C from it.
    """

    dtype: DTypeName
    shape: tuple[Size | Name, ...]
    layout: Layout | None = None

    @model_validator(mode="after")
    def _check_shape(self) -> StepInput:
        if any(isinstance(size, str) for size in self.shape[1:]):
            raise ValueError(f"shape is {list(self.shape)}; expected numbers after the first axis")
        if self.layout is not None and len(self.layout) != len(self.shape):
            raise ValueError(
                f"layout is {self.layout} and shape is {list(self.shape)}; expected a letter for "
                "each axis"
            )
        if self.layout is not None and len(set(self.layout)) != len(self.layout):
            raise ValueError(f"layout is {self.layout}; expected each letter once")
        return self


class Step(Frozen):
    """One step: its name with its parameters, and the values it takes and gives.

    Attributes:
        input: The value it takes: an input, or an output of a step before; what the step before
            gives by default. A step that takes several values has one for each of its own names.
        output: What the value it gives is called, for later steps. A step that gives several
            values has one for each of its own names; those that are left out are dropped.
    """

    input: Text | dict[str, Text] | None = None
    output: Text | dict[str, Text] | None = None
    resize: Resize | None = None
    crop: Crop | None = None
    pad: Pad | None = None
    colour: Colour | None = None
    slice: Slice | None = None
    layout: ChangeLayout | None = None
    transpose: Transpose | None = None
    reshape: Reshape | None = None
    cast: Cast | None = None
    clip: Clip | None = None
    scale: Scale | None = None
    normalise: Normalise | None = None
    standardise: Standardise | None = None
    one_hot: OneHot | None = None
    quantise: Quantise | None = None
    dequantise: Dequantise | None = None
    frame: Frame | None = None
    log_mel: LogMel | None = None
    mfcc: Mfcc | None = None
    softmax: Softmax | None = None
    sigmoid: Sigmoid | None = None
    argmax: ArgMax | None = None
    top_k: TopK | None = None
    threshold: Threshold | None = None
    nms: Nms | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, given: Any) -> Any:
        """Name the nearest step where one is unknown; a step without parameters may be empty."""
        if not isinstance(given, dict):
            return given
        named = [name for name in given if name not in ("input", "output")]
        if len(named) != 1:
            raise ValueError(f"it names {named or 'no step'}; expected one step")
        if named[0] not in STEP_NAMES:
            near = difflib.get_close_matches(str(named[0]), STEP_NAMES, n=3, cutoff=0.5)
            raise ValueError(
                f"there is no step '{named[0]}'; expected one of: {', '.join(near or STEP_NAMES)}"
            )
        return {name: {} if value is None else value for name, value in given.items()}

    @property
    def name(self) -> str:
        """Which step it is."""
        return next(name for name in STEP_NAMES if getattr(self, name) is not None)

    @property
    def parameters(self) -> Frozen:
        """The parameters of the step."""
        found: Frozen = getattr(self, self.name)
        return found


STEP_NAMES: Final = tuple(name for name in Step.model_fields if name not in ("input", "output"))


class Steps(Frozen):
    """A graph as a list of steps, schema version 1.

    Attributes:
        inputs: What goes in, by name.
        steps: In the order in which they are done.
        output: What the value of the last step is called outside, or a list of values that steps
            name as their ``output``.
    """

    schema_version: Literal[1] = 1
    inputs: Annotated[dict[Name, StepInput], Field(min_length=1)]
    steps: tuple[Step, ...] = ()
    output: Name | Annotated[tuple[Name, ...], Field(min_length=1)]
