"""Integer models on microcontrollers: flash, RAM and instructions, against a peer and unscheduled.

Usage: ``python benchmarks/edge.py [--target NAME]... [--model REGEX] [--arena-limit BYTES]
[--no-unscheduled] [--json FILE] MODEL...`` where each MODEL is a bundle or an ONNX file. All
figures are measured in emulators and exact: flash is what a linker keeps, RAM the arena with inputs
and outputs in it and the deepest stack, instructions those of a whole inference. The unscheduled
build has the same compiler and flags, the loops as TVM makes them and no hand-written kernels.

The peer is TensorFlow Lite for Microcontrollers with CMSIS-NN at its release flags, measured once
in the same emulators on the same models; its figures stand below and are not measured here.
"""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from mlopsc import conform, fitting, pipeline
from mlopsc.cli.render import echo_table
from mlopsc.errors import MlopscError
from mlopsc.schema.build_options import BuildOptions
from mlopsc.schema.fit import FitReport

TARGETS = (
    "cortex-m0plus", "cortex-m3", "cortex-m4f", "cortex-m7", "cortex-m33", "cortex-m55",
    "riscv32-imc", "riscv32-imac",
)  # fmt: skip
# Instructions per multiply-add by target; bytes of the arena and of code beyond the model on M4.
PEER_INSTRUCTIONS = {
    "ad01": {"cortex-m4f": 2.21, "cortex-m7": 2.21, "cortex-m55": 0.57},
    "kws": {"cortex-m4f": 2.90, "cortex-m7": 2.88, "cortex-m55": 0.68},
    "resnet8": {"cortex-m4f": 2.39, "cortex-m7": 2.40, "cortex-m55": 0.39},
    "vww": {"cortex-m4f": 3.22, "cortex-m7": 3.21, "cortex-m55": 0.88},
}
PEER_ARENA = {"ad01": 2580, "kws": 22820, "resnet8": 54996, "vww": 100708}
PEER_CODE = {"ad01": 27444, "kws": 52780, "resnet8": 50584, "vww": 52780}


@dataclass(frozen=True)
class Figures:
    """One model on one target.

    Attributes:
        model: Name of the file.
        target: Its name.
        weights: Bytes of weights.
        code: Bytes of code and constants beyond the weights.
        arena: Bytes of the arena, inputs and outputs included.
        stack: Deepest stack of a call in bytes.
        instructions: Of an inference.
        macs: Multiply-adds of an inference.
        unscheduled: Instructions of the unscheduled build.
    """

    model: str
    target: str
    weights: int
    code: int
    arena: int
    stack: int | None
    instructions: int
    macs: int
    unscheduled: int | None

    @property
    def per_mac(self) -> float:
        """Instructions per multiply-add."""
        return self.instructions / max(self.macs, 1)

    @property
    def peer(self) -> float | None:
        """The peer's instructions per multiply-add."""
        return PEER_INSTRUCTIONS.get(self.model.partition("_")[0], {}).get(self.target)


def measure(
    model: Path, target: str, folder: Path, *, unscheduled: bool, limit: int | None
) -> Figures:
    """Return the figures; refuses what does not conform."""
    how = BuildOptions(io_in_arena=True, arena_limit=limit)
    report = _fit(model, target, folder / "tiled", how)
    plain = None
    if unscheduled:
        how = BuildOptions(schedule="none", io_in_arena=True)
        plain = _fit(model, target, folder / "none", how).instructions
    if report.instructions is None:
        raise click.ClickException(f"{model}: instructions are not counted on {target}")
    raw = report.flash.weights
    return Figures(
        model.stem,
        target,
        raw,
        report.flash.total - raw,
        report.ram.arena + report.ram.io,
        report.ram.stack,
        report.instructions,
        sum(layer.macs for layer in report.layers),
        plain,
    )


def _fit(model: Path, target: str, folder: Path, how: BuildOptions) -> FitReport:
    pipeline.build(model, [target], folder, how=how)
    package = folder / target
    found = conform(package)
    if found.verdict != "pass":
        raise click.ClickException(f"{model} does not conform on {target}: {found.outputs}")
    return fitting.fit(package)


def show(figures: list[Figures]) -> None:
    """Print the table."""
    rows = [
        [
            f.model,
            f.target,
            f"{f.weights:,}",
            f"{f.code:,}",
            f"{f.arena:,}",
            "-" if f.stack is None else f"{f.stack:,}",
            f"{f.instructions:,}",
            f"{f.per_mac:.3f}",
            "-" if f.unscheduled is None else f"{f.unscheduled / f.instructions:.1f}x",
            "-" if f.peer is None else f"{f.per_mac / f.peer:.2f}x of {f.peer}",
        ]
        for f in figures
    ]
    columns = [
        "model", "target", "weights", "code+const", "arena+I/O", "stack", "instructions", "per MAC",
        "unscheduled", "peer",
    ]  # fmt: skip
    echo_table("Integer models on microcontrollers", columns, rows)
    for name, arena in PEER_ARENA.items():
        for f in figures:
            if f.model.startswith(name) and f.target == "cortex-m4f":
                click.echo(
                    f"{f.model}: arena {f.arena:,} against the peer's {arena:,}; code beyond the "
                    f"weights {f.code:,} against {PEER_CODE[name]:,}"
                )


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--target", "targets", multiple=True, help="Repeat; all edge targets by default.")
@click.option("--model", "pattern", default="", help="Only files whose names match.")
@click.option("--unscheduled/--no-unscheduled", default=True, help="Also the unscheduled build.")
@click.option("--arena-limit", type=int, help="Execute patch by patch below so many bytes.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
def main(
    models: tuple[Path, ...],
    targets: tuple[str, ...],
    pattern: str,
    unscheduled: bool,
    arena_limit: int | None,
    output: Path | None,
) -> None:
    """Print a table for every model and target."""
    figures, failed = [], []
    for model in models:
        if not re.search(pattern, model.stem):
            continue
        for target in targets or TARGETS:
            with tempfile.TemporaryDirectory() as name:
                try:
                    figures.append(
                        measure(
                            model, target, Path(name), unscheduled=unscheduled, limit=arena_limit
                        )
                    )
                except MlopscError as error:
                    failed.append(f"{model.stem} on {target}: {error}")
    show(figures)
    for line in failed:
        click.echo(f"not measured: {line}")
    if output is not None:
        rows = [{**asdict(f), "per_mac": f.per_mac, "peer": f.peer} for f in figures]
        output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
