"""Stage *frontend*: a framework's model → ONNX files, with what the framework itself computes.

Takes a file, a folder or, from Python, a model in memory; ``recognise`` says what a path holds, by
its content. Gives ONNX files and an ``Original`` that runs. Always holds: nothing a file brings
along is executed; what cannot be read without doing so is refused. See ``docs/frontends.md``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from mlopsc.errors import SourceError
from mlopsc.frontends import refused
from mlopsc.frontends.base import (
    CannotRun,
    Exported,
    Frontend,
    LoadOptions,
    Original,
    RawInput,
    require_modules,
)
from mlopsc.frontends.content import Content, look_at

__all__ = [
    "FRONTENDS",
    "ONNX",
    "CannotRun",
    "Content",
    "Exported",
    "Found",
    "Frontend",
    "LoadOptions",
    "Original",
    "RawInput",
    "frontend",
    "recognise",
    "require_modules",
    "wrap",
]

ONNX: Final = "onnx"
# In the order in which they are asked: what has a signature of its own before what has none.
FRONTENDS: Final = {
    "tflite": "mlopsc.frontends.tflite",
    # Before scikit-learn: their estimators are its, too.
    "xgboost": "mlopsc.frontends.xgboost",
    "lightgbm": "mlopsc.frontends.lightgbm",
    "catboost": "mlopsc.frontends.catboost",
    "sklearn": "mlopsc.frontends.sklearn",
    "torch": "mlopsc.frontends.torch",
    "keras": "mlopsc.frontends.keras",
    "tensorflow": "mlopsc.frontends.tensorflow",
    "pmml": "mlopsc.frontends.pmml",
    ONNX: "mlopsc.frontends.onnx",
    # Takes any function, so it is asked last.
    "jax": "mlopsc.frontends.jax",
}
_NO_FILES: Final = ("jax",)
_NOT_IN_MEMORY: Final = ("tflite", "pmml", ONNX)


@dataclass(frozen=True)
class Found:
    """What a source is.

    Attributes:
        framework: A key of ``FRONTENDS``.
        what: In words.
    """

    framework: str
    what: str


def frontend(name: str) -> Frontend:
    """Return the frontend called ``name``; its framework is not imported."""
    return cast(Frontend, importlib.import_module(FRONTENDS[name]))


def recognise(path: Path) -> Found:
    """Say what ``path`` holds, by its content.

    Raises:
        SourceError: It cannot be read, or is nothing that any frontend knows.
        UnsafeSourceError: It is of a kind that runs code when it is loaded.
    """
    content = look_at(path)
    refused.check(content)
    for name in FRONTENDS:
        what = frontend(name).recognise(content)
        if what is not None:
            return Found(name, what)
    raise SourceError(
        f"'{path}' is nothing that a frontend recognises: {content.describe()}; expected a model "
        f"of {_titles_without(_NO_FILES)}",
        hint="docs/frontends.md says how to export each framework's models",
    )


def wrap(model: object, example: object, options: LoadOptions) -> tuple[str, Original]:
    """Return the frontend of a model that is in memory, and the model.

    Raises:
        SourceError: It is of no framework that is known.
    """
    for name in FRONTENDS:
        original = frontend(name).wrap(model, example, options)
        if original is not None:
            return name, original
    kind = type(model)
    raise SourceError(
        f"a {kind.__module__}.{kind.__qualname__} is no model that a frontend knows; expected a "
        f"path or a model of {_titles_without(_NOT_IN_MEMORY)}",
        hint="docs/frontends.md says which objects can be imported",
    )


def _titles_without(names: tuple[str, ...]) -> str:
    return ", ".join(frontend(name).TITLE for name in FRONTENDS if name not in names)
