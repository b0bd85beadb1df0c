"""``mlopsc import SOURCE -o NAME.mlb``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlopsc.cli.options import (
    PATH,
    collect_import_options,
    force_option,
    import_options,
    json_option,
)
from mlopsc.cli.render import echo_json, progress, size


@click.command("import")
@click.argument("source", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The bundle, NAME.mlb.")
@import_options
@force_option
@json_option
def command(source: Path, output: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Import an ONNX model into a bundle that knows nothing of any target."""
    from mlopsc import pipeline

    with progress(f"importing {source}", quiet=as_json):
        bundle = pipeline.import_model(source, output, collect_import_options(options), force=force)
    manifest = bundle.manifest
    if as_json:
        echo_json(
            {"bundle": str(output), "digest": bundle.digest, **manifest.model_dump(mode="json")}
        )
        return
    click.echo(f"{output}: {manifest.name} {manifest.version}, {size(output.stat().st_size)}")
    click.echo(f"  digest   {bundle.digest}")
    for spec in manifest.inputs:
        click.echo(f"  input    {spec}")
    for spec in manifest.outputs:
        click.echo(f"  output   {spec}")
    click.echo(f"  vectors  {manifest.vectors.count} {manifest.vectors.origin}")
    for stage in manifest.stages:
        bound = ", ".join(f"{k}={v}" for k, v in stage.bound.items())
        click.echo(
            f"  stage    {stage.name}: {stage.nodes} nodes, {stage.parameters} parameters"
            + (f", bound {bound}" if bound else "")
        )
        for finding in stage.findings:
            click.echo(f"  warning  {finding}", err=True)
