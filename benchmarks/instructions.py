"""Instructions and stack of an inference on emulated microcontrollers, scheduled and unscheduled.

Usage: ``python benchmarks/instructions.py [--target NAME]... [--json FILE] MODEL...`` where each
MODEL is a bundle or an ONNX file; the bundled example by default. Counts are exact and the same on
every machine. Both builds use the same compiler and flags; only the schedule differs. A target file
of your own, by path, shows what other flags give.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

import mlopsc
from mlopsc.cli.render import echo_table
from mlopsc.package_reader import read_package
from mlopsc.runners import run_package
from mlopsc.targets import load_target

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "digits"


def measure(model: Path, target: str, folder: Path) -> dict[str, int]:
    """Return instructions per inference by schedule, and bytes of stack of the scheduled one.

    Refuses packages that do not conform.
    """
    found = {}
    for schedule in ("none", "tiled"):
        mlopsc.build(model, target, folder / schedule, schedule=schedule)
        package = read_package(folder / schedule / load_target(target).name)
        if mlopsc.conform(package.path).verdict != "pass":
            raise click.ClickException(f"{model}: {schedule} does not conform on {target}")
        result = run_package(package, [package.vectors()[0].inputs], count=True)
        if result.instructions is None or result.stack_bytes is None:
            raise click.ClickException(f"{target}: {result.runner} does not count instructions")
        found[schedule], found["stack"] = result.instructions, result.stack_bytes
    return found


def example(folder: Path) -> Path:
    """Import the example with its preprocessing."""
    preprocess, vectors = EXAMPLE / "preprocess.onnx", EXAMPLE / "vectors.npz"
    bundle = folder / "digits.mlb"
    mlopsc.import_model(EXAMPLE / "digits.onnx", bundle, preprocess=preprocess, vectors=vectors)
    return bundle


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--target", "targets", default=["cortex-m7"], show_default=True, multiple=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
def main(models: tuple[Path, ...], targets: tuple[str, ...], output: Path | None) -> None:
    """Print a table of instructions per inference."""
    rows, results = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in models or (example(folder),):
            for target in targets:
                found = measure(model, target, folder / str(len(rows)))
                ratio = found["tiled"] / found["none"]
                results.append({"model": model.stem, "target": target, **found, "ratio": ratio})
                counts = [f"{found['none']:,}", f"{found['tiled']:,}", f"{ratio:.3f}"]
                rows.append([model.stem, target, *counts, f"{found['stack']:,}"])
    columns = ["model", "target", "unscheduled", "scheduled", "ratio", "stack, bytes"]
    echo_table("Instructions per inference", columns, rows)
    if output is not None:
        output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
