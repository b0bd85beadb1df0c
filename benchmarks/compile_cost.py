"""What importing and building costs: seconds and memory, cold and when nothing has changed."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click
from large_model import watch

from mlopsc.cache import FOLDER_VARIABLE, SIZE_VARIABLE
from mlopsc.cli.render import echo_table

Figures = dict[str, dict[str, float]]
RUNS = ("cold", "unchanged")
WAYS = {"import, build": ("import", "build"), "build of the ONNX file": ("build in one",)}
# What it may cost.
SECONDS = {"cold": 30.0, "unchanged": 2.0}
BYTES_PER_BYTE, BYTES = 3, 1.5e9  # of memory, for each byte of the model and beside


def measure_compile(model: Path) -> Figures:
    """Import and build ``model`` for ``host`` with the command line: in two steps, and in one.

    *Cold*, every cache is empty, also that of the C compiler, which then compiles its runtime
    library. *Unchanged* is the same command once more.

    Returns:
        By run and verb: ``seconds``; ``anonymous``, the most memory in bytes that all processes
        held; ``resident``, the most that the largest held, mapped files included. ``model`` has
        the size in ``bytes``.
    """
    results: Figures = {"model": {"bytes": model.stat().st_size}}
    with tempfile.TemporaryDirectory(prefix="mlopsc-compile-") as name:
        folder = Path(name)
        bundle, packages = folder / "model.mlb", folder / "packages"
        commands = {
            "import": ["import", model, "-o", bundle],
            "build": ["build", bundle, "--target", "host", "-o", packages],
            "build in one": ["build", model, "--target", "host", "-o", packages],
        }
        for number, verbs in enumerate(WAYS.values()):
            environment = _environment(folder / f"cache{number}")
            for run in RUNS:
                for verb in verbs:
                    arguments = [*map(str, commands[verb]), "--force"]
                    command = [sys.executable, "-m", "mlopsc", *arguments]
                    results[f"{run} {verb}"] = watch(command, environment)
    return results


def _environment(cache: Path) -> dict[str, str]:
    """Return the environment with an empty cache in ``cache``."""
    changed = ("ZIG_GLOBAL_CACHE_DIR", FOLDER_VARIABLE, SIZE_VARIABLE)
    environment = {k: v for k, v in os.environ.items() if k not in changed}
    return {**environment, "XDG_CACHE_HOME": str(cache), FOLDER_VARIABLE: str(cache / "results")}


def print_compile(results: Figures) -> None:
    """Print the figures as a table, and what they may be."""
    found = {what: figures for what, figures in results.items() if what != "model"}
    memory = ("anonymous", "resident")
    rows = [
        [what, f"{f['seconds']:.1f}", *(f"{f[kind] / (1 << 20):.0f}" for kind in memory)]
        for what, f in found.items()
    ]
    columns = ["", "s", "anonymous, MiB", "largest process, MiB"]
    echo_table("Importing and building ResNet-50 for host", columns, rows)
    for run, limit in SECONDS.items():
        for way, verbs in WAYS.items():
            seconds = sum(found[f"{run} {verb}"]["seconds"] for verb in verbs)
            click.echo(f"{run}, {way}: {seconds:.1f} s; at most {limit:g} s")
    most = max(figures["anonymous"] for figures in found.values())
    allowed = BYTES_PER_BYTE * results["model"]["bytes"] + BYTES
    click.echo(
        f"memory: {most / 1e9:.2f} GB; at most {BYTES_PER_BYTE} times the model and "
        f"{BYTES / 1e9:g} GB, {allowed / 1e9:.2f} GB"
    )
