"""Finds the files that the compiler reads at run time: ``kernels/`` and ``targets/``.

In a checkout they lie at its root; in an installed wheel inside the package, as ``_data/``.
Everything else asks this module and never builds such a path itself.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def _root() -> Path:
    package = Path(__file__).resolve().parent
    installed = package / "_data"
    return installed if installed.is_dir() else package.parent.parent


def kernels_dir() -> Path:
    """Return the folder of the runtime C files."""
    return _root() / "kernels"


def targets_dir() -> Path:
    """Return the folder of the target definitions, one sub-folder per family."""
    return _root() / "targets"
