"""Instructions per inference on an emulated microcontroller: scheduled against unscheduled.

Usage: ``python benchmarks/instructions.py [--target cortex-m7] [--json FILE] MODEL...`` where each
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
from mlopsc.targets import load_target

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "digits" / "digits.onnx"


def measure(model: Path, target: str, folder: Path) -> dict[str, int]:
    """Return instructions per inference by schedule; refuses packages that do not conform."""
    counts = {}
    for schedule in ("none", "tiled"):
        mlopsc.build(model, target, folder / schedule, schedule=schedule)
        report = mlopsc.conform(folder / schedule / load_target(target).name)
        if report.verdict != "pass" or report.instructions is None:
            raise click.ClickException(f"{model}: {schedule} does not conform on {target}")
        counts[schedule] = report.instructions
    return counts


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--target", default="cortex-m7", show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
def main(models: tuple[Path, ...], target: str, output: Path | None) -> None:
    """Print a table of instructions per inference."""
    rows, results = [], {}
    for model in models or (EXAMPLE,):
        with tempfile.TemporaryDirectory() as name:
            counts = measure(model, target, Path(name))
        ratio = counts["tiled"] / counts["none"]
        results[model.stem] = {**counts, "ratio": ratio}
        rows.append([model.stem, f"{counts['none']:,}", f"{counts['tiled']:,}", f"{ratio:.3f}"])
    echo_table(
        f"Instructions per inference on {target}",
        ["model", "unscheduled", "scheduled", "ratio"],
        rows,
    )
    if output is not None:
        output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
