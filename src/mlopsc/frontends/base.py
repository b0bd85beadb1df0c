"""What every frontend gives: recognise, load safely, export to ONNX, run the original.

A frontend is one module with the attributes of ``Frontend``. It imports its framework only inside
``load``, ``wrap`` and the methods of what they return: recognition needs no framework.
"""

from __future__ import annotations

import abc
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mlopsc.drawing import draw_array
from mlopsc.errors import MissingToolError
from mlopsc.frontends.content import Content
from mlopsc.schema.lineage import Framework

Array = np.ndarray[Any, Any]


class CannotRun(Exception):  # noqa: N818 - it is recorded, not shown as an error
    """The original cannot be run here; the text says why, for the manifest."""


@dataclass(frozen=True)
class LoadOptions:
    """What a user may say about loading and exporting.

    Attributes:
        split: Whether preprocessing found at the head of the model becomes a stage of its own.
        signature: Which signature or function of a source that holds several, or None.
        trust: Types, by full name, that a source may hold although nobody vouches for them.
        bind: Sizes of symbolic dimensions, as ``--bind`` gives them.
    """

    split: bool = True
    signature: str | None = None
    trust: tuple[str, ...] = ()
    bind: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RawInput:
    """An input of the exported graphs, every dimension bound.

    Attributes:
        name: As in the graph.
        dtype: NumPy's name of the element type, or ``string``.
        shape: For one run.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Exported:
    """ONNX files in the folder that ``Original.export`` was given.

    Attributes:
        model: The model, or what is left of it behind ``preprocess``.
        preprocess: What was found at its head: its outputs are the model's inputs, by name.
        postprocess: What was found at its end: its inputs are the model's outputs, by name.
        preprocessing: What ``preprocess`` does, one phrase each, as the user knows it
            (``StandardScaler of 4 features``).
        postprocessing: The same of ``postprocess``.
        notes: What was not carried over, one sentence each.
        converter: Name and version of the converter (``skl2onnx 1.20.0``).
    """

    model: Path
    preprocess: Path | None = None
    postprocess: Path | None = None
    preprocessing: tuple[str, ...] = ()
    postprocessing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    converter: str = ""


class Original(abc.ABC):
    """A model that is loaded in its framework.

    Attributes:
        version: Name and version of the framework that loaded it.
        written_by: Name and version of what wrote the source, as far as it says.
        frameworks: What took part in the training, as far as the source says.
        configuration: Training configuration that the source holds; JSON values.
        tolerance: How far the bundle may be from this, relative to the largest value of an output,
            where that is not a question of the element type; else None.
    """

    version: str = ""
    written_by: str = ""
    frameworks: tuple[Framework, ...] = ()
    configuration: Mapping[str, Any] = {}
    tolerance: float | None = None

    @abc.abstractmethod
    def export(self, folder: Path, options: LoadOptions) -> Exported:
        """Write ONNX files into ``folder``, which is empty.

        Raises:
            ConversionError: The converter fails; the message has its name, version and operator.
        """

    @abc.abstractmethod
    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute in the framework what the exported graphs compute; called after ``export``.

        Args:
            inputs: By the names of the inputs of the first exported graph, in its types and shapes;
                strings are arrays of ``str``.

        Returns:
            By the names of the outputs of the last exported graph. Strings are arrays of ``str``;
            floats may be wider than in the graph.

        Raises:
            CannotRun: The framework cannot run it, on any input.
        """

    def draw(
        self, rng: np.random.Generator, inputs: Sequence[RawInput], *, last: bool
    ) -> dict[str, Array]:
        """Return random inputs for one run that the model makes sense of.

        Frontends whose models have categories or thresholds draw around those.

        Args:
            rng: Where randomness comes from.
            inputs: The signature.
            last: Whether it is the last of those that become the bundle's vectors; the default
                draws floats in [0, 1) then.
        """
        return {i.name: draw_array(rng, i.dtype, i.shape, last=last) for i in inputs}


class Frontend(Protocol):
    """The attributes of a frontend's module.

    Attributes:
        TITLE: What people call the framework.
        EXTRA: The extra of this distribution that installs what is needed; empty if nothing is.
        MODULES: Python modules that ``load`` and ``export`` need.
    """

    TITLE: str
    EXTRA: str
    MODULES: tuple[str, ...]

    def recognise(self, content: Content) -> str | None:
        """Return what the content is, in words, or None if it is nothing of this framework.

        Reads only what ``content`` gives. Raises ``UnsafeSourceError`` or ``SourceError`` for what
        is of this framework but must not or cannot be read, with the way out.
        """

    def load(self, path: Path, options: LoadOptions) -> Original:
        """Load ``path`` in the framework; no code from the file is run.

        Raises:
            SourceError: It is damaged.
            UnsafeSourceError: It holds code, or types that are not trusted.
        """

    def wrap(self, model: object, example: object, options: LoadOptions) -> Original | None:
        """Return a model that is in memory, or None if it is none of this framework.

        Does not import the framework: a model of it would have.

        Args:
            model: Such as a ``torch.nn.Module`` or an estimator.
            example: Inputs that the model takes; which form, the frontend says.
            options: As for ``load``.
        """


def require_modules(modules: Sequence[str], title: str, extra: str) -> None:
    """Check that a frontend's libraries are installed; imports nothing.

    Raises:
        MissingToolError: One is not.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingToolError(
            f"{title} models need the Python package{'s' if len(missing) > 1 else ''} "
            f"{', '.join(missing)}, not installed here",
            hint=f"install it: pip install 'mlopsc[{extra}]'",
        )


def versions_of(*distributions: str) -> str:
    """Return names and versions of installed distributions, for the record."""
    found = []
    for name in distributions:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(name)
    return " + ".join(found)


def type_names(model: object) -> set[str]:
    """Return the full names of a model's type and all it inherits from."""
    return {f"{kind.__module__}.{kind.__qualname__}" for kind in type(model).__mro__}
