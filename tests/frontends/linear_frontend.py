"""A frontend of a framework that exists in the tests alone: ``y = x @ weights + bias``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx

from mlopsc.frontends.base import CannotRun, Exported, LoadOptions, Original
from mlopsc.frontends.content import Content
from mlopsc.schema.lineage import Framework

TITLE = "Linear"
EXTRA = "linear"
MODULES: tuple[str, ...] = ()


@dataclass
class Linear:
    """A model: ``y = (x - mean) * weight``.

    Attributes:
        mean: What preprocessing subtracts.
        weight: Of the model.
        wrong: What the conversion adds by mistake.
        silent: Whether it cannot run.
        takes: The type of its input.
    """

    mean: float = 0.5
    weight: float = 3.0
    wrong: float = 0.0
    silent: bool = False
    takes: str = "float32"


def recognise(content: Content) -> str | None:
    """Files of it do not exist."""
    del content
    return None


def load(path: Path, options: LoadOptions) -> Original:
    """Not called."""
    raise NotImplementedError


def wrap(model: object, example: object, options: LoadOptions) -> Original | None:
    """Return the model."""
    del example, options
    return _Loaded(model) if isinstance(model, Linear) else None


class _Loaded(Original):
    version = "linear 1.0"
    written_by = "linear 0.9"
    frameworks = (Framework(name="linear", version="0.9"),)
    configuration = {"steps": 7}  # noqa: RUF012 - a constant of the test

    def __init__(self, model: Linear) -> None:
        self._model = model

    def export(self, folder: Path, options: LoadOptions) -> Exported:
        n, v = models.node, models.value
        f = np.float32
        mean = {"m": np.array(self._model.mean, f)}
        weights = {"w": np.array(self._model.weight, f), "e": np.array(self._model.wrong, f)}
        last = [n("Mul", ["c", "w"], ["d"]), n("Add", ["d", "e"], ["y"])]
        cast = n("Cast", ["x"], ["f"], to=onnx.TensorProto.FLOAT)
        subtract = [cast, n("Sub", ["f", "m"], ["c"])]
        shape: list[Any] = ["batch", 4]
        x = v("x", shape, self._model.takes)
        first = v("c", shape) if options.split else x
        nodes, constants = ([], {}) if options.split else (subtract, mean)
        model = models.model([*nodes, *last], [first], [v("y", shape)], {**constants, **weights})
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        if not options.split:
            return Exported(folder / "model.onnx", converter="linear2onnx 2.0")
        head = models.model(subtract, [x], [v("c", shape)], mean)
        (folder / "preprocess.onnx").write_bytes(head.SerializeToString())
        return Exported(
            folder / "model.onnx",
            folder / "preprocess.onnx",
            preprocessing=("mean of 4 features",),
            converter="linear2onnx 2.0",
        )

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if self._model.silent:
            raise CannotRun("linear runs on Sundays only")
        return {"y": (inputs["x"].astype(np.float64) - self._model.mean) * self._model.weight}
