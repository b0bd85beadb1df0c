"""Frontend *torch*: ``.pt2`` archives of ``torch.export.save``; Modules and programs in memory.

The way to ONNX is ``torch.onnx.export`` with ``dynamo=True``, which takes the same program that
``torch.export`` makes and that runs here as the original. An archive is cleaned before PyTorch
sees it (``torch_archive``).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlopsc.errors import ConversionError, SourceError
from mlopsc.frontends.base import LoadOptions, Original, type_names, versions_of
from mlopsc.frontends.content import Content
from mlopsc.frontends.libraries import quietly, words
from mlopsc.frontends.torch_archive import MODEL, clean
from mlopsc.frontends.torch_program import Program
from mlopsc.schema.lineage import Framework

TITLE = "PyTorch"
EXTRA = "torch"
MODULES = ("torch", "onnxscript")

_OLD: Final = "serialized_exported_program.json"  # PyTorch 2.1 to 2.7
_AGAIN: Final = "torch.export.save(torch.export.export(model.eval(), example), 'model.pt2')"


def recognise(content: Content) -> str | None:
    """Return what it is: a zip archive with the members of a ``.pt2`` file.

    Raises:
        SourceError: PyTorch before 2.8 wrote it, with pickled weights.
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
    with tempfile.TemporaryDirectory(prefix="mlopsc-pt2-") as folder, quietly():
        copy = Path(folder) / "model.pt2"
        archive = clean(path, copy, _holds_tensors)
        with contextlib.suppress(ImportError):  # registers quantized_decomposed
            importlib.import_module("torch.ao.quantization.fx._decomposed")
        try:
            program = torch.export.load(copy)
        except Exception as error:
            raise SourceError(
                f"'{path}' cannot be read by PyTorch {torch.__version__}: {words(error)}",
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
        with quietly(), torch.no_grad():
            program = torch.export.export(module, args, kwargs, strict=False)
    except Exception as error:
        raise ConversionError(
            f"torch.export of {versions_of('torch')} fails on {name}: {words(error)}",
            hint="check that the model runs on the example; torch.export cannot follow Python "
            "that depends on values of tensors, and torch.export.draft_export says where it is",
        ) from error
    finally:
        for part in training:
            part.training = True
    made = Program(program, name, (args, kwargs))
    made.frameworks = (Framework(name="torch", version=torch.__version__),)
    return made


def _tensors(value: Any) -> Any:
    """Return ``value`` with tensors of their own: one that is given twice is two inputs."""
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    if isinstance(value, torch.Tensor):
        return value.detach().clone().cpu()
    if isinstance(value, tuple | list):
        return type(value)(_tensors(item) for item in value)
    if isinstance(value, dict):
        return {key: _tensors(item) for key, item in value.items()}
    return value


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
