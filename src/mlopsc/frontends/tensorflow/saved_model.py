"""Reads SavedModel folders of any TensorFlow, without reviving the objects they describe.

As TensorFlow Serving does: the graph of one signature, its variables restored by the graph itself.
``tf.saved_model.load`` rebuilds Python objects first, and fails on optimizers of Keras 2. Only what
the signature, the restoring and the initialisation of tables need is ever loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlopsc.errors import SourceError
from mlopsc.frontends.base import Array
from mlopsc.frontends.tensorflow.graph import (
    FrozenGraph,
    Tensor,
    dtype_name,
    node_of,
    prune,
    sizes_of,
)
from mlopsc.frontends.tensorflow.library import import_tensorflow
from mlopsc.frontends.tensorflow.operators import (
    check_operators,
    check_restore,
    refuse_state,
)

FILE: Final = "saved_model.pb"
_INIT: Final = "__saved_model_init_op"
_TRAIN: Final = "__saved_model_train_op"
_DEFAULT: Final = "serving_default"
_SERVE: Final = "serve"


@dataclass(frozen=True)
class SavedModel:
    """A SavedModel's graph for serving.

    Attributes:
        folder: Where it lies.
        meta_graph: TensorFlow's ``MetaGraphDef``.
    """

    folder: Path
    meta_graph: Any

    @property
    def tensorflow(self) -> str:
        """The version of TensorFlow that wrote it; may be empty."""
        return str(self.meta_graph.meta_info_def.tensorflow_version)

    @property
    def signatures(self) -> dict[str, Any]:
        """The signatures that give something, by name."""
        return {
            name: signature
            for name, signature in sorted(self.meta_graph.signature_def.items())
            if name not in (_INIT, _TRAIN) and signature.outputs
        }


def read(folder: Path) -> SavedModel:
    """Read ``saved_model.pb``.

    Raises:
        SourceError: It is damaged, or holds no graph for serving.
    """
    import_tensorflow()
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        model = saved_model_pb2.SavedModel.FromString((folder / FILE).read_bytes())
    except (DecodeError, OSError, ValueError) as error:
        raise SourceError(
            f"'{folder / FILE}' cannot be read as a SavedModel: {str(error)[:200]}"
        ) from error
    graphs = list(model.meta_graphs)
    serving = [graph for graph in graphs if _SERVE in graph.meta_info_def.tags] or graphs[:1]
    if not serving:
        raise SourceError(f"'{folder / FILE}' holds no graph; expected one with the tag 'serve'")
    return SavedModel(folder, serving[0])


def choose_signature(model: SavedModel, wanted: str | None) -> str:
    """Return the name of the signature that is meant: the only one, or TensorFlow's default.

    Raises:
        SourceError: There is none of that name, or several and no default.
    """
    names = list(model.signatures)
    if not names:
        raise SourceError(
            f"'{model.folder}' has no signatures; expected at least one",
            hint="save it with signatures: tf.saved_model.save(model, folder, "
            "signatures=model.call.get_concrete_function(...)), or model.export(folder)",
        )
    if wanted is None:
        if len(names) > 1 and _DEFAULT not in names:
            raise SourceError(
                f"'{model.folder}' has {len(names)} signatures: {', '.join(names)}; expected to be "
                "told which",
                hint=f"choose one: --signature {names[0]}",
            )
        return names[0] if len(names) == 1 else _DEFAULT
    if wanted not in names:
        raise SourceError(
            f"'{model.folder}' has no signature '{wanted}'; it has: {', '.join(names)}"
        )
    return wanted


class Serving:
    """One signature of a SavedModel, with its variables, in a session.

    Attributes:
        inputs: Sorted by name: a signature has no order.
        outputs: Sorted by name.
    """

    def __init__(self, model: SavedModel, signature: str) -> None:
        """Load the signature.

        Raises:
            SourceError: Graph or variables are damaged.
            UnsafeSourceError: The graph does more than compute.
        """
        tf = import_tensorflow()
        self._source = f"'{model.folder}'"
        chosen = model.signatures[signature]
        graph_def = model.meta_graph.graph_def
        self.inputs = _tensors(chosen.inputs, model)
        self.outputs = _tensors(chosen.outputs, model)
        ends = [t.place for t in (*self.outputs, *self.inputs)]
        restore, start = _restore_of(model), _start_of(model)
        check_operators(prune(graph_def, ends), self._source)
        refuse_state(prune(graph_def, ends), self._source)
        check_operators(prune(graph_def, start), self._source)
        restoring = prune(graph_def, restore)
        check_operators(restoring, self._source, restores=True)
        check_restore(restoring, model.meta_graph.saver_def.filename_tensor_name, self._source)
        self._graph_def = prune(graph_def, [*ends, *restore, *start])
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with self._session.graph.as_default():
                tf.graph_util.import_graph_def(
                    self._graph_def,
                    name="",
                    producer_op_list=model.meta_graph.meta_info_def.stripped_op_list,
                )
            self._restore(model, restore)
            for operation in start:
                self._session.run(operation)
        except (ValueError, TypeError, KeyError, tf.errors.OpError) as error:
            text = " ".join(str(error).split())
            raise SourceError(
                f"{self._source} is damaged: {type(error).__name__}: {text[:300]}"
            ) from error

    def _restore(self, model: SavedModel, operations: Sequence[str]) -> None:
        prefix = model.folder / "variables" / "variables"
        if not operations:
            return
        if not prefix.with_suffix(".index").is_file():
            held = {node.op for node in self._graph_def.node}
            if held & {"VarHandleOp", "Variable", "VariableV2"}:
                raise SourceError(f"{self._source} has no file 'variables/variables.index'")
            return
        feed = {model.meta_graph.saver_def.filename_tensor_name: str(prefix)}
        self._session.run(operations, feed)

    def freeze(self) -> FrozenGraph:
        """Return the graph with its variables as constants."""
        from tensorflow.python.framework import convert_to_constants

        ends = [node_of(tensor.place) for tensor in (*self.outputs, *self.inputs)]
        graph = self._session.graph
        graph_def = prune(graph.as_graph_def(), ends)
        self._add_reads(graph_def)
        frozen = convert_to_constants.convert_variables_to_constants_from_session_graph(
            self._session, graph_def, ends
        )
        return FrozenGraph(prune(frozen, ends), self.inputs, self.outputs)

    def _add_reads(self, graph_def: Any) -> None:
        """Add the nodes by which TensorFlow reads variables when it freezes a graph."""
        tf = import_tensorflow()
        graph = self._session.graph
        present = {operation.name for operation in graph.get_operations()}
        with graph.as_default():
            for node in graph_def.node:
                read = f"{node.name}/Read/ReadVariableOp"
                if node.op == "VarHandleOp" and read not in present:
                    handle = graph.get_tensor_by_name(f"{node.name}:0")
                    kind = tf.as_dtype(node.attr["dtype"].type)
                    with tf.name_scope(f"{node.name}/Read/"):
                        tf.raw_ops.ReadVariableOp(resource=handle, dtype=kind)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs."""
        feed = {tensor.place: inputs[tensor.name] for tensor in self.inputs}
        values = self._session.run([tensor.place for tensor in self.outputs], feed)
        return {tensor.name: value for tensor, value in zip(self.outputs, values, strict=True)}


def _tensors(infos: Mapping[str, Any], model: SavedModel) -> tuple[Tensor, ...]:
    tf = import_tensorflow()
    found = []
    for name, info in sorted(infos.items()):
        if info.WhichOneof("encoding") != "name":
            raise SourceError(
                f"'{name}' of '{model.folder}' is sparse or composite; expected a plain tensor"
            )
        shape = sizes_of(tf.TensorShape(info.tensor_shape))
        found.append(Tensor(name, info.name, dtype_name(tf.as_dtype(info.dtype)), shape))
    return tuple(found)


def _restore_of(model: SavedModel) -> list[str]:
    name = model.meta_graph.saver_def.restore_op_name
    return [name] if name else []


def _start_of(model: SavedModel) -> list[str]:
    """Return the operations that fill tables."""
    meta = model.meta_graph
    if _INIT in meta.signature_def:
        return [info.name for info in meta.signature_def[_INIT].outputs.values()]
    for key in ("saved_model_main_op", "legacy_init_op"):
        if key in meta.collection_def:
            return list(meta.collection_def[key].node_list.value)
    return []
