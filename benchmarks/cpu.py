"""Latency of models on this machine: mlopsc, ONNX Runtime, OpenVINO and plain TVM, in one run.

Usage: ``python benchmarks/cpu.py [--model REGEX] [--threads 1,2] [--engines NAMES] [--tvm]
[--rounds N] [--seconds S] [--work DIR] [--json FILE] [--chart FILE] [--compile] [--int8]``. The
models are those of ``benchmarks/zoo``; with ``--int8`` its quantised ones, and mlopsc also runs
what each was in float32. Engines take turns; figures are medians over rounds of the median of a
burst of ``--seconds``. With more than one thread every burst begins after a pause, in which threads
of the engine before stop spinning.

Packages that do not conform are listed and not timed; neither is an engine whose outputs are far
from ONNX Runtime's. With ``--work`` models and packages are kept there, and what has not changed is
not built again. ``--compile`` measures importing and building ResNet-50 instead (Linux only).
"""

from __future__ import annotations

import gc
import json
import re
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from compile_cost import measure_compile, print_compile
from engines import ENGINES, FLOAT32, Array, Call, NotAvailableError, Subject, prepare
from machine import Peak, measure_peak
from report import draw_chart, means, print_tables
from store import Built, Store
from timing import PAUSE_S, measure
from zoo import INTEGER_MODELS, MODELS
from zoo.inputs import draw_inputs, multiply_adds

REFERENCE = "onnxruntime"
FAR = 1e-2  # of the largest value: not the same model any more
FAR_INTEGER = 0.5  # the same of integers, whose roundings drift apart from layer to layer


def numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """Parse numbers of threads that are separated by commas."""
    try:
        found = tuple(int(part) for part in value.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise click.BadParameter(f"'{value}': expected numbers from 1 on, such as 1,2")
    return found


def names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Parse names of engines that are separated by commas."""
    found = tuple(value.split(","))
    if set(found) - set(ENGINES):
        raise click.BadParameter(f"'{value}': expected some of {','.join(ENGINES)}")
    return found


def chosen_models(pattern: str, known: Iterable[str]) -> list[str]:
    """Return the models among ``known`` whose names ``pattern`` matches somewhere."""
    found = [name for name in known if re.search(pattern, name)]
    if not found:
        raise click.BadParameter(f"--model '{pattern}': expected some of {', '.join(known)}")
    return found


def far_apart(mine: Sequence[Array], reference: Sequence[Array], far: float) -> bool:
    """Return whether outputs differ by more than ``far`` of the largest value."""
    wide = [[np.asarray(v, np.float64) for v in values] for values in (mine, reference)]
    return any(
        a.shape != b.shape
        or not np.allclose(a, b, rtol=0, atol=far * float(np.abs(b).max(initial=1e-30)))
        for a, b in zip(*wide, strict=True)
    )


def measure_model(
    subject: Subject, engines: Sequence[str], threads: int, rounds: int, seconds: float
) -> dict[str, Any]:
    """Return seconds per call of each engine, and the reasons of those that were not measured."""
    calls: dict[str, Call] = {}
    unavailable: dict[str, str] = {}
    for name in engines:
        try:
            calls[name] = prepare(subject, ENGINES[name], threads)
        except NotAvailableError as error:
            unavailable[name] = str(error)
    reference = calls[REFERENCE]() if REFERENCE in calls else None
    far = FAR if subject.float32 is None else FAR_INTEGER
    compared = [n for n in calls if n not in (REFERENCE, FLOAT32) and reference is not None]
    for name in compared:
        if far_apart(calls[name](), reference, far):  # type: ignore[arg-type]
            unavailable[name] = "its outputs are far from ONNX Runtime's"
            del calls[name]
    # A single thread is the caller's own: nothing spins when it has returned.
    found = measure(calls, rounds=rounds, seconds=seconds, pause=PAUSE_S if threads > 1 else 0.0)
    return {
        "threads": threads,
        "seconds": {name: statistics.median(times) for name, times in found.items()},
        "rounds": found,
        "unavailable": unavailable,
    }


def measure_all(
    store: Store, models: Sequence[str], engines: Sequence[str], threads: Sequence[int],
    rounds: int, seconds: float, peak: Peak,
) -> list[dict[str, Any]]:  # fmt: skip
    """Build, measure and return everything; building is done before any clock runs."""
    built = {}
    before: dict[str, Path] = {}
    packages: dict[str, Built] = {}
    for name in models:
        try:
            path = store.model(name)
        except FileNotFoundError as error:
            click.echo(f"{name} is skipped: {error}", err=True)
            continue
        click.echo(f"building {name}", err=True)
        built[name] = path, store.package(path)
        if name in INTEGER_MODELS and FLOAT32 in engines:
            before[name] = store.model(name.removesuffix("_int8"))
            packages[name] = store.package(before[name])
    entries = []
    for name, (path, package) in built.items():
        click.echo(f"measuring {name}", err=True)
        model = onnx.load(path)
        float32 = None
        if name in packages:
            float32 = packages[name], draw_inputs(onnx.load(before[name]), 0)
        subject = Subject(path, package, draw_inputs(model, 0), float32)
        work = multiply_adds(model)
        del model
        for count in threads:
            found = measure_model(subject, engines, count, rounds, seconds)
            gc.collect()  # sessions, before the next ones are made
            of_peak = {
                engine: work / time / peak.per_second[count]
                for engine, time in found["seconds"].items()
            }
            entries.append({"model": name, "multiply_adds": work, **found, "of_peak": of_peak,
                            "build_seconds": package.seconds})  # fmt: skip
    return entries


def run(
    store: Store, models: Sequence[str], engines: Sequence[str], threads: Sequence[int],
    rounds: int, seconds: float, chart: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """Measure, print and draw; return everything for the JSON file."""
    peak = measure_peak(tuple(threads))
    for count, value in peak.per_second.items():
        click.echo(f"float32 multiply-adds, threads {count}: {value / 1e9:.1f}e9 a second")
    click.echo(f"which is {peak.ports:.2f} vectors of {peak.lanes} a cycle at "
               f"{peak.gigahertz:.2f} GHz")  # fmt: skip
    entries = measure_all(store, models, engines, threads, rounds, seconds, peak)
    print_tables(entries, threads)
    if chart is not None:
        try:
            draw_chart(entries, chart)
        except NotAvailableError as error:
            click.echo(f"no chart: {error}", err=True)
    return {
        "engines": {name: ENGINES[name].version for name in engines},
        "peak": {
            "multiply_adds_per_second": peak.per_second,
            "gigahertz": peak.gigahertz,
            "lanes": peak.lanes,
            "vectors_per_cycle": peak.ports,
        },
        "geometric_means": means(entries),
        "results": entries,
    }


@click.command()
@click.option("--model", "pattern", default="", metavar="REGEX", help="Only models with this name.")
@click.option("--threads", default="1,2", show_default=True, callback=numbers)
@click.option("--engines", default="mlopsc,onnxruntime,openvino", show_default=True, callback=names)
@click.option("--tvm", is_flag=True, help="Plain TVM, too; it takes long.")
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=0.2, show_default=True, help="Of one burst of calls.")
@click.option("--work", type=click.Path(path_type=Path), help="Keep models and packages here.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
@click.option("--chart", type=click.Path(path_type=Path), help="Draw the ratios here: .svg, .png.")
@click.option("--int8", is_flag=True, help="Quantised models, and what they were in float32.")
@click.option("--compile", "cost", is_flag=True, help="Measure building ResNet-50 instead.")
def main(
    pattern: str, threads: tuple[int, ...], engines: tuple[str, ...], tvm: bool, rounds: int,
    seconds: float, work: Path | None, output: Path | None, chart: Path | None, int8: bool,
    cost: bool,
) -> None:  # fmt: skip
    """Print a table of latencies for each number of threads."""
    models = chosen_models(pattern, INTEGER_MODELS if int8 else MODELS)
    if int8:  # OpenVINO is told to compute in float32
        engines = (*(name for name in engines if name != "openvino"), FLOAT32)
    if tvm:
        engines = (*engines, "tvm")
    with tempfile.TemporaryDirectory(prefix="mlopsc-benchmark-") as name:
        store = Store(work or Path(name))
        result: Any
        if cost:
            result = measure_compile(store.model("light_resnet50"))
            print_compile(result)
        else:
            result = run(store, models, tuple(dict.fromkeys(engines)), threads, rounds, seconds,
                         chart)  # fmt: skip
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
