"""The matrix of models that frontends are tested with: one table, for the tests and the docs.

Every model is made here, with fixed seeds, or is one of the shared models. ``cases_*.py`` list them
by framework; frameworks are imported inside the functions that make models.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOST = ("host",)
EVERYWHERE = ("host", "cortex-m4f", "wasm32-simd")
MODULES = ("cases_keras", "cases_sklearn", "cases_tensorflow")


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
