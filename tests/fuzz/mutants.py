"""Mutants of valid models, and what must hold when one is imported.

A mutant changes bytes of the file or fields of the message. Whatever it is, importing it must end
within its limit of time, with a bundle or with one error of ours; and a bundle must compute what
the mutant computes in the reference runtime, where that runs it.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from mlopsc import pipeline
from mlopsc.bundle import Bundle
from mlopsc.errors import MlopscError
from mlopsc.importer import ImportOptions

LIMIT_S = 10.0
SLACK_S = 10.0  # for starting and stopping processes on a busy machine
TOLERANCE = {"float64": 1e-7, "float32": 1e-3, "float16": 2e-2, "bfloat16": 8e-2}
_ODD_NUMBERS = (0, 1, -1, 2, 7, 127, 128, 255, 1 << 15, 1 << 31, (1 << 31) - 1, -(1 << 31),
                (1 << 62), (1 << 63) - 1, -(1 << 63))  # fmt: skip
_ODD_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, float("inf"), float("-inf"), float("nan"))
_OPS = tuple(sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}))


@cache
def corpus() -> tuple[bytes, ...]:
    """Return the models that mutants come from."""
    f, i = np.float32, np.int64
    rng = np.random.default_rng(5)
    n, m, v = models.node, models.model, models.value

    def weight(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(f)

    branch = helper.make_graph([n("Neg", ["x"], ["t"])], "t", [], [v("t", [4])])
    other = helper.make_graph([n("Exp", ["x"], ["e"])], "e", [], [v("e", [4])])
    body = helper.make_graph(
        [n("Identity", ["c"], ["d"]), n("Add", ["a", "x"], ["b"]), n("Mul", ["b", "b"], ["s"])],
        "body", [v("i", [], "int64"), v("c", [], "bool"), v("a", [4])],
        [v("d", [], "bool"), v("b", [4]), v("s", [4])],
    )  # fmt: skip
    made = [
        m([n("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
           n("BatchNormalization", ["c", "k", "k", "k", "q"], ["d"]), n("Relu", ["d"], ["r"]),
           n("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
           n("Flatten", ["p"], ["f"]),
           n("Gemm", ["f", "g", "h"], ["y"], transB=1)],
          [v("x", ["batch", 2, 8, 8])], [v("y", ["batch", 3])],
          {"w": weight(4, 2, 3, 3), "b": weight(4), "k": weight(4), "q": np.abs(weight(4)) + 1,
           "g": weight(3, 16), "h": weight(3)}),
        m([n("MatMul", ["x", "w"], ["a"]), n("Softmax", ["a"], ["s"], axis=-1),
           n("LayerNormalization", ["s", "g", "b"], ["l"]), n("Gelu", ["l"], ["y"])],
          [v("x", [2, 3, 4])], [v("y", [2, 3, 6])],
          {"w": weight(4, 6), "g": weight(6), "b": weight(6)}, opset=20),
        m([n("Shape", ["x"], ["s"]), n("Gather", ["s", "i"], ["h"]), n("Concat", ["h", "r"], ["t"],
           axis=0), n("Reshape", ["x", "t"], ["z"]), n("Transpose", ["z"], ["u"], perm=[1, 0]),
           n("Slice", ["u", "b", "e", "ax", "st"], ["y"])],
          [v("x", [2, 3, 4])], [v("y", [6, 2])],
          {"i": np.array([0], i), "r": np.array([-1], i), "b": np.array([1], i),
           "e": np.array([100], i), "ax": np.array([0], i), "st": np.array([2], i)}),
        m([n("ReduceSum", ["x", "a"], ["s"]), n("ReduceMax", ["x", "a"], ["t"], keepdims=1),
           n("Where", ["c", "s", "t"], ["w"]), n("Cast", ["w"], ["k"], to=TensorProto.INT32),
           n("CumSum", ["k", "z"], ["y"])],
          [v("x", [2, 5]), v("c", [], "bool")], [v("y", [2, 1], "int32")],
          {"a": np.array([1], i), "z": np.array(0, i)}),
        m([n("If", ["c"], ["y"], then_branch=branch, else_branch=other)],
          [v("x", [4]), v("c", [], "bool")], [v("y", [4])]),
        m([n("Loop", ["n", "t", "x"], ["y", "z"], body=body)], [v("x", [4])],
          [v("y", [4]), v("z", [3, 4])], {"n": np.array(3, i), "t": np.array(True)}),
        m([n("LSTM", ["x", "w", "r", "b"], ["y", "h", "c"], hidden_size=3)], [v("x", [2, 1, 4])],
          [v("y", [2, 1, 1, 3]), v("h", [1, 1, 3]), v("c", [1, 1, 3])],
          {"w": weight(1, 12, 4), "r": weight(1, 12, 3), "b": weight(1, 24)}),
        m([n("QuantizeLinear", ["x", "s", "z"], ["q"]),
           n("DequantizeLinear", ["q", "s", "z"], ["y"])],
          [v("x", [3, 4])], [v("y", [3, 4])],
          {"s": np.array(0.1, f), "z": np.array(3, np.uint8)}),
        m([n("Resize", ["x", "", "k"], ["r"], mode="nearest"), n("Pad", ["r", "p"], ["y"])],
          [v("x", [1, 1, 2, 3])], [v("y", [1, 1, 6, 8])],
          {"k": np.array([1, 1, 2, 2], f), "p": np.array([0, 0, 1, 1, 0, 0, 1, 1], i)}),
        m([n("TopK", ["x", "k"], ["v", "j"]), n("GatherElements", ["x", "j"], ["g"]),
           n("Add", ["v", "g"], ["y"])], [v("x", [3, 5])], [v("y", [3, 2])],
          {"k": np.array([2], i)}),
        m([n("Einsum", ["x", "w"], ["e"], equation="ij,jk->ik"), n("Split", ["e"], ["a", "b"],
           axis=1, num_outputs=2), n("Mul", ["a", "b"], ["y"])],
          [v("x", [2, 3])], [v("y", [2, 2])], {"w": weight(3, 4)}, opset=18),
        models.several(),
    ]  # fmt: skip
    return tuple(model.SerializeToString() for model in made)


def mutant(seed: int) -> bytes:
    """Return mutant number ``seed``."""
    rng = random.Random(seed)  # noqa: S311 - to find faults, not to hide secrets
    data = rng.choice(corpus())
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        data = rng.choice((_change_bytes, _change_fields, _change_fields))(rng, data)
    return data


def _change_bytes(rng: random.Random, data: bytes) -> bytes:
    if not data:
        return data
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice((1, 1, 2, 4, 16, 64)))
    other = rng.choice(corpus())
    choices: list[Callable[[], bytes]] = [
        lambda: data[:start] + bytes([data[start] ^ 1 << rng.randrange(8)]) + data[start + 1 :],
        lambda: data[:start] + rng.randbytes(end - start) + data[end:],
        lambda: data[:start] + data[end:],
        lambda: data[:start] + data[start:end] * 2 + data[end:],
        lambda: data[:start] + rng.randbytes(end - start) + data[start:],
        lambda: data[:start],
        lambda: data[:start] + other[rng.randrange(len(other)) :],
    ]
    return rng.choice(choices)()


def _change_fields(rng: random.Random, data: bytes) -> bytes:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return _change_bytes(rng, data)
    message: Any = model
    while True:  # down to a random depth
        fields = [(d, v) for d, v in message.ListFields()]
        below = [v for d, v in fields if d.type == d.TYPE_MESSAGE]
        if not below or (message is not model and rng.random() < 0.3):
            break
        chosen = rng.choice(below)
        chosen = rng.choice(chosen) if hasattr(chosen, "add") and len(chosen) else chosen
        if hasattr(chosen, "add"):
            break
        message = chosen
    _change_message(rng, message)
    try:
        return bytes(model.SerializeToString())
    except ValueError:  # text that is no text any more
        return data


def _change_message(rng: random.Random, message: Any) -> None:
    fields = [d for d, _ in message.ListFields()]
    if not fields:
        return
    field = rng.choice(fields)
    value = getattr(message, field.name)
    if hasattr(value, "append") or hasattr(value, "add"):
        index = rng.randrange(len(value)) if len(value) else 0
        action = rng.choice(("delete", "repeat", "swap", "change"))
        if not len(value):
            return
        if field.type == field.TYPE_MESSAGE:
            if action == "delete":
                del value[index]
            elif action == "repeat":
                value.add().CopyFrom(value[index])
            else:
                _change_message(rng, value[index])
        elif action == "delete":
            del value[index]
        elif action == "repeat":
            value.append(value[index])
        else:
            value[index] = _other(rng, field, value[index])
    elif field.type == field.TYPE_MESSAGE:
        if rng.random() < 0.2:
            message.ClearField(field.name)
        else:
            _change_message(rng, value)
    elif rng.random() < 0.1:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _other(rng, field, value))


def _other(rng: random.Random, field: Any, value: Any) -> Any:
    if isinstance(value, bytes):
        return _change_bytes(rng, value) if field.name != "s" else rng.randbytes(3)
    if isinstance(value, str):
        if field.name == "op_type":
            return rng.choice(_OPS)
        return rng.choice(("", "x", "y", "w", "a", "b", value + "_", value[:1]))
    if isinstance(value, float):
        return rng.choice((*_ODD_FLOATS, value * 2, -value))
    number = rng.choice((*_ODD_NUMBERS, value + 1, value - 1, value * 2, rng.randrange(20)))
    if field.type == field.TYPE_ENUM:
        return rng.choice([v.number for v in field.enum_type.values])
    bits = 32 if field.type == field.TYPE_INT32 else 64
    unsigned = number % (1 << bits)
    if field.type == field.TYPE_UINT64 or unsigned < 1 << (bits - 1):
        return unsigned
    return unsigned - (1 << bits)


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        kind: ``imported``, ``refused``, ``mismatch`` (refused because the normal form computes
            something else), ``stopped`` (at a limit or by a crash of its worker), or ``fault``.
        text: Its error, or what is wrong.
        compared: Whether the reference runtime ran the mutant itself.
    """

    kind: str
    text: str = ""
    compared: bool = False


