"""A Keras model that is loaded: its signature, its export and its own answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlopsc.errors import SourceError
from mlopsc.frontends.base import (
    Array,
    Exported,
    LoadOptions,
    Original,
    RawInput,
    versions_of,
)
from mlopsc.frontends.keras import heads
from mlopsc.frontends.tensorflow.convert import CONVERTER, to_onnx
from mlopsc.frontends.tensorflow.function import Function
from mlopsc.frontends.tensorflow.graph import FrozenGraph, Tensor, readable
from mlopsc.frontends.tensorflow.indices import draw_indices, index_limits
from mlopsc.frontends.tensorflow.library import import_tensorflow
from mlopsc.schema.export import MODEL_FILE, PREPROCESS_FILE

_READY = "_prepared"


class KerasModel(Original):
    """A model of Keras, on its TensorFlow backend."""

    def __init__(self, model: Any, example: object = None) -> None:
        """Take a model, and inputs for one that has never seen any.

        Raises:
            SourceError: It has no shapes yet, and no example gives them.
        """
        import_tensorflow()
        import keras

        if keras.backend.backend() != "tensorflow":
            raise SourceError(
                f"the model runs on Keras's {keras.backend.backend()} backend; expected tensorflow",
                hint="save it: model.save('m.keras'), and import that file",
            )
        self.version = versions_of("keras", "tensorflow-cpu").replace("keras", "Keras", 1)
        self._model = model
        self._structure, self._inputs = _signature(model, example)
        functional = bool(getattr(model, "inputs", None))
        found = heads.find(model) if functional else []
        self._heads = dict(zip([i.name for i in self._inputs], found, strict=bool(found)))
        self._limits: dict[str, int] = {}

    def export(self, folder: Path, options: LoadOptions) -> Exported:
        """See ``Original.export``."""
        self._names = _output_names(self._model)
        steps = [text for head in self._heads.values() for text in head.describe()]
        if options.split and steps:
            self._export_parts(folder, options)
        else:
            steps = []
            graph = self._frozen(self._model, self._structure, self._inputs, options)
            self._names = [tensor.name for tensor in graph.outputs]
            self.tolerance = to_onnx(graph, options.bind, folder / MODEL_FILE, "the model")
        self._limits = index_limits(folder / MODEL_FILE)
        pre = folder / PREPROCESS_FILE
        return Exported(
            folder / MODEL_FILE,
            preprocess=pre if pre.is_file() else None,
            preprocessing=tuple(steps),
            converter=versions_of(CONVERTER),
        )

    def _export_parts(self, folder: Path, options: LoadOptions) -> None:
        """Export the preprocessing and the rest; they meet at ``INPUT_prepared``."""
        first, rest = heads.split(self._model, list(self._heads.values()))
        graph = self._frozen(first, list(self._inputs), self._inputs, options)
        ready = tuple(
            Tensor(f"{raw.name}{_READY}", end.place, end.dtype, end.shape)
            for raw, end in zip(self._inputs, graph.outputs, strict=True)
        )
        graph = FrozenGraph(graph.graph_def, graph.inputs, ready)
        first_tolerance = to_onnx(
            graph, options.bind, folder / PREPROCESS_FILE, "the preprocessing"
        )
        taken = tuple(
            Tensor(t.name, "", t.dtype, (None, *(t.shape or ())[1:]) if raw.opens else t.shape)
            for raw, t in zip(self._inputs, ready, strict=True)
        )
        graph = self._frozen(rest, list(taken), taken, options)
        self._names = [tensor.name for tensor in graph.outputs]
        tolerance = to_onnx(graph, options.bind, folder / MODEL_FILE, "the model")
        self.tolerance = first_tolerance or tolerance

    def _frozen(
        self, model: Any, structure: Any, inputs: Sequence[Tensor], options: LoadOptions
    ) -> FrozenGraph:
        """Return the graph of a model, traced with every dimension bound."""
        import keras
        import tensorflow as tf

        def call(*flat: Any) -> list[Any]:
            given = keras.tree.pack_sequence_as(structure, list(flat))
            given = given[0] if isinstance(given, list) and len(given) == 1 else given
            return list(keras.tree.flatten(model(given, training=False)))

        specs = [
            tf.TensorSpec(i.bound(options.bind), i.dtype, name=f"input_{number}")
            for number, i in enumerate(inputs)
        ]
        concrete = tf.function(call, autograph=False).get_concrete_function(*specs)
        names = self._names if len(self._names) == len(concrete.outputs) else None
        frozen = Function(concrete, [i.name for i in inputs], names).freeze()
        opened = tuple(
            Tensor(i.name, found.place, i.dtype, i.shape)
            for i, found in zip(inputs, frozen.inputs, strict=True)
        )
        return FrozenGraph(frozen.graph_def, opened, frozen.outputs)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Original.run``."""
        import keras

        flat = [keras.ops.convert_to_tensor(inputs[i.name], i.dtype) for i in self._inputs]
        given = keras.tree.pack_sequence_as(self._structure, flat)
        given = given[0] if isinstance(given, list) and len(given) == 1 else given
        answers = keras.tree.flatten(self._model(given, training=False))
        values = [keras.ops.convert_to_numpy(answer) for answer in answers]
        return dict(zip(self._names, values, strict=True))

    def draw(
        self, rng: np.random.Generator, inputs: Sequence[RawInput], *, last: bool
    ) -> dict[str, Array]:
        """See ``Original.draw``: raw values that the head scales to what is usual."""
        drawn = super().draw(rng, inputs, last=last)
        raw = {name: heads.draw(self._heads, name, array) for name, array in drawn.items()}
        return draw_indices(rng, raw, self._limits)


def _signature(model: Any, example: object) -> tuple[Any, tuple[Tensor, ...]]:
    """Return how a model takes its inputs, and these.

    Raises:
        SourceError: They are not known.
    """
    import keras

    if getattr(model, "inputs", None):
        graph = getattr(model, "_functional", None) or model
        structure = getattr(graph, "_inputs_struct", list(model.inputs))
        flat = keras.tree.flatten(structure)
        names = [tensor.name for tensor in flat]
        shapes = [tuple(tensor.shape) for tensor in flat]
        types = [keras.backend.standardize_dtype(tensor.dtype) for tensor in flat]
    elif example is not None:
        structure, flat = example, [np.asarray(a) for a in keras.tree.flatten(example)]
        names = [f"input_{number + 1}" for number in range(len(flat))]
        shapes = [(None, *array.shape[1:]) for array in flat]
        types = ["float32" if a.dtype == np.float64 else a.dtype.name for a in flat]
        model(keras.tree.pack_sequence_as(example, flat), training=False)
    else:
        raise SourceError(
            "the model has not seen any input, so its shapes are not known",
            hint="give an example: mlopsc.import_model(model, 'm.mlb', example=array)",
        )
    unique = [readable(name) for name in names]
    unique = [n if unique.count(n) == 1 else f"{n}_{k}" for k, n in enumerate(unique)]
    tensors = [Tensor(n, "", t, s) for n, t, s in zip(unique, types, shapes, strict=True)]
    return structure, tuple(tensors)


def _output_names(model: Any) -> list[str]:
    """Return what a model calls its outputs: keys of a dict, or the layers that give them."""
    graph = getattr(model, "_functional", None) or model
    structure = getattr(graph, "_outputs_struct", None)
    names = getattr(graph, "output_names", None) or []
    if isinstance(structure, dict) and len(structure) == len(names):
        names = sorted(structure)
    unique = [readable(str(name)) for name in names]
    return [n if unique.count(n) == 1 else f"{n}_{k}" for k, n in enumerate(unique)]
