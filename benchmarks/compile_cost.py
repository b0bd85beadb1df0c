"""What importing and building costs: seconds and memory, cold and when nothing has changed."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from large_model import watch

from mlopsc.cli.render import echo_table

Figures = dict[str, dict[str, float]]


def measure_compile(model: Path) -> Figures:
    """Import and build ``model`` for ``host`` with the command line, twice.

    The first time every cache is empty, also that of the C compiler, which then compiles its
    runtime library; the second time nothing has changed.

    Returns:
        By run and verb: ``seconds``; ``anonymous``, the most memory in bytes that all processes
        held; ``resident``, the most that the largest held, mapped files included.
    """
    results: Figures = {}
    with tempfile.TemporaryDirectory(prefix="mlopsc-compile-") as name:
        folder = Path(name)
        bundle = folder / "model.mlb"
        environment = {k: v for k, v in os.environ.items() if k != "ZIG_GLOBAL_CACHE_DIR"}
        environment["XDG_CACHE_HOME"] = str(folder / "cache")
        verbs = {
            "import": ["import", str(model), "-o", str(bundle)],
            "build": ["build", str(bundle), "--target", "host", "-o", str(folder / "packages")],
        }
        for run in ("cold", "again"):
            for verb, arguments in verbs.items():
                command = [sys.executable, "-m", "mlopsc", *arguments, "--force"]
                results[f"{run} {verb}"] = watch(command, environment)
    return results


def print_compile(results: Figures) -> None:
    """Print the figures as a table."""
    memory = ("anonymous", "resident")
    rows = [
        [what, f"{f['seconds']:.1f}", *(f"{f[kind] / (1 << 20):.0f}" for kind in memory)]
        for what, f in results.items()
    ]
    columns = ["", "s", "anonymous, MiB", "largest process, MiB"]
    echo_table("Importing and building ResNet-50 for host", columns, rows)
