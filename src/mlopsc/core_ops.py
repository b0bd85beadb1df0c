"""The core operator set: what a normalised graph may hold and lowering must know.

``docs/core-ops.md`` is generated from this table. An operator stands here only if
``tests/conformance/test_core_ops.py`` shows that what is compiled equals the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class CoreOp:
    """What lowering asks of an operator's nodes.

    Attributes:
        constant_inputs: Positions of inputs that must be constants.
        single_output: Whether only the first output may be used.
        single_precision: Whether no input may be float64.
    """

    constant_inputs: tuple[int, ...] = ()
    single_output: bool = True
    single_precision: bool = False


_PLAIN = (
    "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh",
    "AveragePool", "BatchNormalization", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot",
    "BitwiseOr", "BitwiseXor", "Cast", "Ceil", "Clip", "Concat", "Conv", "ConvTranspose", "Cos",
    "Cosh", "DeformConv", "DepthToSpace", "Div", "Einsum", "Elu", "Equal", "Erf", "Exp", "Flatten",
    "Floor", "Gather", "GatherElements", "GatherND", "Gemm", "GlobalAveragePool", "GlobalMaxPool",
    "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Hardmax", "Identity",
    "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LeakyRelu", "Less", "LessOrEqual", "Log",
    "LogSoftmax", "MatMul", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "PRelu",
    "Pow", "Reciprocal", "Relu", "Round", "ScatterElements", "ScatterND", "Selu",
    "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softmax", "Softplus", "SpaceToDepth", "Sqrt",
    "Sub", "Tan", "Tanh", "Transpose", "Trilu", "Where", "Xor",
)  # fmt: skip

CORE_OPS: Final[dict[str, CoreOp]] = {
    **{name: CoreOp() for name in _PLAIN},
    "If": CoreOp(single_output=False),
    "Loop": CoreOp(single_output=False),
    "CumProd": CoreOp(constant_inputs=(1,)),
    "CumSum": CoreOp(constant_inputs=(1,)),
    "MaxPool": CoreOp(single_output=False),
    "MaxRoiPool": CoreOp(single_precision=True),
    "MaxUnpool": CoreOp(constant_inputs=(2,)),
    "OneHot": CoreOp(constant_inputs=(1,)),
    "TopK": CoreOp(constant_inputs=(1,), single_output=False),
    "Expand": CoreOp(constant_inputs=(1,)),
    "Pad": CoreOp(constant_inputs=(1, 3)),
    "ReduceProd": CoreOp(constant_inputs=(1,)),
    "ReduceMax": CoreOp(constant_inputs=(1,)),
    "ReduceMean": CoreOp(constant_inputs=(1,)),
    "ReduceMin": CoreOp(constant_inputs=(1,)),
    "ReduceSum": CoreOp(constant_inputs=(1,)),
    "Reshape": CoreOp(constant_inputs=(1,)),
    "Slice": CoreOp(constant_inputs=(1, 2, 3, 4)),
    "Split": CoreOp(constant_inputs=(1,), single_output=False),
    "Squeeze": CoreOp(constant_inputs=(1,)),
    "Tile": CoreOp(constant_inputs=(1,)),
    "Unsqueeze": CoreOp(constant_inputs=(1,)),
    "RoiAlign": CoreOp(single_precision=True),
    "ai.onnx.ml::TreeEnsemble": CoreOp(),
}

# Accepted at import and rewritten in terms of the above (importer/normalise/expansions).
EXPANDED_OPS: Final[tuple[str, ...]] = (
    "AffineGrid", "BatchNormalization", "Clip", "Col2Im", "Compress", "ConstantOfShape",
    "ConvInteger", "DFT", "DequantizeLinear", "Det", "Dropout", "EyeLike", "GlobalLpPool",
    "GridSample", "LayerNormalization", "LpNormalization", "LpPool", "MatMulInteger", "MaxUnpool",
    "Mean", "MeanVarianceNormalization", "MelWeightMatrix", "OneHot", "QLinearConv",
    "QLinearMatMul", "QuantizeLinear", "Range", "Resize", "STFT", "SpaceToDepth", "Sum",
    "TensorScatter", "TfIdfVectorizer",
    *(
        f"ai.onnx.ml::{name}"
        for name in (
            "ArrayFeatureExtractor", "Binarizer", "FeatureVectorizer", "Imputer", "LabelEncoder",
            "LinearClassifier", "LinearRegressor", "Normalizer", "OneHotEncoder", "SVMClassifier",
            "SVMRegressor", "Scaler",
            "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor",
        )
    ),
    *(f"ai.onnx.preview.training::{name}" for name in ("Adagrad", "Adam", "Momentum")),
)  # fmt: skip

# When those of them are rewritten that are core operators otherwise.
EXPANDED_IF: Final[dict[str, str]] = {
    "BatchNormalization": "`training_mode` is 1, or its inputs are of float64 and narrower types",
    "Clip": "a limit is computed at run time",
    "MaxUnpool": "`output_shape` is given",
    "OneHot": "`depth` is not a scalar",
    "SpaceToDepth": "`mode` is `CRD`",
    "ai.onnx.ml::TreeEnsemble": "it averages or transforms its sums, its input is not a matrix, a "
    "tree is a single leaf, or a node tests for membership of a large set",
}
