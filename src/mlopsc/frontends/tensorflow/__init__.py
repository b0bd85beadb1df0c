"""Frontend *tensorflow*: SavedModel folders of any version, frozen graphs, functions in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlopsc.errors import SourceError
from mlopsc.frontends.base import (
    Array,
    Exported,
    LoadOptions,
    Original,
    RawInput,
    type_names,
    versions_of,
)
from mlopsc.frontends.content import Content, varint
from mlopsc.frontends.tensorflow import frozen, saved_model
from mlopsc.frontends.tensorflow.convert import CONVERTER, to_onnx
from mlopsc.frontends.tensorflow.function import Function, function_of
from mlopsc.frontends.tensorflow.graph import FrozenGraph
from mlopsc.frontends.tensorflow.indices import draw_indices, index_limits
from mlopsc.schema.export import MODEL_FILE
from mlopsc.schema.lineage import Framework

TITLE = "TensorFlow"
EXTRA = "tensorflow"
MODULES = ("tensorflow", "tf2onnx")
_NAME: Final = "TensorFlow"
_FUNCTIONS: Final = frozenset(
    {
        "tensorflow.python.eager.polymorphic_function.concrete_function.ConcreteFunction",
        "tensorflow.python.eager.polymorphic_function.polymorphic_function.Function",
        "tensorflow.python.module.module.Module",
        "tensorflow.python.types.core.ConcreteFunction",
    }
)


def recognise(content: Content) -> str | None:
    """Return what it is: a folder with ``saved_model.pb``, or protobuf fields of a ``GraphDef``.

    Raises:
        SourceError: It is a file of a SavedModel, which is a folder.
    """
    if content.is_folder:
        return "TensorFlow SavedModel" if saved_model.FILE in content.files else None
    if content.path.name == saved_model.FILE or _is_saved_model(content.head):
        raise SourceError(
            f"'{content.path}' is the graph of a SavedModel, without its variables; expected the "
            "folder",
            hint=f"import the folder that it lies in: mlopsc import {content.path.parent}",
        )
    return "TensorFlow frozen graph" if _is_graph(content.head) else None


def load(path: Path, options: LoadOptions) -> Original:
    """Load a SavedModel or a frozen graph.

    Raises:
        SourceError: It is damaged, or has no such signature.
        UnsafeSourceError: Its graph does more than compute.
    """
    if path.is_dir():
        return _Served(saved_model.read(path), options.signature)
    return _Frozen(frozen.read(path, options.signature), f"'{path}'")


def wrap(model: object, example: object, options: LoadOptions) -> Original | None:
    """Return a ``tf.function``, ``tf.Module`` or concrete function that is in memory.

    ``example`` is a tensor or array, or a tuple of them; a concrete function needs none.
    """
    del options
    kinds = type_names(model)
    if not kinds & _FUNCTIONS or any(kind.startswith("keras.") for kind in kinds):
        return None
    return _Called(function_of(model, example))


class _Graph(Original):
    """What is run as a graph: inputs that look things up are drawn in range."""

    _limits: Mapping[str, int] = {}

    def draw(
        self, rng: np.random.Generator, inputs: Sequence[RawInput], *, last: bool
    ) -> dict[str, Array]:
        """See ``Original.draw``."""
        return draw_indices(rng, super().draw(rng, inputs, last=last), self._limits)

    def _convert(self, graph: FrozenGraph, folder: Path, options: LoadOptions, source: str) -> Path:
        path = folder / MODEL_FILE
        self.tolerance = to_onnx(graph, options.bind, path, source)
        self._limits = index_limits(path)
        return path


class _Served(_Graph):
    """One signature of a SavedModel."""

    def __init__(self, model: saved_model.SavedModel, signature: str | None) -> None:
        name = saved_model.choose_signature(model, signature)
        self.version = _version()
        if model.tensorflow:
            self.written_by = f"{_NAME} {model.tensorflow}"
            self.frameworks = (Framework(name=_NAME, version=model.tensorflow),)
        self.configuration = {"signatures": list(model.signatures), "signature": name}
        self.configuration |= training_of(model.meta_graph)
        self._serving = saved_model.Serving(model, name)
        self._source = f"'{model.folder}'"
        self._others = [other for other in model.signatures if other != name]
        self._name = name

    def export(self, folder: Path, options: LoadOptions) -> Exported:
        """See ``Original.export``."""
        path = self._convert(self._serving.freeze(), folder, options, self._source)
        notes: tuple[str, ...] = ()
        if self._others:
            notes = (
                f"Of the signatures, only '{self._name}' was taken, not {', '.join(self._others)}.",
            )
        return Exported(path, notes=notes, converter=versions_of(CONVERTER))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Original.run``."""
        return self._serving.run(inputs)


class _Frozen(_Graph):
    """A frozen graph."""

    def __init__(self, graph: FrozenGraph, source: str) -> None:
        self.version = _version()
        self._graph, self._source = graph, source
        self._running = frozen.Running(graph)

    def export(self, folder: Path, options: LoadOptions) -> Exported:
        """See ``Original.export``."""
        path = self._convert(self._graph, folder, options, self._source)
        return Exported(path, converter=versions_of(CONVERTER))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Original.run``."""
        return self._running.run(inputs)


class _Called(_Graph):
    """A function in memory."""

    def __init__(self, function: Function) -> None:
        self.version = _version()
        self._function = function

    def export(self, folder: Path, options: LoadOptions) -> Exported:
        """See ``Original.export``."""
        path = self._convert(self._function.freeze(), folder, options, "the function")
        return Exported(path, converter=versions_of(CONVERTER))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Original.run``."""
        return self._function.run(inputs)


def training_of(meta_graph: Any) -> dict[str, Any]:
    """Return what Keras 2 has stored of the training: optimizer, loss, metrics."""
    import json

    for node in meta_graph.object_graph_def.nodes[:1]:
        if node.WhichOneof("kind") != "user_object" or not node.user_object.metadata:
            continue
        try:
            stored = json.loads(node.user_object.metadata)
        except (ValueError, RecursionError):
            return {}
        found = stored.get("training_config") if isinstance(stored, dict) else None
        return {"training": found} if isinstance(found, dict) else {}
    return {}


def _version() -> str:
    from mlopsc.frontends.tensorflow.library import import_tensorflow

    return f"{_NAME} {import_tensorflow().__version__}"


def _is_saved_model(head: bytes) -> bool:
    """Whether ``head`` begins like a SavedModel: schema version 1, and a graph with information."""
    if not head.startswith(b"\x08\x01\x12"):
        return False
    size, place = varint(head, 3)
    return size > 256 and head[place : place + 1] == b"\x0a"


def _is_graph(head: bytes) -> bool:
    """Whether ``head`` begins like a ``GraphDef``: a node with a name and an operator."""
    if head[:1] != b"\x0a":
        return False
    size, place = varint(head, 1)
    length, start = varint(head, place + 1)
    if head[place : place + 1] != b"\x0a" or not 0 < length < size:
        return False
    operator = start + length
    if head[operator : operator + 1] != b"\x12":
        return False
    length, start = varint(head, operator + 1)
    name = head[start : start + length]
    return 0 < length < 128 and name.replace(b"_", b"").isalnum()
