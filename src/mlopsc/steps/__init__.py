"""Stage *steps*: preprocessing and postprocessing in a form people write → one ONNX file.

Takes a list of steps (``.yaml``, ``.yml``, ``.json``) or a Python function written with onnxscript
(``file.py``, ``file.py:function``); gives an ONNX file, the same bytes for the same source. The
import takes that file and knows nothing of how it was written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mlopsc.steps.example import steps_example

__all__ = ["STEPS_SUFFIXES", "is_source", "script_parts", "steps_example"]

STEPS_SUFFIXES: Final = (".yaml", ".yml", ".json")
_PYTHON: Final = ".py"


def is_source(path: Path) -> bool:
    """Whether ``path`` must become an ONNX file first; everything else is one."""
    return path.suffix.lower() in STEPS_SUFFIXES or script_parts(path) is not None


def script_parts(path: Path) -> tuple[Path, str | None] | None:
    """Return the Python file, and the function if one is named; None if it is no Python file."""
    if path.suffix == _PYTHON:
        return path, None
    file, separator, function = str(path).rpartition(":")
    if separator and file.endswith(_PYTHON) and function.isidentifier():
        return Path(file), function
    return None
