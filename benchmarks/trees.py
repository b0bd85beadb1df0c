"""Ensembles of decision trees: size and instructions on a microcontroller, latency on this machine.

Usage: ``python benchmarks/trees.py [--target cortex-m7] [--trees N] [--depth N] [--rounds N]
[--json FILE] [MODEL...]``. A MODEL is an ONNX file; by default ensembles of full random trees are
made, one as gradient boosting makes them (one weight a leaf), one as random forests are (a weight
per class). Packages that do not conform are not measured. Latency is for one row, one thread,
against ONNX Runtime, called from Python both; counts of instructions are exact.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import click
import onnx
from engines import ENGINES, Subject
from store import build_package
from timing import measure
from zoo.inputs import draw_inputs
from zoo.tabular import random_ensemble

import mlopsc
from mlopsc.cli.render import echo_table

ROUND_S = 0.02


def latencies(model: Path, folder: Path, rounds: int) -> dict[str, float]:
    """Return seconds of a call of mlopsc and of ONNX Runtime; the package lies in ``folder``."""
    built = build_package(model, folder)
    if built.package is None:
        raise click.ClickException(f"{model}: {built.failure}")
    subject = Subject(model, built, draw_inputs(onnx.load(model), 0))
    calls = {name: ENGINES[name].prepare(subject, 1) for name in ("mlopsc", "onnxruntime")}
    times = measure(calls, rounds=rounds, seconds=ROUND_S)
    return {f"{name}_s": statistics.median(found) for name, found in times.items()}


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--target", default="cortex-m7", show_default=True)
@click.option("--trees", default=100, show_default=True)
@click.option("--depth", default=6, show_default=True)
@click.option("--rounds", default=15, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
def main(
    models: tuple[Path, ...], target: str, trees: int, depth: int, rounds: int, output: Path | None
) -> None:
    """Print a table."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not models:
            made = {"boosted": random_ensemble(trees, depth, 1),
                    "forest": random_ensemble(trees, depth, 4)}  # fmt: skip
            models = tuple(folder / f"{kind}.onnx" for kind in made)
            for path, model in zip(models, made.values(), strict=True):
                onnx.save(model, path)
        for path in models:
            work = folder / path.stem
            work.mkdir()
            seconds = latencies(path, work, rounds)
            package = mlopsc.build(work / "model.mlb", target, work)[target]
            report = mlopsc.conform(work / target, bundle=work / "model.mlb")
            if report.verdict != "pass":
                raise click.ClickException(f"{path} does not conform on {target}")
            memory = package.memory
            results[path.stem] = {
                "onnx_bytes": path.stat().st_size,
                "weights_bytes": memory.weights,
                "code_bytes": memory.code,
                "flash_bytes": memory.code + memory.read_only,
                "arena_bytes": memory.arena,
                "instructions": report.instructions,
                **seconds,
            }
    columns = ["model", "ONNX, bytes", "tables", "code", "flash", "arena", "instructions",
               "mlopsc, µs", "ONNX Runtime, µs"]  # fmt: skip
    rows = [
        [
            stem,
            *(f"{v}" for k, v in found.items() if not k.endswith("_s")),
            *(f"{found[k] * 1e6:.1f}" for k in ("mlopsc_s", "onnxruntime_s")),
        ]
        for stem, found in results.items()
    ]
    echo_table(f"Trees: bytes and instructions on {target}, latency of one row here", columns, rows)
    if output is not None:
        output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
