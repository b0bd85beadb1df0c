"""``mlopsc fit MODEL|BUNDLE|PACKAGE --target T``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlopsc.cli.options import (
    PATH,
    build_options,
    cache_option,
    collect_build_options,
    collect_import_options,
    collect_trust_options,
    force_option,
    import_options,
    json_option,
    runner_option,
    timeout_option,
    trust_options,
    unchecked_option,
)
from mlopsc.cli.render import echo_json, echo_table, progress, size

if TYPE_CHECKING:
    from mlopsc.schema.fit import BoardFit, FitReport, LayerUse

_SHOWN_LAYERS = 12


@click.command("fit")
@click.argument("source", type=PATH)
@click.option("-t", "--target", help="Target name or .toml; of a package, its own by default.")
@click.option(
    "--html", type=PATH, metavar="FILE", help="Write a page with charts of every layer here."
)
@build_options
@runner_option
@timeout_option
@import_options
@trust_options
@unchecked_option
@force_option
@cache_option
@json_option
def command(
    source: Path,
    target: str | None,
    html: Path | None,
    runner: str | None,
    timeout: float,
    force: bool,
    cache: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Say whether SOURCE fits a board: flash, RAM, instructions and time, measured beforehand.

    SOURCE is a model or a bundle, which is built for the target, or a package. Fails if the target
    has not enough memory, with what to change.
    """
    from mlopsc.fitting import Measuring, fit, require_fit
    from mlopsc.fitting.page import page
    from mlopsc.outputs import atomic_file, check_free

    if html is not None:
        check_free(html, force=force)
    how, trust = collect_build_options(options), collect_trust_options(options)
    with progress(f"fitting {source}", quiet=as_json) as update:
        report = fit(
            source,
            target,
            options=collect_import_options(options),
            how=how,
            trust=trust,
            measuring=Measuring(runner=runner, timeout=timeout),
            cache=cache,
            progress=lambda target, what: update(f"{target}: {what}"),
        )
    if html is not None:
        with atomic_file(html, force=force) as path:
            path.write_text(page(report), encoding="utf-8")
    if as_json:
        echo_json(report.model_dump(mode="json"))
    else:
        show(report)
        show_layers(report)
        if html is not None:
            click.echo(f"charts: {html}")
    require_fit(report)


def show(report: FitReport) -> None:
    """Print the verdict and the boards."""
    flash, ram = report.flash, report.ram
    stack = f", {size(ram.stack)} stack" if ram.stack is not None else ""
    rows = [
        ["verdict", _verdict(report)],
        ["flash", f"{_of(flash.total, flash.limit)}: {size(flash.code)} code, "
         f"{size(flash.weights)} weights, {size(flash.constants)} other constants"],
        ["RAM", f"{_of(ram.total, ram.limit)}: {size(ram.arena)} arena, {size(ram.io)} inputs and "
         f"outputs{stack}, {size(ram.writable)} static"],
        ["instructions", _instructions(report)],
        ["latency", _latency(report)],
        *(["assumes", text] for text in (report.latency.assumptions if report.latency else ())),
        *([label, text] for label, text in _largest(report)),
        *(["change", advice.what] for advice in report.advice),
        *(["note", note] for note in report.notes),
    ]  # fmt: skip
    echo_table(f"{report.model} on {report.target}", ["", ""], rows)
    if report.boards:
        columns = ["board", "fits", "flash left", "RAM left", "time", "build"]
        echo_table("Known boards", columns, [_board(board) for board in report.boards])


def show_layers(report: FitReport) -> None:
    """Print the layers that take most instructions, or else most multiply-accumulates."""
    layers = [layer for layer in report.layers if layer.kind in ("kernel", "copy")]
    shown = sorted(layers, key=lambda x: (x.instructions or 0, x.macs), reverse=True)
    rows = [_layer(layer, report) for layer in shown[:_SHOWN_LAYERS]]
    title = "Layers" if len(layers) <= _SHOWN_LAYERS else (
        f"Layers: {_SHOWN_LAYERS} of {len(layers)}; '--json' and '--html' have all"
    )  # fmt: skip
    if rows:
        columns = ["layer", "instr.", "share", "MACs", "per MAC", "weights", "arena"]
        echo_table(title, columns, rows)


def short(report: FitReport) -> list[str]:
    """Return one row of the verdict, for a table of several."""
    from mlopsc.fitting.page import duration

    return [
        report.target,
        report.verdict if report.verdict != "does not fit" else "DOES NOT FIT",
        _of(report.flash.total, report.flash.limit),
        _of(report.ram.total, report.ram.limit),
        "-" if report.ram.stack is None else size(report.ram.stack),
        "-" if report.instructions is None else f"{report.instructions:,}",
        "-" if report.latency is None else f"about {duration(report.latency.milliseconds)}",
    ]


SHORT_COLUMNS = ("target", "verdict", "flash", "RAM", "of it stack", "instr.", "time")


def _verdict(report: FitReport) -> str:
    if report.verdict == "no limits":
        return "the target has no limits to judge by"
    if report.verdict == "fits":
        return "fits"
    lacks = " and ".join(
        f"{n} bytes of {'RAM' if kind == 'ram' else kind}" for kind, n in report.missing.items()
    )
    return f"DOES NOT FIT: {lacks} are missing"


def _of(need: int, limit: int | None) -> str:
    return size(need) if limit is None else f"{size(need)} of {size(limit)}"


def _instructions(report: FitReport) -> str:
    if report.instructions is None:
        return "not counted"
    each = f", {report.instructions / report.macs:.2f} per MAC" if report.macs else ""
    return f"{report.instructions:,} per inference, {report.macs:,} MACs{each} ({report.runner})"


def _latency(report: FitReport) -> str:
    from mlopsc.fitting.page import duration

    if report.latency is None:
        return "not known"
    return f"about {duration(report.latency.milliseconds)}, an estimate"


def _largest(report: FitReport) -> list[tuple[str, str]]:
    from mlopsc.package.limits import short_name

    layers, largest = report.layers, report.largest
    rows = []
    if largest.ram is not None:
        layer = layers[largest.ram]
        rows.append(("most RAM", f"{short_name(layer.name)}: {size(layer.ram)} of the arena"))
    if largest.weights is not None:
        layer = layers[largest.weights]
        rows.append(("most flash", f"{short_name(layer.name)}: {size(layer.weights)} of constants"))
    if largest.instructions is not None:
        layer = layers[largest.instructions]
        share = (layer.instructions or 0) / max(report.instructions or 0, 1)
        text = f"{short_name(layer.name)}: {layer.instructions:,} instructions, {share:.0%}"
        rows.append(("most time", text))
    return rows


def _layer(layer: LayerUse, report: FitReport) -> list[str]:
    from mlopsc.package.limits import short_name

    count = layer.instructions
    return [
        short_name(layer.name),
        "-" if count is None else f"{count:,}",
        "-" if not count or not report.instructions else f"{count / report.instructions:.1%}",
        f"{layer.macs:,}",
        f"{count / layer.macs:.2f}" if count and layer.macs else "-",
        size(layer.weights),
        size(layer.ram),
    ]


def _board(board: BoardFit) -> list[str]:
    from mlopsc.fitting.page import duration

    return [
        board.target,
        "yes" if board.fits else "no",
        _left(board.flash_left),
        _left(board.ram_left),
        "-" if board.milliseconds is None else f"about {duration(board.milliseconds)}",
        "this one" if board.same_build else "of its own; by the figures of this one",
    ]


def _left(count: int | None) -> str:
    if count is None:
        return "-"
    return size(count) if count >= 0 else f"{size(-count)} missing"
