"""Part of the frontend *torch*: a program of ``torch.export``, on its way to ONNX and run.

A program's graph is what ``torch.onnx.export`` translates, so the original and what is exported
are the same program.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlopsc.drawing import draw_array
from mlopsc.errors import ConversionError, SourceError
from mlopsc.frontends.base import (
    Array,
    CannotRun,
    Exported,
    LoadOptions,
    Original,
    RawInput,
    versions_of,
)
from mlopsc.frontends.libraries import quietly, words
from mlopsc.schema.export import MODEL_FILE

_OPSET: Final = 20
# Operators that behave otherwise in training, and the argument that says so.
_TRAINING: Final = {
    "aten.dropout": "train",
    "aten.native_dropout": "train",
    "aten.feature_dropout": "train",
    "aten.alpha_dropout": "train",
    "aten.batch_norm": "training",
    "aten.native_batch_norm": "training",
    "aten._native_batch_norm_legit": "training",
    "aten.rrelu": "training",
}


class Program(Original):
    """A ``torch.export.ExportedProgram``."""

    def __init__(self, program: Any, name: str, example: Any) -> None:
        """Take a program.

        Raises:
            SourceError: It was exported in training mode.
        """
        self.version = versions_of("torch")
        self._program, self._name = program, name
        self._example = example
        _refuse_training(program, name)

    def export(self, folder: Path, options: LoadOptions) -> Exported:
        """See ``Original.export``."""
        import onnx
        import torch

        del options
        converter = versions_of("torch", "onnxscript")
        path = folder / MODEL_FILE
        with quietly(), torch.no_grad():
            try:
                torch.onnx.export(
                    self._program, (), path, dynamo=True, external_data=False, verbose=False,
                    opset_version=_OPSET, input_names=_input_names(self._program),
                    output_names=_output_names(self._program),
                )  # fmt: skip
            except Exception as error:
                raise ConversionError(
                    f"torch.onnx.export ({converter}) fails on '{self._name}': {_cause(error)}",
                    hint="replace the operator in the model; https://pytorch.org/docs/stable/"
                    "onnx_export.html lists what is exported",
                ) from error
        proto = onnx.load(path)
        _name_batch(proto.graph)
        path.write_bytes(proto.SerializeToString())
        self._outputs = [value.name for value in proto.graph.output]
        notes = tuple(
            f"'{name}' is changed by forward; the package begins with the same value in each call"
            for name in _changed_buffers(self._program)
        )
        return Exported(path, converter=converter, notes=notes)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Original.run``."""
        import torch
        from torch.utils import _pytree as pytree

        # Names of tensors, and the values of what is no tensor, which are constants in the graph.
        names = self._program.graph_signature.user_inputs
        leaves = [_as_tensor(inputs[name]) if name in inputs else name for name in names]
        missing = set(inputs) - {name for name in names if isinstance(name, str)}
        if missing:
            raise CannotRun(f"the graph has inputs that the program has not: {sorted(missing)}")
        args, kwargs = pytree.tree_unflatten(leaves, self._program.call_spec.in_spec)
        with quietly(), torch.no_grad():
            try:
                answer = self._module()(*args, **kwargs)
            except Exception as error:  # whatever its operators raise
                raise CannotRun(f"{self.version} cannot run it: {words(error)}") from error
        tensors = [t for t in pytree.tree_leaves(answer) if isinstance(t, torch.Tensor)]
        if len(tensors) != len(self._outputs):
            raise CannotRun(
                f"the program gives {len(tensors)} tensors, the graph {len(self._outputs)}"
            )
        return {n: _as_array(t) for n, t in zip(self._outputs, tensors, strict=True)}

    def draw(
        self, rng: np.random.Generator, inputs: Sequence[RawInput], *, last: bool
    ) -> dict[str, Array]:
        """Draw integers from the range of the example inputs: they may be places in a table."""
        ranges = self._ranges()
        drawn = {}
        for spec in inputs:
            kind = np.dtype(spec.dtype)
            if kind.kind in "iu" and spec.name in ranges:
                low, high = ranges[spec.name]
                drawn[spec.name] = rng.integers(low, high, spec.shape, endpoint=True).astype(kind)
            else:
                drawn[spec.name] = draw_array(rng, spec.dtype, spec.shape, last=last)
        return drawn

    def _module(self) -> Any:
        """Return what runs the program; buffers that it changes are as in the file again."""
        if _changed_buffers(self._program):
            return copy.deepcopy(self._program).module()
        if not hasattr(self, "_runs"):
            self._runs = self._program.module()
        return self._runs

    def _ranges(self) -> dict[str, tuple[int, int]]:
        """Return the least and the largest integer of each input of the example."""
        import torch
        from torch.utils import _pytree as pytree

        leaves = pytree.tree_leaves(self._example)
        names = self._program.graph_signature.user_inputs
        if len(leaves) != len(names):
            return {}
        return {
            name: (int(leaf.min()), int(leaf.max()))
            for name, leaf in zip(names, leaves, strict=True)
            if isinstance(leaf, torch.Tensor)
            and leaf.numel()
            and leaf.dtype not in (torch.bool, torch.uint8, torch.int8)
            and not leaf.is_floating_point()
            and not leaf.is_complex()
        }


