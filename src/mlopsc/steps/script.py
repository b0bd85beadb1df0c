"""Python functions written with onnxscript: the user's own code, which is executed here.

Runs in a worker process, where the code can harm no more than itself and what its user may do.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any, Final

import onnx

from mlopsc.errors import MissingToolError, SourceError

PRODUCER: Final = "onnxscript"
_MODULE: Final = "mlopsc_script"  # what the user's file is imported as
_HINT: Final = "docs/preprocessing.md has an example"


def script_to_onnx(path: Path, function: str | None) -> bytes:
    """Return the ONNX file of a function in a Python file, of its only one by default.

    Raises:
        MissingToolError: onnxscript is not installed.
        SourceError: The file cannot be executed, or holds no such function.
    """
    try:
        import onnxscript
    except ImportError as error:
        raise MissingToolError(
            f"'{path}' is a Python file, and the Python package 'onnxscript' is not installed",
            hint="install it: pip install mlopsc[onnxscript]",
        ) from error
    found = _choose(path, _execute(path), function, onnxscript.OnnxFunction)
    try:
        model = found.to_model_proto()
    except Exception as error:  # it raises many kinds
        raise _failed(path, f"function '{found.name}' cannot be translated", error) from error
    return _clean(path, found.name, model, str(onnxscript.__version__))


def _execute(path: Path) -> dict[str, Any]:
    """Execute the file and return what it defines."""
    if not path.is_file():
        raise SourceError(
            f"cannot read '{path}': no such file; expected a Python file", hint="check the path"
        )
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(path.parent.resolve()))  # as 'python file.py' does
    spec = importlib.util.spec_from_file_location(_MODULE, path.resolve())
    if spec is None or spec.loader is None:
        raise SourceError(f"'{path}' is not a Python file", hint=_HINT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _failed(path, "it cannot be executed", error) from error
    return vars(module)


def _choose(path: Path, names: dict[str, Any], function: str | None, kind: type[Any]) -> Any:
    """Return the function that is meant."""
    found = {
        name: value
        for name, value in names.items()
        if isinstance(value, kind) and value.function.__module__ == _MODULE
    }
    listed = ", ".join(found) or "none"
    if function is not None:
        if function not in found:
            raise SourceError(
                f"'{path}' has no onnxscript function '{function}'; there are: {listed}",
                hint="decorate it with @script() of onnxscript",
            )
        return found[function]
    if not found:
        raise SourceError(
            f"'{path}' has no onnxscript function; expected one",
            hint="decorate it with @script() of onnxscript",
        )
    if len(found) > 1:
        raise SourceError(
            f"'{path}' has several onnxscript functions: {listed}",
            hint=f"say which: {path}:{next(reversed(found))}",
        )
    return next(iter(found.values()))


def _failed(path: Path, what: str, error: BaseException, hint: str = "") -> SourceError:
    """Return the error, with the line of the user's file that it came from."""
    lines = [
        f.lineno
        for f in traceback.extract_tb(error.__traceback__)
        if Path(f.filename) == path.resolve()
    ]
    line = error.lineno if isinstance(error, SyntaxError) else (lines[-1] if lines else None)
    place = f", line {line}" if line else ""
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return SourceError(
        f"'{path}'{place}: {what}: {type(error).__name__}: {text[:300]}",
        hint=hint or "run it with Python to see where",
    )


def _clean(path: Path, name: str, model: onnx.ModelProto, version: str) -> bytes:
    """Return the model with complete types, and nothing in it but what it computes."""
    for value in model.graph.output:
        if not value.type.tensor_type.elem_type:
            raise SourceError(
                f"'{path}': result '{value.name}' of function '{name}' has no type and shape",
                hint='annotate it: def f(...) -> FLOAT["batch", 3, 224, 224]:',
            )
    for value in model.graph.input:
        if not value.type.tensor_type.elem_type or not value.type.tensor_type.HasField("shape"):
            raise SourceError(
                f"'{path}': input '{value.name}' of function '{name}' has no type and shape",
                hint=f'annotate it: {value.name}: FLOAT["batch", 3, 224, 224]',
            )
    model.producer_name, model.producer_version = PRODUCER, version
    for part in (model, model.graph, *model.functions):
        part.doc_string = ""
        del part.metadata_props[:]
    try:
        onnx.checker.check_model(model)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        del model.graph.value_info[:]
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        hint = "check the types and shapes in its signature, also of the results, after '->'"
        raise _failed(path, f"function '{name}' is not valid", error, hint) from error
    return bytes(model.SerializeToString(deterministic=True))
