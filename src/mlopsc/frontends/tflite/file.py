"""Reads the flatbuffer of a TFLite file: signature, quantisation, operators, what it says.

The interpreter's verifier has accepted the file before anything here follows its offsets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlopsc.errors import ConversionError, SourceError, UnsafeSourceError
from mlopsc.frontends.tensorflow.library import import_tensorflow

_HINT: Final = "check that the file is complete and convert the model again"
_TYPES: Final = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16",
    9: "int8", 10: "float64", 12: "uint64", 15: "uint32", 16: "uint16",
}  # fmt: skip
_INTEGERS: Final = ("int8", "uint8", "int16")
_CUSTOM: Final = 32  # BuiltinOperator.CUSTOM
_PLACEHOLDER: Final = 127  # more codes than a byte holds


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        index: In the subgraph.
        place: Its name in the file, which is that of the converter.
        name: What users call it: of the signature, or tidied.
        dtype: NumPy's name.
        scale: Of its integers, or None.
        zero_point: Of its integers.
    """

    index: int
    place: str
    name: str
    dtype: str
    scale: float | None
    zero_point: int

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest real value that its integers stand for."""
        info = np.iinfo(self.dtype)
        scale = self.scale or 1.0
        return (info.min - self.zero_point) * scale, (info.max - self.zero_point) * scale


@dataclass(frozen=True)
class TfliteFile:
    """What a file holds.

    Attributes:
        path: Where it is.
        inputs: In the order of the subgraph.
        outputs: In the order of the subgraph.
        is_quantised: Whether any tensor that is computed or multiplied with is of integers with a
            scale.
        producer: Version that is needed at least, as the file says it.
        facts: Description, signatures and metadata; JSON.
        notes: What is not carried over.
    """

    path: Path
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    is_quantised: bool
    producer: str
    facts: dict[str, Any]
    notes: tuple[str, ...]


def read(path: Path, signature: str | None) -> TfliteFile:
    """Read ``path``.

    Raises:
        SourceError: It is damaged.
        UnsafeSourceError: It has operators of its own.
        ConversionError: It has no such signature.
    """
    _verify(path)
    from tf2onnx.tflite.Model import Model

    try:
        model = Model.GetRootAsModel(bytearray(path.read_bytes()), 0)
        _check_operators(path, model)
        if model.SubgraphsLength() < 1:
            raise ValueError("it has no graph")
        graph = model.Subgraphs(0)
        names, signatures = _names(model, signature)
        inputs = [_tensor(graph, graph.Inputs(k), names) for k in range(graph.InputsLength())]
        outputs = [_tensor(graph, graph.Outputs(k), names) for k in range(graph.OutputsLength())]
        found = list(_metadata(model))
        producer = found_version(model)
        return TfliteFile(
            path,
            *_distinct(inputs, outputs),
            is_quantised=any(_is_quantised(graph.Tensors(k)) for k in range(graph.TensorsLength())),
            producer=producer,
            facts={
                "description": _text(model.Description()),
                "schema_version": int(model.Version()),
                "signatures": signatures,
                "metadata": found,
            },
            notes=(
                ("metadata of TFLite (normalisation, label files) is not carried over; give it "
                 "with --preprocess and --postprocess",)
                if "TFLITE_METADATA" in found else ()
            ),
        )  # fmt: skip
    except (SourceError, UnsafeSourceError, ConversionError, MemoryError):
        raise
    except Exception as error:  # offsets that lead nowhere
        text = " ".join(str(error).split())
        raise SourceError(
            f"'{path}' is a damaged TFLite file: {type(error).__name__}: {text[:200]}", hint=_HINT
        ) from error


def _verify(path: Path) -> None:
    """Let the interpreter's verifier look at every offset of the file.

    Raises:
        SourceError: It refuses the file, or the operators do not fit their tensors.
    """
    tf = import_tensorflow()
    # The reference kernels are fewer, and delegates take what they cannot run.
    kind = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = tf.lite.Interpreter(
            model_content=path.read_bytes(), experimental_op_resolver_type=kind
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())
        custom = re.findall(r"custom op\(s\): ([\w, ]+)|unresolved custom op: (\w+)", text)
        named = ", ".join(sorted({name for pair in custom for name in pair if name}))
        if named:
            raise _custom(path, named) from error
        raise SourceError(
            f"'{path}' is refused by TensorFlow Lite: {text[:300]}", hint=_HINT
        ) from error


def _custom(path: Path, names: str) -> UnsafeSourceError:
    return UnsafeSourceError(
        f"'{path}' calls operators that are code outside the file: {names}; expected operators of "
        "TensorFlow Lite alone",
        hint="convert the model with target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS], "
        "or import the SavedModel",
    )


def _check_operators(path: Path, model: Any) -> None:
    names = []
    for number in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(number)
        builtin = code.DeprecatedBuiltinCode()
        builtin = code.BuiltinCode() if builtin == _PLACEHOLDER else builtin
        if builtin == _CUSTOM:
            names.append(_text(code.CustomCode()) or "without a name")
    if names:
        raise _custom(path, ", ".join(sorted(set(names))))


def _names(model: Any, wanted: str | None) -> tuple[dict[int, str], list[str]]:
    """Return the names of the signature by tensor of the first subgraph, and all signatures."""
    found = [model.SignatureDefs(k) for k in range(model.SignatureDefsLength())]
    keys = [_text(signature.SignatureKey()) for signature in found]
    if wanted is not None and wanted not in keys:
        raise ConversionError(
            f"the file has no signature '{wanted}'; it has: {', '.join(keys) or 'none'}",
            hint="choose one of these with --signature",
        )
    names: dict[int, str] = {}
    for key, signature in zip(keys, found, strict=True):
        if signature.SubgraphIndex() != 0:
            if key == wanted:
                raise ConversionError(
                    f"the signature '{wanted}' is of another graph than the first; expected one",
                    hint="convert this signature to a file of its own",
                )
            continue
        if wanted not in (None, key):
            continue
        for map_, count in (
            (signature.Inputs, signature.InputsLength()),
            (signature.Outputs, signature.OutputsLength()),
        ):
            for k in range(count):
                names.setdefault(int(map_(k).TensorIndex()), _text(map_(k).Name()))
        break
    return names, keys


def _tensor(graph: Any, index: int, names: dict[int, str]) -> Tensor:
    tensor = graph.Tensors(index)
    place = _text(tensor.Name())
    code = int(tensor.Type())
    if code not in _TYPES:
        raise ConversionError(
            f"'{place}' is of TFLite's type number {code}; expected numbers",
            hint="convert a model that takes and gives numbers",
        )
    sizes = [tensor.Shape(k) for k in range(tensor.ShapeLength())]
    sizes += [tensor.ShapeSignature(k) for k in range(tensor.ShapeSignatureLength())]
    if min(sizes, default=0) < -1:  # -1 is an open dimension
        raise SourceError(f"'{place}' has a dimension of {min(sizes)}; expected sizes", hint=_HINT)
    quantised = tensor.Quantization()
    scale, zero = None, 0
    if _TYPES[code] in _INTEGERS and quantised is not None and quantised.ScaleLength() == 1:
        scale = float(quantised.ScaleAsNumpy()[0])
        zero = int(quantised.ZeroPointAsNumpy()[0]) if quantised.ZeroPointLength() else 0
        if not np.isfinite(scale) or scale <= 0:
            raise SourceError(f"'{place}' has the scale {scale}; expected a number > 0", hint=_HINT)
    return Tensor(index, place, tidy(names.get(index, place)), _TYPES[code], scale, zero)


def _distinct(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Give names that are there twice a number."""
    taken: set[str] = set()
    made: list[Tensor] = []
    for tensor in (*inputs, *outputs):
        name, number = tensor.name, 1
        while name in taken:
            number += 1
            name = f"{tensor.name}_{number}"
        taken.add(name)
        made.append(Tensor(**{**vars(tensor), "name": name}))
    return tuple(made[: len(inputs)]), tuple(made[len(inputs) :])


def tidy(name: str) -> str:
    """Return a name of TensorFlow as people write it: without number, scope and signature."""
    name = re.sub(r":\d+$", "", name)
    name = re.sub(r"^(serving_default_|StatefulPartitionedCall[:_]?)", "", name) or name
    return re.sub(r"[^A-Za-z0-9_.]", "_", name).strip("_") or "value"


def _is_quantised(tensor: Any) -> bool:
    quantised = tensor.Quantization()
    integers = _TYPES.get(int(tensor.Type())) in _INTEGERS
    return integers and quantised is not None and quantised.ScaleLength() > 0


def _metadata(model: Any) -> Iterator[str]:
    for number in range(model.MetadataLength()):
        yield _text(model.Metadata(number).Name())


def found_version(model: Any) -> str:
    """Return the version of the runtime that the converter says is needed, or nothing."""
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if _text(entry.Name()) == "min_runtime_version":
            data = model.Buffers(entry.Buffer()).DataAsNumpy()
            text = data.tobytes().rstrip(b"\0").decode(errors="replace")
            return f"TFLite converter for runtime {text} or later" if text else ""
    return ""


def _text(data: bytes | None) -> str:
    return "" if data is None else data.decode(errors="replace")