def _refuse_training(program: Any, name: str) -> None:
    """Refuse a program whose model was in training mode.

    Raises:
        SourceError: It was.
    """
    for node in program.graph.nodes:
        argument = _TRAINING.get(str(node.target).rpartition(".")[0])
        if argument is None:
            continue
        names = [a.name for a in node.target._schema.arguments]
        place = names.index(argument) if argument in names else None
        value = node.kwargs.get(argument)
        if value is None and place is not None and place < len(node.args):
            value = node.args[place]
        if value is True:
            raise SourceError(
                f"'{name}' was exported in training mode: {node.name} is {node.target} with "
                f"{argument}=True; expected a model for inference",
                hint="call model.eval() before torch.export.export",
            )


def _input_names(program: Any) -> list[str]:
    """Return the names of the inputs that are tensors, as the arguments of ``forward``."""
    specs = program.graph_signature.input_specs
    inputs = [spec.arg for spec in specs if spec.kind.name == "USER_INPUT"]
    return [arg.name for arg in inputs if type(arg).__name__ == "TensorArgument"]


def _changed_buffers(program: Any) -> list[str]:
    """Return the buffers that ``forward`` writes to, itself or a view of them."""
    signature = program.graph_signature
    known = dict(signature.inputs_to_buffers)
    found = set(signature.buffers_to_mutate.values())
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        first = getattr(node.args[0], "name", None) if node.args else None
        if schema is None or first not in known:
            continue
        aliases = [value.alias_info for value in schema.returns]
        if aliases and aliases[0] is not None:
            known[node.name] = known[first]
            if aliases[0].is_write:
                found.add(known[first])
    return sorted(found)


def _output_names(program: Any) -> list[str]:
    """Return names for the outputs: their keys and places in what ``forward`` returns.

    A program's own are those of the operators that come last, such as ``linear_9``.
    """
    from torch.utils import _pytree as pytree

    signature = program.graph_signature
    leaves = signature.user_outputs
    taken = {name for name in signature.user_inputs if isinstance(name, str)}
    names = []
    paths, _ = pytree.tree_flatten_with_path(
        pytree.tree_unflatten(list(leaves), program.call_spec.out_spec)
    )
    for path, leaf in paths:
        if not isinstance(leaf, str):
            continue
        keys = [str(getattr(key, "key", getattr(key, "idx", ""))) for key in path]
        if not keys or keys[0].isdigit():
            keys.insert(0, "output")
        name = re.sub(r"\W", "_", "_".join(keys))
        while name in taken:
            name += "_out"
        taken.add(name)
        names.append(name)
    return names


def _name_batch(graph: Any) -> None:
    """Call the open first dimension of the inputs ``batch``; a file knows it as ``s31``."""
    firsts = [value.type.tensor_type.shape.dim for value in graph.input]
    names = {dims[0].dim_param for dims in firsts if len(dims) and dims[0].dim_param}
    every = [
        dim
        for value in (*graph.input, *graph.output, *graph.value_info)
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    ]
    if len(names) != 1 or any(dim.dim_param == "batch" for dim in every):
        return
    old = re.compile(rf"\b{re.escape(names.pop())}\b")
    for dim in every:
        dim.dim_param = old.sub("batch", dim.dim_param)


def _as_tensor(array: Array) -> Any:
    import torch

    if array.dtype.name == "bfloat16":  # of ml_dtypes, which PyTorch does not know
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def _as_array(tensor: Any) -> Array:
    import torch

    tensor = tensor.detach().cpu()
    narrow = tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64)
    return np.asarray((tensor.float() if narrow else tensor).contiguous().numpy())


def _cause(error: BaseException) -> str:
    """Return the last cause of an error of ``torch.onnx``, with the operator if it names one."""
    text, operator = "", ""
    found: BaseException | None = error
    while found is not None:
        text = words(found)
        named = re.search(r"(aten|prims|quantized_decomposed|higher_order|_operator)[.:]+\w+", text)
        operator = operator or (named.group(0) if named else "")
        found = found.__cause__
    return f"operator {operator}: {text}" if operator and operator not in text else text
