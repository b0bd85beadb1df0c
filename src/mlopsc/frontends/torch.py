"""Frontend *torch*: ``.pt2`` archives of ``torch.export.save``; Modules and programs in memory.

The way to ONNX is ``torch.onnx.export`` with ``dynamo=True``, which takes the same program that
``torch.export`` makes and that runs here as the original. An archive is cleaned before PyTorch
sees it (``torch_archive``).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
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
    type_names,
    versions_of,
)
from mlopsc.frontends.content import Content
from mlopsc.frontends.torch_archive import MODEL, clean
from mlopsc.schema.export import MODEL_FILE
from mlopsc.schema.lineage import Framework

TITLE = "PyTorch"
EXTRA = "torch"
MODULES = ("torch", "onnxscript")

_OLD: Final = "serialized_exported_program.json"  # PyTorch 2.1 to 2.7
_AGAIN: Final = "torch.export.save(torch.export.export(model.eval(), example), 'model.pt2')"
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


def recognise(content: Content) -> str | None:
    """Return what it is: a zip archive with the members of a ``.pt2`` file.

    Raises:
        SourceError: PyTorch before 2.8 wrote it, or it is a TensorFlow-like dead end of PyTorch.
    """
    names = [name.partition("/")[2] for name in content.members]
    if _OLD in content.members:
        raise SourceError(
            f"'{content.path}' is a .pt2 file of PyTorch before 2.8, whose weights are pickled; "
            "expected one of PyTorch 2.8 or later",
            hint=f"load it with that PyTorch and save it with a newer one: {_AGAIN}",
        )
    if MODEL in names:
        return "PyTorch program (.pt2)"
    if "archive_format" in names and any(n.startswith(("models/", "data/")) for n in names):
        return "PyTorch archive (.pt2)"
    return None


def load(path: Path, options: LoadOptions) -> Original:
    """Load a ``.pt2`` archive.

    Raises:
        SourceError: It is damaged, or a model in training mode.
        UnsafeSourceError: It holds code or pickled objects.
    """
    import torch

    del options
    with tempfile.TemporaryDirectory(prefix="mlopsc-pt2-") as folder, _quietly():
        copy = Path(folder) / "model.pt2"
        archive = clean(path, copy, _holds_tensors)
        with contextlib.suppress(ImportError):  # registers quantized_decomposed
            importlib.import_module("torch.ao.quantization.fx._decomposed")
        try:
            program = torch.export.load(copy)
        except Exception as error:
            raise SourceError(
                f"'{path}' cannot be read by PyTorch {torch.__version__}: {_words(error)}",
                hint=f"save it again: {_AGAIN}",
            ) from error
    made = Program(program, path.name, _example_of(archive.sample))
    if archive.version:
        made.written_by = f"torch {archive.version}"
        made.frameworks = (Framework(name="torch", version=archive.version),)
    if archive.extra:
        made.configuration = {"extra_files": dict(archive.extra)}
    return made


def wrap(model: object, example: object, options: LoadOptions) -> Original | None:
    """Return a Module or an ``ExportedProgram`` that is in memory.

    Args:
        model: The model.
        example: Inputs of a Module: a tensor or array, a tuple of them, or a dict of them by the
            names of ``forward``'s arguments. Their sizes become those of the package. Programs
            need none.
        options: Not used.
    """
    del options
    kinds = type_names(model)
    if "torch.export.exported_program.ExportedProgram" in kinds:
        return Program(model, "the program", getattr(model, "example_inputs", None))
    if kinds & {"torch.jit._script.ScriptModule", "torch.jit._script.RecursiveScriptModule"}:
        raise SourceError(
            f"a {type(model).__name__} is TorchScript; expected a torch.nn.Module",
            hint="give the Module that was scripted or traced",
        )
    if "torch.nn.modules.module.Module" not in kinds:
        return None
    return _export_module(model, example)


def _export_module(module: Any, example: object) -> Program:
    import torch

    name = type(module).__name__
    if example is None:
        raise SourceError(
            f"{name} is a torch.nn.Module, which does not know the sizes of its inputs; expected "
            "example inputs",
            hint="example=torch.zeros(1, ...), or a tuple or a dict of tensors for several inputs",
        )
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(example, Mapping):
        kwargs = {str(key): _tensors(value) for key, value in example.items()}
    elif isinstance(example, tuple | list):
        args = tuple(_tensors(value) for value in example)
    else:
        args = (_tensors(example),)
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with _quietly(), torch.no_grad():
            program = torch.export.export(module, args, kwargs, strict=False)
    except Exception as error:
        raise ConversionError(
            f"torch.export of {versions_of('torch')} fails on {name}: {_words(error)}",
            hint="torch.export cannot follow Python that depends on values of tensors; "
            "torch.export.draft_export(model, example) says where",
        ) from error
    finally:
        for part in training:
            part.training = True
    made = Program(program, name, (args, kwargs))
    made.frameworks = (Framework(name="torch", version=torch.__version__),)
    return made


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
        with _quietly(), torch.no_grad():
            try:
                torch.onnx.export(
                    self._program, (), path, dynamo=True, external_data=False, verbose=False,
                    opset_version=_OPSET, output_names=_output_names(self._program),
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
        return Exported(path, converter=converter)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Original.run``."""
        import torch
        from torch.utils import _pytree as pytree

        # Names of tensors, and the values of what is no tensor, which are constants in the graph.
        names = self._program.graph_signature.user_inputs
        leaves = [
            torch.from_numpy(np.array(inputs[name])) if name in inputs else name for name in names
        ]
        missing = set(inputs) - {name for name in names if isinstance(name, str)}
        if missing:
            raise CannotRun(f"the graph has inputs that the program has not: {sorted(missing)}")
        args, kwargs = pytree.tree_unflatten(leaves, self._program.call_spec.in_spec)
        with _quietly(), torch.no_grad():
            try:
                answer = self._module()(*args, **kwargs)
            except (AssertionError, RuntimeError) as error:
                raise CannotRun(f"{self.version} cannot run it: {_words(error)}") from error
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


def _tensors(value: Any) -> Any:
    """Return ``value`` with its NumPy arrays as tensors."""
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    if isinstance(value, tuple | list):
        return type(value)(_tensors(item) for item in value)
    if isinstance(value, dict):
        return {key: _tensors(item) for key, item in value.items()}
    return value


def _as_array(tensor: Any) -> Array:
    import torch

    tensor = tensor.detach().cpu()
    narrow = tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64)
    return np.asarray((tensor.float() if narrow else tensor).contiguous().numpy())


def _holds_tensors(data: bytes) -> bool:
    """Whether a pickle can be read by ``torch.load`` without code."""
    return _load_tensors(data) is not None


def _load_tensors(data: bytes) -> Any:
    import torch

    try:
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception:
        return None


def _example_of(sample: bytes) -> Any:
    return _load_tensors(sample) if sample else None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep what PyTorch and onnxscript tell of their own affairs from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _cause(error: BaseException) -> str:
    """Return the last cause of an error of ``torch.onnx``, with the operator if it names one."""
    text, operator = "", ""
    found: BaseException | None = error
    while found is not None:
        text = _words(found)
        named = re.search(r"(aten|prims|quantized_decomposed|higher_order|_operator)[.:]+\w+", text)
        operator = operator or (named.group(0) if named else "")
        found = found.__cause__
    return f"operator {operator}: {text}" if operator and operator not in text else text


def _words(error: BaseException) -> str:
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    return f"{type(error).__name__}: {text[:400]}"
