"""The matrix of models that frontends are tested with: one table, for the tests and the docs.

Every model is made here, with fixed seeds, or is one of the shared models. ``cases_*.py`` list them
by framework; frameworks are imported inside the functions that make models.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import SHARED_MODELS

import mlopsc
from mlopsc.frontends import frontend
from mlopsc.importer import operators_of
from mlopsc.schema.bundle import FrameworkCheck

HOST = ("host",)
EVERYWHERE = ("host", "cortex-m4f", "wasm32-simd")
MODULES = (
    "cases_torch",
    "cases_keras",
    "cases_tensorflow",
    "cases_tflite",
    "cases_jax",
    "cases_sklearn",
    "cases_boosting",
    "cases_pmml",
)


@dataclass(frozen=True)
class Source:
    """What is given to ``mlopsc.import_model``.

    Attributes:
        model: A path, or a model in memory.
        options: Keyword arguments, such as ``example`` or ``bind``.
    """

    model: Any
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One model.

    Attributes:
        name: Unique, an identifier.
        framework: Key of ``mlopsc.frontends.FRONTENDS``.
        family: What kind of model it is, for the documentation.
        make: Makes it, given an empty folder.
        targets: What it is built for and conforms on.
        needs: Python modules beyond those of the frontend.
        shared: Whether it is one of the shared models.
        fails: Why it cannot be imported, with the converter's version and the operator; else "".
    """

    name: str
    framework: str
    family: str
    make: Callable[[Path], Source]
    targets: tuple[str, ...] = EVERYWHERE
    needs: tuple[str, ...] = ()
    shared: bool = False
    fails: str = ""


def all_cases() -> list[Case]:
    """Return the cases of all frameworks; no framework is imported."""
    return [case for name in MODULES for case in importlib.import_module(name).CASES]


@dataclass(frozen=True)
class Result:
    """What became of one model.

    Attributes:
        check: How the bundle compares with the original.
        operators: What its normal form consists of.
        verdicts: Of the packages, by target.
        instructions: Of one inference, by target that counts them.
    """

    check: FrameworkCheck
    operators: tuple[str, ...]
    verdicts: dict[str, str]
    instructions: dict[str, int]


def missing(case: Case) -> str:
    """Return what is not there to run ``case``, or an empty string."""
    needed = (*frontend(case.framework).MODULES, *case.needs)
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return "no shared models" if case.shared and not SHARED_MODELS.is_dir() else ""


def run_case(case: Case, folder: Path) -> Result:
    """Import, compare, build and conform one model in an empty folder.

    Raises:
        MlopscError: As the verbs do.
    """
    (folder / "source").mkdir()
    source = case.make(folder / "source")
    bundle = folder / f"{case.name}.mlb"
    made = mlopsc.import_model(source.model, bundle, **source.options)
    if made.manifest.framework is None:
        raise AssertionError(f"{case.name} was taken for an ONNX model")
    verdicts, instructions = {}, {}
    mlopsc.build(bundle, case.targets, folder / "packages")
    for target in case.targets:
        report = mlopsc.conform(folder / "packages" / target)
        verdicts[target] = report.verdict
        if report.instructions:
            instructions[target] = report.instructions
    operators = tuple(use.op for use in operators_of(made.stages))
    return Result(made.manifest.framework, operators, verdicts, instructions)
