"""Latency on this machine: a package for ``host`` against ONNX Runtime, one thread, in one run.

Usage: ``python benchmarks/latency.py [--rounds N] [--json FILE] MODEL...`` where each MODEL is an
ONNX file with open batch or static shapes; the bundled example by default. The two contestants
alternate; figures are medians over rounds and their ratio (above 1: mlopsc is faster). A package
that does not conform is not timed.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime as ort

import mlopsc
from mlopsc.cli.render import echo_table

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "digits" / "digits.onnx"


def prepare(model: Path, folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return calls of mlopsc and of ONNX Runtime on the same inputs."""
    bundle = mlopsc.import_model(model, folder / "model.mlb")
    mlopsc.build(folder / "model.mlb", "host", folder)
    report = mlopsc.conform(folder / "host", bundle=folder / "model.mlb")
    if report.verdict != "pass":
        raise click.ClickException(f"{model} does not conform on this machine")
    package = mlopsc.load(folder / "host")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    inputs = {s.name: rng.standard_normal(s.shape).astype(s.dtype) for s in bundle.manifest.inputs}
    return lambda: package(inputs), lambda: session.run(None, inputs)


def measure(calls: tuple[Callable[[], Any], Callable[[], Any]], rounds: int) -> tuple[float, float]:
    """Return the median seconds per call of both, alternating rounds of about 20 ms."""
    repeats = []
    for call in calls:
        call()
        start = time.perf_counter()
        call()
        repeats.append(max(1, int(0.02 / (time.perf_counter() - start))))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, repeat, seconds in zip(calls, repeats, times, strict=True):
            start = time.perf_counter()
            for _ in range(repeat):
                call()
            seconds.append((time.perf_counter() - start) / repeat)
    return statistics.median(times[0]), statistics.median(times[1])


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=15, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
def main(models: tuple[Path, ...], rounds: int, output: Path | None) -> None:
    """Print a table of latencies."""
    rows, results = [], {}
    for model in models or (EXAMPLE,):
        with tempfile.TemporaryDirectory() as name:
            mine, peer = measure(prepare(model, Path(name)), rounds)
        results[model.stem] = {"mlopsc_s": mine, "onnxruntime_s": peer, "ratio": peer / mine}
        rows.append([model.stem, f"{mine * 1e6:.1f}", f"{peer * 1e6:.1f}", f"{peer / mine:.2f}"])
    columns = ["model", "mlopsc, µs", "ONNX Runtime, µs", "ratio"]
    echo_table("Latency on this machine, one thread", columns, rows)
    if output is not None:
        output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
