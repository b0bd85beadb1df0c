"""What ``cpu.py`` says about what it has measured: tables and a chart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from engines import ENGINES, NotAvailableError

from mlopsc.cli.render import echo_table

SLOW = 0.9  # of a peer's speed: models below are named
OWN = "mlopsc"
Entry = Mapping[str, Any]


def ratio(entry: Entry, peer: str) -> float | None:
    """Return how many times as fast as ``peer`` mlopsc is, if both were measured."""
    seconds = entry["seconds"]
    if OWN not in seconds or peer not in seconds:
        return None
    return float(seconds[peer] / seconds[OWN])


def peers(entries: Iterable[Entry]) -> list[str]:
    """Return the other engines that were measured, in their order."""
    found = {name for entry in entries for name in entry["seconds"]}
    return [name for name in ENGINES if name in found and name != OWN]


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values."""
    return math.exp(sum(map(math.log, values)) / len(values))


def print_tables(entries: Sequence[Entry], threads: Sequence[int]) -> None:
    """Print a table for each number of threads, its means, and what was not measured."""
    for count in threads:
        chosen = [e for e in entries if e["threads"] == count]
        others = peers(chosen)
        names = [OWN, *others]
        columns = ["model", *(f"{ENGINES[n].title}, µs" for n in names)]
        columns += [f"to {ENGINES[n].title}" for n in others]
        columns += [f"{ENGINES[n].title}, of peak" for n in names]
        rows = [_row(entry, names, others) for entry in chosen]
        echo_table(f"Latency on this machine, threads: {count}", columns, rows)
        for peer in others:
            _print_mean(chosen, peer, count)
    for line in unavailable(entries):
        click.echo(line)


def unavailable(entries: Iterable[Entry]) -> list[str]:
    """Return a line for each reason why something was not measured, with what it is about."""
    found: dict[tuple[str, int, str], list[str]] = {}
    for entry in entries:
        for engine, reason in entry["unavailable"].items():
            key = engine, entry["threads"], " ".join(reason.split())
            found.setdefault(key, []).append(entry["model"])
    return [
        f"not measured: {ENGINES[engine].title}, threads {threads}: {reason}: {', '.join(models)}"
        for (engine, threads, reason), models in found.items()
    ]


def _row(entry: Entry, names: Sequence[str], others: Sequence[str]) -> list[str]:
    seconds, peak = entry["seconds"], entry["of_peak"]
    ratios = [ratio(entry, peer) for peer in others]
    return [
        entry["model"],
        *(f"{seconds[n] * 1e6:.1f}" if n in seconds else "-" for n in names),
        *("-" if r is None else f"{r:.2f}" for r in ratios),
        *(f"{peak[n]:.1%}" if peak.get(n) else "-" for n in names),
    ]


def _print_mean(entries: Sequence[Entry], peer: str, threads: int) -> None:
    ratios = {e["model"]: r for e in entries if (r := ratio(e, peer)) is not None}
    if not ratios:
        return
    title = ENGINES[peer].title
    mean = geometric_mean(list(ratios.values()))
    click.echo(f"geometric mean to {title}, threads {threads}: {mean:.2f} ({len(ratios)} models)")
    slow = [f"{m} {r:.2f}" for m, r in sorted(ratios.items(), key=lambda i: i[1]) if r < SLOW]
    click.echo(f"below {SLOW:g} of {title}: {', '.join(slow) or 'none'}")


def means(entries: Sequence[Entry]) -> dict[str, dict[str, float]]:
    """Return the geometric means of the ratios by number of threads and by peer."""
    found: dict[str, dict[str, float]] = {}
    for count in sorted({e["threads"] for e in entries}):
        chosen = [e for e in entries if e["threads"] == count]
        for peer in peers(chosen):
            ratios = [r for e in chosen if (r := ratio(e, peer)) is not None]
            if ratios:
                found.setdefault(str(count), {})[peer] = geometric_mean(ratios)
    return found


def draw_chart(entries: Sequence[Entry], path: Path) -> None:
    """Draw the ratios to each peer as bars from 1, a panel for each number of threads.

    Raises:
        NotAvailableError: matplotlib is not installed, or there are no ratios.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NotAvailableError("matplotlib is not installed: pip install matplotlib") from error
    others = peers(entries)
    found = {
        (e["threads"], e["model"], peer): r
        for e in entries
        for peer in others
        if (r := ratio(e, peer)) is not None
    }
    if not found:
        raise NotAvailableError("nothing was measured to compare with")
    counts = sorted({count for count, _, _ in found})
    models = list(dict.fromkeys(e["model"] for e in entries))
    width, size = 0.8 / len(others), (6 * len(counts), 1.5 + 0.3 * len(models))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axis, count in zip(axes, counts, strict=True):
        for number, peer in enumerate(others):
            bars = {i: found.get((count, model, peer), 1.0) for i, model in enumerate(models)}
            places = [i + number * width for i in bars]
            reach = [value - 1.0 for value in bars.values()]
            axis.barh(places, reach, width, left=1.0, label=f"to {ENGINES[peer].title}")
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.axvline(1.0, color="black", linewidth=0.8)
        axis.set_xlabel("times as fast (above 1: mlopsc is faster)")
        axis.set_title(f"threads: {count}")
        axis.set_yticks([i + 0.4 - width / 2 for i in range(len(models))], models)
    axes[0].invert_yaxis()
    axes[0].legend()
    figure.savefig(path)
