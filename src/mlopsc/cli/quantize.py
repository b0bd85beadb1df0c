"""``mlopsc quantize SOURCE -o NAME.mlb``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlopsc.cli.options import (
    PATH,
    cache_option,
    collect_import_options,
    collect_trust_options,
    force_option,
    import_options,
    json_option,
    trust_options,
)
from mlopsc.cli.render import echo_json, echo_table, progress, size

if TYPE_CHECKING:
    from mlopsc.quantizing import Quantization
    from mlopsc.schema.quantize import ErrorFigures, QuantizeReport


_NAME = 48  # characters of a layer's name that are shown


@click.command("quantize")
@click.argument("source", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The quantised bundle, NAME.mlb.")
@click.option(
    "--calibration",
    type=PATH,
    metavar="DATA",
    help="Samples that give the ranges of values: .npz, .npy, an image or a folder of these; "
    "the bundle's vectors by default.",
)
@click.option(
    "--evaluation",
    type=PATH,
    metavar="DATA",
    help="Samples to measure on, with 'label' in an .npz for accuracy; the bundle's vectors by "
    "default.",
)
@click.option("--samples", type=click.IntRange(min=1), help="Use at most so many for calibration.")
@click.option(
    "--activations",
    type=click.Choice(["int8", "uint8", "int16"]),
    default="int8",
    show_default=True,
    help="Element type between layers.",
)
@click.option(
    "--weights",
    type=click.Choice(["int8", "int4"]),
    default="int8",
    show_default=True,
    help="Element type of weights.",
)
@click.option("--per-tensor", is_flag=True, help="One scale per weight, not one per channel.")
@click.option(
    "--method",
    type=click.Choice(["minmax", "entropy", "percentile"]),
    default="minmax",
    show_default=True,
    help="How ranges follow from samples.",
)
@click.option(
    "--percentile",
    type=click.FloatRange(50, 100, min_open=True),
    default=99.99,
    show_default=True,
    help="How much of the values that method keeps.",
)
@click.option(
    "--keep-float",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Keep the N most sensitive layers in float; '--float-layer' names them.",
)
@click.option(
    "--max-error",
    type=click.FloatRange(min=0, min_open=True),
    metavar="E",
    help="Keep as many layers in float as it takes for a relative error of the outputs below E.",
)
@click.option(
    "--float-layer", "float_layers", multiple=True, metavar="NAME", help="Keep it in float; repeat."
)
@click.option("--sensitivity", is_flag=True, help="Measure what each layer in float would give.")
@click.option(
    "--io",
    type=click.Choice(["float", "integer"]),
    default="float",
    show_default=True,
    help="Inputs and outputs of the model.",
)
@click.option("--report", type=PATH, metavar="FILE", help="Write the report as JSON.")
@import_options
@trust_options
@click.option("--unchecked", is_flag=True, help="Do not look at its signature; recorded.")
@force_option
@cache_option
@json_option
def command(
    source: Path,
    output: Path,
    calibration: Path | None,
    evaluation: Path | None,
    report: Path | None,
    per_tensor: bool,
    force: bool,
    cache: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Quantise the float model of a bundle, or a model that is imported first.

    Prints what that costs: errors by layer and output, and on labelled samples accuracy by class.
    The new bundle names the float one as its parent.
    """
    from mlopsc import quantizing
    from mlopsc.schema.quantize import QuantizeOptions

    names = QuantizeOptions.model_fields.keys() & given.keys()
    chosen = {name: given.pop(name) for name in names}
    options = QuantizeOptions(per_channel=not per_tensor, **chosen)
    trust = collect_trust_options(given)
    imports = collect_import_options(given)
    with progress(f"quantising {source}", quiet=as_json) as update:
        made = quantizing.quantize(
            source,
            output,
            options,
            calibration=calibration,
            evaluation=evaluation,
            report=report,
            imports=imports,
            trust=trust,
            force=force,
            cache=cache,
            progress=lambda target, what: update(f"{target}: {what}"),
        )
    if as_json:
        document = made.report.model_dump(mode="json")
        echo_json({"bundle": str(output), "digest": made.bundle.digest, **document})
        return
    _show(output, made)


def _show(output: Path, made: Quantization) -> None:
    report = made.report
    columns = ["layer", "op", "computes in", "SQNR", "error", "if float"]
    echo_table("Layers, float and quantised", columns, _layer_rows(report))
    rows = [[one.name, *_figures(one.error)] for one in report.outputs]
    echo_table("Outputs", ["output", "SQNR", "error", "largest"], rows)
    if report.labelled is not None:
        columns = ["class", "samples", "float", "quantised", "change"]
        echo_table("Recall on labelled samples", columns, _class_rows(report))
    manifest = made.bundle.manifest
    click.echo(f"{output}: {manifest.name} {manifest.version}, {size(output.stat().st_size)}")
    click.echo(f"  digest      {made.bundle.digest}")
    click.echo(f"  parent      {report.parent}")
    click.echo(f"  weights     {size(report.float_bytes)}, now {size(report.quantized_bytes)}")
    data = report.calibration.name or report.calibration.origin
    click.echo(f"  calibrated  {report.calibration.samples} samples, {data}")
    click.echo(f"  arithmetic  {report.arithmetic}")
    for edge in (*report.inputs_integer, *report.outputs_integer):
        click.echo(
            f"  integer     {edge.name}: {edge.dtype}, scale {edge.scale:g}, zero point "
            f"{edge.zero_point}"
        )
    for warning in report.warnings:
        click.echo(f"  warning     {warning}", err=True)


def _layer_rows(report: QuantizeReport) -> list[list[str]]:
    kind = report.options.activations
    return [
        [
            _short(layer.name),
            layer.op,
            kind if layer.quantized else "float",
            *_figures(layer.error)[:2],
            "-" if layer.if_float is None else f"{layer.if_float:.2e}",
        ]
        for layer in report.layers
    ]


def _short(name: str) -> str:
    """Return a name that leaves room for figures; the report has it in full."""
    return name if len(name) <= _NAME else f"{name[: _NAME - 3]}..."


def _figures(error: ErrorFigures) -> list[str]:
    sqnr = "-" if error.sqnr_db is None else f"{error.sqnr_db:.1f} dB"
    return [sqnr, f"{error.relative_error:.2e}", f"{error.max_absolute:.2e}"]


def _class_rows(report: QuantizeReport) -> list[list[str]]:
    found = report.labelled
    if found is None:
        return []
    rows = [(str(c.label), c.samples, c.float_correct, c.quantized_correct) for c in found.classes]
    rows.append(("all", found.samples, found.float_correct, found.quantized_correct))
    return [
        [
            name,
            str(count),
            f"{before / count:.1%}",
            f"{after / count:.1%}",
            f"{(after - before) / count:+.1%}",
        ]
        for name, count, before, after in rows
    ]
