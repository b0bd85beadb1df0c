"""``mlopsc preprocess SOURCE -o FILE.onnx``."""

from __future__ import annotations

from pathlib import Path

import click

from mlopsc.cli.options import PATH, force_option, json_option
from mlopsc.cli.render import echo_json, progress


@click.command("preprocess")
@click.argument("source", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The ONNX file.")
@force_option
@json_option
def command(source: Path, output: Path, force: bool, as_json: bool) -> None:
    """Write the ONNX file that SOURCE becomes, for the training side.

    SOURCE is a list of steps (.yaml, .json), a Python function written with onnxscript (.py or
    .py:FUNCTION; your code, which is executed), or an ONNX file, which is checked and copied.
    'mlopsc import --preprocess SOURCE' takes the same, and so does --postprocess.
    """
    from mlopsc import pipeline

    with progress(f"converting {source}", quiet=as_json):
        made = pipeline.preprocess(source, output, force=force)
    if as_json:
        echo_json({"file": str(output), **vars(made)})
        return
    click.echo(f"{output}:")
    click.echo(f"  digest   {made.digest}")
    for spec in made.inputs:
        click.echo(f"  input    {spec}")
    for spec in made.outputs:
        click.echo(f"  output   {spec}")
