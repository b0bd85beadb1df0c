"""What a user may say about a quantisation, and its report: what it cost, layer by layer."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from mlopsc.schema.bundle import Arithmetic, IntegerCheck
from mlopsc.schema.common import Digest, Frozen

ActivationType = Literal["int8", "uint8", "int16"]
WeightType = Literal["int8", "int4"]
CalibrationMethod = Literal["minmax", "entropy", "percentile"]
Edges = Literal["float", "integer"]
# What a quantisation leaves in its folder, beside the bundle's other graphs.
QUANTIZED_MODEL: Final = "model.onnx"
QUANTIZED_VECTORS: Final = "vectors.npz"
QUANTIZED_REPORT: Final = "report.json"
Finite = Annotated[float, Field(allow_inf_nan=False)]


class QuantizeOptions(Frozen):
    """How to quantise.

    Attributes:
        activations: Element type of the values between layers; int16 ones are symmetric.
        weights: Element type of weights, which are symmetric.
        per_channel: Whether each output channel of a weight has a scale of its own.
        method: How the range of a value follows from what was seen: all of it (``minmax``), the
            part whose histogram changes least (``entropy``), or all but the rarest
            (``percentile``).
        percentile: How much of a value's histogram is kept by that method, in percent.
        samples: How many calibration samples are used at most; all by default.
        keep_float: How many of the most sensitive layers stay in float.
        max_error: Keep as many of the most sensitive layers in float as it takes to bring the
            relative error of every output below this.
        float_layers: Layers that stay in float, by name.
        sensitivity: Measure what it would give to keep each layer in float; done anyway where
            layers have to be chosen.
        io: ``integer`` makes the model's inputs and outputs integer tensors where the bundle's
            are the model's own; ``float`` leaves them as they are.
    """

    activations: ActivationType = "int8"
    weights: WeightType = "int8"
    per_channel: bool = True
    method: CalibrationMethod = "minmax"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    samples: Annotated[int, Field(ge=1)] | None = None
    keep_float: Annotated[int, Field(ge=0)] = 0
    max_error: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    float_layers: tuple[str, ...] = ()
    sensitivity: bool = False
    io: Edges = "float"


class ErrorFigures(Frozen):
    """How far a quantised tensor is from the float one, over all samples.

    Attributes:
        relative_error: Root of the energy of the difference over that of the float values.
        sqnr_db: The same as signal to quantisation noise, in decibels; none where nothing differs
            or nothing is there.
        max_absolute: Largest difference of an element.
    """

    relative_error: Finite
    sqnr_db: Finite | None
    max_absolute: Finite


class LayerReport(Frozen):
    """One layer: an operator that computes, with the activation that became part of it.

    Attributes:
        name: Of the node.
        op: Operator.
        tensor: Its output, after the activation.
        quantized: Whether it takes and gives quantised values, weights included.
        error: Of its output in the quantised model, all layers before it being quantised, too.
        if_float: Relative error of the model's worst output if this layer alone stays in float, on
            some calibration samples; none if it was not measured.
    """

    name: str
    op: str
    tensor: str
    quantized: bool
    error: ErrorFigures
    if_float: Finite | None


class OutputReport(Frozen):
    """One output of the model."""

    name: str
    error: ErrorFigures


class ClassRecall(Frozen):
    """How many samples of a class are recognised.

    Attributes:
        label: The class.
        samples: How many there are of it.
        float_correct: How many the float model gets right.
        quantized_correct: How many the quantised model gets right.
    """

    label: int
    samples: Annotated[int, Field(ge=1)]
    float_correct: Annotated[int, Field(ge=0)]
    quantized_correct: Annotated[int, Field(ge=0)]


class LabelledReport(Frozen):
    """Accuracy on labelled samples: what the first output decides.

    That is the place of its largest element; of one element an integer itself, or whether a float
    is at least one half.

    Attributes:
        samples: How many there are.
        float_correct: How many the float model gets right.
        quantized_correct: How many the quantised model gets right.
        agreeing: For how many the two decide alike.
        classes: The same by class.
    """

    samples: Annotated[int, Field(ge=1)]
    float_correct: Annotated[int, Field(ge=0)]
    quantized_correct: Annotated[int, Field(ge=0)]
    agreeing: Annotated[int, Field(ge=0)]
    classes: tuple[ClassRecall, ...]


class IntegerTensor(Frozen):
    """An input or output that became integer: ``scale * (q - zero_point)`` is what it stands for.

    Attributes:
        name: As in the graph.
        dtype: Element type.
        scale: A float32 number.
        zero_point: The integer that stands for 0.
    """

    name: str
    dtype: ActivationType
    scale: Finite
    zero_point: int


class DataUsed(Frozen):
    """Samples that were used for something.

    Attributes:
        origin: ``vectors`` of the bundle, a ``file`` or a ``folder``.
        name: Of the file or folder.
        digest: Of its content, as ``mlopsc data fingerprint`` gives it.
        samples: How many were used.
    """

    origin: Literal["vectors", "file", "folder"]
    name: str = ""
    digest: Digest | None = None
    samples: Annotated[int, Field(ge=1)]


class QuantizeReport(Frozen):
    """What a quantisation did and what it cost, schema version 1.

    Attributes:
        model: Name of the model.
        parent: Digest of the float bundle.
        options: As they were given.
        tool: The quantiser, with version.
        calibration: What the ranges of values come from.
        measured: What errors and accuracy were measured on.
        float_bytes: Size of the float model's weights.
        quantized_bytes: Size of the quantised model's weights.
        arithmetic: What the quantised bundle computes in, ``integer`` if nothing in float lies
            between its quantised inputs and outputs.
        integers: How these integers compare with what was measured here, which is what
            ``QuantizeLinear`` and ``DequantizeLinear`` mean in float32.
        kept_float: Layers that were kept in float on purpose.
        layers: Every layer, in the order they run.
        outputs: Every output of the model that is a float tensor.
        labelled: Accuracy, where there are labels.
        inputs_integer: Inputs that became integer tensors.
        outputs_integer: Outputs that became integer tensors.
        warnings: What to look at.
    """

    schema_version: Literal[1] = 1
    model: str
    parent: Digest
    options: QuantizeOptions
    tool: str
    calibration: DataUsed
    measured: DataUsed
    float_bytes: Annotated[int, Field(ge=0)]
    quantized_bytes: Annotated[int, Field(ge=0)]
    arithmetic: Arithmetic = "float"
    integers: IntegerCheck | None = None
    kept_float: tuple[str, ...]
    layers: tuple[LayerReport, ...]
    outputs: tuple[OutputReport, ...]
    labelled: LabelledReport | None
    inputs_integer: tuple[IntegerTensor, ...] = ()
    outputs_integer: tuple[IntegerTensor, ...] = ()
    warnings: tuple[str, ...] = ()