class Judge:
    """Imports mutants and compares; the reference runs in a process that it may crash."""

    def __init__(self, folder: Path) -> None:
        """Work in ``folder``."""
        self._path = folder / "mutant.onnx"
        self._bundle = folder / "mutant.mlb"
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None

    def judge(self, data: bytes) -> Outcome:
        """Import ``data``."""
        self._path.write_bytes(data)
        start = time.monotonic()
        try:
            bundle = pipeline.import_model(
                self._path, self._bundle, ImportOptions(), force=True, cache=False, timeout=LIMIT_S
            )
        except MlopscError as error:
            return self._judge_error(error, time.monotonic() - start)
        except BaseException as error:  # whatever it is, it is the finding
            if isinstance(error, KeyboardInterrupt):
                raise
            return Outcome("fault", f"{type(error).__name__}: {error}")
        answers = self._answers(bundle)
        if answers is None:
            return Outcome("imported")
        difference = _difference(bundle, answers)
        return Outcome("fault" if difference else "imported", difference, compared=True)

    def _judge_error(self, error: MlopscError, seconds: float) -> Outcome:
        text = f"{type(error).__name__}: {error.message}"
        if seconds > LIMIT_S + SLACK_S:
            return Outcome("fault", f"took {seconds:.0f} s: {text}")
        if "Traceback" in text or "\n" in error.message or " in mlopsc." in text or not error.hint:
            return Outcome("fault", f"unclear: {text}")
        if type(error).__name__ == "MismatchError":
            return Outcome("mismatch", text)
        if "did not finish" in text or "killed by signal" in text:
            return Outcome("stopped", text)
        return Outcome("refused", text)

    def _answers(self, bundle: Bundle) -> list[dict[str, Any]] | None:
        """Return what the mutant computes on the bundle's vectors, if the reference runs it."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=context)
        inputs = [vector.inputs for vector in bundle.vectors]
        try:
            return self._pool.submit(run_original, str(self._path), inputs).result(LIMIT_S)
        except Exception:  # a refusal, a crash or a hang of the reference runtime
            self.close()
            return None

    def close(self) -> None:
        """End the process of the reference."""
        if self._pool is not None:
            for process in list(self._pool._processes.values()):
                process.kill()
            self._pool.shutdown()
            self._pool = None


def run_original(path: str, inputs: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Run a model in ONNX Runtime as it is; None if it is refused."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(path, options)
        names = [o.name for o in session.get_outputs()]
        return [dict(zip(names, session.run(names, given), strict=True)) for given in inputs]
    except Exception:  # the runtime raises its own classes
        return None


def _difference(bundle: Bundle, answers: list[dict[str, Any]]) -> str:
    for number, (vector, answer) in enumerate(zip(bundle.vectors, answers, strict=True)):
        for name, got in vector.outputs.items():
            expected = np.asarray(answer[name])
            if (got.dtype, got.shape) != (expected.dtype, expected.shape):
                return f"'{name}' is {got.dtype}{got.shape}, not {expected.dtype}{expected.shape}"
            if not close(got, expected):
                values = f"{got.ravel()[:8]}, {expected.ravel()[:8]}"
                return f"'{name}' of vector {number} differs: {values}"
    return ""


def close(got: Any, expected: Any) -> bool:
    """Whether arrays are equal, floats within a tolerance of the largest finite value."""
    tolerance = TOLERANCE.get(expected.dtype.name)
    if tolerance is None:
        return bool(np.array_equal(got, expected))
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(np.where(finite, 0, got), np.where(finite, 0, expected), equal_nan=True):
        return False
    scale = np.abs(expected[finite]).max(initial=0)
    with np.errstate(all="ignore"):
        return bool((np.abs(got - expected)[finite] <= tolerance * max(scale, 1e-30)).all())
